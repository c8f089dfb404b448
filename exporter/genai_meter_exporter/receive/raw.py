"""One log record or span as it came, reduced to what the normalisers read. The same for protobuf and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

Signal: TypeAlias = Literal["logs", "traces", "metrics"]
SIGNALS: Final[tuple[Signal, ...]] = ("logs", "traces", "metrics")

Attributes: TypeAlias = dict[str, Any]
"""Attribute → str, int, float, bool, bytes, list or dict."""


class Garbage(Exception):
    """The body is no OTLP request; the message says why."""


@dataclass(slots=True)
class Raw:
    """A log record with an event name we know, or a span with attributes we know."""

    signal: Signal
    name: str
    """Event name of a log record, name of a span."""
    attributes: Attributes
    """Wanted attributes only: content never gets further than the parser."""
    resource: Mapping[str, Any]
    scope: str
    """Name of the instrumentation scope: the producer."""
    trace_id: bytes = b""
    span_id: bytes = b""
    parent_span_id: bytes = b""
    start_ns: int = 0
    """Start of a span, time of a log record; Unix nanoseconds."""
    end_ns: int = 0
    failed: bool = False
    """The span's status is an error."""
    encoded: Sequence[bytes] | None = None
    """Attributes of our own usage event as they came in protobuf; `attributes` is filled when they are needed."""


@dataclass(slots=True)
class Parsed:
    """One export request."""

    signal: Signal
    records: list[Raw] = field(default_factory=list[Raw])
    parents: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    """(trace id + span id, parent span id) of every span, wanted or not: the way from a call up to its ancestors."""
    ignored: int = 0
    """Records that are none of ours: other logs, other spans, every metric."""
