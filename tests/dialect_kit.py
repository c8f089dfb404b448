"""Reading answers and streams through a dialect, for its tests."""

from __future__ import annotations

from typing import Any

from genai_meter.dialects import Reading, RequestView, by_name
from genai_meter.usage import Usage


def answered(name: str, payload: Any, request: RequestView | None = None) -> tuple[Reading, list[Usage]]:
    dialect, reading = by_name(name), Reading()
    dialect.response(reading, payload)
    return reading, dialect.usages(reading, request or RequestView())


def streamed(name: str, *events: Any) -> tuple[Reading, list[Usage]]:
    dialect, reading = by_name(name), Reading()
    for event in events:
        dialect.chunk(reading, event)
    return reading, dialect.usages(reading, RequestView())


def buckets(name: str, payload: Any) -> dict[str, Any]:
    [usage] = answered(name, payload)[1]
    return usage.buckets


def parsed(cls: Any, value: dict[str, Any]) -> Any:
    """As the client libraries parse: leniently, unknown fields kept."""
    return cls.construct(**value)


def check_apply(name: str, body: dict[str, Any], change: dict[str, Any], expected: dict[str, Any]) -> None:
    """A dialect changes a copy."""
    before = repr(body)
    assert by_name(name).apply(body, **change) == expected
    assert repr(body) == before
