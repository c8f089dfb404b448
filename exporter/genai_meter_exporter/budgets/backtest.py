"""Which budgets would have changed their state, and when: the real ledger, quarter by quarter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from genai_meter_exporter.budgets.engine import Engine, Reports, instant
from genai_meter_exporter.budgets.history import History
from genai_meter_exporter.budgets.model import Budget, Budgets
from genai_meter_exporter.budgets.states import State
from genai_meter_exporter.cells import DIMENSIONS, GRAIN_SECONDS, MEASURES, Cell, Measures
from genai_meter_exporter.display import exact
from genai_meter_exporter.store.base import Query

_SINCE: Final = re.compile(r"([1-9][0-9]{0,2})d")
_TOLD: Final[dict[State, str]] = {
    "at_risk": "at risk",
    "soft_cap": "soft cap reached",
    "over_budget": "exceeded",
}


@dataclass(frozen=True, slots=True)
class Alert:
    """A state that somebody would have been told of."""

    at: int
    """Unix seconds."""
    budget: Budget
    what: str
    spent: int
    limit: int

    def facts(self) -> Mapping[str, Any]:
        """For JSON; amounts are exact decimal text."""
        unit = self.budget.amount.unit
        return {
            "at": datetime.fromtimestamp(self.at, UTC).isoformat(),
            "budget": self.budget.name,
            "alert": self.what,
            "unit": unit,
            "spent": exact(unit, self.spent),
            "limit": exact(unit, self.limit),
        }


def days(text: str) -> int:
    """`30d` → 30; ValueError for anything else."""
    found = _SINCE.fullmatch(text)
    if found is None:
        raise ValueError(f"--since {text}: give days, like 30d")
    return int(found[1])


def replay(budgets: Budgets, reader: Reports, now: float, since_days: int) -> list[Alert]:
    """Every change for the worse in so many days; the days before them are history for the forecast."""
    engine = Engine(budgets, History(None))
    first = int(now) // GRAIN_SECONDS * GRAIN_SECONDS - since_days * 86400
    cells = _cells(reader, min((tracker.sums.reach(first) for tracker in engine.trackers), default=first))
    alerts: list[Alert] = []
    states: dict[str, State] = {}
    # History first, in one go; then time passes.
    engine.apply({where: what for start in cells if start < first for where, what in cells[start].items()})
    for at in range(first, int(now), GRAIN_SECONDS):
        engine.apply(cells.get(at, {}))
        for standing in engine.evaluate(at + GRAIN_SECONDS - 1):
            name, state = standing.budget.name, standing.state
            if state != states.get(name) and state in _TOLD and at > first:
                alerts.append(Alert(at, standing.budget, _TOLD[state], standing.spent, standing.limit))
            states[name] = state
    return alerts


def _cells(reader: Reports, since: int) -> dict[int, dict[Cell, Measures]]:
    """Quarter → cells of the ledger."""
    start_ns = max(since // GRAIN_SECONDS * GRAIN_SECONDS, 0) * 1_000_000_000
    found: dict[int, dict[Cell, Measures]] = {}
    for row in reader.report(Query(("quarter", *DIMENSIONS), since_ns=start_ns)):
        start = instant(row["quarter"])
        where = (start, tuple(row[name] for name in DIMENSIONS))
        found.setdefault(start, {})[where] = tuple(row[name] for name in MEASURES)
    return found
