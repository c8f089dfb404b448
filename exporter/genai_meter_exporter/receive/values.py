"""Attributes of protobuf messages as plain values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from genai_meter_exporter.receive.raw import Attributes


def attributes_of(pairs: Iterable[KeyValue], wanted: frozenset[str]) -> Attributes:
    """The wanted ones."""
    found: Attributes = {}
    for pair in pairs:
        key = pair.key
        if key in wanted:
            found[key] = value_of(pair.value)
    return found


def value_of(value: AnyValue) -> Any:
    """A value of any kind."""
    # The common kinds first; `WhichOneof`, which is slow, only for a zero of any kind.
    return value.string_value or value.int_value or _other(value)


def _other(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [value_of(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: value_of(pair.value) for pair in value.kvlist_value.values}
    return getattr(value, kind)
