"""OTLP records of every flavour → usage records: whole values, and what is never charged."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from exporter_kit import NOW, RESOURCE, Event, SpanOf, logs, traces, usage_event
from genai_meter.usage import Quantity, Usage
from genai_meter_exporter.normalise import Batch, UsageRecord, normalise
from genai_meter_exporter.normalise.foreign import Counts, usage
from genai_meter_exporter.receive import protobuf
from hypothesis import given
from hypothesis import strategies as st

TRACE, SPAN = b"\x0a" * 16, b"\x0b" * 8


def of(*records: Event | SpanOf, resource: dict[str, Any] = RESOURCE) -> Batch:
    """Records as they come over the wire."""
    events = [record for record in records if isinstance(record, Event)]
    spans = [record for record in records if isinstance(record, SpanOf)]
    if events:
        return normalise(protobuf.parse("logs", logs(events, resource).SerializeToString()))
    return normalise(protobuf.parse("traces", traces(spans, resource).SerializeToString()))


def only(batch: Batch) -> UsageRecord:
    """The one record."""
    assert (batch.quarantined, batch.beside) == ([], [])
    (record,) = batch.records
    return record


def span(**attributes: Any) -> SpanOf:
    """A span with attributes; a double underscore stands for a dot."""
    return SpanOf({name.replace("__", "."): value for name, value in attributes.items()}, trace_id=TRACE, span_id=SPAN)


# --- ours -------------------------------------------------------------------------------------------
def test_our_event_whole() -> None:
    event = usage_event(
        tenant="acme",
        finish_reasons='["stop"]',
        stream=True,
        time_to_first_chunk=0.25,
        cache_read=30,
        audio_seconds_in=1.5,
        price_context='{"service_tier":"flex"}',
        trace_id=TRACE,
        span_id=SPAN,
    )
    record = only(of(event))
    assert record.key == event.call_id
    assert record.usages == [
        Usage({"input": 1000, "output": 100, "cache_read": 30, "audio_seconds_in": Decimal("1.5")})
    ]
    assert (record.trace_id, record.span_id, record.rank, record.producer) == (TRACE, SPAN, 0, "genai_meter")
    assert record.context == {"service_tier": "flex"}
    assert record.values == {
        "call_id": event.attributes["genai_meter.call.id"],
        "schema_version": "1",
        "trace_id": TRACE.hex(),
        "span_id": SPAN.hex(),
        "source": "genai_meter",
        "source_rank": 0,
        "start": NOW,
        "end": NOW + 2_000_000_000,
        "time_to_first_chunk": 0.25,
        "service": "shop",
        "version": "7",
        "environment": "prod",
        "tenant": "acme",
        "provider": "openai",
        "id_family": "openai.chat",
        "operation": "chat",
        "request_model": "gpt-4o",
        "model": "gpt-4o-2024-08-06",
        "stream": 1,
        "finish_reasons": '["stop"]',
        "status": "ok",
        "attempt_count": 1,
        "usage_source": "provider",
        "price_context": '{"service_tier":"flex"}',
        "input_tokens": 1030,
        "output_tokens": 100,
        "cache_read_tokens": 30,
        "cache_write_tokens": 0,
        "reasoning_tokens": 0,
    }


def test_our_event_of_several_models() -> None:
    models = [
        {"model": "claude-a", "buckets": {"input": 10, "output": 1}},
        {"model": "claude-b", "buckets": {"input": 20, "output_reasoning": 2}},
    ]
    record = only(of(usage_event(usage=json.dumps(models), input_tokens=10, output_tokens=1)))
    assert record.usages == [
        Usage({"input": 10, "output": 1}, model="claude-a"),
        Usage({"input": 20, "output_reasoning": 2}, model="claude-b"),
    ]
    assert (record.values["input_tokens"], record.values["output_tokens"], record.values["reasoning_tokens"]) == (
        30,
        3,
        2,
    )


def test_usage_of_nothing_is_not_unknown_usage() -> None:
    told = only(of(usage_event(input_tokens=0, output_tokens=0)))
    untold = only(of(usage_event(input_tokens=0, output_tokens=0, usage_source="unknown")))
    assert (told.usages, told.values["input_tokens"]) == ([Usage({})], 0)
    assert (untold.usages, "input_tokens" in untold.values) == ([], False)


def test_our_span_has_the_key_of_its_event() -> None:
    event = usage_event(tenant="acme")
    attributes = {k: v for k, v in event.attributes.items() if k not in ("genai_meter.start", "genai_meter.end")}
    attributes["gen_ai.response.finish_reasons"] = ["stop", "length"]
    record = only(of(SpanOf(attributes, trace_id=TRACE, span_id=SPAN, parent=b"\x07" * 8)))
    assert (record.key, record.rank, record.producer) == (event.call_id, 1, "genai_meter")
    assert record.values["source"] == "genai_meter/span"
    assert (record.values["start"], record.values["end"]) == (NOW, NOW + 2_000_000_000)
    assert record.values["finish_reasons"] == '["stop","length"]'
    assert record.parent_span_id == b"\x07" * 8


def test_a_cost_that_is_no_call() -> None:
    attributes: dict[str, Any] = {
        "genai_meter.call.id": "0190c1f2-0000-7000-8000-000000000001",
        "genai_meter.start": NOW,
        "genai_meter.cost.what": "vector_search",
        "genai_meter.cost.effective": 5_000,
        "genai_meter.cost.list": 6_000,
        "genai_meter.cost.quantity": 3,
        "genai_meter.cost.unit": "queries",
        "genai_meter.tenant": "acme",
    }
    record = only(of(Event(attributes, name="genai_meter.cost")))
    assert record.given_cost
    assert (record.values["operation"], record.values["cost"], record.values["list_cost"]) == (
        "vector_search",
        5000,
        6000,
    )
    assert json.loads(record.values["cost_lines"]) == [
        {"bucket": "vector_search", "list_pico": 6000, "effective_pico": 5000, "quantity": 3, "unit": "queries"}
    ]
    # What it used does not say what it costs.
    told = {**attributes, "genai_meter.usage.source": "provider", "gen_ai.usage.input_tokens": 7}
    assert only(of(Event(told, name="genai_meter.cost"))).values["list_cost"] == 6000
    for attribute in ("genai_meter.cost.quantity", "genai_meter.cost.unit"):
        batch = of(Event({**attributes, attribute: b"3"}, name="genai_meter.cost"))
        assert [found.reason for found in batch.quarantined] == [f"{attribute} is neither a number nor text"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"genai_meter.call.id": "no uuid"}, "genai_meter.call.id is no UUID"),
        ({"genai_meter.call.id": 7}, "genai_meter.call.id is no UUID"),
        ({"genai_meter.usage.input": "many"}, "genai_meter.usage.input is no integer"),
        ({"genai_meter.usage.input": -1}, "genai_meter.usage.input is negative"),
        ({"genai_meter.usage.input": 1.5}, "genai_meter.usage.input is no integer"),
        ({"genai_meter.usage.input": 1500.0}, None),
        ({"genai_meter.usage.audio_seconds_in": float("nan")}, "genai_meter.usage.audio_seconds_in is no quantity"),
        ({"genai_meter.usage.input": True}, "genai_meter.usage.input is no integer"),
        ({"genai_meter.start": "yesterday"}, "genai_meter.start is no integer"),
        ({"gen_ai.request.stream": "yes"}, "gen_ai.request.stream is no boolean"),
        ({"genai_meter.cost.lines": "{"}, "genai_meter.cost.lines is no JSON"),
        ({"genai_meter.price.context": "[]"}, "genai_meter.price.context is no JSON object"),
        ({"genai_meter.usage.models": '{"a":1}'}, "genai_meter.usage.models has not the shape [{model, buckets}]"),
        (
            {"genai_meter.usage.input": 10**12, "genai_meter.usage.cache_read": 9},
            "the token counts exceed 1000000000000",
        ),
        ({"genai_meter.usage.input": 2**62}, "genai_meter.usage.input exceeds 1000000000000"),
        ({"genai_meter.attempts.count": 2**62}, "genai_meter.attempts.count exceeds 1000000000000"),
        ({"genai_meter.links": "7", "genai_meter.revision": 3}, None),
        ({"gen_ai.response.time_to_first_chunk": float("inf")}, "gen_ai.response.time_to_first_chunk is not finite"),
        ({"genai_meter.call.id": b"01a2027d-f000-7123-8456-789abcdef012"}, "genai_meter.call.id is no UUID"),
        ({"gen_ai.response.time_to_first_chunk": 1e300}, "gen_ai.response.time_to_first_chunk exceeds 1000000000000"),
        ({"gen_ai.response.time_to_first_chunk": -0.25}, "gen_ai.response.time_to_first_chunk is negative"),
    ],
)
def test_what_cannot_be_read_is_quarantined_with_its_reason(changes: dict[str, Any], reason: str | None) -> None:
    event = usage_event()
    batch = of(Event({**event.attributes, **changes}), usage_event())
    assert len(batch.records) + len(batch.quarantined) == 2
    assert [found.reason for found in batch.quarantined] == ([reason] if reason else [])


@pytest.mark.parametrize(
    ("told", "kept"), [(0, 0), (64, 64), (10**12, 10**12), (10**12 + 1, None), (-1, None), (2**63 - 1, None)]
)
def test_a_bound_that_bounds_nothing_keeps_no_call_out(told: int, kept: int | None) -> None:
    record = only(of(usage_event(max_tokens=told)))
    assert (record.values.get("max_tokens"), record.values["input_tokens"]) == (kept, 1000)


@pytest.mark.parametrize("changes", [{"start_ns": 2**64 - 1}, {"end_ns": 2**63}])
def test_a_time_that_no_clock_shows_is_quarantined(changes: dict[str, int]) -> None:
    batch = of(replace(span(**CHAT), **changes))
    assert [found.reason for found in batch.quarantined] == ["the time of the record is out of range"]


def test_a_trace_id_of_another_length_is_none() -> None:
    record = only(of(usage_event(trace_id=b"\x01" * 400, span_id=b"\x02" * 3)))
    assert (record.trace_id, record.span_id) == (b"", b"")
    assert {"trace_id", "span_id"}.isdisjoint(record.values)


def test_content_goes_nowhere() -> None:
    secret = "CANARY-7"
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.input.messages": secret,
        "gen_ai.prompt.0.content": secret,
        "llm.prompts": secret,
        "input.value": secret,
        "gen_ai.system_instructions": secret,
    }
    batch = of(span(**attributes), SpanOf({**attributes, "gen_ai.usage.input_tokens": -1}))
    broken = Event({**usage_event(input_tokens=-1).attributes, **attributes})
    assert len(batch.quarantined) == 1
    assert secret not in repr(batch)
    assert secret not in repr(of(broken))


# --- others -----------------------------------------------------------------------------------------
CHAT: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.response.id": "chatcmpl-1",
}


def test_an_inference_span_of_the_conventions() -> None:
    attributes = {
        **CHAT,
        "gen_ai.provider.name": "openai",
        "gen_ai.usage.input_tokens": 300,
        "gen_ai.usage.output_tokens": 50,
        "gen_ai.usage.cache_read.input_tokens": 40,
        "gen_ai.usage.reasoning.output_tokens": 20,
        "openai.response.service_tier": "flex",
        "user.id": "u1",
    }
    record = only(of(span(**attributes)))
    assert record.usages == [Usage({"input": 260, "cache_read": 40, "output": 30, "output_reasoning": 20})]
    assert record.key[:6] == (NOW // 1_000_000).to_bytes(6, "big")
    assert (record.rank, record.producer, record.context) == (3, "some.producer/span", {"service_tier": "flex"})
    expected = {
        "provider": "openai",
        "operation": "chat",
        "model": "gpt-4o-2024-08-06",
        "request_model": "gpt-4o",
        "response_id": "chatcmpl-1",
        "id_family": "openai.chat",
        "input_tokens": 300,
        "output_tokens": 50,
        "cache_read_tokens": 40,
        "reasoning_tokens": 20,
        "user": "u1",
        "service": "shop",
        "status": "ok",
        "usage_source": "provider",
        "trace_id": TRACE.hex(),
        "span_id": SPAN.hex(),
        "start": NOW,
        "end": NOW + 2_000_000_000,
    }
    assert {name: record.values[name] for name in expected} == expected


def test_the_same_span_has_the_same_key_and_another_span_another() -> None:
    first, again = only(of(span(**CHAT))), only(of(span(**CHAT, gen_ai__usage__input_tokens=3)))
    other = only(of(SpanOf(CHAT, trace_id=TRACE, span_id=b"\x0c" * 8)))
    assert first.key == again.key != other.key


def test_old_names_are_read() -> None:
    record = only(
        of(
            span(
                gen_ai__system="openai",
                llm__request__type="chat",
                gen_ai__request__model="gpt-4o",
                gen_ai__usage__prompt_tokens=100,
                gen_ai__usage__completion_tokens=10,
                gen_ai__usage__cache_read_input_tokens=60,
                llm__usage__total_tokens=110,
            ),
            resource={"service.name": "shop", "deployment.environment": "dev"},
        )
    )
    assert record.usages == [Usage({"input": 40, "cache_read": 60, "output": 10})]
    assert (record.values["provider"], record.values["environment"]) == ("openai", "dev")


def test_the_details_event() -> None:
    event = Event(
        {**CHAT, "gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 6, "gen_ai.provider.name": "openai"},
        name="gen_ai.client.inference.operation.details",
        trace_id=TRACE,
        span_id=SPAN,
        scope="opentelemetry.instrumentation.genai.openai",
    )
    record = only(of(event))
    assert record.usages == [Usage({"input": 5, "output": 6})]
    assert (record.rank, record.producer) == (2, "opentelemetry.instrumentation.genai.openai/event")
    assert record.key != only(of(span(**CHAT))).key


def test_openinference() -> None:
    record = only(
        of(
            span(
                openinference__span__kind="LLM",
                llm__model_name="claude-sonnet-4-5",
                llm__provider="anthropic",
                llm__token_count__prompt=110,
                llm__token_count__completion=9,
                llm__token_count__prompt_details__cache_read=64,
                llm__token_count__prompt_details__cache_write=10,
            )
        )
    )
    assert record.usages == [Usage({"input": 36, "cache_read": 64, "cache_write": 10, "output": 9})]
    assert (record.values["model"], record.values["provider"], record.values["operation"]) == (
        "claude-sonnet-4-5",
        "anthropic",
        "chat",
    )


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.operation.name": operation, "gen_ai.usage.input_tokens": 5, "gen_ai.request.model": "gpt-4o"}
        for operation in ("invoke_agent", "invoke_workflow", "execute_tool", "create_agent", "fetch_response", "plan")
    ]
    + [
        {"openinference.span.kind": kind, "llm.token_count.prompt": 5}
        for kind in ("AGENT", "CHAIN", "TOOL", "RETRIEVER")
    ]
    + [{"traceloop.span.kind": "workflow", "gen_ai.usage.input_tokens": 5, "gen_ai.request.model": "gpt-4o"}],
)
def test_wrappers_are_never_charged(attributes: dict[str, Any]) -> None:
    batch = of(span(**attributes))
    assert (batch.records, batch.quarantined, batch.ignored) == ([], [], {"traces": 1})


def test_a_span_without_usage_is_a_call_of_unknown_usage() -> None:
    record = only(of(SpanOf({**CHAT, "error.type": "timeout"}, trace_id=TRACE, span_id=SPAN, failed=True)))
    assert (record.usages, record.values["usage_source"], record.values["status"]) == ([], "unknown", "error")


@pytest.mark.parametrize("changes", [{"trace_id": b""}, {"span_id": b""}, {"start_ns": 0}])
def test_a_foreign_record_without_identity_is_quarantined(changes: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"attributes": CHAT, "trace_id": TRACE, "span_id": SPAN, **changes}
    batch = of(SpanOf(**fields))
    assert len(batch.quarantined) == 1


# --- inclusive or exclusive -------------------------------------------------------------------------
CACHED_BESIDE, REASONING_BESIDE = ("cached_beside_input",), ("reasoning_beside_output",)


@pytest.mark.parametrize(
    ("counts", "beside", "buckets", "rules"),
    [
        (Counts(300, 50, 40), None, {"input": 260, "cache_read": 40, "output": 50}, ()),
        (Counts(36, 9, 64), None, {"input": 36, "cache_read": 64, "output": 9}, CACHED_BESIDE),
        (Counts(36, 9, 24, 13), None, {"input": 36, "cache_read": 24, "cache_write": 13, "output": 9}, CACHED_BESIDE),
        (Counts(100, 10, 40, total=150), None, {"input": 100, "cache_read": 40, "output": 10}, CACHED_BESIDE),
        (Counts(100, 10, 40, total=110), True, {"input": 60, "cache_read": 40, "output": 10}, ()),
        (Counts(100, 10, 40), True, {"input": 100, "cache_read": 40, "output": 10}, CACHED_BESIDE),
        (Counts(100, 10, reasoning=30), None, {"input": 100, "output": 10, "output_reasoning": 30}, REASONING_BESIDE),
        # Servers that say more than can be: where the sum holds, a part is cut.
        (Counts(36, 9, 64), False, {"cache_read": 36, "output": 9}, ("cached_over_input",)),
        (Counts(36, 9, 64, total=45), False, {"cache_read": 36, "output": 9}, ("cached_over_input",)),
        (Counts(36, 9, 64, total=45), None, {"input": 36, "cache_read": 64, "output": 9}, CACHED_BESIDE),
        (Counts(36, 9, 64, total=45), True, {"input": 36, "cache_read": 64, "output": 9}, CACHED_BESIDE),
        (Counts(36, 9, 30, 36), False, {"cache_read": 30, "cache_write": 6, "output": 9}, ("cached_over_input",)),
        (Counts(8, 9, reasoning=12, total=17), None, {"input": 8, "output_reasoning": 9}, ("reasoning_over_output",)),
    ],
)
def test_whether_input_contains_the_cached_tokens(
    counts: Counts, beside: bool | None, buckets: dict[str, Quantity], rules: tuple[str, ...]
) -> None:
    assert usage(counts, cached_beside=beside) == Usage(buckets, inferred=rules)


tokens = st.one_of(st.none(), st.integers(0, 10**9))


@given(st.builds(Counts, tokens, tokens, tokens, tokens, tokens, tokens), st.sampled_from((True, False, None)))
def test_buckets_are_never_negative_and_keep_what_was_told(counts: Counts, beside: bool | None) -> None:
    found = usage(counts, cached_beside=beside)
    if not counts.told:
        assert found is None
        return
    assert found is not None
    assert all(amount > 0 for amount in found.buckets.values())
    assert found.input_tokens >= (counts.input or 0)
    assert found.output_tokens >= (counts.output or 0)
    if "cached_over_input" in found.inferred:
        assert found.input_tokens == (counts.input or 0)
    else:
        assert found.cache_read_tokens == (counts.cache_read or 0)
    if "reasoning_over_output" in found.inferred:
        assert found.output_tokens == (counts.output or 0)
    else:
        assert found.reasoning_tokens == (counts.reasoning or 0)
