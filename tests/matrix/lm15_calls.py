"""`lm15`, the engine of `dspy`: three wire formats, by itself."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import asyncio
import gc
import inspect
from typing import Any, Final

from .scenario import CLAUDE, MODEL, Stage, attempt, scenario
from .view import kind

WAYS: Final = {"chat": ("OpenAIChatLM", MODEL), "responses": ("OpenAILM", MODEL), "anthropic": ("AnthropicLM", CLAUDE)}
"""Wire format → class and model."""


class LM15Stage(Stage):
    """Models whose transport names the trouble: calls have no headers."""

    def model(self, way: str, trouble: str = "", url: str = "") -> Any:
        from lm15.transports import StdlibTransport

        class Troubled(StdlibTransport):  # pyright: ignore[reportUntypedBaseClass]
            def stream(self, request: Any) -> Any:
                request.headers.append(("x-scenario", trouble))
                return super().stream(request)

        transport = Troubled() if trouble else StdlibTransport()
        name, _ = WAYS[way]
        return getattr(self.library, name)("sk-test", transport, url or f"{self.provider.url}/v1")

    def async_model(self, way: str) -> Any:
        return getattr(self.library, f"Async{WAYS[way][0]}")("sk-test", base_url=f"{self.provider.url}/v1")

    def request(self, way: str) -> Any:
        message = self.library.Message.user("Where should the next delivery go?")
        return self.library.Request(model=WAYS[way][1], messages=(message,))


def plain(answer: Any) -> Any:
    """An answer, without its id."""
    return [kind(answer), answer.text, answer.model, answer.finish_reason, repr(answer.usage)]


def complete(stage: LM15Stage, way: str) -> Any:
    return plain(stage.model(way).complete(stage.request(way)))


def stream(stage: LM15Stage, way: str) -> Any:
    opened = stage.model(way).stream(stage.request(way))
    return [kind(opened), [kind(event) for event in opened]]


async def async_complete(stage: LM15Stage, way: str) -> Any:
    return plain(await stage.async_model(way).complete(stage.request(way)))


async def async_stream(stage: LM15Stage, way: str) -> Any:
    return [kind(event) async for event in stage.async_model(way).stream(stage.request(way))]


async def async_many(stage: LM15Stage, way: str) -> Any:
    model = stage.async_model(way)
    answers = await asyncio.gather(*(model.complete(stage.request(way)) for _ in range(5)))
    return [plain(answer) for answer in answers]


def refused(stage: LM15Stage, way: str) -> Any:
    return attempt(lambda: stage.model(way, "400").complete(stage.request(way)))


def unreachable(stage: LM15Stage, way: str) -> Any:
    return attempt(lambda: stage.model(way, url="http://127.0.0.1:9/v1").complete(stage.request(way)))


def dies(stage: LM15Stage, way: str) -> Any:
    return attempt(lambda: list(stage.model(way, "die").stream(stage.request(way))))


def closed(stage: LM15Stage, way: str) -> Any:
    opened = stage.model(way, "slow:0.01").stream(stage.request(way))
    first = [kind(next(opened)) for _ in range(2)]
    opened.close()
    return [first, attempt(lambda: next(opened))]


def dropped(stage: LM15Stage, way: str) -> Any:
    opened = stage.model(way, "slow:0.01").stream(stage.request(way))
    first = kind(next(opened))
    del opened
    gc.collect()
    return first


async def cancelled(stage: LM15Stage, way: str) -> Any:
    async def read() -> None:
        async for _ in stage.async_model(way).stream(stage.request(way)):
            await asyncio.sleep(30)

    task = asyncio.create_task(read())
    await asyncio.sleep(0.3)
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return "cancelled"


def _declare(way: str) -> None:
    def add(run: Any, name: str, *statuses: str) -> None:
        # What asyncio calls is told by `iscoroutinefunction`.
        if inspect.iscoroutinefunction(run):

            async def play_async(stage: Any) -> Any:
                return await run(stage, way)

            scenario("lm15", f"{way}: {name}", *statuses)(play_async)
            return

        def play(stage: Any) -> Any:
            return run(stage, way)

        scenario("lm15", f"{way}: {name}", *statuses)(play)

    add(complete, "complete")
    add(stream, "stream")
    add(async_complete, "async")
    add(async_stream, "stream, async")
    add(async_many, "async, many at once", *["ok"] * 5)
    add(refused, "error: 400", "error")
    add(unreachable, "error: no connection", "error")
    add(dies, "stream: server dies", "error")
    add(closed, "stream: close", "closed_early")
    add(dropped, "stream: dropped", "closed_early")
    add(cancelled, "stream: cancelled", "cancelled|closed_early|abandoned")


for _way in WAYS:
    _declare(_way)


@scenario("lm15", "list of models", "not metered")
def models(stage: LM15Stage) -> Any:
    return kind(attempt(stage.model("chat").list_models))
