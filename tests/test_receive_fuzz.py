"""Whatever comes in: it is refused as garbage, quarantined with a reason, ignored, or read. Nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from exporter_kit import Event, SpanOf, logs, logs_json, traces, traces_json, usage_event
from genai_meter.safety import internal_errors
from genai_meter_exporter.bounds import Bounds
from genai_meter_exporter.charging import charge
from genai_meter_exporter.normalise import Batch, normalise
from genai_meter_exporter.normalise.wanted import WANTED
from genai_meter_exporter.receive import json as otlp_json
from genai_meter_exporter.receive import protobuf
from genai_meter_exporter.receive.raw import Garbage, Signal
from genai_meter_exporter.store.sqlite import SqliteStore
from hypothesis import given, settings
from hypothesis import strategies as st

SIGNALS: tuple[Signal, ...] = ("logs", "traces", "metrics")

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["", "0", "12", "ok", "[]", "{}", "[1]", '{"a":1}', "null", "gpt-4o", "openai", "chatcmpl-1"]),
)
values = st.one_of(scalars.filter(lambda value: value is not None), st.lists(scalars.filter(bool), max_size=3))
names = st.sampled_from(sorted(WANTED))
operations = st.sampled_from(["chat", "embeddings", "invoke_agent", "generate_content", "x"])
attributes = st.dictionaries(names, values, max_size=12)
events = st.builds(
    Event,
    attributes,
    st.sampled_from(["genai_meter.usage", "genai_meter.cost", "genai_meter.outcome", "other"])
    | st.just("gen_ai.client.inference.operation.details"),
    st.integers(0, 2**63 - 1),
    st.binary(max_size=17),
    st.binary(max_size=9),
)


@st.composite
def any_span(draw: st.DrawFn) -> SpanOf:
    """A span of one of the operations, with ids of any length."""
    return SpanOf(
        {**draw(attributes), "gen_ai.operation.name": draw(operations)},
        trace_id=draw(st.binary(max_size=17)),
        span_id=draw(st.binary(max_size=9)),
        parent=draw(st.binary(max_size=9)),
        start_ns=draw(st.integers(0, 2**64 - 1)),
        end_ns=draw(st.integers(0, 2**64 - 1)),
    )


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where everything that is accepted must find its place."""
    made = SqliteStore(tmp_path_factory.mktemp("fuzz") / "ledger.db", Bounds({}, 200, 1000), synchronous="NORMAL")
    made.open()
    stores.append(made)
    yield
    stores.pop().close()


stores: list[SqliteStore] = []


def through(signal: Signal, parse: Any, body: bytes) -> Batch | None:
    """All that happens to a request, the commit included; None when refused."""
    try:
        parsed = parse(signal, body)
    except Garbage:
        return None
    batch = normalise(parsed)
    received = len(batch.records) + len(batch.beside) + len(batch.quarantined) + sum(batch.ignored.values())
    charge(batch)
    after = len(batch.records) + len(batch.beside) + len(batch.quarantined) + sum(batch.ignored.values())
    assert after == received
    assert not [found.reason for found in batch.quarantined if "internal error" in found.reason]
    assert not [found.reason for found in batch.quarantined if "pricing failed" in found.reason]
    assert not internal_errors
    (tally,) = stores[0].write([batch], (), time.time_ns()).tallies
    stores[0].commit()
    assert tally.accepted + tally.duplicate + tally.linked == len(batch.records)
    return batch


@settings(deadline=None)
@given(st.sampled_from(SIGNALS), st.binary(max_size=300))
def test_any_bytes(signal: Signal, body: bytes) -> None:
    through(signal, protobuf.parse, body)
    through(signal, otlp_json.parse, body)


@settings(max_examples=120, deadline=None)
@given(st.lists(events, max_size=3))
def test_any_log_records(found: list[Event]) -> None:
    batch = through("logs", protobuf.parse, logs(found).SerializeToString())
    assert batch is not None


@settings(max_examples=120, deadline=None)
@given(st.lists(any_span(), max_size=3))
def test_any_spans(found: list[SpanOf]) -> None:
    batch = through("traces", protobuf.parse, traces(found).SerializeToString())
    assert batch is not None


@settings(max_examples=100, deadline=None)
@given(attributes)
def test_our_event_with_any_attributes_changed(changes: dict[str, Any]) -> None:
    event = Event({**usage_event().attributes, **changes})
    batch = through("logs", protobuf.parse, logs([event]).SerializeToString())
    assert batch is not None
    assert len(batch.records) + len(batch.quarantined) == 1


FIELDS = (
    *("resourceLogs", "scopeLogs", "logRecords", "resourceSpans", "scopeSpans", "spans", "resource", "scope"),
    *("attributes", "key", "value", "stringValue", "intValue", "arrayValue", "values", "name", "eventName"),
    *("traceId", "spanId", "timeUnixNano", "status", "code"),
)
json_values = st.recursive(
    scalars.filter(lambda value: value != value or value is None or not isinstance(value, float)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "resourceLogs",
                    "scopeLogs",
                    "logRecords",
                    "resourceSpans",
                    "scopeSpans",
                    "spans",
                    "resource",
                    "scope",
                    "attributes",
                    "key",
                    "value",
                    "stringValue",
                    "intValue",
                    "arrayValue",
                    "values",
                    "name",
                    "eventName",
                    "traceId",
                    "spanId",
                    "timeUnixNano",
                    "status",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(SIGNALS), json_values)
def test_any_json(signal: Signal, value: Any) -> None:
    through(signal, otlp_json.parse, orjson.dumps(value, default=str))


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every place in a JSON document."""
    found = [at] if at else []
    children: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        children = list(value.items())  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    elif isinstance(value, list):
        children = list(enumerate(value))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    for key, child in children:
        found += paths(child, (*at, key))
    return found


@pytest.mark.parametrize("wrong", [None, 7, -1, "x", [], {}, [[]], {"a": {}}, True, 1.5, 2**70])
@pytest.mark.parametrize("signal", ["logs", "traces"])
def test_every_place_of_a_json_request_may_hold_anything(signal: Signal, wrong: Any) -> None:
    event = usage_event(trace_id=b"\x01" * 16, finish_reasons="[]")
    span = SpanOf({"gen_ai.operation.name": "chat", "gen_ai.response.finish_reasons": ["stop"]})
    good = logs_json([event]) if signal == "logs" else traces_json([span])
    for path in paths(good):
        broken = orjson.loads(orjson.dumps(good))
        place = broken
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = wrong
        through(signal, otlp_json.parse, json.dumps(broken).encode())
