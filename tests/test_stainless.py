"""The seam on the real clients: what the matrix of callers does not show."""

from __future__ import annotations

import gc
import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import anthropic
import httpx2
import openai
import pytest
from emission_kit import Telemetry, metered
from genai_meter import attribute, emit, environment, guard, safety
from genai_meter.call import Call, Prepared
from genai_meter.clients import injection
from genai_meter.clients.targets import provider_of
from genai_meter.dialects import NOT_METERED
from genai_meter.instrumentor import AnthropicInstrumentor, OpenAIInstrumentor
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk._logs import LogRecordProcessor

from examples.provider import Provider

T = TypeVar("T")

GATEWAY = "https://gateway.example/v1"
ASK: Any = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Where to?"}]}
CLAUDE: Any = {"model": "claude-haiku-4-5", "max_tokens": 50, "messages": [{"role": "user", "content": "Where to?"}]}


_clients: list[Any] = []


def closing(client: T) -> T:
    """The client, which is closed when the test ends."""
    _clients.append(client)
    return client


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    """Both libraries metered, into memory."""
    with metered(OpenAIInstrumentor, AnthropicInstrumentor) as kept:
        yield kept
        while _clients:
            _clients.pop().close()


def client_of(provider: Provider, **options: Any) -> openai.OpenAI:
    return closing(openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk-test", **options))


def answering(handle: Callable[[httpx2.Request], httpx2.Response]) -> Any:
    """A client whose transport is `handle`."""
    http = httpx2.Client(transport=httpx2.MockTransport(handle))
    return closing(openai.OpenAI(base_url=GATEWAY, api_key="sk-test", http_client=http, max_retries=0))


def only_event(telemetry: Telemetry) -> Mapping[str, Any]:
    emit.flush()
    (event,) = telemetry.events
    return event.attributes


def decide_by(monkeypatch: pytest.MonkeyPatch, decide: Callable[[Prepared], guard.Decision]) -> None:
    async def decide_async(prepared: Prepared) -> guard.Decision:
        return decide(prepared)

    monkeypatch.setattr(guard, "decide", decide)
    monkeypatch.setattr(guard, "decide_async", decide_async)


# --- prepare and guard


def test_the_guard_sees_what_is_known_before_the_call(
    telemetry: Telemetry, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Prepared] = []

    def decide(prepared: Prepared) -> guard.Decision:
        assert provider.attempts == []
        seen.append(prepared)
        return guard.ALLOW

    decide_by(monkeypatch, decide)
    with attribute(tenant="acme"):
        client_of(provider, organization="org-1").chat.completions.create(**ASK, max_completion_tokens=7)
    (prepared,) = seen
    assert (prepared.target.provider, prepared.target.host) == ("openai", "127.0.0.1")
    assert prepared.target.sdk == "openai.OpenAI"
    assert prepared.target.account == "org-1"
    assert prepared.request.model == "gpt-4o-mini"
    assert prepared.request.max_tokens == 7
    assert prepared.attribution["tenant"] == "acme"
    assert prepared.rate_card is not None
    # Nine characters at three a token, eight for the message.
    assert prepared.estimate.buckets == {"input": 11, "output": 7}


def test_a_change_of_the_guard_goes_out_and_leaves_the_callers_objects_alone(
    telemetry: Telemetry, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = {"model": "gpt-4.1-mini", "max_tokens": 5}
    decide_by(monkeypatch, lambda _: guard.Decision("degrade", rule="cheap", change=change))
    extra = {"model": "gpt-4o", "max_tokens": 400, "seed": 3}
    client_of(provider).chat.completions.create(**ASK, max_tokens=300, extra_body=extra)
    (served,) = provider.served
    assert (served.request["model"], served.request["max_tokens"], served.request["seed"]) == ("gpt-4.1-mini", 5, 3)
    assert extra == {"model": "gpt-4o", "max_tokens": 400, "seed": 3}
    assert ASK["model"] == "gpt-4o-mini"
    assert only_event(telemetry)["genai_meter.guard.action"] == "degrade"


def test_the_model_the_guard_chose_moves_an_azure_deployment(
    telemetry: Telemetry, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide_by(monkeypatch, lambda _: guard.Decision("reroute", change={"model": "cheap"}))
    client = closing(openai.AzureOpenAI(azure_endpoint=provider.url, api_key="k", api_version="2025-01-01-preview"))
    client.chat.completions.create(**ASK)
    assert provider.attempts[0].path == "/openai/deployments/cheap/chat/completions"
    assert only_event(telemetry)["gen_ai.provider.name"] == "azure.ai.openai"


def block(_: Prepared) -> guard.Decision:
    raise guard.Blocked("over budget")


def test_blocked_is_the_callers_exception(
    telemetry: Telemetry, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide_by(monkeypatch, block)
    client: Any = client_of(provider)
    claude: Any = closing(anthropic.Anthropic(base_url=provider.url, api_key="k"))
    ways: list[Callable[[], object]] = [
        lambda: client.chat.completions.create(**ASK),
        lambda: client.chat.completions.create(**ASK, stream=True),
        lambda: client.chat.completions.stream(**ASK).__enter__(),
        lambda: client.chat.completions.with_raw_response.create(**ASK),
        lambda: client.chat.completions.with_streaming_response.create(**ASK).__enter__(),
        lambda: client.responses.create(model="gpt-4o-mini", input="x"),
        lambda: claude.messages.create(**CLAUDE),
        lambda: claude.messages.stream(**CLAUDE).__enter__(),
    ]
    for way in ways:
        with pytest.raises(guard.Blocked, match="over budget"):
            way()
    assert provider.attempts == []
    emit.flush()
    assert [event.attributes["genai_meter.status"] for event in telemetry.events] == ["blocked"] * len(ways)


async def test_blocked_in_a_coroutine(
    telemetry: Telemetry, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide_by(monkeypatch, block)
    async with openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="k") as client:
        with pytest.raises(guard.Blocked):
            await client.chat.completions.create(**ASK)
    assert provider.attempts == []


# --- attempts


def test_every_attempt_keeps_its_status(telemetry: Telemetry, provider: Provider) -> None:
    client_of(provider).chat.completions.create(**ASK, extra_headers={"x-scenario": "503x2"})
    event = only_event(telemetry)
    attempts = json.loads(event["genai_meter.attempts"])
    assert [attempt["status"] for attempt in attempts] == [503, 503, 200]
    assert len({attempt["request_id"] for attempt in attempts}) == 3
    assert event["genai_meter.attempts.count"] == 3
    assert event["http.response.status_code"] == 200


def test_connection_errors_are_attempts_without_a_status(telemetry: Telemetry) -> None:
    client = closing(openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="k", max_retries=1))
    with pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(**ASK)
    event = only_event(telemetry)
    attempts = json.loads(event["genai_meter.attempts"])
    assert [attempt.get("status") for attempt in attempts] == [None, None]
    assert attempts[0]["error_type"] == "ConnectError"
    assert (event["genai_meter.status"], event["error.type"]) == ("error", "APIConnectionError")


def test_a_request_that_cannot_be_built_is_no_call(telemetry: Telemetry, provider: Provider) -> None:
    with pytest.raises(TypeError):
        client_of(provider).chat.completions.create(model="m", messages=cast(Any, [object()]))
    assert (telemetry.events, telemetry.spans) == ([], [])


def test_both_answers_of_a_fallback_are_billed(telemetry: Telemetry, provider: Provider) -> None:
    def twice(request: Any, call_next: Any) -> Any:
        call_next(request).parse()
        return call_next(request)

    closing(anthropic.Anthropic(base_url=provider.url, api_key="k", middleware=[twice])).messages.create(**CLAUDE)
    event = only_event(telemetry)
    served = [cast(dict[str, int], answer.usage) for answer in provider.served]
    assert event["gen_ai.usage.input_tokens"] == sum(usage["input_tokens"] for usage in served)
    assert event["gen_ai.usage.output_tokens"] == sum(usage["output_tokens"] for usage in served)
    assert event["genai_meter.attempts.count"] == 2


# --- usage of streams


def test_usage_is_asked_for_and_hidden(telemetry: Telemetry, provider: Provider) -> None:
    chunks = list(client_of(provider).chat.completions.create(**ASK, stream=True))
    (served,) = provider.served
    assert served.request["stream_options"] == {"include_usage": True}
    assert [chunk for chunk in chunks if "usage" in chunk.model_fields_set] == []
    event = only_event(telemetry)
    usage = cast(dict[str, int], served.usage)
    assert event["gen_ai.usage.output_tokens"] == usage["completion_tokens"]
    assert event["genai_meter.response.chunks"] == len(chunks)


def test_asking_can_be_switched_off(telemetry: Telemetry, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENAI_METER_INJECT_USAGE", "false")
    environment.reload()
    try:
        list(client_of(provider).chat.completions.create(**ASK, stream=True))
    finally:
        monkeypatch.undo()
        environment.reload()
    assert "stream_options" not in provider.served[0].request
    assert only_event(telemetry)["genai_meter.usage.source"] == "estimated"


def test_a_host_that_refuses_is_asked_once(telemetry: Telemetry, provider: Provider) -> None:
    client = client_of(provider, default_headers={"x-scenario": "reject_stream_options"})
    for _ in range(3):
        assert len(list(client.chat.completions.create(**ASK, stream=True))) > 3
    assert [attempt.status for attempt in provider.attempts] == [400, 200, 200, 200]
    emit.flush()
    assert [event.attributes.get("genai_meter.attempts.count", 1) for event in telemetry.events] == [2, 1, 1]


def test_a_refusal_of_the_callers_own_options_is_the_callers(telemetry: Telemetry, provider: Provider) -> None:
    client = client_of(provider, default_headers={"x-scenario": "reject_stream_options"})
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})
    assert caught.value.__cause__ is None
    assert [attempt.status for attempt in provider.attempts] == [400]


def test_usage_in_every_chunk_is_not_asked_for(telemetry: Telemetry, provider: Provider) -> None:
    # vLLM tells it there when `include_usage` is on, and the caller has it off.
    options: Any = {"include_usage": False, "continuous_usage_stats": True}
    list(client_of(provider).chat.completions.create(**ASK, stream=True, stream_options=options))
    assert provider.served[0].request["stream_options"] == options
    assert only_event(telemetry)["genai_meter.usage.source"] == "estimated"


CHUNKS: list[tuple[Any, bool, Any]] = [
    ({"choices": [], "usage": {"total_tokens": 1}}, True, {"choices": [], "usage": {"total_tokens": 1}}),
    ({"choices": [{}], "usage": {"total_tokens": 1}}, False, {"choices": [{}], "usage": {"total_tokens": 1}}),
    ({"choices": [{}], "usage": None}, False, {"choices": [{}]}),
    ({"choices": [], "prompt_filter_results": []}, False, {"choices": [], "prompt_filter_results": []}),
    ("text", False, "text"),
]


@pytest.mark.parametrize(("chunk", "hidden", "left"), CHUNKS)
def test_which_chunks_are_hidden(chunk: Any, hidden: bool, left: Any) -> None:
    assert injection.hides(chunk) is hidden
    assert chunk == left


# --- how streams end


def test_a_stream_ends_when_its_last_chunk_was_taken(telemetry: Telemetry, provider: Provider) -> None:
    opened = client_of(provider).chat.completions.create(**ASK, stream=True, extra_headers={"x-scenario": "slow:0.01"})
    asked = time.time_ns()
    next(opened)
    taken = time.time_ns()
    time.sleep(0.2)
    del opened
    gc.collect()
    event = only_event(telemetry)
    assert event["genai_meter.status"] == "abandoned"
    assert asked <= event["genai_meter.end"] <= taken


def test_a_stream_cut_off_in_good_order_is_an_error(telemetry: Telemetry) -> None:
    delta = {"index": 0, "delta": {"content": "no"}}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [delta]}
    body = f"data: {json.dumps(chunk)}\n\n".encode()
    client = answering(lambda _: httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body))
    assert len(list(client.chat.completions.create(**ASK, stream=True))) == 1
    event = only_event(telemetry)
    assert (event["genai_meter.status"], event["error.type"]) == ("error", "stream_truncated")


