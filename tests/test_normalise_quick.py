"""The quick reader of our own events makes the same records as the careful one, or leaves them to it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from exporter_kit import NOW, RESOURCE, Event, logs, usage_event
from genai_meter.schema import BY_NAME, FIELDS
from genai_meter.usage import BUCKETS
from genai_meter_exporter.normalise import Batch, normalise, quick
from genai_meter_exporter.receive import protobuf, wire
from genai_meter_exporter.receive.raw import Raw
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

ATTRIBUTES = [f.attribute for f in FIELDS] + [f"genai_meter.usage.{bucket}" for bucket in BUCKETS]
VALUES = st.one_of(
    st.text(max_size=5),
    st.sampled_from(["", "x" * 1025, "3", '["stop"]', "{", "-1", "default"]),
    st.integers(-2, 2**63 - 1),
    st.sampled_from([0, 1, 10**12, 10**12 + 1]),
    st.floats(allow_nan=True),
    st.booleans(),
    st.lists(st.text(max_size=3), max_size=2),
)


def read(body: bytes) -> dict[str, Any]:
    """What becomes of a request."""
    return told(normalise(protobuf.parse("logs", body)))


def read_carefully(body: bytes) -> dict[str, Any]:
    """The same, as if every event had come in a way that only the careful reader knows."""
    parsed = protobuf.parse("logs", body)
    for raw in parsed.records:
        raw.attributes = protobuf.attributes_of(wire.decoded(raw.encoded or ()), protobuf.WANTED)
        raw.encoded = None
    return told(normalise(parsed))


def told(batch: Batch) -> dict[str, Any]:
    """Everything, in a form where a number that is no number equals itself, whatever the order of columns."""
    found = asdict(batch)
    for record in found["records"]:
        record["values"] = {name: repr(value) for name, value in record["values"].items()}
    for record in found["quarantined"]:
        record["attributes"] = repr(record["attributes"])
    return found


def inclusive_event(*, cache_read: int, **more: Any) -> Event:
    """An event whose buckets follow from its inclusive counts, and are left out."""
    counts = {"input_tokens": 1000 + cache_read, "cache_read_tokens": cache_read, "output_tokens": 100}
    event = usage_event(input_tokens=0, output_tokens=0, reasoning_tokens=40, list_cost=7, **more)
    event.attributes |= {BY_NAME[name].attribute: count for name, count in counts.items()}
    return event


@settings(max_examples=400, deadline=None)
@given(
    st.dictionaries(st.sampled_from(ATTRIBUTES), VALUES, max_size=6),
    st.sets(st.sampled_from(ATTRIBUTES), max_size=3),
    st.binary(max_size=17),
    st.sampled_from([RESOURCE, {}, {"service.name": 7, "deployment.environment": "old"}, {"service.name": 0.5}]),
    st.booleans(),
)
def test_both_readers_agree(
    changed: dict[str, Any], without: set[str], trace_id: bytes, resource: dict[str, Any], inclusive: bool
) -> None:
    made = inclusive_event if inclusive else usage_event
    event = made(trace_id=trace_id, span_id=trace_id[:8], call_id=b"\x01" * 16, cache_read=3)
    kept = {key: value for key, value in event.attributes.items() if key not in without}
    body = logs([Event({**kept, **changed}, trace_id=trace_id, span_id=trace_id[:8])], resource).SerializeToString()
    for _ in range(2):
        assert read(body) == read_carefully(body)


def test_a_plain_event_is_read_quickly() -> None:
    event = usage_event(tenant="acme", cache_read=500, stream=True, context_ratio=0.5, finish_reasons='["stop"]')
    (raw,) = protobuf.parse("logs", logs([event]).SerializeToString()).records
    record = quick.usage_event(raw)
    assert record is not None
    assert record.key == event.call_id
    expected = {
        "tenant": "acme",
        "service": "shop",
        "environment": "prod",
        "start": NOW,
        "input_tokens": 1500,
        "cache_read_tokens": 500,
        "output_tokens": 100,
        "stream": 1,
        "context_ratio": 0.5,
        "finish_reasons": '["stop"]',
    }
    assert {name: record.values[name] for name in expected} == expected
    assert [usage.buckets for usage in record.usages] == [{"input": 1000, "output": 100, "cache_read": 500}]


def test_buckets_that_are_left_out_are_worked_out_quickly() -> None:
    event = inclusive_event(cache_read=500, call_id=b"\x01" * 16)
    (raw,) = protobuf.parse("logs", logs([event]).SerializeToString()).records
    record = quick.usage_event(raw)
    assert record is not None
    (usage,) = record.usages
    assert usage.buckets == {"input": 1000, "cache_read": 500, "output": 60, "output_reasoning": 40}
    counts = {name: count for name, count in record.values.items() if name.endswith("_tokens")}
    assert counts == {
        "input_tokens": 1500,
        "cache_read_tokens": 500,
        "cache_write_tokens": 0,
        "output_tokens": 100,
        "reasoning_tokens": 40,
    }
    assert "list_cost" not in record.values


@pytest.mark.parametrize("odd", [{"genai_meter.call.id": "x"}, {"gen_ai.request.max_tokens": -1}])
def test_what_is_wrong_is_told_by_the_careful_reader(odd: dict[str, Any]) -> None:
    event = usage_event()
    event.attributes |= odd
    (raw,) = protobuf.parse("logs", logs([event]).SerializeToString()).records
    assert quick.usage_event(raw) is None


def encoded(key: str, value: int) -> bytes:
    """An attribute with its value before its key: unusual, and allowed."""
    pair = KeyValue(key=key, value=AnyValue(int_value=value)).SerializeToString()
    end = pair[1] + 2
    return pair[end:] + pair[:end]


def request(*attributes: bytes) -> bytes:
    """A request of one usage event, and attributes of any bytes behind its own."""
    (group,) = logs([usage_event(call_id=b"\x01" * 16)]).resource_logs
    record = group.scope_logs[0].log_records[0].SerializeToString()
    for attribute in attributes:
        record += b"\x32" + bytes([len(attribute)]) + attribute
    for tag in (b"\x12", b"\x12", b"\x0a"):
        size = len(record)
        record = tag + bytes([size & 0x7F | 0x80, size >> 7]) + record
    return record


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_both_readers_agree_on_any_bytes(data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(ATTRIBUTES))
    value = data.draw(st.one_of(st.text(max_size=3), st.integers(-1, 2**63 - 1), st.sampled_from([0, 127, 128, 16384])))
    typed = AnyValue(string_value=value) if isinstance(value, str) else AnyValue(int_value=value)
    changed = bytearray(KeyValue(key=key, value=typed).SerializeToString())
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(len(key), len(changed)))
        changed[at : at + data.draw(st.integers(0, 1))] = data.draw(st.binary(max_size=2))
    body = request(bytes(changed[:127]))
    for _ in range(2):
        try:
            expected = read_carefully(body)
        except DecodeError:
            assert read(body)["records"] == []
        else:
            assert read(body) == expected


def test_the_order_of_an_attributes_fields_does_not_matter() -> None:
    batch = normalise(protobuf.parse("logs", request(encoded("genai_meter.usage.cache_read", 7))))
    (record,) = batch.records
    assert record.usages[0].buckets["cache_read"] == 7


@pytest.mark.parametrize("garbage", [b"\x0a\x7fshort", b"\x0a\x01\xff", b"\xff"])
def test_an_attribute_that_is_none_costs_its_record_only(garbage: bytes) -> None:
    batch = normalise(protobuf.parse("logs", request(garbage) + request()))
    assert [record.key for record in batch.records] == [b"\x01" * 16]
    (kept,) = batch.quarantined
    assert kept.reason.startswith("an attribute is no OTLP KeyValue")


def test_what_is_kept_of_attributes_is_bounded() -> None:
    for number in range(40_000):
        quick.usage_event(Raw("logs", "", {}, {}, "", encoded=[encoded("genai_meter.usage.input", number)]))
    assert len(quick._known) <= quick._KEPT  # pyright: ignore[reportPrivateUsage]
