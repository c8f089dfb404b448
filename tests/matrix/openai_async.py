"""`openai`: the same again, asynchronously."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportUnknownLambdaType=false, reportMissingTypeArgument=false
# pyright: reportPossiblyUnboundVariable=false, reportAttributeAccessIssue=false
# ruff: noqa: B007, PERF401 - loops as callers write them

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

from .openai_calls import CHAT, WAV, answer_format
from .openai_streams import USAGE
from .scenario import MODEL, Stage, find, scenario, trouble
from .view import kind, stream


async def opened_stream(stage: Stage, **options: Any) -> Any:
    client = stage.async_client(max_retries=0)
    return await client.chat.completions.create(**CHAT, stream=True, **options)


async def read(opened: Any) -> Any:
    before = stream(opened)
    chunks = [chunk async for chunk in opened]
    return [before, chunks, opened.response.is_closed]


async def attempt(function: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await function()
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever it raises is the result
        return error


@scenario("openai", "async: chat")
async def chat(stage: Stage) -> Any:
    return await stage.async_client().chat.completions.create(**CHAT)


@scenario("openai", "async: many at once", *["ok"] * 10)
async def many(stage: Stage) -> Any:
    client = stage.async_client()
    return await asyncio.gather(*(client.chat.completions.create(**CHAT) for _ in range(10)))


@scenario("openai", "async: parse")
async def parse(stage: Stage) -> Any:
    method = find(stage.async_client(), "chat.completions.parse", "beta.chat.completions.parse")
    return repr((await method(**CHAT, response_format=answer_format())).choices[0].message.parsed)


@scenario("openai", "async: raw")
async def raw(stage: Stage) -> Any:
    answer = await stage.async_client().chat.completions.with_raw_response.create(**CHAT)
    return [kind(answer), answer.parse(), answer.text]


@scenario("openai", "async: retry 2 × 500", attempts=3)
async def retry(stage: Stage) -> Any:
    return await stage.async_client().chat.completions.create(**CHAT, **trouble("500x2"))


@scenario("openai", "async: 400", "error")
async def bad_request(stage: Stage) -> Any:
    return await stage.async_client().chat.completions.create(**CHAT, **trouble("400"))


@scenario("openai", "async: no connection", "error")
async def no_connection(stage: Stage) -> Any:
    client = stage.async_client(base_url="http://127.0.0.1:9/v1", max_retries=0)
    return await client.chat.completions.create(**CHAT)


@scenario("openai", "async: responses")
async def responses(stage: Stage) -> Any:
    return await find(stage.async_client(), "responses.create")(model=MODEL, input="Where to?")


@scenario("openai", "async: embeddings")
async def embeddings(stage: Stage) -> Any:
    return await stage.async_client().embeddings.create(model="text-embedding-3-small", input="north")


@scenario("openai", "async: image")
async def image(stage: Stage) -> Any:
    return await stage.async_client().images.generate(model="gpt-image-1.5", prompt="a shelf")


@scenario("openai", "async: moderation")
async def moderation(stage: Stage) -> Any:
    return await stage.async_client().moderations.create(input="north")


@scenario("openai", "async: speech")
async def speech(stage: Stage) -> Any:
    answer = await stage.async_client().audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input="Go.")
    return [kind(answer), answer.content]


@scenario("openai", "async: transcription")
async def transcription(stage: Stage) -> Any:
    method = stage.async_client().audio.transcriptions.create
    return await method(model="gpt-4o-transcribe", file=("a.wav", WAV))


@scenario("openai", "async: legacy completions")
async def completions(stage: Stage) -> Any:
    return await stage.async_client().completions.create(model="gpt-3.5-turbo-instruct", prompt="North or")


@scenario("openai", "async: client.post")
async def client_post(stage: Stage) -> Any:
    return await stage.async_client().post("/chat/completions", body=CHAT, cast_to=object)


@scenario("openai", "async: list of models", "not metered")
async def models(stage: Stage) -> Any:
    return [model.id async for model in stage.async_client().models.list()]


@scenario("openai", "async: Azure", "ok", "ok")
async def azure(stage: Stage) -> Any:
    client = stage.library.AsyncAzureOpenAI(
        azure_endpoint=stage.provider.url, api_key="k", api_version="2025-01-01-preview"
    )
    return [
        await client.chat.completions.create(**CHAT),
        await read(await client.chat.completions.create(**CHAT, stream=True)),
    ]


@scenario("openai", "async stream")
async def plain(stage: Stage) -> Any:
    return await read(await opened_stream(stage))


@scenario("openai", "async stream: usage asked for")
async def with_usage(stage: Stage) -> Any:
    return await read(await opened_stream(stage, **USAGE))


@scenario("openai", "async stream: close", "closed_early")
async def close(stage: Stage) -> Any:
    opened = await opened_stream(stage)
    first = await anext(opened)
    await opened.close()
    return [first, opened.response.is_closed]


@scenario("openai", "async stream: with, then break", "closed_early")
async def leave_with(stage: Stage) -> Any:
    async with await opened_stream(stage) as opened:
        async for chunk in opened:
            break
    return [chunk, opened.response.is_closed]


@scenario("openai", "async stream: break, then dropped", "abandoned|closed_early")
async def dropped(stage: Stage) -> Any:
    opened = await opened_stream(stage, **trouble("slow:0.01"))
    async for chunk in opened:
        break
    del opened
    gc.collect()
    await asyncio.sleep(0)
    return chunk


@scenario("openai", "async stream: never iterated", "abandoned")
async def never_iterated(stage: Stage) -> Any:
    opened = await opened_stream(stage, **trouble("slow:0.01"))
    looks = stream(opened)
    del opened
    gc.collect()
    return looks


@scenario("openai", "async stream: cancelled", "cancelled")
async def cancelled(stage: Stage) -> Any:
    chunks: list[Any] = []
    first = asyncio.Event()

    async def go() -> None:
        async for chunk in await opened_stream(stage, **trouble("slow:0.1")):
            chunks.append(chunk)
            first.set()

    task = asyncio.create_task(go())
    await first.wait()
    task.cancel()
    return [await attempt(lambda: task), chunks]


@scenario("openai", "async: cancelled while waiting", "cancelled")
async def cancelled_waiting(stage: Stage) -> Any:
    client = stage.async_client(max_retries=0)
    task = asyncio.create_task(client.chat.completions.create(**CHAT, **trouble("slow:9")))
    while not stage.provider.attempts:
        await asyncio.sleep(0.01)
    task.cancel()
    return await attempt(lambda: task)


@scenario("openai", "async stream: server dies", "error")
async def server_dies(stage: Stage) -> Any:
    opened = await opened_stream(stage, **trouble("die"))
    chunks: list[Any] = []

    async def go() -> None:
        async for chunk in opened:
            chunks.append(chunk)

    return [await attempt(go), chunks[:5]]


@scenario("openai", "async stream: error event", "error")
async def error_event(stage: Stage) -> Any:
    opened = await opened_stream(stage, **trouble("error_event"))
    return await attempt(lambda: read(opened))


@scenario("openai", "async stream: raw, then parse")
async def raw_parse(stage: Stage) -> Any:
    answer = await stage.async_client().chat.completions.with_raw_response.create(**CHAT, stream=True)
    opened = answer.parse()
    del answer
    gc.collect()
    return await read(opened)


def declare_streaming_responses() -> None:
    """Every way to read."""
    for how in ("parse", "json", "text", "read", "lines", "text parts", "bytes", "nothing"):

        async def run(stage: Stage, how: str = how) -> Any:
            create = stage.async_client().chat.completions.with_streaming_response.create
            async with create(**CHAT) as answer:
                value = await read_response(answer, how)
            return [kind(answer), value, answer.is_closed]

        scenario("openai", f"async streaming response: {how}", "closed_early" if how == "nothing" else "ok")(run)


async def read_response(answer: Any, how: str) -> Any:
    if how == "json":
        return await find(answer, "json")()
    if how in ("parse", "text", "read"):
        return await getattr(answer, how)()
    if how == "lines":
        return [line async for line in answer.iter_lines()]
    if how == "text parts":
        return "".join([part async for part in answer.iter_text()])
    return b"".join([part async for part in answer.iter_bytes()]) if how == "bytes" else None


declare_streaming_responses()


@scenario("openai", "async streaming response, stream: parse", exact=False)
async def streaming_parse(stage: Stage) -> Any:
    create = stage.async_client().chat.completions.with_streaming_response.create
    async with create(**CHAT, stream=True) as answer:
        return await read(await answer.parse())


@scenario("openai", "async helper")
async def helper(stage: Stage) -> Any:
    method = find(stage.async_client(), "chat.completions.stream", "beta.chat.completions.stream")
    async with method(**CHAT) as opened:
        events = [event.type async for event in opened]
        final = await opened.get_final_completion()
    return [events, final.choices[0].message.content, final.usage]


@scenario("openai", "async responses: stream")
async def responses_stream(stage: Stage) -> Any:
    create = find(stage.async_client(), "responses.create")
    return await read(await create(model=MODEL, input="Where to?", stream=True))


@scenario("openai", "async responses: helper")
async def responses_helper(stage: Stage) -> Any:
    async with find(stage.async_client(), "responses.stream")(model=MODEL, input="Where to?") as opened:
        final = await opened.get_final_response()
    return [final.output_text, final.usage]
