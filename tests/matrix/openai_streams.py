"""`openai`: streams, synchronously, and every way out of them."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportUnknownLambdaType=false, reportMissingTypeArgument=false
# pyright: reportPossiblyUnboundVariable=false, reportAttributeAccessIssue=false
# ruff: noqa: B007, PERF402 - loops as callers write them

from __future__ import annotations

import gc
import time
from typing import Any

from .openai_calls import CHAT, WAV, answer_format
from .scenario import MODEL, Stage, accepts, attempt, find, scenario, trouble
from .view import kind, stream

USAGE: Any = {"stream_options": {"include_usage": True}}


def open_stream(stage: Stage, **options: Any) -> Any:
    return stage.client(max_retries=0).chat.completions.create(**CHAT, stream=True, **options)


def read(opened: Any) -> Any:
    """A stream's looks, all it gives, and what is left of it."""
    before = stream(opened)
    chunks = list(opened)
    return [before, chunks, opened.response.is_closed, list(opened)]


@scenario("openai", "stream")
def plain(stage: Stage) -> Any:
    return read(open_stream(stage))


@scenario("openai", "stream: usage asked for")
def with_usage(stage: Stage) -> Any:
    return read(open_stream(stage, **USAGE))


@scenario("openai", "stream: usage asked for in extra_body")
def with_usage_extra(stage: Stage) -> Any:
    return read(open_stream(stage, extra_body=USAGE))


@scenario("openai", "stream: usage declined")
def usage_declined(stage: Stage) -> Any:
    return read(open_stream(stage, stream_options={"include_usage": False}))


@scenario("openai", "stream: other options in extra_body")
def other_options(stage: Stage) -> Any:
    return read(open_stream(stage, extra_body={"stream_options": {"include_obfuscation": False}, "seed": 1}))


@scenario("openai", "stream: several choices")
def choices(stage: Stage) -> Any:
    return read(open_stream(stage, n=2))


@scenario("openai", "stream: tool call")
def tool_call(stage: Stage) -> Any:
    tool = {"type": "function", "function": {"name": "go", "parameters": {"type": "object", "properties": {}}}}
    return read(open_stream(stage, tools=[tool]))


@scenario("openai", "stream: next by next")
def next_by_next(stage: Stage) -> Any:
    opened = open_stream(stage)
    return [next(opened), next(opened), list(opened), attempt(lambda: next(opened))]


@scenario("openai", "stream: each chunk when it comes")
def lazy(stage: Stage) -> Any:
    times = [time.monotonic() for _ in open_stream(stage, **trouble("slow:0.06"))]
    # The first chunk is here long before the last one was sent.
    return [len(times), times[-1] - times[0] > 0.03 * len(times)]


@scenario("openai", "stream: reader stops after the last event", exact=False)
def stops_at_finish(stage: Stage) -> Any:
    chunks = []
    for chunk in open_stream(stage):
        chunks.append(chunk)
        if chunk.choices[0].finish_reason:
            break
    return chunks


@scenario("openai", "stream: close", "closed_early")
def close(stage: Stage) -> Any:
    opened = open_stream(stage)
    first = next(opened)
    opened.close()
    return [first, opened.response.is_closed]


@scenario("openai", "stream: response closed", "closed_early")
def close_response(stage: Stage) -> Any:
    opened = open_stream(stage)
    first = next(opened)
    opened.response.close()
    return [first, opened.response.is_closed]


@scenario("openai", "stream: with, then break", "closed_early")
def leave_with(stage: Stage) -> Any:
    with open_stream(stage) as opened:
        for chunk in opened:
            break
    return [chunk, opened.response.is_closed]


@scenario("openai", "stream: error inside with", "closed_early")
def error_in_with(stage: Stage) -> Any:
    def go() -> None:
        with open_stream(stage) as opened:
            next(opened)
            raise KeyError("mine")

    return attempt(go)


@scenario("openai", "stream: break, then dropped", "abandoned")
def dropped(stage: Stage) -> Any:
    opened = open_stream(stage, **trouble("slow:0.01"))
    for chunk in opened:
        break
    del opened
    gc.collect()
    return chunk


@scenario("openai", "stream: never iterated", "abandoned")
def never_iterated(stage: Stage) -> Any:
    opened = open_stream(stage, **trouble("slow:0.01"))
    looks = stream(opened)
    del opened
    gc.collect()
    return looks