def test_a_dropped_stream_is_not_settled_where_it_is_collected(telemetry: Telemetry, provider: Provider) -> None:
    threads: list[str] = []

    class Ear(LogRecordProcessor):
        def on_emit(self, log_record: Any) -> None:
            threads.append(threading.current_thread().name)

        def shutdown(self) -> None: ...

        def force_flush(self, timeout_millis: int = 0) -> bool:
            return True

    telemetry.logger_provider.add_log_record_processor(Ear())
    opened = client_of(provider).chat.completions.create(**ASK, stream=True, extra_headers={"x-scenario": "slow:0.01"})
    next(opened)
    del opened
    gc.collect()
    emit.flush()
    assert len(threads) == 1
    assert threads != [threading.current_thread().name]


def test_bytes_of_a_compressed_body(telemetry: Telemetry) -> None:
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    }
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    packed = gzip.compress(json.dumps(answer).encode())

    def handle(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers=headers, stream=Pieces([packed[:10], packed[10:]]))

    with answering(handle).chat.completions.with_streaming_response.create(**ASK) as response:
        assert json.loads("".join(response.iter_text())) == answer
    event = only_event(telemetry)
    assert (event["gen_ai.usage.input_tokens"], event["gen_ai.usage.output_tokens"]) == (3, 4)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("size", [7, 100_000])
