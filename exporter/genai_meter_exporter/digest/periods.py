"""Which day or week a digest is about. Instants are Unix seconds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from genai_meter_exporter.budgets.periods import local_day, midnight
from genai_meter_exporter.digest.settings import Entry


@dataclass(frozen=True, slots=True)
class Span:
    """Whole local days."""

    first: date
    last: date
    """Included."""
    start: int
    """Inclusive."""
    end: int
    """Exclusive."""


@dataclass(frozen=True, slots=True)
class Due:
    """A message that may be sent from an instant on."""

    span: Span
    """What it is about."""
    before: Span
    """What it is compared with."""
    at: int
    """When it may be sent."""


def latest(entry: Entry, zone: ZoneInfo, now: float) -> Due:
    """The message whose time came last."""
    today = local_day(zone, int(now))
    for ago in range(9):
        day = today - timedelta(days=ago)
        if entry.every == "week" and day.weekday() != 0:
            continue
        at = _instant(zone, day, entry.at)
        if at <= now:
            break
    else:
        raise AssertionError("within nine days there is a Monday whose time has come")
    days = 7 if entry.every == "week" else 1
    first = day - timedelta(days=days)
    return Due(_span(zone, first, days), _span(zone, first - timedelta(days=7), days), at)


def _span(zone: ZoneInfo, first: date, days: int) -> Span:
    last = first + timedelta(days=days - 1)
    return Span(first, last, midnight(zone, first), midnight(zone, last + timedelta(days=1)))


def _instant(zone: ZoneInfo, day: date, at: str) -> int:
    wall = datetime.combine(day, time.fromisoformat(at), zone)
    return int(wall.astimezone(UTC).timestamp())
