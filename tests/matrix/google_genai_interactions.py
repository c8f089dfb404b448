"""`google-genai`: its second client, `client.interactions`."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
from typing import Any

from .google_genai_stage import ASK, GEMINI, THINKER, GoogleStage, arrived, read
from .scenario import NotThere, attempt, scenario, trouble
from .view import stream as looks


@scenario("google_genai", "interactions: create")
def create(stage: GoogleStage) -> Any:
    client, _ = stage.interactions()
    return client.create(model=THINKER, input=ASK)


@scenario("google_genai", "interactions: contents, parameters")
def create_more(stage: GoogleStage) -> Any:
    client, _ = stage.interactions()
    given: Any = [{"type": "text", "text": ASK}]
    config = {"max_output_tokens": 4}
    return [client.create(model=GEMINI, input=given, system_instruction="Be brief.", generation_config=config), config]


@scenario("google_genai", "interactions: stream")
def stream(stage: GoogleStage) -> Any:
    client, _ = stage.interactions()
    events = client.create(model=THINKER, input=ASK, stream=True)
    return [looks(events), read(events)]


@scenario("google_genai", "interactions: stream, with block left", "closed_early")
def stream_left(stage: GoogleStage) -> Any:
    client, _ = stage.interactions()
    with client.create(model=GEMINI, input=ASK, stream=True) as events:
        return next(iter(events))


@scenario("google_genai", "interactions: stream dropped", "abandoned")
def stream_dropped(stage: GoogleStage) -> Any:
    client, _ = stage.interactions()
    return next(iter(client.create(model=GEMINI, input=ASK, stream=True)))


@scenario("google_genai", "interactions: error in a stream", "error")
def stream_error(stage: GoogleStage) -> Any:
    client, _ = stage.interactions()
    return attempt(lambda: read(client.create(model=GEMINI, input=ASK, stream=True, **trouble("error_event"))))


@scenario("google_genai", "interactions: server dies in a stream", "error")
def stream_dies(stage: GoogleStage) -> Any:
    client, _ = stage.interactions()
    return attempt(lambda: read(client.create(model=GEMINI, input=ASK, stream=True, **trouble("die"))))


@scenario("google_genai", "interactions: raw response")
def raw(stage: GoogleStage) -> Any:
    client, _ = stage.interactions()
    response = client.with_raw_response.create(model=GEMINI, input=ASK)
    return [response.status_code, response.parse()]


@scenario("google_genai", "interactions: streaming response")
def raw_streaming(stage: GoogleStage) -> Any:
    client, _ = stage.interactions()
    with client.with_streaming_response.create(model=GEMINI, input=ASK) as response:
        return [response.status_code, response.parse()]


@scenario("google_genai", "interactions: 400", "error")
def refused(stage: GoogleStage) -> Any:
    client, _ = stage.interactions()
    return client.create(model=GEMINI, input=ASK, **trouble("400"))


@scenario("google_genai", "interactions: retry", attempts=2)
def retried(stage: GoogleStage) -> Any:
    client, _ = stage.interactions()
    return client.create(model=GEMINI, input=ASK, **trouble("500x1"))


@scenario("google_genai", "interactions: get", "ok")
def get(stage: GoogleStage) -> Any:
    client, _ = stage.interactions()
    made = client.create(model=GEMINI, input=ASK)
    return client.get(made.id)


@scenario("google_genai", "interactions: async")
async def create_async(stage: GoogleStage) -> Any:
    _, client = stage.interactions()
    return await client.create(model=THINKER, input=ASK)


@scenario("google_genai", "interactions: async stream")
async def stream_async(stage: GoogleStage) -> Any:
    _, client = stage.interactions()
    events = await client.create(model=THINKER, input=ASK, stream=True)
    return [looks(events), [event async for event in events]]


@scenario("google_genai", "interactions: async stream, with block left", "closed_early")
async def stream_left_async(stage: GoogleStage) -> Any:
    _, client = stage.interactions()
    async with await client.create(model=GEMINI, input=ASK, stream=True) as events:
        return await anext(aiter(events))


@scenario("google_genai", "interactions: async stream cancelled", "cancelled")
async def stream_cancelled(stage: GoogleStage) -> Any:
    _, client = stage.interactions()

    async def all_of() -> list[Any]:
        events = await client.create(model=GEMINI, input=ASK, stream=True, **trouble("slow:0.5"))
        return [event async for event in events]

    task = asyncio.create_task(all_of())
    await arrived(stage)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return "cancelled"
    raise NotThere("a slow server")


@scenario("google_genai", "interactions: async retry", attempts=2)
async def retried_async(stage: GoogleStage) -> Any:
    _, client = stage.interactions()
    return await client.create(model=GEMINI, input=ASK, **trouble("500x1"))


@scenario("google_genai", "interactions: async 400", "error")
async def refused_async(stage: GoogleStage) -> Any:
    _, client = stage.interactions()
    return await client.create(model=GEMINI, input=ASK, **trouble("400"))
