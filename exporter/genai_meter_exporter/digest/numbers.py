"""What happened in a period, from the ledger: sums are exact, nothing is extrapolated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from genai_meter_exporter.budgets.engine import Standing
from genai_meter_exporter.digest.periods import Due, Span
from genai_meter_exporter.digest.settings import Entry
from genai_meter_exporter.store import Query, Reader

MOVERS: Final = ("tenant", "team", "feature", "workflow", "service", "model")
"""Dimensions whose values are compared with the period before."""

_NS: Final = 1_000_000_000
_AT_RISK: Final = ("over_budget", "soft_cap", "at_risk")


@dataclass(frozen=True, slots=True)
class Change:
    """What one value of a dimension cost, and before. Pico-USD."""

    dimension: str
    value: str
    cost: int
    before: int

    @property
    def difference(self) -> int:
        """Above 0: more than before."""
        return self.cost - self.before


@dataclass(frozen=True, slots=True)
class Unpriced:
    """Calls that are in no sum."""

    provider: str
    model: str
    calls: int


@dataclass(frozen=True, slots=True)
class Numbers:
    """Of one message."""

    entry: Entry
    due: Due
    total: Change
    """All that the message is about."""
    calls: int
    calls_before: int
    successes: int
    """Outcomes that succeeded; 0 when none were told."""
    tenants: Sequence[Change]
    """The dearest, dearest first."""
    workflows: Sequence[Change]
    movers: Sequence[Change]
    """Of all dimensions, the greatest difference first."""
    budgets: Sequence[Standing]
    """Those that are not within their amount, or are expected to leave it; the fullest first."""
    unpriced: Sequence[Unpriced]
    anomalies: Sequence[str]
    """As sentences."""

    @property
    def cost_per_success(self) -> int | None:
        """Pico-USD."""
        return self.total.cost // self.successes if self.successes else None


def gather(
    entry: Entry, due: Due, reader: Reader, standings: Sequence[Standing], anomalies: Sequence[str] = ()
) -> Numbers:
    """Read the ledger; raises `StoreError`."""
    (now,), (before,) = (_rows(reader, entry, span, ()) for span in (due.span, due.before))
    changes = {name: _changes(reader, entry, due, name) for name in MOVERS}
    told = (change for name, found in changes.items() if name not in entry.where for change in found)
    movers = sorted(told, key=lambda c: (-abs(c.difference), c.dimension))
    unpriced = [row for row in _rows(reader, entry, due.span, ("provider", "model")) if row["unpriced_calls"]]
    return Numbers(
        entry,
        due,
        Change("", "", now["cost"], before["cost"]),
        now["calls"],
        before["calls"],
        _successes(reader, entry, due.span),
        _top(changes["tenant"], entry.top),
        _top(changes["workflow"], entry.top),
        [change for change in movers if change.difference][: entry.top],
        sorted((s for s in standings if _worth_telling(s, entry)), key=lambda s: -s.used),
        [Unpriced(row["provider"], row["model"], row["unpriced_calls"]) for row in unpriced],
        anomalies,
    )


def _rows(reader: Reader, entry: Entry, span: Span, by: tuple[str, ...]) -> list[dict[str, Any]]:
    found = reader.report(Query(by, span.start * _NS, span.end * _NS, tuple(entry.where.items())))
    return found or ([] if by else [{"cost": 0, "calls": 0}])


def _changes(reader: Reader, entry: Entry, due: Due, name: str) -> list[Change]:
    """Values that are named: what has none is no mover."""
    now, before = (
        {row[name]: row["cost"] for row in _rows(reader, entry, span, (name,)) if row[name]}
        for span in (due.span, due.before)
    )
    return [Change(name, value, now.get(value, 0), before.get(value, 0)) for value in {**now, **before}]


def _top(changes: Sequence[Change], count: int) -> list[Change]:
    return sorted((c for c in changes if c.cost), key=lambda c: (-c.cost, c.value))[:count]


def _successes(reader: Reader, entry: Entry, span: Span) -> int:
    where = tuple(entry.where.items())
    if not set(entry.where) <= _OUTCOME_COLUMNS:
        return 0
    rows: Sequence[Mapping[str, Any]] = reader.beside("outcome", Query((), span.start * _NS, span.end * _NS, where))
    return sum(row["successes"] for row in rows)


_OUTCOME_COLUMNS: Final = {"tenant", "team", "project", "feature", "workflow", "environment", "service"}
"""Dimensions that an outcome has as well."""


def _worth_telling(standing: Standing, entry: Entry) -> bool:
    values = standing.budget.values
    mine = all(value in values.get(name, ()) for name, value in entry.where.items())
    return mine and standing.state in _AT_RISK
