"""Our own usage events straight off the wire: the same record as `own.usage_event` makes, in a quarter of the time.

Most attributes of a call are the same as those of calls before it: what an encoded attribute says is kept, and found
again by its bytes. What differs from call to call (ids, times, counts) has a form: it begins so that its name, length
and type are known. What is not plain (a list of models, an attribute without a value) is left to `own`, and so are all
errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from genai_meter import semconv
from genai_meter.schema import FIELDS
from genai_meter.usage import BUCKETS, Quantity, Usage, buckets_of
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from genai_meter_exporter.normalise import read
from genai_meter_exporter.normalise.record import (
    MAX_COUNT,
    MAX_INT,
    OWN_PRODUCER,
    RANK_OWN_EVENT,
    WORKED_OUT,
    Unreadable,
    UsageRecord,
    fill_totals,
    price_context,
)
from genai_meter_exporter.receive import wire
from genai_meter_exporter.receive.raw import Raw
from genai_meter_exporter.receive.values import value_of

_NOTHING: Final = ""
"""The name of what is not read."""

_Told: TypeAlias = tuple[str, Any]
"""What an attribute tells: a column (or nothing), and its value."""

_BUCKETS: Final = {semconv.USAGE_PREFIX + bucket: bucket for bucket in BUCKETS}

_DIFFERENT: Final = frozenset(
    {
        *("call_id", "response_id", "request_id", "user", "run_id", "parent_run_id", "conversation_id", "session_id"),
        *("system_hash", "request_hash"),
        *(f.name for f in FIELDS if f.kind in ("time", "pico_usd") or f.name.endswith("_tokens")),
        *BUCKETS,
    }
)
"""Names whose values differ from call to call: they have forms, and are not kept."""

_KEPT: Final = 16_384
_LONGEST_KEPT: Final = 128
"""Bytes."""
_known: dict[bytes, _Told] = {}
"""Encoded attribute → what it tells."""

_VALUES, _TOTALS, _BUCKET = range(3)
"""Where a whole number goes: into a column, an inclusive count, a bucket."""

_Limits: TypeAlias = tuple[str, int, int, int]
"""Of a whole number: column or bucket; the least and the largest that may be written in so many bytes; where it
goes."""

_Form: TypeAlias = tuple[int, int, str, _Limits | None]
"""Size of an attribute; where its text begins, which ends with it; its column. A number has limits, and its `AnyValue`
begins there."""

_HEADS: Final[Mapping[bytes, tuple[str, read.Reader, int]]] = {
    **{
        wire.head(attribute): (column, reader, _TOTALS if column in WORKED_OUT else _VALUES)
        for attribute, (column, reader) in read.BY_ATTRIBUTE.items()
        if column in _DIFFERENT
    },
    **{wire.head(name): (bucket, read.count, _BUCKET) for name, bucket in _BUCKETS.items()},
}
"""How an attribute begins, up to its value's length → column or bucket, reader, where its number goes."""
_LARGEST: Final[Mapping[read.Reader, int]] = {read.count: MAX_COUNT, read.bound: MAX_COUNT, read.integer: MAX_INT}
_FORMLESS: Final[_Form] = (0, 0, "", None)
_FORMS_KEPT: Final = 4_096
_forms: dict[bytes, _Form] = {}
"""The beginning of an attribute, up to its value's type → its form."""

_Resource = tuple[Mapping[str, Any], dict[str, Any]]
_last: list[_Resource] = []
"""The latest resource and what it tells; its records come together."""


def usage_event(raw: Raw) -> UsageRecord | None:
    """The record; None when `own` should read it."""
    try:
        return _usage_event(raw)
    except (ValueError, IndexError, DecodeError, Unreadable):
        return None


def _usage_event(raw: Raw) -> UsageRecord | None:
    values = _from_resource(raw.resource).copy()
    limits: list[_Limits] = []
    numbers: list[bytes] = []
    known, forms = _known.get, _forms.get
    for encoded in raw.encoded[:] if raw.encoded else ():
        told = known(encoded)
        if told is None:
            size, at, name, limit = forms(encoded[: encoded[1] + 5]) or _form(encoded)
            if size == len(encoded):
                if limit is not None:
                    limits.append(limit)
                    numbers.append(encoded[at:])
                    continue
                if encoded[at - 1] == size - at:
                    values[name] = encoded[at:].decode()
                    continue
            told = _told(encoded)
        name, value = told
        values[name] = value
    values.pop(_NOTHING, None)
    totals: dict[str, int] = {}
    buckets: dict[str, int] = {}
    places = values, totals, buckets
    # All at once, by the library: a varint read in Python costs ten times as much.
    for (name, low, high, place), number in zip(limits, wire.integers(numbers), strict=True):
        if not low <= number <= high:
            return None
        places[place][name] = number
    if not buckets and values.get("usage_source") == "provider":
        buckets = buckets_of(totals)
    return _finish(raw, values, {name: number for name, number in buckets.items() if number})


def _form(encoded: bytes) -> _Form:
    """The form of an attribute that begins as none did before."""
    head = encoded[: encoded[1] + 3]
    if head not in _HEADS:
        return _FORMLESS
    name, reader, place = _HEADS[head]
    at = len(head) + 1
    length, tag = encoded[at - 1], encoded[at]
    largest = _LARGEST.get(reader)
    form = _FORMLESS
    if length < wire.SHORT and tag == wire.TEXT and reader is read.text:
        form = at + length, at + 2, name, None
    elif 1 < length < 11 and tag == wire.INTEGER and largest is not None:
        bits = 7 * (length - 1)
        low, high = 1 << bits - 7 if bits > 7 else 0, min((1 << bits) - 1, largest)
        form = at + length, at, name, (name, low, high, place)
    if len(_forms) >= _FORMS_KEPT:
        _forms.clear()
    _forms[encoded[: at + 1]] = form
    return form


def _told(encoded: bytes) -> _Told:
    """What an attribute tells that has no form; raises `ValueError` or `DecodeError`."""
    pair = KeyValue.FromString(encoded)
    name, reader = read.BY_ATTRIBUTE.get(pair.key, (_NOTHING, None))
    if pair.key in _BUCKETS or name in _DIFFERENT:
        raise ValueError("another form than ours")
    value = value_of(pair.value)
    if value is None:
        raise ValueError("an attribute without a value")
    told = name, reader(value) if reader else None
    if len(encoded) <= _LONGEST_KEPT:
        if len(_known) >= _KEPT:
            _known.clear()
        _known[encoded] = told
    return told


def _finish(raw: Raw, values: dict[str, Any], buckets: dict[str, Quantity]) -> UsageRecord | None:
    call_id: str = values.get("call_id") or ""
    plain = call_id and "usage" not in values and "trace_id" not in values and "span_id" not in values
    if not plain or values.get("cache_hit") or not buckets or not (values.get("start") and values.get("end")):
        return None
    key = bytes.fromhex(call_id.replace("-", ""))
    if len(key) != 16:
        return None
    usages = [Usage(buckets)]
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
