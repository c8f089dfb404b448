"""An application under `opentelemetry-instrument`: makes calls, and tells what spans and events each one left.

opentelemetry-instrument python child.py URL OUTPUT
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import openai

from tests.interop.recorder import record

warnings.simplefilter("ignore")  # the SDKs' own, about models

URL, OUTPUT = sys.argv[1], Path(sys.argv[2])
GPT, CLAUDE, EMBEDDING = "gpt-4o", "claude-sonnet-4-5", "text-embedding-3-small"
MESSAGES: list[Any] = [{"role": "user", "content": "Hello there"}]

client: Any = openai.OpenAI(base_url=f"{URL}/v1", api_key="k", max_retries=2)
claude: Any = anthropic.Anthropic(base_url=URL, api_key="k", max_retries=2)


def headers(scenario: str) -> dict[str, str]:
    return {"x-scenario": scenario}


def chat() -> None:
    client.chat.completions.create(model=GPT, messages=MESSAGES)


def chat_stream() -> None:
    list(client.chat.completions.create(model=GPT, messages=MESSAGES, stream=True))


def chat_stream_closed() -> None:
    with client.chat.completions.create(model=GPT, messages=MESSAGES, stream=True) as stream:
        next(iter(stream))


def chat_retried() -> None:
    client.chat.completions.create(model=GPT, messages=MESSAGES, extra_headers=headers("500x1"))


def chat_refused() -> None:
    try:
        client.chat.completions.create(model=GPT, messages=MESSAGES, extra_headers=headers("400"))
    except openai.BadRequestError:
        return
    raise AssertionError("not refused")


def chat_without_id() -> None:
    for _ in range(2):
        client.chat.completions.create(model=GPT, messages=MESSAGES, extra_headers=headers("no_id"))


def chat_with_one_id() -> None:
    for _ in range(2):
        client.chat.completions.create(model=GPT, messages=MESSAGES, extra_headers=headers("same_id"))


def responses() -> None:
    client.responses.create(model=GPT, input="Hello there")


def responses_stream() -> None:
    list(client.responses.create(model=GPT, input="Hello there", stream=True))


def embeddings() -> None:
    client.embeddings.create(model=EMBEDDING, input="Hello there")


def messages() -> None:
    claude.messages.create(model=CLAUDE, max_tokens=50, messages=MESSAGES)


def messages_stream() -> None:
    list(claude.messages.create(model=CLAUDE, max_tokens=50, messages=MESSAGES, stream=True))


def messages_helper() -> None:
    with claude.messages.stream(model=CLAUDE, max_tokens=50, messages=MESSAGES) as stream:
        stream.get_final_message()


def _in_loop(work: Callable[[Any, Any], Any]) -> None:
    async def run() -> None:
        async with (
            openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key="k") as gpt,
            anthropic.AsyncAnthropic(base_url=URL, api_key="k") as claude,
        ):
            await work(gpt, claude)

    asyncio.run(run())


def async_chat() -> None:
    _in_loop(lambda gpt, _: gpt.chat.completions.create(model=GPT, messages=MESSAGES))


def async_chat_stream() -> None:
    async def work(gpt: Any, _: Any) -> None:
        async for _chunk in await gpt.chat.completions.create(model=GPT, messages=MESSAGES, stream=True):
            pass

    _in_loop(work)


def async_messages() -> None:
    _in_loop(lambda _, claude: claude.messages.create(model=CLAUDE, max_tokens=50, messages=MESSAGES))


def async_messages_stream() -> None:
    async def work(_: Any, claude: Any) -> None:
        async for _event in await claude.messages.create(model=CLAUDE, max_tokens=50, messages=MESSAGES, stream=True):
            pass

    _in_loop(work)


SCENARIOS = (
    chat,
    chat_stream,
    chat_stream_closed,
    chat_retried,
    chat_refused,
    chat_without_id,
    chat_with_one_id,
    responses,
    responses_stream,
    embeddings,
    messages,
    messages_stream,
    messages_helper,
    async_chat,
    async_chat_stream,
    async_messages,
    async_messages_stream,
)


if __name__ == "__main__":
    record(SCENARIOS, OUTPUT)
