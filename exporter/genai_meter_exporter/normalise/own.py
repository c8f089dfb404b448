"""Records of our own plug-in: usage, cost, outcome and cache hit; and the span as a fallback."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import orjson
from genai_meter import semconv
from genai_meter.schema import FIELDS
from genai_meter.usage import BUCKETS, Usage, buckets_of
from google.protobuf.message import DecodeError

from genai_meter_exporter.normalise import quick, read
from genai_meter_exporter.normalise.names import OWN
from genai_meter_exporter.normalise.record import (
    MAX_INT,
    OWN_PRODUCER,
    RANK_OWN_EVENT,
    RANK_OWN_SPAN,
    WORKED_OUT,
    Beside,
    Unreadable,
    UsageRecord,
    fill_totals,
    price_context,
)
from genai_meter_exporter.receive import wire
from genai_meter_exporter.receive.raw import Attributes, Raw
from genai_meter_exporter.receive.values import attributes_of

CALL_ID: Final = "genai_meter.call.id"
CACHE_HIT: Final = "genai_meter.cache_hit"
_BUCKET_OF: Final = {semconv.USAGE_PREFIX + bucket: bucket for bucket in BUCKETS}
_WORKED_OUT: Final = frozenset(f.attribute for f in FIELDS if f.name in WORKED_OUT)
_BUCKET_SET: Final = frozenset(BUCKETS)
_ID_LENGTHS: Final = {"trace_id": 16, "span_id": 8}


def usage_event(raw: Raw) -> UsageRecord | Beside:
    """`genai_meter.usage`: the best source there is; an answer from the application's own cache is no call."""
    if raw.encoded is not None:
        if record := quick.usage_event(raw):
            return record
        try:
            raw.attributes = attributes_of(wire.decoded(raw.encoded), OWN)
        except DecodeError:
            raise Unreadable("an attribute is no OTLP KeyValue") from None
    if raw.attributes.get(CACHE_HIT) is True:
        return cache_hit(raw)
    return _call(raw, OWN_PRODUCER, RANK_OWN_EVENT)


def span(raw: Raw) -> UsageRecord:
    """Our span (or another's that we enriched): carries the same attributes, but may have been sampled away."""
    return _call(raw, OWN_PRODUCER + "/span", RANK_OWN_SPAN)


def cost_event(raw: Raw) -> UsageRecord:
    """`genai_meter.cost`: a cost that is no LLM call; its amount is the producer's fact."""
    record = _record(raw, OWN_PRODUCER, RANK_OWN_EVENT)
    values = record.values
    if "cost" not in values:
        raise Unreadable("genai_meter.cost.effective is missing")
    what = read.named_text(semconv.COST_WHAT, raw.attributes.get(semconv.COST_WHAT)) or "cost"
    values.setdefault("operation", what)
    line = {"bucket": what, "list_pico": values.get("list_cost", values["cost"]), "effective_pico": values["cost"]}
    for name, attribute in (("quantity", semconv.COST_QUANTITY), ("unit", semconv.COST_UNIT)):
        if attribute in raw.attributes:
            line[name] = told = raw.attributes[attribute]
            if not isinstance(told, str | int | float):
                raise Unreadable(f"{attribute} is neither a number nor text")
    values["cost_lines"] = orjson.dumps([line]).decode()
    record.given_cost = True
    return record


def outcome(raw: Raw) -> Beside:
    """`genai_meter.outcome`: what came of the work. Its name, its id and the tenant say which one it is."""
    attributes = raw.attributes
    name = read.named_text(semconv.OUTCOME_NAME, attributes.get(semconv.OUTCOME_NAME))
    if not name:
        raise Unreadable(f"{semconv.OUTCOME_NAME} is missing")
    told = read.named_text(semconv.OUTCOME_ID, attributes.get(semconv.OUTCOME_ID))
    values = _beside(raw)
    values["outcome"] = name
    try:
        values["success"] = read.boolean(attributes.get(semconv.OUTCOME_SUCCESS, True))
    except ValueError as error:
        raise Unreadable(f"{semconv.OUTCOME_SUCCESS} {error}") from None
    if (value := attributes.get(semconv.OUTCOME_VALUE)) is not None:
        try:
            values["value"] = read.integer(value)
        except ValueError as error:
            raise Unreadable(f"{semconv.OUTCOME_VALUE} {error}") from None
    if told:
        identity = f"{name}\0{told}\0{values.get('tenant') or ''}".encode("utf-8", "surrogatepass")
        key = hashlib.blake2b(identity, digest_size=16).digest()
    elif not 0 <= raw.start_ns <= MAX_INT:
        raise Unreadable("the time of the record is out of range")
    else:
        content = orjson.dumps(
            [raw.start_ns, raw.trace_id.hex(), raw.span_id.hex(), values], option=orjson.OPT_SORT_KEYS, default=str
        )
        key = time_prefix(raw.start_ns) + hashlib.blake2b(content, digest_size=10).digest()
    return Beside("outcome", key, raw.start_ns, values)


