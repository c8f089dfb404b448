"""`anthropic`: everything."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportUnknownLambdaType=false, reportMissingTypeArgument=false
# pyright: reportPossiblyUnboundVariable=false, reportAttributeAccessIssue=false
# ruff: noqa: B007, PERF402 - loops as callers write them

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
from typing import Any

from .openai_async import attempt as async_attempt
from .openai_async import read as async_read
from .openai_streams import read, read_response
from .scenario import CLAUDE, MESSAGES, NotThere, Stage, attempt, find, scenario, trouble
from .view import kind, stream

ASK: Any = {"model": CLAUDE, "max_tokens": 100, "messages": MESSAGES}
CACHED: Any = {"system": [{"type": "text", "text": "Rules. " * 800, "cache_control": {"type": "ephemeral"}}]}


def open_stream(stage: Stage, **options: Any) -> Any:
    return stage.client(max_retries=0).messages.create(**ASK, stream=True, **options)


@scenario("anthropic", "messages")
def messages(stage: Stage) -> Any:
    return stage.client().messages.create(**ASK)


@scenario("anthropic", "messages: cache written, then read", "ok", "ok")
def cached(stage: Stage) -> Any:
    client = stage.client()
    return [client.messages.create(**ASK, **CACHED).usage, client.messages.create(**ASK, **CACHED).usage]


@scenario("anthropic", "messages: one-shot iterators")
def iterators(stage: Stage) -> Any:
    return stage.client().messages.create(model=CLAUDE, max_tokens=100, messages=(dict(m) for m in MESSAGES))


@scenario("anthropic", "messages: pickle and deepcopy of the answer")
def copies(stage: Stage) -> Any:
    answer = stage.client().messages.create(**ASK)
    return [pickle.loads(pickle.dumps(answer)) == answer, copy.deepcopy(answer) == answer]


@scenario("anthropic", "beta messages")
def beta(stage: Stage) -> Any:
    return find(stage.client(), "beta.messages.create")(**ASK)


@scenario("anthropic", "count of tokens", "not metered")
def count_tokens(stage: Stage) -> Any:
    return find(stage.client(), "messages.count_tokens")(model=CLAUDE, messages=MESSAGES)


@scenario("anthropic", "parse")
def parse(stage: Stage) -> Any:
    from .openai_calls import answer_format

    answer = find(stage.client(), "messages.parse")(**ASK, output_format=answer_format())
    return [repr(answer.parsed_output), answer.usage]


@scenario("anthropic", "raw")
def raw(stage: Stage) -> Any:
    answer = stage.client().messages.with_raw_response.create(**ASK)
    return [kind(answer), answer.headers.get("request-id"), answer.parse(), answer.http_response.json()]


@scenario("anthropic", "raw: stream")
def raw_stream(stage: Stage) -> Any:
    answer = stage.client().messages.with_raw_response.create(**ASK, stream=True)
    opened = answer.parse()
    del answer
    gc.collect()
    return read(opened)


def declare_streaming_responses() -> None:
    """Every way to read, for a buffered answer and for a stream."""
    for how in ("parse", "json", "text", "read", "lines", "text parts", "bytes", "nothing"):

        def buffered(stage: Stage, how: str = how) -> Any:
            with stage.client().messages.with_streaming_response.create(**ASK) as answer:
                value = read_response(answer, how)
            return [kind(answer), value, answer.is_closed]

        def streamed(stage: Stage, how: str = how) -> Any:
            with stage.client().messages.with_streaming_response.create(**ASK, stream=True) as answer:
                value = read_response(answer, how)
                value = read(value) if how == "parse" else value
            return [kind(answer), value, answer.is_closed]

        end = "closed_early" if how == "nothing" else "ok"
        scenario("anthropic", f"streaming response: {how}", end)(buffered)
        scenario("anthropic", f"streaming response, stream: {how}", end)(streamed)


declare_streaming_responses()


@scenario("anthropic", "client.post")
def client_post(stage: Stage) -> Any:
    return stage.client().post("/v1/messages", body=ASK, cast_to=object)


@scenario("anthropic", "retry: 2 × 500", attempts=3)
def retry(stage: Stage) -> Any:
    return stage.client().messages.create(**ASK, **trouble("500x2"))


@scenario("anthropic", "retry: all fail", "error", attempts=3)
def retry_fails(stage: Stage) -> Any:
    return stage.client().messages.create(**ASK, **trouble("529"))


@scenario("anthropic", "error: 400", "error")
def bad_request(stage: Stage) -> Any:
    return stage.client().messages.create(**ASK, **trouble("400"))


@scenario("anthropic", "error: no connection", "error")
def no_connection(stage: Stage) -> Any:
    return stage.client(base_url="http://127.0.0.1:9", max_retries=0).messages.create(**ASK)


@scenario("anthropic", "stream")
def plain(stage: Stage) -> Any:
    return read(open_stream(stage))


@scenario("anthropic", "stream: retry 2 × 500", attempts=3)
def stream_retry(stage: Stage) -> Any:
    return list(stage.client().messages.create(**ASK, stream=True, **trouble("500x2")))


@scenario("anthropic", "stream: reader stops after the last event")
def stops_at_end(stage: Stage) -> Any:
    events = []
    for event in open_stream(stage):
        events.append(event)
        if event.type == "message_stop":
            break
    return events


@scenario("anthropic", "stream: close", "closed_early")
def close(stage: Stage) -> Any:
    opened = open_stream(stage)
    first = next(opened)
    opened.close()
    return [first, opened.response.is_closed]


@scenario("anthropic", "stream: with, then break", "closed_early")
def leave_with(stage: Stage) -> Any:
    with open_stream(stage) as opened:
        for event in opened:
            break
    return [event, opened.response.is_closed]


@scenario("anthropic", "stream: break, then dropped", "abandoned")
def dropped(stage: Stage) -> Any:
    opened = open_stream(stage, **trouble("slow:0.01"))
    for event in opened:
        break
    del opened
    gc.collect()
    return event


@scenario("anthropic", "stream: dropped without a collection", "abandoned|closed_early")
def dropped_at_once(stage: Stage) -> Any:
    """Where the library makes no cycle we make none: the connection is free at once."""
    gc.disable()
    try:
        opened = open_stream(stage, **trouble("slow:0.01"))
        next(opened)
        response = opened.response
        del opened
        return response.is_closed
    finally:
        gc.enable()


@scenario("anthropic", "stream: never iterated", "abandoned")
def never_iterated(stage: Stage) -> Any:
    opened = open_stream(stage, **trouble("slow:0.01"))
    looks = stream(opened)
    del opened
    gc.collect()
    return looks


@scenario("anthropic", "stream: server dies", "error")
def server_dies(stage: Stage) -> Any:
    opened, events = open_stream(stage, **trouble("die")), []

    def go() -> None:
        for event in opened:
            events.append(event)

    return [attempt(go), events]


@scenario("anthropic", "stream: error event", "error")
def error_event(stage: Stage) -> Any:
    opened = open_stream(stage, **trouble("error_event"))
    return attempt(lambda: list(opened))


@scenario("anthropic", "helper")
def helper(stage: Stage) -> Any:
    with stage.client().messages.stream(**ASK) as opened:
        looks, parts = kind(opened), list(opened.text_stream)
        return [looks, parts, opened.get_final_message()]


@scenario("anthropic", "helper: events")
def helper_events(stage: Stage) -> Any:
    with stage.client().messages.stream(**ASK) as opened:
        return [event.type for event in opened]


@scenario("anthropic", "helper: left early", "closed_early")
def helper_left(stage: Stage) -> Any:
    with stage.client().messages.stream(**ASK) as opened:
        for event in opened:
            break
    return event.type


@scenario("anthropic", "helper: closed", "closed_early")
def helper_closed(stage: Stage) -> Any:
    with stage.client().messages.stream(**ASK) as opened:
        first = next(iter(opened))
        opened.close()
        return [first.type, opened.response.is_closed]


@scenario("anthropic", "beta helper")
def beta_helper(stage: Stage) -> Any:
    with find(stage.client(), "beta.messages.stream")(**ASK) as opened:
        return opened.get_final_message()


@scenario("anthropic", "Vertex", "ok", "ok")
def vertex(stage: Stage) -> Any:
    client = vertex_client(stage, "AnthropicVertex")
    return [client.messages.create(**ASK), read(client.messages.create(**ASK, stream=True))]


def vertex_client(stage: Stage, name: str) -> Any:
    options = {"region": "us-east5", "project_id": "p", "access_token": "t", "base_url": f"{stage.provider.url}/v1"}
    try:
        return getattr(stage.library, name)(**options)
    except (AttributeError, ImportError):
        raise NotThere(name) from None


@scenario("anthropic", "middleware asks again", "ok", attempts=2, exact=False)
def middleware(stage: Stage) -> Any:
    def twice(request: Any, call_next: Any) -> Any:
        call_next(request).parse()
        return call_next(request)

    try:
        client = stage.client(middleware=[twice])
    except TypeError:
        raise NotThere("middleware") from None
    return client.messages.create(**ASK)


@scenario("anthropic", "middleware answers by itself", "not metered")
def middleware_answers(stage: Stage) -> Any:
    try:
        client = stage.client(middleware=[lambda request, call_next: "mine"])
    except TypeError:
        raise NotThere("middleware") from None
    return client.messages.create(**ASK)


@scenario("anthropic", "async: messages")
async def async_messages(stage: Stage) -> Any:
    return await stage.async_client().messages.create(**ASK)


@scenario("anthropic", "async: beta messages")
async def async_beta(stage: Stage) -> Any:
    return await find(stage.async_client(), "beta.messages.create")(**ASK)


@scenario("anthropic", "async: raw")
async def async_raw(stage: Stage) -> Any:
    answer = await stage.async_client().messages.with_raw_response.create(**ASK)
    parsed = answer.parse()
    return [kind(answer), await parsed if hasattr(parsed, "__await__") else parsed]


@scenario("anthropic", "async: retry 2 × 500", attempts=3)
async def async_retry(stage: Stage) -> Any:
    return await stage.async_client().messages.create(**ASK, **trouble("500x2"))


@scenario("anthropic", "async: 400", "error")
async def async_bad_request(stage: Stage) -> Any:
    return await stage.async_client().messages.create(**ASK, **trouble("400"))


@scenario("anthropic", "async: streaming response")
async def async_streaming_response(stage: Stage) -> Any:
    async with stage.async_client().messages.with_streaming_response.create(**ASK) as answer:
        return [line async for line in answer.iter_lines()]


@scenario("anthropic", "async stream")
async def async_stream(stage: Stage) -> Any:
    return await async_read(await stage.async_client().messages.create(**ASK, stream=True))


@scenario("anthropic", "async stream: with, then break", "closed_early")
async def async_leave(stage: Stage) -> Any:
    async with await stage.async_client().messages.create(**ASK, stream=True) as opened:
        async for event in opened:
            break
    return [event, opened.response.is_closed]


@scenario("anthropic", "async stream: break, then dropped", "abandoned|closed_early")
async def async_dropped(stage: Stage) -> Any:
    opened = await stage.async_client().messages.create(**ASK, stream=True, **trouble("slow:0.01"))
    async for event in opened:
        break
    del opened
    gc.collect()
    await asyncio.sleep(0)
    return event


@scenario("anthropic", "async stream: cancelled", "cancelled")
async def async_cancelled(stage: Stage) -> Any:
    first = asyncio.Event()

    async def go() -> None:
        async for _ in await stage.async_client().messages.create(**ASK, stream=True, **trouble("slow:0.1")):
            first.set()

    task = asyncio.create_task(go())
    await first.wait()
    task.cancel()
    return await async_attempt(lambda: task)


@scenario("anthropic", "async stream: server dies", "error")
async def async_dies(stage: Stage) -> Any:
    opened = await stage.async_client(max_retries=0).messages.create(**ASK, stream=True, **trouble("die"))
    return await async_attempt(lambda: async_read(opened))


@scenario("anthropic", "async helper")
async def async_helper(stage: Stage) -> Any:
    async with stage.async_client().messages.stream(**ASK) as opened:
        parts = [part async for part in opened.text_stream]
        return [parts, await opened.get_final_message()]


@scenario("anthropic", "async helper: left early", "closed_early")
async def async_helper_left(stage: Stage) -> Any:
    async with stage.async_client().messages.stream(**ASK) as opened:
        async for event in opened:
            break
    return event.type


@scenario("anthropic", "async Vertex", "ok", "ok")
async def async_vertex(stage: Stage) -> Any:
    client = vertex_client(stage, "AsyncAnthropicVertex")
    return [await client.messages.create(**ASK), await async_read(await client.messages.create(**ASK, stream=True))]
