"""Bedrock through `aiobotocore`: the same calls, awaited."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from tests import aws_kit

from .botocore_calls import (
    ASK,
    INVOKE,
    MODEL,
    STREAMING,
    VENDORS,
    BotocoreStage,
    ask_for,
    masked,
    method,
    payload,
    tidy,
)
from .scenario import scenario
from .view import kind

Way = Callable[[Any], Awaitable[Any]]


class AiobotocoreStage(BotocoreStage):
    """Clients of one call each; they belong to a loop."""

    def opened(self, trouble: str = "") -> Any:
        """A context that makes a client."""
        retries = {"mode": "standard", "total_max_attempts": 3}
        return _Asking(aws_kit.making("bedrock-runtime", self.provider.url, retries=retries), trouble)


class _Asking:
    """Makes a client whose requests ask for trouble."""

    def __init__(self, making: Any, trouble: str) -> None:
        self._making = making
        self._trouble = trouble

    async def __aenter__(self) -> Any:
        client = await self._making.__aenter__()
        ask_for(client, self._trouble)
        return client

    async def __aexit__(self, *exc_info: Any) -> Any:
        return await self._making.__aexit__(*exc_info)


async def outcome(awaitable: Awaitable[Any]) -> Any:
    """What an awaitable returns or raises."""
    try:
        return await awaitable
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever it raises is the result
        return error


async def read(opened: Any) -> list[Any]:
    """All events of a stream."""
    return [event async for event in opened]


@scenario("aiobotocore", "converse")
async def converse(stage: AiobotocoreStage) -> Any:
    async with stage.opened() as client:
        return tidy(await method(client, "converse")(**ASK))


@scenario("aiobotocore", "converse: twenty at a time", *["ok"] * 20)
async def many(stage: AiobotocoreStage) -> Any:
    async with stage.opened() as client:
        ask = method(client, "converse")
        turns = [[{"role": "user", "content": [{"text": f"Where to, number {n}?"}]}] for n in range(20)]
        return [tidy(one) for one in await asyncio.gather(*(ask(modelId=MODEL, messages=turn) for turn in turns))]


@scenario("aiobotocore", "converse: retry 2 × 500", attempts=3)
async def retried(stage: AiobotocoreStage) -> Any:
    async with stage.opened("500x2") as client:
        return tidy(await method(client, "converse")(**ASK))


@scenario("aiobotocore", "converse: 400", "error")
async def refused(stage: AiobotocoreStage) -> Any:
    async with stage.opened("400") as client:
        return tidy(await outcome(method(client, "converse")(**ASK)))


@scenario("aiobotocore", "converse: cancelled", "cancelled")
async def cancelled(stage: AiobotocoreStage) -> Any:
    async with stage.opened("slow:5") as client:
        task = asyncio.create_task(method(client, "converse")(**ASK))
        while not stage.provider.attempts:
            await asyncio.sleep(0.01)
        task.cancel()
        return kind(await outcome(task))


@scenario("aiobotocore", "stream")
async def stream(stage: AiobotocoreStage) -> Any:
    async with stage.opened() as client:
        answer = await method(client, "converse_stream")(**ASK)
        opened = answer.pop("stream")
        return [tidy(answer), kind(opened), await read(opened)]


@scenario("aiobotocore", "stream: close", "closed_early")
async def stream_closed(stage: AiobotocoreStage) -> Any:
    async with stage.opened("slow:0.01") as client:
        opened = (await method(client, "converse_stream")(**ASK))["stream"]
        first = await anext(aiter(opened))
        opened.close()
        return first


@scenario("aiobotocore", "stream: break, then dropped", "abandoned")
async def stream_dropped(stage: AiobotocoreStage) -> Any:
    async with stage.opened("slow:0.01") as client:
        opened = (await method(client, "converse_stream")(**ASK))["stream"]
        events = aiter(opened)
        seen = await anext(events)
        del opened, events
        for _ in range(3):
            gc.collect()
            await asyncio.sleep(0)
        return seen


@scenario("aiobotocore", "stream: cancelled", "cancelled")
async def stream_cancelled(stage: AiobotocoreStage) -> Any:
    first = asyncio.Event()
    async with stage.opened("slow:0.1") as client:

        async def go() -> None:
            async for _ in (await method(client, "converse_stream")(**ASK))["stream"]:
                first.set()

        task = asyncio.create_task(go())
        await first.wait()
        task.cancel()
        return kind(await outcome(task))


@scenario("aiobotocore", "stream: error event", "error")
async def error_event(stage: AiobotocoreStage) -> Any:
    async with stage.opened("error_event") as client:
        return tidy(await outcome(read((await method(client, "converse_stream")(**ASK))["stream"])))


@scenario("aiobotocore", "stream: server dies", "error")
async def stream_dies(stage: AiobotocoreStage) -> Any:
    async with stage.opened("die") as client:
        return kind(await outcome(read((await method(client, "converse_stream")(**ASK))["stream"])))


async def _in_parts(body: Any) -> list[bytes]:
    parts: list[bytes] = []
    while part := await body.read(64):
        parts.append(part)
    return parts


async def _with(body: Any) -> Any:
    async with body as opened:
        return [kind(opened), await opened.read()]


async def _chunks(body: Any) -> list[bytes]:
    return [part async for part in body.iter_chunks(50)]


async def _lines(body: Any) -> list[bytes]:
    return [part async for part in body.iter_lines()]


WAYS: Final[dict[str, Way]] = {
    "read": lambda body: body.read(),
    "read in parts": _in_parts,
    "iter_chunks": _chunks,
    "iter_lines": _lines,
    "async with": _with,
}


def declare_ways() -> None:
    for how, way in WAYS.items():

        async def run(stage: AiobotocoreStage, way: Way = way) -> Any:
            async with stage.opened() as client:
                answer = await client.invoke_model(**INVOKE)
                body = answer.pop("body")
                raw = kind(getattr(body, "raw_stream", None))
                return [kind(body), raw, tidy(answer), masked(await way(body)), body.tell()]

        scenario("aiobotocore", f"invoke: {how}")(run)


declare_ways()


@scenario("aiobotocore", "invoke: not read", "abandoned", exact=True)
async def not_read(stage: AiobotocoreStage) -> Any:
    async with stage.opened() as client:
        answer = await client.invoke_model(**INVOKE)
        answer.pop("body")
        return tidy(answer)


@scenario("aiobotocore", "invoke: server dies", "error", exact=True)
async def invoke_dies(stage: AiobotocoreStage) -> Any:
    async with stage.opened("die") as client:
        body = (await client.invoke_model(**INVOKE))["body"]
        return kind(await outcome(body.read()))


@scenario("aiobotocore", "invoke stream")
async def invoke_stream(stage: AiobotocoreStage) -> Any:
    async with stage.opened() as client:
        answer = await client.invoke_model_with_response_stream(**INVOKE)
        opened = answer.pop("body")
        seen = [payload(event) for event in await read(opened)]
        seen[0]["message"].pop("id")
        return [tidy(answer), kind(opened), seen]


@scenario("aiobotocore", "invoke stream: every vendor", *["ok"] * len(STREAMING))
async def vendors(stage: AiobotocoreStage) -> Any:
    async with stage.opened() as client:
        found: list[Any] = []
        for vendor in STREAMING:
            model, body = VENDORS[vendor]
            answer = await client.invoke_model_with_response_stream(modelId=model, body=json.dumps(body))
            found.append([payload(event) async for event in answer["body"]])
        return found
