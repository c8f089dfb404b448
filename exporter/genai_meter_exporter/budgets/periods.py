"""The period of a budget around an instant, in its own time zone. Instants are Unix seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from genai_meter_exporter.budgets.model import Budget
from genai_meter_exporter.cells import GRAIN_SECONDS


@dataclass(frozen=True, slots=True)
class Period:
    """A span of time."""

    start: int
    """Inclusive."""
    end: int
    """Exclusive."""
    first: date | None
    """First local day of a period of whole days; None for hours and rolling spans."""
    last: date | None
    """Last local day, included."""

    def elapsed(self, now: float) -> float:
        """Share of the period that has passed, by the clock."""
        return min(max((now - self.start) / (self.end - self.start), 0.0), 1.0)

    def days(self) -> Iterator[date]:
        """The local days of a period of whole days."""
        if self.first is None or self.last is None:
            return
        for number in range((self.last - self.first).days + 1):
            yield self.first + timedelta(days=number)


def period_at(budget: Budget, zone: ZoneInfo, now: float) -> Period:
    """The period that an instant lies in; of dates, the one there is."""
    if seconds := budget.rolling_seconds:
        end = int(now) // GRAIN_SECONDS * GRAIN_SECONDS + GRAIN_SECONDS
        return Period(end - seconds, end, None, None)
    if dates := budget.dates:
        return _days(zone, *dates)
    if budget.period == "hour":
        return _hour(zone, int(now))
    today = local_day(zone, int(now))
    if budget.period == "day":
        return _days(zone, today, today)
    if budget.period == "week":
        monday = today - timedelta(days=today.weekday())
        return _days(zone, monday, monday + timedelta(days=6))
    following = (today.replace(day=28) + timedelta(days=4)).replace(day=1)
    return _days(zone, today.replace(day=1), following - timedelta(days=1))


def local_day(zone: ZoneInfo, at: int) -> date:
    """The local day of an instant."""
    return _local_day(zone.key, at // GRAIN_SECONDS)


@lru_cache(maxsize=65536)
def _local_day(zone: str, quarter: int) -> date:
    return datetime.fromtimestamp(quarter * GRAIN_SECONDS, ZoneInfo(zone)).date()


def midnight(zone: ZoneInfo, day: date) -> int:
    """When a local day begins; where the clock jumps over midnight, at the jump."""
    begin = datetime.combine(day, time(), zone)
    # There and back: a wall time that does not exist becomes the instant after the gap.
    return int(begin.astimezone(UTC).timestamp())


def _days(zone: ZoneInfo, first: date, last: date) -> Period:
    return Period(midnight(zone, first), midnight(zone, last + timedelta(days=1)), first, last)


def _hour(zone: ZoneInfo, now: int) -> Period:
    """The local hour: zones may be off by quarters of an hour, and a clock that jumps within an hour divides it."""
    local = datetime.fromtimestamp(now, zone)
    begin = now - (local.minute * 60 + local.second)
    quarters = [begin + number * GRAIN_SECONDS for number in range(3600 // GRAIN_SECONDS)]
    alike = [at for at in quarters if datetime.fromtimestamp(at, zone).utcoffset() == local.utcoffset()]
    return Period(alike[0], alike[-1] + GRAIN_SECONDS, None, None)
