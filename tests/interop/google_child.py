"""An application under `opentelemetry-instrument` that calls Gemini; tells what spans and events each call left.

opentelemetry-instrument python google_child.py URL OUTPUT
"""

# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportMissingTypeStubs=false, reportAttributeAccessIssue=false

from __future__ import annotations

import asyncio
import sys
import warnings
from pathlib import Path
from typing import Any

from google import genai

from tests.interop.recorder import record

warnings.simplefilter("ignore")  # of the library: what it would rather have called

URL, OUTPUT = sys.argv[1], Path(sys.argv[2])
MODEL, ASK = "gemini-2.5-flash", "Where to?"


def connected() -> Any:
    return genai.Client(api_key="k", http_options=genai.types.HttpOptions(base_url=URL))


client = connected()


def generate() -> None:
    client.models.generate_content(model=MODEL, contents=ASK)


def stream() -> None:
    list(client.models.generate_content_stream(model=MODEL, contents=ASK))


def chat() -> None:
    client.chats.create(model=MODEL).send_message(ASK)


def embeddings() -> None:
    client.models.embed_content(model="gemini-embedding-001", contents=ASK)


def interaction() -> None:
    client.interactions.create(model=MODEL, input=ASK)


def async_generate() -> None:
    other = connected()
    asyncio.run(other.aio.models.generate_content(model=MODEL, contents=ASK))


def async_stream() -> None:
    other = connected()

    async def read() -> None:
        async for _chunk in await other.aio.models.generate_content_stream(model=MODEL, contents=ASK):
            pass

    asyncio.run(read())


SCENARIOS = (generate, stream, chat, embeddings, interaction, async_generate, async_stream)


if __name__ == "__main__":
    record(SCENARIOS, OUTPUT)