def test_bytes_of_events_of_several_lines(telemetry: Telemetry, end: str, size: int) -> None:
    choice = {"index": 0, "delta": {"content": "ok"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
    chunks: tuple[Any, ...] = {**head, "choices": [choice]}, {**head, "choices": [], "usage": usage}
    # What is no event spoils none.
    told = ["{broken", *(json.dumps(chunk, indent=1) for chunk in chunks), "[DONE]"]
    body = "".join("".join(f"data: {line}{end}" for line in event.splitlines()) + end for event in told).encode()
    pieces = Pieces([body[at : at + size] for at in range(0, len(body), size)])
    headers = {"content-type": "text/event-stream"}
    completions = answering(lambda _: httpx2.Response(200, headers=headers, stream=pieces)).chat.completions
    with completions.with_streaming_response.create(**ASK, stream=True) as response:
        assert b"".join(response.iter_bytes()) == body
    event = only_event(telemetry)
    assert (event["gen_ai.usage.input_tokens"], event["gen_ai.usage.output_tokens"]) == (3, 4)
    assert event["genai_meter.status"] == "ok"


@pytest.mark.parametrize("body", [b"", b"<html>log in first</html>", b'{"id": "c", "usa'])
def test_a_body_that_is_no_json_is_no_error_of_ours(telemetry: Telemetry, body: bytes) -> None:
    safety.internal_errors.clear()

    def handle(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "application/json"}, content=body)

    completions = answering(handle).chat.completions
    assert completions.with_raw_response.create(**ASK).content == body
    with completions.with_streaming_response.create(**ASK) as response:
        assert response.read() == body
    assert dict(safety.internal_errors) == {}
    assert [
        (e.attributes["genai_meter.status"], e.attributes["genai_meter.usage.source"]) for e in telemetry.events
    ] == [("ok", "unknown")] * 2


class Pieces(httpx2.SyncByteStream):
    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces


# --- spans, contexts, memory


def test_our_span_is_current_while_the_request_is_on_its_way(telemetry: Telemetry) -> None:
    current: list[trace.Span] = []

    def handle(_: httpx2.Request) -> httpx2.Response:
        current.append(trace.get_current_span())
        return httpx2.Response(200, json={"id": "c", "choices": [], "model": "m"})

    outer = trace.get_current_span()
    answering(handle).chat.completions.create(**ASK)
    (span,) = telemetry.spans
    assert span.context is not None
    assert [seen.get_span_context().span_id for seen in current] == [span.context.span_id]
    assert trace.get_current_span() is outer


def test_where_instrumentation_is_suppressed_only_the_money_is_metered(
    telemetry: Telemetry, provider: Provider
) -> None:
    with suppress_instrumentation():
        client_of(provider).chat.completions.create(**ASK)
        list(client_of(provider).chat.completions.create(**ASK, stream=True))
    emit.flush()
    assert [event.attributes["genai_meter.status"] for event in telemetry.events] == ["ok", "ok"]
    assert telemetry.spans == []


def test_a_call_of_another_operation_inside_a_request_is_a_call(telemetry: Telemetry, provider: Provider) -> None:
    inner = client_of(provider)

    def check(_: httpx2.Request) -> None:
        inner.moderations.create(input="Where to?")

    client = client_of(provider, http_client=httpx2.Client(event_hooks={"request": [check]}))
    client.chat.completions.create(**ASK)
    assert sorted(event.attributes["gen_ai.operation.name"] for event in telemetry.events) == ["chat", "moderation"]


def test_nothing_of_a_call_waits_for_the_collector(telemetry: Telemetry, provider: Provider) -> None:
    def living() -> set[int]:
        return {id(one) for one in gc.get_objects() if type(one) is Call}

    during: list[set[int]] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        during.append(living())
        return httpx2.Response(200, json={"id": "c", "choices": [], "model": "m"})

    client = answering(handle)
    gc.collect()
    gc.disable()
    try:
        before = living()
        client.chat.completions.create(**ASK)
        client.chat.completions.with_raw_response.create(**ASK)
        assert [len(some - before) for some in during] == [1, 1]
        assert living() <= before
    finally:
        gc.enable()


def test_background_answers_come_later(telemetry: Telemetry, provider: Provider) -> None:
    client = client_of(provider)
    client.responses.create(model="gpt-4o-mini", input="x", background=True)
    assert telemetry.events == []
    list(client.responses.create(model="gpt-4o-mini", input="x", background=True, stream=True))
    assert only_event(telemetry)["genai_meter.status"] == "ok"


@pytest.mark.parametrize(
    ("host", "class_name", "provider"),
    [
        ("api.openai.com", "OpenAI", "openai"),
        ("eu.api.openai.com", "AsyncOpenAI", "openai"),
        ("my.openai.azure.com", "OpenAI", "azure.ai.openai"),
        ("10.0.0.1", "AsyncAzureOpenAI", "azure.ai.openai"),
        ("us-east5-aiplatform.googleapis.com", "AnthropicVertex", "gcp.vertex_ai"),
        ("bedrock-runtime.eu-west-1.amazonaws.com", "AnthropicBedrock", "aws.bedrock"),
        ("aws-external-anthropic.us-east-1.api.aws", "AsyncAnthropicAWS", "anthropic"),
        ("api.x.ai", "OpenAI", "x_ai"),
        ("api.deepseek.com", "OpenAI", "deepseek"),
        ("openrouter.ai", "OpenAI", "openrouter"),
        ("my.openai.azure.us", "OpenAI", "azure.ai.openai"),
        ("vpce-1-a.bedrock-runtime.us-east-1.vpce.amazonaws.com", "OpenAI", "aws.bedrock"),
        ("bedrock-runtime.cn-north-1.amazonaws.com.cn", "OpenAI", "aws.bedrock"),
        ("bedrock-mantle.us-east-1.api.aws", "OpenAI", "aws.bedrock"),
        # A gateway of one's own behind a load balancer of AWS is not Bedrock.
        ("internal-llm-1.us-east-1.elb.amazonaws.com", "OpenAI", "(default)"),
        ("internal-llm-1.us-east-1.elb.amazonaws.com", "AnthropicBedrock", "aws.bedrock"),
        ("my-openrouter.ai", "OpenAI", "(default)"),
        ("notapi.x.ai", "OpenAI", "(default)"),
        ("localhost", "OpenAI", "(default)"),
    ],
)
def test_who_is_paid(host: str, class_name: str, provider: str) -> None:
    assert provider_of(host, class_name, "(default)") == provider


def test_the_page_lists_what_is_never_metered() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "instrumentation.md").read_text()
    rows = ["| `{}` | {} |".format(pattern.replace("|", "\\|"), reason) for pattern, reason in NOT_METERED]
    table = "\n".join(["| Request | Why not |", "|---|---|", *rows])
    assert table in page, f"docs/instrumentation.md: paste\n{table}"
