"""What leaves the process for one call: whole spans and whole usage events."""

from __future__ import annotations

import gc
import json
import threading
from typing import Any

import genai_meter
import pytest
from emission_kit import CALL_ID_TEXT, START_NS, Telemetry, call, minted, telemetry
from genai_meter import attribute, emit, identity, pricing
from genai_meter.call import Attempt, Call
from opentelemetry import context, trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.trace import SpanKind, StatusCode

END_NS = START_NS + 1_500_000_000

CHAT = {
    "model": "gpt-4o",
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello there"}],
    "temperature": 0.5,
    "max_tokens": 100,
    "n": 1,
}
CHAT_ANSWER = {
    "id": "chatcmpl-1",
    "model": "gpt-4o-2024-08-06",
    "service_tier": "default",
    "system_fingerprint": "fp_1",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi there"}}],
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 40},
        "completion_tokens_details": {"reasoning_tokens": 5},
    },
}
# 60 × 2.5, 40 × 1.25 and 20 × 10 USD a million.
CHAT_PICO = 150_000_000 + 50_000_000 + 200_000_000

MESSAGES = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 50,
    "stream": True,
    "messages": [{"role": "user", "content": "Hello"}],
}
MESSAGE_START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "model": "claude-sonnet-4-5-20250929",
        "usage": {"input_tokens": 100, "output_tokens": 1, "service_tier": "standard"},
    },
}


