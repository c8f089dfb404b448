"""OTLP JSON → `Parsed`: ids in hex, 64-bit integers as text or number, enums as integers.

The protobuf library's JSON reader is no help: it reads ids as base64 and is thirty times slower.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import orjson

from genai_meter_exporter.normalise import unknown
from genai_meter_exporter.normalise.wanted import EVENT_NAME_ATTRIBUTE, EVENTS, WANTED, WANTED_RESOURCE
from genai_meter_exporter.receive.raw import Attributes, Garbage, Parsed, Raw, Signal

_ERROR: Final = 2
"""STATUS_CODE_ERROR."""

_EMPTY: Final[dict[str, Any]] = {}

_PLAIN: Final = frozenset({"stringValue", "intValue", "doubleValue", "boolValue"})

_ID_LENGTHS: Final = (0, 8, 16)

_DEPTH: Final = 32
"""Levels of a value; protobuf's own limit is 100 messages, 33 such levels."""


def parse(signal: Signal, body: bytes) -> Parsed:
    """Read one export request; raises `Garbage`."""
    try:
        request = orjson.loads(body)
        if signal == "logs":
            return _logs(request)
        if signal == "traces":
            return _traces(request)
        return _metrics(request)
    except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError, KeyError) as error:
        # orjson's message quotes no content, only position and kind; ours name the field.
        raise Garbage(f"not an OTLP {signal} request in JSON: {_reason(error)}") from None


def _logs(request: Any) -> Parsed:
    parsed = Parsed("logs")
    for resource, scope, record in _walk(request, "resourceLogs", "scopeLogs", "logRecords"):
        pairs = _list(record, "attributes")
        name = _text(record, "eventName") or _old_event_name(pairs)
        attributes = _attributes(pairs, WANTED)
        if name not in EVENTS:
            if not unknown.tells_tokens(pair["key"] for pair in pairs):
                parsed.ignored += 1
                continue
            attributes |= _unknown(pairs)
        time = _int(record.get("timeUnixNano")) or _int(record.get("observedTimeUnixNano"))
        parsed.records.append(
            Raw(
                "logs",
                name,
                attributes,
                resource,
                scope,
                _id(record.get("traceId")),
                _id(record.get("spanId")),
                b"",
                time,
                time,
            )
        )
    return parsed


def _traces(request: Any) -> Parsed:
    parsed = Parsed("traces")
    for resource, scope, span in _walk(request, "resourceSpans", "scopeSpans", "spans"):
        trace_id, span_id, parent = _id(span.get("traceId")), _id(span.get("spanId")), _id(span.get("parentSpanId"))
        parsed.parents.append((trace_id + span_id, parent))
        pairs = _list(span, "attributes")
        attributes = _attributes(pairs, WANTED)
        if unknown.tells_tokens(pair["key"] for pair in pairs):
            attributes |= _unknown(pairs)
        if not attributes:
            parsed.ignored += 1
            continue
        parsed.records.append(
            Raw(
                "traces",
                _text(span, "name"),
                attributes,
                resource,
                scope,
                trace_id,
                span_id,
                parent,
                _int(span.get("startTimeUnixNano")),
                _int(span.get("endTimeUnixNano")),
                _child(span, "status").get("code") == _ERROR,
            )
        )
    return parsed


def _metrics(request: Any) -> Parsed:
    return Parsed("metrics", ignored=sum(1 for _ in _walk(request, "resourceMetrics", "scopeMetrics", "metrics")))


def _walk(request: Any, resources: str, scopes: str, records: str) -> Iterator[tuple[Attributes, str, Any]]:
    """Each record with its resource's attributes and its scope's name."""
    if not isinstance(request, dict):
        raise TypeError("the body is no object")
    for group in _list(request, resources):
        resource = _attributes(_list(_child(group, "resource"), "attributes"), WANTED_RESOURCE)
        for scoped in _list(group, scopes):
            scope = _text(_child(scoped, "scope"), "name")
            for record in _list(scoped, records):
                yield resource, scope, record


def _child(parent: Any, key: str) -> Any:
    """An object below; one without fields when there is none."""
    return parent.get(key) or _EMPTY


def _text(parent: Any, key: str) -> str:
    value = parent.get(key) or ""
    if not isinstance(value, str):
        raise TypeError(f"{key} is no text")
    return value


def _list(parent: Any, key: str) -> list[Any]:
    value = parent.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise TypeError(f"{key} is no array")
    return value  # pyright: ignore[reportUnknownVariableType]


def _attributes(pairs: Iterable[Any], wanted: frozenset[str]) -> Attributes:
    return {key: _value(pair.get("value")) for pair in pairs if (key := pair["key"]) in wanted}


def _unknown(pairs: Iterable[Any]) -> Attributes:
    """Numbers and short texts; what is no value of any kind is left out."""
    told = ((pair["key"], pair.get("value") or _EMPTY) for pair in pairs)
    plain = ((key, value) for key, value in told if value.keys() <= _PLAIN)
    return unknown.metadata((key, _value(value)) for key, value in plain)


def _value(value: Any, depth: int = 0) -> Any:
    if not value:
        return None
    if depth > _DEPTH:
        raise ValueError(f"a value is nested deeper than {_DEPTH} levels")
    kind, content = next(iter(value.items()))
    if kind in ("stringValue", "boolValue", "bytesValue"):
        return content
    if kind == "intValue":
        return _int(content)
    if kind == "doubleValue":
        return float(content)
    if kind == "arrayValue":
        return [_value(item, depth + 1) for item in _list(content, "values")]
    if kind == "kvlistValue":
        return {pair["key"]: _value(pair.get("value"), depth + 1) for pair in _list(content, "values")}
    raise ValueError(f"unknown kind of value {kind[:40]!r}")


def _int(value: Any) -> int:
    if value is None:
        return 0
    if type(value) is int:
        return value
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            raise ValueError("an integer field holds other text") from None
    raise TypeError("an integer field holds no integer")


def _id(value: Any) -> bytes:
    if not value:
        return b""
    try:
        identifier = bytes.fromhex(value)
    except (ValueError, TypeError):
        raise ValueError("a trace or span id is not hexadecimal") from None
    if len(identifier) not in _ID_LENGTHS:
        raise ValueError("a trace or span id has the wrong length")
    return identifier


def _old_event_name(pairs: Iterable[Any]) -> str:
    for pair in pairs:
        if pair.get("key") == EVENT_NAME_ATTRIBUTE:
            return _text(_child(pair, "value"), "stringValue")
    return ""


def _reason(error: Exception) -> str:
    if isinstance(error, orjson.JSONDecodeError):
        return f"no JSON (line {error.lineno}, column {error.colno})"
    if isinstance(error, KeyError):
        return f"{error} is missing"
    if isinstance(error, AttributeError):
        return "a value stands where an object is expected"
    return str(error)
