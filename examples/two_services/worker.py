# pyright: basic, reportMissingImports=false
"""The worker: a Celery task that asks a model. Whoever is charged, it does not know."""

from __future__ import annotations

import os

import openai
from celery import Celery

PLACE = os.environ.get("TWO_SERVICES_QUEUE", "/tmp/two-services")

app = Celery("worker", broker="filesystem://", backend=f"file://{PLACE}/results")
app.conf.update(
    broker_transport_options={
        "data_folder_in": f"{PLACE}/tasks",
        "data_folder_out": f"{PLACE}/tasks",
        "control_folder": f"{PLACE}/control",
    },
    worker_hijack_root_logger=False,
)


@app.task
def summarise(text: str) -> str:
    answer = openai.OpenAI().chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": f"Summarise: {text}"}]
    )
    return answer.choices[0].message.content or ""
