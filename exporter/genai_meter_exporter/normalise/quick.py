"""Our own usage events straight off the message: the same record as `own.usage_event` makes, in half the time.

What is not plain (a list of models, a value of another kind) is left to `own`, and so are all errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from genai_meter import semconv
from genai_meter.usage import BUCKETS, Usage
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from genai_meter_exporter.normalise import read
from genai_meter_exporter.normalise.record import (
    MAX_COUNT,
    OWN_PRODUCER,
    RANK_OWN_EVENT,
    Unreadable,
    UsageRecord,
    fill_totals,
    price_context,
)
from genai_meter_exporter.receive.raw import Raw
from genai_meter_exporter.receive.values import value_of

_TEXT, _COUNT, _BUCKET, _LONG, _JSON, _BOOLEAN, _NUMBER, _OTHER = range(8)
_KIND: Final[Mapping[read.Reader, int]] = {
    read.text: _TEXT,
    read.count: _COUNT,
    read.integer: _LONG,
    read.json_text: _JSON,
    read.boolean: _BOOLEAN,
    read.number: _NUMBER,
}
_BUCKETS: Final = {semconv.USAGE_PREFIX + bucket: bucket for bucket in BUCKETS if "seconds" not in bucket}
_SECONDS: Final = {semconv.USAGE_PREFIX + bucket: bucket for bucket in BUCKETS if "seconds" in bucket}
_TABLE: Final[Mapping[str, tuple[str, int]]] = {
    **{attribute: (column, _KIND[reader]) for attribute, (column, reader) in read.BY_ATTRIBUTE.items()},
    **{attribute: (bucket, _BUCKET) for attribute, bucket in _BUCKETS.items()},
    **{attribute: (bucket, _OTHER) for attribute, bucket in _SECONDS.items()},
}
"""Attribute → column or bucket, and how it is read."""

_MAX_TEXT: Final = read.MAX_TEXT
_FINITE: Final = float("inf")

_VALID_KEPT: Final = 2_000
_SHORT: Final = 200
_valid: set[str] = set()
"""JSON texts that have been parsed once: most are the same few."""

_Resource = tuple[Mapping[str, Any], dict[str, Any]]
_last: list[_Resource] = []
"""The latest resource and what it tells; its records come together."""


def usage_event(raw: Raw) -> UsageRecord | None:
    """The record; None when `own` should read it."""
    try:
        return _usage_event(raw)
    except (ValueError, Unreadable):
        return None


def _usage_event(raw: Raw) -> UsageRecord | None:
    values = _from_resource(raw.resource).copy()
    buckets: dict[str, Any] = {}
    entry_of = _TABLE.get
    for pair in raw.pairs or ():
        key = pair.key
        entry = entry_of(key)
        if entry is None:
            continue
        column, kind = entry
        message = pair.value
        if kind == _TEXT:
            text = message.string_value
            if text and len(text) <= _MAX_TEXT:
                values[column] = text
                continue
        elif kind <= _BUCKET:
            number = message.int_value
            if 0 < number <= MAX_COUNT or (not number and message.HasField("int_value")):
                if kind == _BUCKET:
                    buckets[column] = number
                else:
                    values[column] = number
                continue
        elif kind == _LONG:
            number = message.int_value
            if number > 0:
                values[column] = number
                continue
        elif kind == _JSON:
            text = message.string_value
            if text in _valid:
                values[column] = text
                continue
        elif kind == _BOOLEAN:
            if message.HasField("bool_value"):
                values[column] = int(message.bool_value)
                continue
        elif kind == _NUMBER:
            number = message.double_value
            if 0 < number < _FINITE:
                values[column] = number
                continue
        if not _read(values, buckets, key, message):
            return None
    return _finish(raw, values, buckets)


def _read(values: dict[str, Any], buckets: dict[str, Any], key: str, message: AnyValue) -> bool:
    """What is not plain, or seen for the first time. False: no value at all."""
    entry = read.BY_ATTRIBUTE.get(key)
    bucket = _BUCKETS.get(key) or _SECONDS.get(key)
    if entry is None and bucket is None:
        return True
    value = value_of(message)
    if value is None:
        return False
    if bucket is not None:
        buckets[bucket] = read.quantity(value) if key in _SECONDS else read.count(value)
    if entry is None:
        return True
    column, reader = entry
    result = values[column] = reader(value)
    if reader is read.json_text and value is result and len(result) < _SHORT:
        if len(_valid) >= _VALID_KEPT:
            _valid.clear()
        _valid.add(result)
    return True


def _finish(raw: Raw, values: dict[str, Any], buckets: dict[str, Any]) -> UsageRecord | None:
    call_id: str = values.get("call_id") or ""
    plain = call_id and "usage" not in values and "trace_id" not in values and "span_id" not in values
    if not plain or values.get("cache_hit") or not buckets or not (values.get("start") and values.get("end")):
        return None
    key = bytes.fromhex(call_id.replace("-", ""))
    if len(key) != 16:
        return None
    usages = [Usage({name: count for name, count in buckets.items() if count})]
    values["source"] = OWN_PRODUCER
    values["source_rank"] = RANK_OWN_EVENT
    if "status" not in values:
        values["status"] = "error" if raw.failed else "ok"
    if "attempt_count" not in values:
        values["attempt_count"] = 1
    trace_id, span_id = raw.trace_id, raw.span_id
    if len(trace_id) == 16:
        values["trace_id"] = trace_id.hex()
    else:
        trace_id = b""
    if len(span_id) == 8:
        values["span_id"] = span_id.hex()
    else:
        span_id = b""
    fill_totals(values, usages)
    return UsageRecord(
        key,
        values,
        usages,
        OWN_PRODUCER,
        RANK_OWN_EVENT,
        trace_id,
        span_id,
        raw.parent_span_id,
        price_context(values),
    )


def _from_resource(resource: Mapping[str, Any]) -> dict[str, Any]:
    if _last and _last[0][0] is resource:
        return _last[0][1]
    told = read.fields({}, resource)
    _last[:] = [(resource, told)]
    return told
