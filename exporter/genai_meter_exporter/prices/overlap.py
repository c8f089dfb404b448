"""Which entries of one overlay could both hold for the same call, so that nobody could say which wins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

from genai_meter.pricing import overlay
from genai_meter.pricing.windows import minutes_of_day

Numbered: TypeAlias = tuple[int, dict[str, Any]]

_ONE_WINS: Final = frozenset({"price", "alias", "minimum", "commitment"})
"""Kinds of which one entry decides; discounts and multipliers stack, so only equal matches clash."""


def clashes(entries: Sequence[Numbered]) -> Iterator[tuple[Numbered, Numbered, str]]:
    """Pairs of entries of one kind and priority that overlap in time and match."""
    for position, (second, b) in enumerate(entries):
        for first, a in entries[:position]:
            if a["kind"] != b["kind"] or a["priority"] != b["priority"] or not _same_time(a, b):
                continue
            if a["kind"] in _ONE_WINS:
                if _could_both_match(a["match"], b["match"]) and _decide_the_same(a, b):
                    yield (first, a), (second, b), "give one of them a higher `priority`, or end one"
            elif a["match"] == b["match"]:
                yield (first, a), (second, b), "the same match would count twice; give one a `priority`, or end one"


def _same_time(a: dict[str, Any], b: dict[str, Any]) -> bool:
    (a_start, a_end), (b_start, b_end) = _interval(a), _interval(b)
    return a_start < b_end and b_start < a_end


def _interval(entry: dict[str, Any]) -> tuple[int, int]:
    end = entry.get("effective_to")
    return overlay.instant(entry["effective_from"]), overlay.FOREVER if end is None else overlay.instant(end)


def _decide_the_same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    tables = ((a.get(key), b.get(key)) for key in ("rates", "minimum"))
    return all(not (x and y and x.keys().isdisjoint(y.keys())) for x, y in tables)


def _could_both_match(a: dict[str, Any], b: dict[str, Any]) -> bool:
    for key in ("provider", "model", *overlay.GLOB_KEYS):
        if key in a and key in b and not any(_meet(x, y) for x in a[key] for y in b[key]):
            return False
    return not _apart(a, b)


def _apart(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two local windows on the same clock never open together."""
    if a.get("tz", "UTC") != b.get("tz", "UTC"):
        return False
    a_days, b_days = set(a.get("weekday", ())), set(b.get("weekday", ()))
    a_hours, b_hours = _hours(a), _hours(b)
    wraps = any(start >= end for start, end in (a_hours, b_hours))
    if wraps:
        return False
    if a_days and b_days and a_days.isdisjoint(b_days):
        return True
    return a_hours[1] <= b_hours[0] or b_hours[1] <= a_hours[0]


def _hours(match: dict[str, Any]) -> tuple[int, int]:
    start, end = str(match.get("window", "00:00-24:00")).split("-")
    return minutes_of_day(start), minutes_of_day(end)


@lru_cache(maxsize=4096)
def _meet(a: str, b: str) -> bool:
    """Whether some text matches both patterns (`*` and `?`; a `[set]` counts as any character)."""
    if not a and not b:
        return True
    if a[:1] == "*":
        return _meet(a[1:], b) or (bool(b) and _meet(a, b[1:]))
    if b[:1] == "*":
        return _meet(b, a)
    if not a or not b:
        return False
    (one, a_rest), (two, b_rest) = _head(a), _head(b)
    return (one == two or "?" in (one, two)) and _meet(a_rest, b_rest)


def _head(pattern: str) -> tuple[str, str]:
    if pattern[0] == "[" and "]" in pattern:
        return "?", pattern[pattern.index("]") + 1 :]
    return pattern[0], pattern[1:]
