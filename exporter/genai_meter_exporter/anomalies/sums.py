"""Sums of the last 24 hours and of the time before, from the roll-ups. Integers only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from genai_meter_exporter.cells import GRAIN_SECONDS
from genai_meter_exporter.store.base import Query

DAY: Final = 86_400
WEEK: Final = 7
Where: TypeAlias = tuple[tuple[str, str], ...]
Key: TypeAlias = tuple[str, ...]


class Reports(Protocol):
    """What is read of a ledger."""

    def report(self, query: Query) -> list[dict[str, Any]]:
        """Sums by dimensions."""
        ...


class Sums(NamedTuple):
    """What a group of calls comes to."""

    calls: int = 0
    retries: int = 0
    input_tokens: int = 0
    """Cached ones included."""
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cost: int = 0
    """Pico-USD."""

    def plus(self, other: Sums) -> Sums:
        """Both together."""
        return Sums(*(a + b for a, b in zip(self, other, strict=True)))


NOTHING: Final = Sums()


@dataclass(frozen=True, slots=True)
class Span:
    """Unix seconds, whole quarters of an hour; the end is not part of it."""

    since: int
    until: int

    @property
    def days(self) -> float:
        """Its length."""
        return (self.until - self.since) / DAY

    def earlier(self, days: int) -> Span:
        """The same span, so many days before."""
        return Span(self.since - days * DAY, self.until - days * DAY)


@dataclass(frozen=True, slots=True)
class Window:
    """The spans that are compared."""

    today: Span
    """The last 24 hours."""
    days: Span
    """The seven whole UTC days before them, for medians of days."""

    @classmethod
    def at(cls, now: float) -> Window:
        """As of an instant; the quarter of an hour that has begun is left out."""
        until = int(now) // GRAIN_SECONDS * GRAIN_SECONDS
        since = until - DAY
        end = since // DAY * DAY
        return cls(Span(since, until), Span(end - WEEK * DAY, end))

    @property
    def before(self) -> Span:
        """A week up to the last 24 hours, for shares."""
        return Span(self.days.since, self.today.since)

    @property
    def week_ago(self) -> Span:
        """The same 24 hours of last week: what recurs every week is no anomaly."""
        return self.today.earlier(WEEK)


def read(reader: Reports, by: tuple[str, ...], span: Span, where: Where = ()) -> dict[Key, Sums]:
    """Sums by dimensions."""
    rows = reader.report(Query(by, span.since * 1_000_000_000, span.until * 1_000_000_000, where))
    return {tuple(row[name] for name in by): _sums(row) for row in rows}


def read_days(reader: Reports, by: tuple[str, ...], span: Span) -> dict[Key, list[int]]:
    """Cost of each day of a span of whole days, oldest first."""
    count = (span.until - span.since) // DAY
    found: dict[Key, list[int]] = {}
    for (day, *key), sums in read(reader, ("day", *by), span).items():
        number = (_midnight(day) - span.since) // DAY
        found.setdefault(tuple(key), [0] * count)[number] += sums.cost
    return found


def merged(found: Mapping[Key, Sums], length: int) -> dict[Key, dict[Key, Sums]]:
    """By the first dimensions, then by the rest."""
    groups: dict[Key, dict[Key, Sums]] = {}
    for key, sums in found.items():
        groups.setdefault(key[:length], {})[key[length:]] = sums
    return groups


def total(group: Mapping[Key, Sums]) -> Sums:
    """All of a group."""
    return Sums(*(sum(column) for column in zip(*group.values(), strict=True))) if group else NOTHING


def _sums(row: Mapping[str, int]) -> Sums:
    return Sums(*(row[name] for name in Sums._fields))


def _midnight(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())
