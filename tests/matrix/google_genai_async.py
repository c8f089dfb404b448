"""`google-genai`: the asynchronous client."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# ruff: noqa: PERF401 - loops as callers write them

from __future__ import annotations

import asyncio
import gc
from typing import Any

from .google_genai_stage import ASK, GEMINI, THINKER, GoogleStage, arrived, news, seen, weather
from .scenario import NotThere, scenario
from .view import kind


async def attempt(awaitable: Any) -> Any:
    """What a coroutine returns or raises."""
    try:
        return await awaitable
    except Exception as error:  # noqa: BLE001 - whatever it raises is the result
        return error


@scenario("google_genai", "async: generate_content")
async def generate(stage: GoogleStage) -> Any:
    client = stage.client()
    return seen(await client.aio.models.generate_content(model=THINKER, contents=ASK))


@scenario("google_genai", "async: 8 calls at once", *["ok"] * 8)
async def together(stage: GoogleStage) -> Any:
    client = stage.client()
    calls = [client.aio.models.generate_content(model=GEMINI, contents=ASK * n) for n in range(1, 9)]
    return [seen(answer) for answer in await asyncio.gather(*calls)]


@scenario("google_genai", "async: automatic function calling", "ok", "ok", "ok")
async def functions(stage: GoogleStage) -> Any:
    client, config = stage.client(), stage.types.GenerateContentConfig(tools=[weather, news])
    answer = await client.aio.models.generate_content(model=GEMINI, contents=ASK, config=config)
    if len(stage.provider.attempts) == 1:
        raise NotThere("function calling in coroutines")
    return answer.text


@scenario("google_genai", "async: chat")
async def chat(stage: GoogleStage) -> Any:
    client = stage.client()
    return seen(await client.aio.chats.create(model=GEMINI).send_message(ASK))


@scenario("google_genai", "async: stream")
async def stream(stage: GoogleStage) -> Any:
    client = stage.client()
    chunks = await client.aio.models.generate_content_stream(model=THINKER, contents=ASK)
    return [kind(chunks), [seen(chunk) async for chunk in chunks]]


@scenario("google_genai", "async: stream, reader leaves", "closed_early")
async def stream_leaves(stage: GoogleStage) -> Any:
    client = stage.client()
    texts = []
    async for chunk in await client.aio.models.generate_content_stream(model=GEMINI, contents=ASK):
        texts.append(chunk.text)
        break
    gc.collect()
    await asyncio.sleep(0.05)
    return texts


@scenario("google_genai", "async: stream, aclose()", "closed_early")
async def stream_closed(stage: GoogleStage) -> Any:
    client = stage.client()
    chunks = await client.aio.models.generate_content_stream(model=GEMINI, contents=ASK)
    first = await anext(chunks)
    await chunks.aclose()
    return first.text


@scenario("google_genai", "async: stream never read", "not metered")
async def stream_unread(stage: GoogleStage) -> Any:
    client = stage.client()
    return kind(await client.aio.models.generate_content_stream(model=GEMINI, contents=ASK))


@scenario("google_genai", "async: stream cancelled", "cancelled|closed_early")
async def stream_cancelled(stage: GoogleStage) -> Any:
    client = stage.client(trouble="slow:0.5")

    async def all_of() -> list[Any]:
        chunks = await client.aio.models.generate_content_stream(model=GEMINI, contents=ASK)
        return [chunk async for chunk in chunks]

    task = asyncio.create_task(all_of())
    await arrived(stage)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return "cancelled"
    raise NotThere("streams that wait in the loop: this version reads them in it")


@scenario("google_genai", "async: call cancelled", "cancelled|ok", exact=False)
async def cancelled(stage: GoogleStage) -> Any:
    client = stage.client(trouble="slow:2")
    task = asyncio.create_task(client.aio.models.generate_content(model=GEMINI, contents=ASK))
    await arrived(stage)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return "cancelled"
    raise NotThere("calls that wait in the loop")


@scenario("google_genai", "async: error in a stream", "error")
async def stream_error(stage: GoogleStage) -> Any:
    client = stage.client(trouble="error_event")
    texts = []

    async def all_of() -> None:
        async for chunk in await client.aio.models.generate_content_stream(model=GEMINI, contents=ASK):
            texts.append(chunk.text)

    return [await attempt(all_of()), texts]


@scenario("google_genai", "async: server dies in a stream", "error")
async def stream_dies(stage: GoogleStage) -> Any:
    client = stage.client(trouble="die")
    texts = []

    async def all_of() -> None:
        async for chunk in await client.aio.models.generate_content_stream(model=GEMINI, contents=ASK):
            texts.append(chunk.text)

    return [await attempt(all_of()), texts]


@scenario("google_genai", "async: 400", "error")
async def refused(stage: GoogleStage) -> Any:
    client = stage.client(trouble="400")
    return await client.aio.models.generate_content(model=GEMINI, contents=ASK)


@scenario("google_genai", "async: retry", attempts=2)
async def retried(stage: GoogleStage) -> Any:
    client = stage.client(attempts=3, trouble="500x1")
    return seen(await client.aio.models.generate_content(model=GEMINI, contents=ASK))


@scenario("google_genai", "async: embeddings")
async def embed(stage: GoogleStage) -> Any:
    client = stage.client()
    return seen(await client.aio.models.embed_content(model="gemini-embedding-001", contents=["north", "south"]))


@scenario("google_genai", "async vertex: generate_content")
async def generate_vertex(stage: GoogleStage) -> Any:
    client = stage.vertex()
    return seen(await client.aio.models.generate_content(model=GEMINI, contents=ASK))


@scenario("google_genai", "async vertex: stream")
async def stream_vertex(stage: GoogleStage) -> Any:
    client = stage.vertex()
    chunks = await client.aio.models.generate_content_stream(model=GEMINI, contents=ASK)
    return [seen(chunk) async for chunk in chunks]


@scenario("google_genai", "async: count_tokens", "not metered")
async def count_tokens(stage: GoogleStage) -> Any:
    client = stage.client()
    return seen(await client.aio.models.count_tokens(model=GEMINI, contents=ASK))