def cache_hit(raw: Raw) -> Beside:
    """`genai_meter.usage` of an answer that came from the application's own cache: no provider was asked."""
    record = _record(raw, OWN_PRODUCER, RANK_OWN_EVENT)
    values = dict(record.values)
    values["cache"] = values.get("sdk")
    values["model"] = values.get("model") or values.get("request_model")
    return Beside("cache_hit", record.key, values["start"], values)


def _beside(raw: Raw) -> dict[str, Any]:
    """Who it belongs to: attribution, process, span."""
    values = read.fields(raw.attributes, raw.resource)
    _identifier(values, "trace_id", raw.trace_id)
    _identifier(values, "span_id", raw.span_id)
    return values


def time_prefix(time_ns: int) -> bytes:
    """The six bytes that a time-ordered key starts with: Unix milliseconds, as in a UUIDv7."""
    return (time_ns // 1_000_000 & 0xFFFF_FFFF_FFFF).to_bytes(6, "big")


def call_key(value: Any) -> bytes:
    """The 16 bytes of a call id, written as a UUID or as 32 hex digits."""
    try:
        key = bytes.fromhex(value.replace("-", ""))
    except (ValueError, AttributeError, TypeError):
        raise Unreadable(f"{CALL_ID} is no UUID") from None
    if len(key) != 16:
        raise Unreadable(f"{CALL_ID} is no UUID")
    return key


def _call(raw: Raw, source: str, rank: int) -> UsageRecord:
    """A call, whose list price follows from its usage."""
    record = _record(raw, source, rank)
    if record.usages:
        record.values.pop("list_cost", None)
    return record


def _record(raw: Raw, source: str, rank: int) -> UsageRecord:
    attributes = raw.attributes
    if CALL_ID not in attributes:
        raise Unreadable(f"{CALL_ID} is missing")
    key = call_key(attributes[CALL_ID])
    values = read.fields(_told(attributes), raw.resource)
    usages = _usages(attributes, values)
    _settle_times(raw, key, values)
    values["source"] = source
    values["source_rank"] = rank
    values.setdefault("status", "error" if raw.failed else "ok")
    values.setdefault("attempt_count", 1)
    trace_id = _identifier(values, "trace_id", raw.trace_id)
    span_id = _identifier(values, "span_id", raw.span_id)
    if usages:
        fill_totals(values, usages)
    return UsageRecord(
        key=key,
        values=values,
        usages=usages,
        producer=OWN_PRODUCER,
        rank=rank,
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=raw.parent_span_id,
        context=price_context(values),
    )


def _told(attributes: Attributes) -> Attributes:
    """Without what follows from the buckets, when they are told."""
    if _BUCKET_OF.keys().isdisjoint(attributes):
        return attributes
    return {attribute: value for attribute, value in attributes.items() if attribute not in _WORKED_OUT}


def _usages(attributes: Attributes, values: dict[str, Any]) -> list[Usage]:
    """The call's own buckets; or, when other models were billed too, the list of all of them."""
    if text := values.get("usage"):
        return _models(text)
    buckets: dict[str, Any] = {}
    for attribute, value in attributes.items():
        bucket = _BUCKET_OF.get(attribute)
        if bucket is not None:
            buckets[bucket] = _quantity(attribute, value)
    if not buckets:
        if values.get("usage_source") != "provider":
            return []
        buckets = buckets_of(values)
    return [Usage({name: count for name, count in buckets.items() if count})]


def _models(text: str) -> list[Usage]:
    try:
        return [
            Usage(
                {name: _quantity(name, count) for name, count in entry["buckets"].items() if name in _BUCKET_SET},
                model=entry.get("model"),
            )
            for entry in orjson.loads(text)
        ]
    except (TypeError, KeyError, AttributeError):
        raise Unreadable("genai_meter.usage.models has not the shape [{model, buckets}]") from None


def _quantity(name: str, value: Any) -> Any:
    try:
        return read.quantity(value) if "seconds" in name else read.count(value)
    except ValueError as error:
        raise Unreadable(f"{name} {error}") from None


def _settle_times(raw: Raw, key: bytes, values: dict[str, Any]) -> None:
    """A record without its own times takes the span's, the record's, or the call id's."""
    if not values.get("start"):
        from_span = raw.start_ns if raw.signal == "traces" else 0
        values["start"] = from_span or int.from_bytes(key[:6], "big") * 1_000_000
    if not values.get("end"):
        values["end"] = max(raw.end_ns, values["start"])
    if max(values["start"], values["end"]) > MAX_INT:
        raise Unreadable(f"the time of {CALL_ID} exceeds 64 bits")


def _identifier(values: dict[str, Any], column: str, from_raw: bytes) -> bytes:
    """Trace or span id as bytes; the column keeps it in hex. One of another length is no id."""
    sent = values.pop(column, None)
    try:
        identifier = bytes.fromhex(sent) if sent else from_raw
    except ValueError:
        raise Unreadable(f"genai_meter.{column.replace('_', '.')} is no hexadecimal id") from None
    if len(identifier) != _ID_LENGTHS[column]:
        return b""
    values[column] = identifier.hex()
    return identifier
