"""An application under `opentelemetry-instrument` that calls Mistral and Cohere; tells what each call left.

opentelemetry-instrument python rest_child.py URL OUTPUT
"""

# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

import cohere

from tests.interop.recorder import record

try:
    from mistralai.client import Mistral
    from mistralai.extra.observability.telemetry import configure_telemetry
except ImportError:
    from mistralai import Mistral  # version 1, whose tracing is on by itself

    configure_telemetry = None

URL, OUTPUT = sys.argv[1], Path(sys.argv[2])
MESSAGES: Any = [{"role": "user", "content": "Where to?"}]
LARGE, COMMAND = "mistral-large-2512", "command-a-03-2025"

logging.getLogger("mistralai").setLevel(logging.ERROR)


def mistral(*, traced: bool = False) -> Any:
    made = Mistral(api_key="k", server_url=f"{URL}/mistral")
    if traced and configure_telemetry is not None:
        configure_telemetry(made, provider="global")
    return made


def co() -> Any:
    return cohere.ClientV2(api_key="k", base_url=f"{URL}/cohere")


def mistral_chat() -> None:
    mistral().chat.complete(model=LARGE, messages=MESSAGES)


def mistral_traced() -> None:
    mistral(traced=True).chat.complete(model=LARGE, messages=MESSAGES)


def mistral_stream() -> None:
    list(mistral().chat.stream(model=LARGE, messages=MESSAGES))


def mistral_stream_traced() -> None:
    list(mistral(traced=True).chat.stream(model=LARGE, messages=MESSAGES))


def mistral_async() -> None:
    asyncio.run(mistral().chat.complete_async(model=LARGE, messages=MESSAGES))


def mistral_conversation_traced() -> None:
    mistral(traced=True).beta.conversations.start(model="mistral-medium-2505", inputs="Where to?")


def mistral_embeddings() -> None:
    mistral().embeddings.create(model="mistral-embed", inputs=["Where to?"])


def cohere_chat() -> None:
    co().chat(model=COMMAND, messages=MESSAGES)


def cohere_stream() -> None:
    list(co().chat_stream(model=COMMAND, messages=MESSAGES))


def cohere_async() -> None:
    made = cohere.AsyncClientV2(api_key="k", base_url=f"{URL}/cohere")
    asyncio.run(made.chat(model=COMMAND, messages=MESSAGES))


def cohere_embed() -> None:
    co().embed(model="embed-v4.0", texts=["Where to?"], input_type="search_query", embedding_types=["float"])


SCENARIOS = (
    mistral_chat,
    mistral_traced,
    mistral_stream,
    mistral_stream_traced,
    mistral_async,
    mistral_conversation_traced,
    mistral_embeddings,
    cohere_chat,
    cohere_stream,
    cohere_async,
    cohere_embed,
)


if __name__ == "__main__":
    record(SCENARIOS, OUTPUT)
