"""Weekly windows on a local clock: peak hours, off-peak nights, weekends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final, NamedTuple

SECOND: Final = 10**9
MINUTE: Final = 60 * SECOND
DAY: Final = 86_400 * SECOND
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Span(NamedTuple):
    """Whether a window is open, and from when until when that holds (Unix ns, end exclusive)."""

    active: bool
    start_ns: int
    end_ns: int


def zone(name: str) -> tzinfo:
    """`UTC`, a fixed offset (`+08:00`) or an IANA name; ValueError when there is no such zone."""
    if name in ("UTC", "Z"):
        return UTC
    if name[:1] in "+-" and len(name) == 6 and name[3] == ":":
        hours, minutes = int(name[1:3]), int(name[4:6])
        return timezone(timedelta(hours=hours, minutes=minutes) * (-1 if name[0] == "-" else 1))
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, OSError) as error:
        raise ValueError(f"unknown time zone {name!r}") from error


def minutes_of_day(text: str) -> int:
    """`HH:MM` as minutes since midnight; `24:00` is the end of the day."""
    hours, colon, minutes = text.partition(":")
    if not (colon and len(hours) == 2 and len(minutes) == 2 and hours.isdecimal() and minutes.isdecimal()):
        raise ValueError(f"not a time of day HH:MM: {text!r}")
    total = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or total > 24 * 60:
        raise ValueError(f"not a time of day HH:MM: {text!r}")
    return total


@dataclass(frozen=True, slots=True)
class Window:
    """Open on these weekdays between two times of a local day."""

    weekdays: frozenset[int]
    """0 is Monday; empty means every day."""
    start: int
    """Minutes since local midnight, inclusive."""
    end: int
    """Exclusive; not greater than `start` when the window wraps past midnight."""
    zone: tzinfo

    def span(self, at_ns: int) -> Span:
        """The state at an instant and how long it holds."""
        local = datetime.fromtimestamp(at_ns // SECOND, self.zone)
        minute = local.hour * 60 + local.minute
        edges = sorted({0, self.start, self.end, 24 * 60})
        before = max(edge for edge in edges if edge <= minute)
        after = min(edge for edge in edges if edge > minute)
        into = (minute - before) * MINUTE + at_ns % MINUTE
        start = at_ns - into
        end = start + (after - before) * MINUTE
        if not isinstance(self.zone, timezone):
            # The offset may change within the day; every change falls on a quarter of an hour.
            quarter = 15 * MINUTE
            start, end = max(start, at_ns - at_ns % quarter), min(end, at_ns - at_ns % quarter + quarter)
        return Span(self._open(local.weekday(), minute), start, end)

    def _open(self, weekday: int, minute: int) -> bool:
        if self.start < self.end:
            return self._on(weekday) and self.start <= minute < self.end
        if minute >= self.start:
            return self._on(weekday)
        return minute < self.end and self._on((weekday - 1) % 7)

    def _on(self, weekday: int) -> bool:
        return not self.weekdays or weekday in self.weekdays
