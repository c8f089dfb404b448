"""`huggingface_hub`: the inference clients."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPossiblyUnboundVariable=false
# ruff: noqa: B007, PERF401 - loops as callers write them

from __future__ import annotations

import asyncio
import gc
from dataclasses import asdict
from typing import Any

from .scenario import MESSAGES, MODEL, NotThere, Stage, attempt, scenario
from .view import kind

CHAT: Any = {"model": MODEL, "messages": MESSAGES}
USAGE: Any = {"stream_options": {"include_usage": True}}


class HubStage(Stage):
    """Clients of a server of one's own."""

    def client(self, **options: Any) -> Any:
        return self._made("InferenceClient", options)

    def async_client(self, **options: Any) -> Any:
        return self._made("AsyncInferenceClient", options)

    def _made(self, name: str, options: dict[str, Any]) -> Any:
        given = {"base_url": f"{self.provider.url}/v1", "api_key": "hf_test", **options}
        # A client that is dropped closes its streams.
        self.kept = getattr(self.library, name)(**given)
        return self.kept


def trouble(name: str) -> dict[str, Any]:
    """Client arguments that ask the provider for trouble."""
    return {"headers": {"x-scenario": name}}


def chat_of(client: Any) -> Any:
    """The method with the OpenAI client's name."""
    return client.chat.completions.create


def read(chunks: Any) -> Any:
    """What a generator is, and what comes out of it."""
    return [type(chunks).__name__, chunks.__name__, [[kind(chunk), asdict(chunk)] for chunk in chunks]]


@scenario("huggingface_hub", "chat")
def chat(stage: Stage) -> Any:
    answer = stage.client().chat_completion(**CHAT)
    return [kind(answer), asdict(answer)]


@scenario("huggingface_hub", "chat: by the other name")
def chat_create(stage: Stage) -> Any:
    return asdict(chat_of(stage.client())(**CHAT, max_tokens=3))


@scenario("huggingface_hub", "chat: extra_body")
def chat_extra(stage: Stage) -> Any:
    extra = {"custom": [1]}
    return [asdict(stage.client().chat_completion(**CHAT, extra_body=extra)), extra]


@scenario("huggingface_hub", "error: 400", "error")
def refused(stage: Stage) -> Any:
    return kind(attempt(lambda: stage.client(**trouble("400")).chat_completion(**CHAT)))


@scenario("huggingface_hub", "error: 422", "error")
def unprocessable(stage: Stage) -> Any:
    return kind(attempt(lambda: stage.client(**trouble("422")).chat_completion(**CHAT)))


@scenario("huggingface_hub", "error: no connection", "error")
def unreachable(stage: Stage) -> Any:
    return kind(attempt(lambda: stage.client(base_url="http://127.0.0.1:9/v1").chat_completion(**CHAT)))


@scenario("huggingface_hub", "error: server dies in the answer", "error")
def dies(stage: Stage) -> Any:
    return kind(attempt(lambda: stage.client(**trouble("die")).chat_completion(**CHAT)))


@scenario("huggingface_hub", "stream")
def stream(stage: Stage) -> Any:
    return read(stage.client().chat_completion(**CHAT, stream=True))


@scenario("huggingface_hub", "stream: usage asked for")
def stream_usage(stage: Stage) -> Any:
    return read(stage.client().chat_completion(**CHAT, stream=True, **USAGE))


@scenario("huggingface_hub", "stream: close", "closed_early|abandoned")
def stream_close(stage: Stage) -> Any:
    chunks = stage.client().chat_completion(**CHAT, stream=True)
    first = asdict(next(chunks))
    chunks.close()
    return first


@scenario("huggingface_hub", "stream: break, then dropped", "abandoned")
def stream_dropped(stage: Stage) -> Any:
    chunks = stage.client(**trouble("slow:0.01")).chat_completion(**CHAT, stream=True)
    for chunk in chunks:
        break
    del chunks
    gc.collect()
    return asdict(chunk)


@scenario("huggingface_hub", "stream: server dies", "error")
def stream_dies(stage: Stage) -> Any:
    chunks, seen = stage.client(**trouble("die")).chat_completion(**CHAT, stream=True, **USAGE), []

    def work() -> None:
        for chunk in chunks:
            seen.append(asdict(chunk))

    return [kind(attempt(work)), seen]


@scenario("huggingface_hub", "stream: error event", "error|abandoned")
def stream_error(stage: Stage) -> Any:
    chunks, seen = stage.client(**trouble("error_event")).chat_completion(**CHAT, stream=True, **USAGE), []

    def work() -> None:
        for chunk in chunks:
            seen.append(asdict(chunk))

    return [attempt(work), seen]


@scenario("huggingface_hub", "stream: host refuses stream_options", attempts=2, resent=True, exact=False)
def stream_refusing(stage: Stage) -> Any:
    return read(stage.client(**trouble("reject_stream_options")).chat_completion(**CHAT, stream=True))


def _needs_aiohttp(stage: Stage) -> None:
    if not hasattr(stage.library, "AsyncInferenceClient"):
        raise NotThere("AsyncInferenceClient")


@scenario("huggingface_hub", "async: chat")
async def async_chat(stage: Stage) -> Any:
    _needs_aiohttp(stage)
    async with stage.async_client() as client:
        return asdict(await client.chat_completion(**CHAT))


@scenario("huggingface_hub", "async: 400", "error")
async def async_refused(stage: Stage) -> Any:
    async with stage.async_client(**trouble("400")) as client:
        try:
            return await client.chat_completion(**CHAT)
        except Exception as error:  # noqa: BLE001 - whatever it raises is the result
            return kind(error)


@scenario("huggingface_hub", "async stream")
async def async_stream(stage: Stage) -> Any:
    async with stage.async_client() as client:
        chunks = await client.chat_completion(**CHAT, stream=True)
        return [type(chunks).__name__, [asdict(chunk) async for chunk in chunks]]


@scenario("huggingface_hub", "async stream: cancelled", "cancelled")
async def async_stream_cancelled(stage: Stage) -> Any:
    seen = []
    async with stage.async_client(**trouble("slow:0.4")) as client:

        async def work() -> None:
            async for chunk in await client.chat_completion(**CHAT, stream=True):
                seen.append(asdict(chunk))

        task = asyncio.create_task(work())
        while not seen:
            await asyncio.sleep(0.01)
        task.cancel()
        done = await asyncio.gather(task, return_exceptions=True)
    return [kind(done[0]), seen[0]]


@scenario("huggingface_hub", "async stream: server dies", "error")
async def async_stream_dies(stage: Stage) -> Any:
    seen = []
    async with stage.async_client(**trouble("die")) as client:
        try:
            async for chunk in await client.chat_completion(**CHAT, stream=True, **USAGE):
                seen.append(asdict(chunk))
        except Exception as error:  # noqa: BLE001 - whatever it raises is the result
            return [kind(error), seen]
    return seen