@scenario("openai", "stream: a dropped one gives its connection back", "abandoned", "ok", exact=False)
def connection_back(stage: Stage) -> Any:
    httpx = stage.httpx
    limits, timeout = httpx.Limits(max_connections=1), httpx.Timeout(5, pool=0.2)
    client = stage.client(max_retries=0, timeout=timeout, http_client=httpx.Client(limits=limits))
    opened = client.chat.completions.create(**CHAT, stream=True, **trouble("slow:0.01"))
    next(opened)
    del opened
    gc.collect()
    return attempt(lambda: client.chat.completions.create(**CHAT))


@scenario("openai", "stream: server dies", "error")
def server_dies(stage: Stage) -> Any:
    opened, chunks = open_stream(stage, **trouble("die")), []

    def go() -> None:
        for chunk in opened:
            chunks.append(chunk)

    # The provider dies half-way, which is one chunk later when it was asked for usage.
    return [attempt(go), chunks[:5], opened.response.is_closed]


@scenario("openai", "stream: error event", "error")
def error_event(stage: Stage) -> Any:
    opened, chunks = open_stream(stage, **trouble("error_event")), []

    def go() -> None:
        for chunk in opened:
            chunks.append(chunk)

    return [attempt(go), chunks[:5]]


@scenario("openai", "stream: retry 2 × 500", attempts=3)
def retry(stage: Stage) -> Any:
    return list(stage.client().chat.completions.create(**CHAT, stream=True, **trouble("500x2")))


@scenario("openai", "stream: 400", "error")
def bad_request(stage: Stage) -> Any:
    return open_stream(stage, **trouble("400"))


@scenario("openai", "stream: raw, then parse")
def raw_parse(stage: Stage) -> Any:
    raw = stage.client().chat.completions.with_raw_response.create(**CHAT, stream=True)
    looks, opened = kind(raw), raw.parse()
    del raw
    gc.collect()
    return [looks, read(opened)]


@scenario("openai", "stream: raw, closed unparsed", "closed_early")
def raw_closed(stage: Stage) -> Any:
    raw = stage.client().chat.completions.with_raw_response.create(**CHAT, stream=True)
    raw.http_response.close()
    return [kind(raw), raw.is_closed]


@scenario("openai", "stream: raw, dropped unparsed", "abandoned")
def raw_dropped(stage: Stage) -> Any:
    raw = stage.client().chat.completions.with_raw_response.create(**CHAT, stream=True)
    looks = kind(raw)
    del raw
    gc.collect()
    return looks


def read_response(answer: Any, how: str) -> Any:
    """One of the ways to read a streaming response."""
    if how == "parse":
        return answer.parse()
    if how == "json":
        return attempt(lambda: find(answer, "json")())
    if how in ("text", "read"):
        return getattr(answer, how)()
    if how == "lines":
        return list(answer.iter_lines())
    if how == "text parts":
        return "".join(answer.iter_text())
    if how == "bytes":
        return b"".join(answer.iter_bytes())
    assert how == "nothing"
    return None


def declare_streaming_responses() -> None:
    """Every way to read, for a buffered answer and for a stream."""
    for how in ("parse", "json", "text", "read", "lines", "text parts", "bytes", "nothing"):

        def buffered(stage: Stage, how: str = how) -> Any:
            with stage.client().chat.completions.with_streaming_response.create(**CHAT) as answer:
                looks = [kind(answer), answer.is_closed, answer.headers.get("content-type")]
                value = read_response(answer, how)
            return [looks, value, answer.is_closed]

        def streamed(stage: Stage, how: str = how) -> Any:
            create = stage.client().chat.completions.with_streaming_response.create
            with create(**CHAT, **USAGE, stream=True) as answer:
                value = read_response(answer, how)
                value = read(value) if how == "parse" else value
            return [kind(answer), value, answer.is_closed]

        end = "closed_early" if how == "nothing" else "ok"
        scenario("openai", f"streaming response: {how}", end)(buffered)
        # Read as a whole, an event stream is no JSON.
        scenario("openai", f"streaming response, stream: {how}", end)(streamed)


declare_streaming_responses()


@scenario("openai", "streaming response, stream: usage not asked for", exact=False)
def streaming_unasked(stage: Stage) -> Any:
    with stage.client().chat.completions.with_streaming_response.create(**CHAT, stream=True) as answer:
        return list(answer.iter_lines())


