# pyright: basic, reportMissingImports=false
"""A Celery task that asks; and, run as a program, its sender: one tenant for each task, as baggage."""

from __future__ import annotations

import functools
import os
import sys
from typing import Any

import openai
from celery import Celery
from opentelemetry import baggage, context

PLACE = os.environ["QUEUE"]

app = Celery("tasks", broker="filesystem://", backend=f"file://{PLACE}/results")
app.conf.update(
    broker_transport_options={
        "data_folder_in": f"{PLACE}/tasks",
        "data_folder_out": f"{PLACE}/tasks",
        "control_folder": f"{PLACE}/control",
    },
    worker_hijack_root_logger=False,
)


@functools.cache
def client_of(_process: int) -> openai.OpenAI:
    return openai.OpenAI()


@app.task
def ask(number: int) -> int:
    """One call; gives the process that made it."""
    messages: Any = [{"role": "user", "content": f"Task {number}"}]
    client_of(os.getpid()).chat.completions.create(model="gpt-4o-mini", messages=messages)
    return os.getpid()


def main() -> None:
    sent = []
    for number in range(int(sys.argv[1])):
        token = context.attach(baggage.set_baggage("genai_meter.tenant", f"tenant-{number % 3}"))
        sent.append(ask.delay(number))
        context.detach(token)
    print(" ".join(str(result.get(timeout=120)) for result in sent), flush=True)


if __name__ == "__main__":
    # As the module that the worker imports, so that the task has one name.
    from tests.concurrency.tasks import main

    main()