def _delta(text: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


def _book() -> str:
    card = pricing.rate_card("openai", "gpt-4o", START_NS, {})
    assert card is not None
    return card.book_id


def _one(pipeline: Telemetry) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attributes of the one span and of the one event, which belong together."""
    (span,) = pipeline.spans
    (event,) = pipeline.events
    assert span.context is not None
    assert (event.name, event.severity) == ("genai_meter.usage", 9)
    assert (event.trace_id, event.span_id) == (span.context.trace_id, span.context.span_id)
    return dict(span.attributes or {}), event.attributes


def test_a_buffered_chat() -> None:
    with telemetry() as pipeline, attribute(tenant="acme", feature="search", user="u-1"):
        emit.finish(call("openai_chat", CHAT, answer=CHAT_ANSWER), "ok")
    span, event = _one(pipeline)
    (finished,) = pipeline.spans
    assert (finished.name, finished.kind, finished.parent) == ("chat gpt-4o", SpanKind.CLIENT, None)
    assert (finished.start_time, finished.end_time) == (START_NS, END_NS)
    assert (finished.status.status_code, finished.status.description) == (StatusCode.UNSET, None)
    assert finished.instrumentation_scope is not None
    assert (finished.instrumentation_scope.name, finished.instrumentation_scope.version) == (
        "genai_meter",
        genai_meter.__version__,
    )
    shared = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.max_tokens": 100,
        "server.address": "api.openai.com",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 40,
        "gen_ai.usage.reasoning.output_tokens": 5,
        "genai_meter.call.id": CALL_ID_TEXT,
        "genai_meter.id_family": "openai.chat",
        "genai_meter.tenant": "acme",
        "genai_meter.feature": "search",
        "user.id": "u-1",
        "genai_meter.usage.source": "provider",
        "genai_meter.cost.status": "exact",
    }
    assert span == {
        **shared,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.finish_reasons": ("stop",),
        "openai.api.type": "chat_completions",
        "openai.response.service_tier": "default",
        "openai.response.system_fingerprint": "fp_1",
        "gen_ai.usage.cost.amount": 0.0004,
        "gen_ai.usage.cost.currency": "USD",
        "gen_ai.usage.cost.source": "local",
    }
    assert event == {
        **shared,
        "genai_meter.schema_version": "1",
        "genai_meter.start": START_NS,
        "genai_meter.end": END_NS,
        "genai_meter.status": "ok",
        "genai_meter.sdk": "test.Client",
        "genai_meter.request.messages": 2,
        "genai_meter.request.chars": '{"system":9,"user":11}',
        "genai_meter.request.id": "req-1",
        "http.response.status_code": 200,
        "gen_ai.response.finish_reasons": '["stop"]',
        "genai_meter.tier": "default",
        "genai_meter.estimate.input_tokens": 17,  # 36 / 4.2 + 8
        "genai_meter.estimate.output_tokens": 4,
        "genai_meter.cost.effective": CHAT_PICO,
        "genai_meter.cost.book": _book(),
    }


def test_a_stream_read_to_its_end() -> None:
    chunks = [
        MESSAGE_START,
        _delta("Hi there"),
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 25}},
        {"type": "message_stop"},
    ]
    with telemetry() as pipeline:
        made = call("anthropic_messages", MESSAGES, provider="anthropic", host="api.anthropic.com", chunks=chunks)
        emit.finish(made, "ok")
    span, event = _one(pipeline)
    # 100 × 3 and 25 × 15 USD a million.
    assert span == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-sonnet-4-5",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 50,
        "server.address": "api.anthropic.com",
        "gen_ai.response.id": "msg_1",
        "gen_ai.response.model": "claude-sonnet-4-5-20250929",
        "gen_ai.response.finish_reasons": ("end_turn",),
        "gen_ai.response.time_to_first_chunk": 0.5,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 25,
        "gen_ai.usage.cost.amount": 0.000675,
        "gen_ai.usage.cost.currency": "USD",
        "gen_ai.usage.cost.source": "local",
        "genai_meter.call.id": CALL_ID_TEXT,
        "genai_meter.id_family": "anthropic.message",
        "genai_meter.usage.source": "provider",
        "genai_meter.cost.status": "exact",
    }
    assert (event["gen_ai.usage.input_tokens"], event["gen_ai.usage.output_tokens"]) == (100, 25)
    assert event["genai_meter.cost.effective"] == 675_000_000
    assert event["genai_meter.response.chunks"] == 4
    assert event["gen_ai.response.time_to_first_chunk"] == 0.5
    assert event["genai_meter.estimate.output_tokens"] == 4


def test_an_aborted_message_knows_its_input_and_says_that_the_output_is_a_guess() -> None:
    chunks = [MESSAGE_START, _delta("x" * 41)]
    with telemetry() as pipeline:
        made = call("anthropic_messages", MESSAGES, provider="anthropic", host="api.anthropic.com", chunks=chunks)
        emit.finish(made, "closed_early")
    span, event = _one(pipeline)
    assert span["gen_ai.usage.input_tokens"] == 100
    assert "gen_ai.usage.output_tokens" not in span
    assert span["gen_ai.response.finish_reasons"] == ("error",)
    assert span["genai_meter.status"] == "closed_early"
    assert pipeline.spans[0].status.status_code is StatusCode.UNSET
    for told in (span, event):
        assert told["genai_meter.usage.source"] == "estimated"
        assert (told["genai_meter.usage.input"], told["genai_meter.usage.output"]) == (100, 13)  # 41 / 3.9 + 2
        assert told["genai_meter.cost.status"] == "estimated"
    assert event["genai_meter.cost.effective"] == 300_000_000 + 13 * 15_000_000
    assert (event["gen_ai.usage.input_tokens"], event["gen_ai.usage.output_tokens"]) == (100, 13)
    assert event["genai_meter.cost.reasons"] == '["output_estimated"]'
    assert event["genai_meter.estimate.output_tokens"] == 13


def test_a_chat_cut_off_before_its_count_is_estimated_whole() -> None:
    chunk = {"id": "chatcmpl-2", "model": "gpt-4o-2024-08-06", "choices": [{"index": 0, "delta": {"content": "x" * 8}}]}
    with telemetry() as pipeline:
        emit.finish(call("openai_chat", {**CHAT, "stream": True}, chunks=[chunk]), "cancelled")
    span, event = _one(pipeline)
    assert not [name for name in span if name.startswith("gen_ai.usage.") and name.endswith("_tokens")]
    assert (event["genai_meter.usage.input"], event["genai_meter.usage.output"]) == (17, 4)
    assert event["genai_meter.usage.source"] == "estimated"
    assert event["genai_meter.cost.reasons"] == '["usage_estimated"]'
    assert event["genai_meter.cost.effective"] == 17 * 2_500_000 + 4 * 10_000_000


def test_a_refused_call_after_retries() -> None:
    attempts = (
        Attempt(START_NS, START_NS + 250_000_000, 500, "req-1"),
        Attempt(START_NS + 500_000_000, END_NS, 429, "req-2", "RateLimitError"),
    )
    with telemetry() as pipeline:
        emit.finish(call("openai_chat", CHAT, attempts=attempts), "error", "RateLimitError")
    span, event = _one(pipeline)
    assert pipeline.spans[0].status.status_code is StatusCode.ERROR
    assert pipeline.spans[0].status.description is None
    assert pipeline.spans[0].events == ()
    assert span == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.max_tokens": 100,
        "gen_ai.request.temperature": 0.5,
        "server.address": "api.openai.com",
        "openai.api.type": "chat_completions",
        "error.type": "RateLimitError",
        "http.request.resend_count": 1,
        "genai_meter.call.id": CALL_ID_TEXT,
        "genai_meter.id_family": "openai.chat",
        "genai_meter.status": "error",
        "genai_meter.usage.source": "unknown",
    }
    assert event["http.response.status_code"] == 429
    assert event["genai_meter.attempts.count"] == 2
    assert json.loads(event["genai_meter.attempts"]) == [
        {"status": 500, "seconds": 0.25, "request_id": "req-1"},
        {"status": 429, "seconds": 1.0, "request_id": "req-2", "error_type": "RateLimitError"},
    ]
    assert not [name for name in event if name.startswith(("genai_meter.cost", "gen_ai.usage"))]


def test_an_error_inside_a_stream_that_began_well() -> None:
    chunks = [MESSAGE_START, {"type": "error", "error": {"type": "overloaded_error", "message": "CANARY"}}]
    with telemetry() as pipeline:
        made = call("anthropic_messages", MESSAGES, provider="anthropic", host="h", chunks=chunks)
        emit.finish(made, "ok")
    span, event = _one(pipeline)
    assert span["error.type"] == event["error.type"] == "overloaded_error"
    assert event["genai_meter.status"] == "error"
    assert pipeline.spans[0].status.status_code is StatusCode.ERROR
    assert "CANARY" not in str(span) + str(event)


def test_an_unknown_model_is_visible_and_costs_null() -> None:
    body, answer = {**CHAT, "model": "mystery-1"}, {**CHAT_ANSWER, "model": "mystery-1"}
    with telemetry() as pipeline:
        emit.finish(call("openai_chat", body, answer=answer), "ok")
        span, event = _one(pipeline)
        (point,) = pipeline.points()["genai_meter.unpriced.calls"]
    for told in (span, event):
        assert told["genai_meter.cost.status"] == "unpriced"
        assert not [name for name in told if name in ("genai_meter.cost.effective", "gen_ai.usage.cost.amount")]
    assert event["genai_meter.cost.reasons"] == '["unknown_model"]'
    assert event["gen_ai.usage.input_tokens"] == 100
    assert (point.value, point.attributes["gen_ai.request.model"]) == (1, "mystery-1")
    assert "genai_meter.cost" not in pipeline.points()


def test_embeddings() -> None:
    body = {"model": "text-embedding-3-small", "input": "hello", "dimensions": 256, "encoding_format": "float"}
    answer: dict[str, Any] = {
        "model": "text-embedding-3-small",
        "data": [],
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }
    with telemetry() as pipeline:
        emit.finish(call("openai_embeddings", body, answer=answer), "ok")
    span, event = _one(pipeline)
    assert pipeline.spans[0].name == "embeddings text-embedding-3-small"
    assert span == {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "text-embedding-3-small",
        "gen_ai.request.encoding_formats": ("float",),
        "gen_ai.embeddings.dimension.count": 256,
        "gen_ai.response.model": "text-embedding-3-small",
        "gen_ai.usage.input_tokens": 8,
        "gen_ai.usage.cost.amount": 1.6e-07,
        "gen_ai.usage.cost.currency": "USD",
        "gen_ai.usage.cost.source": "local",
        "server.address": "api.openai.com",
        "genai_meter.call.id": CALL_ID_TEXT,
        "genai_meter.id_family": "openai.embedding",
        "genai_meter.usage.source": "provider",
        "genai_meter.cost.status": "exact",
    }
    assert (event["gen_ai.usage.input_tokens"], event["genai_meter.cost.effective"]) == (8, 160_000)
    assert "gen_ai.response.id" not in event


def test_what_the_provider_says_it_cost_stands_beside_our_price() -> None:
    with telemetry() as pipeline:
        made = call("openai_chat", CHAT, answer=CHAT_ANSWER)
        made.reading.reported_cost_usd = "0.00039"
        emit.finish(made, "ok")
    span, event = _one(pipeline)
    assert (span["gen_ai.usage.cost.amount"], span["gen_ai.usage.cost.source"]) == (0.00039, "provider")
    assert event["genai_meter.cost.reported"] == 390_000_000
    assert event["genai_meter.cost.effective"] == CHAT_PICO


def test_answers_of_other_models_are_listed_with_their_buckets() -> None:
    with telemetry() as pipeline:
        made = call("openai_chat", CHAT, answer=CHAT_ANSWER)
        made.earlier.append(_reading("gpt-4o-mini-2024-07-18"))
        emit.finish(made, "ok")
    span, event = _one(pipeline)
    own = {"input": 60, "cache_read": 40, "output": 15, "output_reasoning": 5}
    listed = json.loads(event["genai_meter.usage.models"])
    assert sorted(listed, key=lambda entry: entry["model"]) == [
        {"model": "gpt-4o-2024-08-06", "buckets": own},
        {"model": "gpt-4o-mini-2024-07-18", "buckets": own},
    ]
    assert span["gen_ai.usage.input_tokens"] == 200
    assert event["genai_meter.usage.input"] == 60
    # gpt-4o-mini: 60 × 0.15, 40 × 0.075, 20 × 0.6 USD a million.
    assert event["genai_meter.cost.effective"] == CHAT_PICO + 9_000_000 + 3_000_000 + 12_000_000


def _reading(model: str) -> Any:
    made = call("openai_chat", CHAT, answer={**CHAT_ANSWER, "model": model, "id": "chatcmpl-0"})
    made.open.clear()
    return made.reading


# --- exactly once ------------------------------------------------------------------------------------
def test_whoever_ends_a_call_first_ends_it() -> None:
    with telemetry() as pipeline:
        made = call("openai_chat", CHAT, answer=CHAT_ANSWER)
        barrier = threading.Barrier(8)

        def end(number: int) -> None:
            barrier.wait()
            emit.finish(made, "ok" if number % 2 else "closed_early")

        threads = [threading.Thread(target=end, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        emit.finish(made, "error", "Late")
    assert len(pipeline.spans) == len(pipeline.events) == 1


def test_a_dropped_call_is_ended_by_the_thread_for_it() -> None:
    with telemetry() as pipeline:
        emit.expect_drops()
        made = call("openai_chat", {**CHAT, "stream": True})
        here = threading.get_ident()
        emit.finish(made, "abandoned")
        assert emit.flush()
        gc.collect()
    span, event = _one(pipeline)
    assert span["genai_meter.status"] == event["genai_meter.status"] == "abandoned"
    assert here == threading.get_ident()


def test_a_broken_dialect_costs_the_usage_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("CANARY in an error of ours")

    with telemetry() as pipeline:
        made = call("openai_chat", CHAT, answer=CHAT_ANSWER)
        made.reading.usage = Broken()
        emit.finish(made, "ok")
    span, event = _one(pipeline)
    assert span["genai_meter.usage.source"] == "unknown"
    assert event["gen_ai.response.id"] == "chatcmpl-1"
    assert "CANARY" not in caplog.text


# --- context ------------------------------------------------------------------------------------------
def test_our_span_is_a_child_of_the_current_one_and_current_for_the_exchange() -> None:
    with telemetry() as pipeline:
        tracer = pipeline.tracer_provider.get_tracer("app")
        with tracer.start_as_current_span("handler") as handler:
            made = call("openai_chat", CHAT, answer=CHAT_ANSWER)
            active = emit.activate(made)
            assert trace.get_current_span() is made.span
            emit.deactivate(active)
            assert trace.get_current_span() is handler
            emit.finish(made, "ok")
    span = pipeline.spans[0]
    assert span.parent is not None
    assert span.parent.span_id == handler.get_span_context().span_id


def test_what_became_current_since_is_left_alone() -> None:
    with telemetry():
        made = call("openai_chat", CHAT)
        active = emit.activate(made)
        token = context.attach(context.set_value("k", "v"))
        emit.deactivate(active)
        assert context.get_value("k") == "v"
        context.detach(token)
        emit.deactivate(active)
        assert not trace.get_current_span().get_span_context().is_valid
        emit.finish(made, "ok")


def test_suppressed_instrumentation_makes_no_span_and_the_money_counts() -> None:
    with telemetry() as pipeline, suppress_instrumentation():
        emit.finish(call("openai_chat", CHAT, answer=CHAT_ANSWER), "ok")
    assert pipeline.spans == []
    (event,) = pipeline.events
    assert event.span_id == 0
    assert event.attributes["genai_meter.cost.effective"] == CHAT_PICO
    assert "genai_meter.span.scope" not in event.attributes


def test_a_failing_exporter_pipeline_reaches_nobody() -> None:
    class Raising:
        def enabled(self, **_: Any) -> bool:
            raise RuntimeError("no")

    class Provider:
        def get_logger(self, *_: Any, **__: Any) -> Raising:
            return Raising()

    with telemetry() as pipeline:
        emit.bind(pipeline.tracer_provider, pipeline.meter_provider, Provider())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        emit.finish(call("openai_chat", CHAT, answer=CHAT_ANSWER), "ok")
        assert len(pipeline.spans) == 1


def test_many_calls_leave_nothing_behind() -> None:
    import tracemalloc

    with telemetry() as pipeline:

        def run(times: int) -> None:
            for _ in range(times):
                made: Call = call("openai_chat", CHAT, answer=CHAT_ANSWER, call_id=minted())
                emit.finish(made, "ok")
            pipeline.clear()
            gc.collect()

        run(300)
        tracemalloc.start()
        run(50)
        before = tracemalloc.get_traced_memory()[0]
        run(1000)
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
    assert grown < 50_000, f"{grown} bytes after 1,000 calls"


def test_a_processor_that_comes_late_gets_the_next_event() -> None:
    with telemetry() as pipeline:
        late = LoggerProvider(shutdown_on_exit=False)
        emit.bind(pipeline.tracer_provider, pipeline.meter_provider, late)
        emit.finish(call("openai_chat", CHAT, answer=CHAT_ANSWER, call_id=minted()), "ok")
        taken = InMemoryLogRecordExporter()
        late.add_log_record_processor(SimpleLogRecordProcessor(taken))
        second = call("openai_chat", CHAT, answer=CHAT_ANSWER, call_id=minted())
        emit.finish(second, "ok")
    (event,) = taken.get_finished_logs()
    assert (event.log_record.attributes or {})["genai_meter.call.id"] == identity.text(second.call_id)