@scenario("openai", "streaming response: left in the middle", "closed_early")
def streaming_left(stage: Stage) -> Any:
    create = stage.client().chat.completions.with_streaming_response.create
    with create(**CHAT, stream=True, **trouble("slow:0.01")) as answer:
        for line in answer.iter_lines():
            break
    return [line, answer.is_closed]


@scenario("openai", "streaming response: server dies", "error")
def streaming_dies(stage: Stage) -> Any:
    def go() -> Any:
        with stage.client().chat.completions.with_streaming_response.create(**CHAT, **trouble("die")) as answer:
            return answer.read()

    return attempt(go)


@scenario("openai", "helper")
def helper(stage: Stage) -> Any:
    method = find(stage.client(), "chat.completions.stream", "beta.chat.completions.stream")
    with method(**CHAT) as opened:
        looks = kind(opened)
        events = [event.type for event in opened]
        final = opened.get_final_completion()
    return [looks, events, final.choices[0].message.content, final.usage]


@scenario("openai", "helper: usage asked for, structured")
def helper_usage(stage: Stage) -> Any:
    method = find(stage.client(), "chat.completions.stream", "beta.chat.completions.stream")
    with method(**CHAT, **USAGE, response_format=answer_format()) as opened:
        final = opened.get_final_completion()
    return [repr(final.choices[0].message.parsed), final.usage]


@scenario("openai", "helper: left early", "closed_early")
def helper_left(stage: Stage) -> Any:
    method = find(stage.client(), "chat.completions.stream", "beta.chat.completions.stream")
    with method(**CHAT) as opened:
        for event in opened:
            break
    return event.type


@scenario("openai", "responses: stream")
def responses(stage: Stage) -> Any:
    return read(find(stage.client(), "responses.create")(model=MODEL, input="Where to?", stream=True))


@scenario("openai", "responses: stream closed", "closed_early")
def responses_closed(stage: Stage) -> Any:
    opened = find(stage.client(), "responses.create")(model=MODEL, input="Where to?", stream=True)
    first = next(opened)
    opened.close()
    return first


@scenario("openai", "responses: stream, error event", "error")
def responses_error(stage: Stage) -> Any:
    create = find(stage.client(), "responses.create")
    opened = create(model=MODEL, input="Where to?", stream=True, **trouble("error_event"))
    return attempt(lambda: list(opened))


@scenario("openai", "responses: helper")
def responses_helper(stage: Stage) -> Any:
    with find(stage.client(), "responses.stream")(model=MODEL, input="Where to?") as opened:
        events = [event.type for event in opened]
        final = opened.get_final_response()
    return [events, final.output_text, final.usage]


@scenario("openai", "legacy completions: stream")
def completions(stage: Stage) -> Any:
    return read(stage.client().completions.create(model="gpt-3.5-turbo-instruct", prompt="North or", stream=True))


@scenario("openai", "image: stream")
def image(stage: Stage) -> Any:
    method = accepts(stage.client().images.generate, "stream")
    return read(method(model="gpt-image-1.5", prompt="a shelf", stream=True))


@scenario("openai", "transcription: stream")
def transcription(stage: Stage) -> Any:
    method = accepts(stage.client().audio.transcriptions.create, "stream")
    return read(method(model="gpt-4o-transcribe", file=("a.wav", WAV), stream=True))


@scenario("openai", "client.post: stream of plain objects")
def client_post(stage: Stage) -> Any:
    client = stage.client()
    body = {**CHAT, "stream": True}
    return list(
        client.post(
            "/chat/completions", body=body, cast_to=object, stream=True, stream_cls=stage.library.Stream[object]
        )
    )


@scenario("openai", "Azure: stream")
def azure(stage: Stage) -> Any:
    client = stage.library.AzureOpenAI(azure_endpoint=stage.provider.url, api_key="k", api_version="2025-01-01-preview")
    return read(client.chat.completions.create(**CHAT, stream=True))


@scenario("openai", "stream: host refuses stream_options", "ok", "ok", exact=False, attempts=2, resent=True)
def refuses_options(stage: Stage) -> Any:
    """The last one: from here on the host is known not to like the question."""
    first = read(open_stream(stage, **trouble("reject_stream_options")))
    return [first, read(open_stream(stage, **trouble("reject_stream_options")))]
