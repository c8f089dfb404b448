"""`ollama`: everything."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPossiblyUnboundVariable=false
# ruff: noqa: B007, PERF401 - loops as callers write them

from __future__ import annotations

import asyncio
import gc
import inspect
from typing import Any

from .scenario import MESSAGES, Stage, attempt, find, scenario
from .view import kind

CHAT: Any = {"model": "llama3.2", "messages": MESSAGES}


class OllamaStage(Stage):
    """Clients that name their trouble for themselves: calls have no headers."""

    def client(self, **options: Any) -> Any:
        return self.library.Client(host=options.pop("host", self.provider.url), **options)

    def async_client(self, **options: Any) -> Any:
        return self.library.AsyncClient(host=options.pop("host", self.provider.url), **options)

    def reported(self, usage: dict[str, Any] | None) -> list[int] | None:
        return None if usage is None else [usage["prompt_eval_count"], usage.get("eval_count", 0)]


def plain(value: Any) -> Any:
    """An answer as JSON: pydantic since 0.4, a dict before."""
    return value.model_dump() if hasattr(value, "model_dump") else dict(value)


def trouble(name: str) -> dict[str, Any]:
    """Client arguments that ask the provider for trouble."""
    return {"headers": {"x-scenario": name}}


def read(parts: Any) -> Any:
    """What a generator is, and what comes out of it."""
    looks = [type(parts).__name__, parts.__name__, inspect.getgeneratorstate(parts)]
    return [looks, [[kind(part), plain(part)] for part in parts], inspect.getgeneratorstate(parts)]


@scenario("ollama", "chat")
def chat(stage: Stage) -> Any:
    answer = stage.client().chat(**CHAT)
    return [kind(answer), plain(answer)]


@scenario("ollama", "chat: options")
def chat_options(stage: Stage) -> Any:
    options = {"num_predict": 3, "temperature": 0.1}
    return [plain(stage.client().chat(**CHAT, options=options)), options]


@scenario("ollama", "chat: no usage told", exact=False)
def chat_no_usage(stage: Stage) -> Any:
    return plain(stage.client(**trouble("no_usage")).chat(**CHAT))


@scenario("ollama", "generate")
def generate(stage: Stage) -> Any:
    return plain(stage.client().generate(model="llama3.2", prompt="Where to?"))


@scenario("ollama", "embed")
def embed(stage: Stage) -> Any:
    return plain(find(stage.client(), "embed")(model="all-minilm", input=["north", "south"]))


@scenario("ollama", "module-level functions")
def module_level(stage: Stage) -> Any:
    # Bound methods of a client that was made when the package was imported.
    return plain(stage.library.chat.__func__(stage.client(), **CHAT))


@scenario("ollama", "list of models", "not metered")
def models(stage: Stage) -> Any:
    return attempt(stage.client().list)


@scenario("ollama", "error: 400", "error")
def refused(stage: Stage) -> Any:
    return stage.client(**trouble("400")).chat(**CHAT)


@scenario("ollama", "error: 500", "error")
def broken(stage: Stage) -> Any:
    return attempt(lambda: stage.client(**trouble("500")).generate(model="llama3.2", prompt="Where to?"))


@scenario("ollama", "error: no connection", "error")
def unreachable(stage: Stage) -> Any:
    return stage.client(host="http://127.0.0.1:9").chat(**CHAT)


@scenario("ollama", "error: server dies in the answer", "error")
def dies(stage: Stage) -> Any:
    return stage.client(**trouble("die")).chat(**CHAT)


@scenario("ollama", "stream")
def stream(stage: Stage) -> Any:
    return read(stage.client().chat(**CHAT, stream=True))


@scenario("ollama", "stream: generate")
def stream_generate(stage: Stage) -> Any:
    return read(stage.client().generate(model="llama3.2", prompt="Where to?", stream=True))


@scenario("ollama", "stream: reader stops after the last part")
def stream_stops(stage: Stage) -> Any:
    parts = []
    for part in stage.client().chat(**CHAT, stream=True):
        parts.append(plain(part))
        if part["done"]:
            break
    return parts


@scenario("ollama", "stream: close", "closed_early")
def stream_close(stage: Stage) -> Any:
    parts = stage.client().chat(**CHAT, stream=True)
    first = plain(next(parts))
    parts.close()
    return [first, inspect.getgeneratorstate(parts), attempt(lambda: next(parts))]


@scenario("ollama", "stream: break, then dropped", "abandoned")
def stream_dropped(stage: Stage) -> Any:
    parts = stage.client(**trouble("slow:0.01")).chat(**CHAT, stream=True)
    for part in parts:
        break
    del parts
    gc.collect()
    return plain(part)


@scenario("ollama", "stream: never iterated", "not metered")
def stream_untouched(stage: Stage) -> Any:
    return type(stage.client().chat(**CHAT, stream=True)).__name__


@scenario("ollama", "stream: an exception thrown in", "error")
def stream_thrown(stage: Stage) -> Any:
    parts = stage.client().chat(**CHAT, stream=True)
    first = plain(next(parts))
    return [first, attempt(lambda: parts.throw(KeyError("mine")))]


@scenario("ollama", "stream: error line", "error")
def stream_error(stage: Stage) -> Any:
    parts, seen = stage.client(**trouble("error_event")).chat(**CHAT, stream=True), []

    def work() -> None:
        for part in parts:
            seen.append(plain(part))

    return [attempt(work), seen]


@scenario("ollama", "stream: server dies", "error")
def stream_dies(stage: Stage) -> Any:
    parts, seen = stage.client(**trouble("die")).chat(**CHAT, stream=True), []

    def work() -> None:
        for part in parts:
            seen.append(plain(part))

    return [attempt(work), seen]


@scenario("ollama", "stream: 400", "error")
def stream_refused(stage: Stage) -> Any:
    return attempt(lambda: list(stage.client(**trouble("400")).chat(**CHAT, stream=True)))


@scenario("ollama", "async: chat")
async def async_chat(stage: Stage) -> Any:
    return plain(await stage.async_client().chat(**CHAT))


@scenario("ollama", "async: 400", "error")
async def async_refused(stage: Stage) -> Any:
    return await stage.async_client(**trouble("400")).chat(**CHAT)


@scenario("ollama", "async: embed")
async def async_embed(stage: Stage) -> Any:
    return plain(await find(stage.async_client(), "embed")(model="all-minilm", input="north"))


@scenario("ollama", "async stream")
async def async_stream(stage: Stage) -> Any:
    parts = await stage.async_client().chat(**CHAT, stream=True)
    return [type(parts).__name__, parts.__name__, [plain(part) async for part in parts]]


@scenario("ollama", "async stream: close", "closed_early")
async def async_stream_close(stage: Stage) -> Any:
    parts = await stage.async_client().chat(**CHAT, stream=True)
    first = plain(await anext(parts))
    await parts.aclose()
    return first


@scenario("ollama", "async stream: break, then dropped", "abandoned|closed_early")
async def async_stream_dropped(stage: Stage) -> Any:
    parts = await stage.async_client(**trouble("slow:0.01")).chat(**CHAT, stream=True)
    async for part in parts:
        break
    del parts
    gc.collect()
    await asyncio.sleep(0.05)
    return plain(part)


@scenario("ollama", "async stream: cancelled", "cancelled")
async def async_stream_cancelled(stage: Stage) -> Any:
    seen = []

    async def work() -> None:
        async for part in await stage.async_client(**trouble("slow:0.4")).chat(**CHAT, stream=True):
            seen.append(plain(part))

    task = asyncio.create_task(work())
    while not seen:
        await asyncio.sleep(0.01)
    task.cancel()
    done = await asyncio.gather(task, return_exceptions=True)
    return [kind(done[0]), seen[0]]


@scenario("ollama", "async stream: server dies", "error")
async def async_stream_dies(stage: Stage) -> Any:
    seen = []
    try:
        async for part in await stage.async_client(**trouble("die")).chat(**CHAT, stream=True):
            seen.append(plain(part))
    except Exception as error:  # noqa: BLE001 - whatever it raises is the result
        return [error, seen]
    return seen
