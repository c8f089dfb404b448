"""The state of a budget. Each state is left later than it is entered, so that nothing flaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from genai_meter_exporter.budgets.model import Thresholds

State: TypeAlias = Literal["within_budget", "at_risk", "soft_cap", "over_budget", "unknown"]
STATES: Final[tuple[State, ...]] = ("within_budget", "at_risk", "soft_cap", "over_budget", "unknown")

_SLACK: Final = 0.05
"""A state is left this share of the amount below the threshold it was entered at."""
DWELL_SECONDS: Final = 600
"""A state lasts at least so long before it gets better."""

_RANK: Final[dict[State, int]] = {"within_budget": 0, "at_risk": 1, "soft_cap": 2, "over_budget": 3}


@dataclass(slots=True)
class Situation:
    """What the state follows from; amounts in the budget's unit."""

    spent: int
    limit: int
    forecast: int | None
    """Median at the end of the period."""
    period_start: int
    """Unix seconds."""


@dataclass(slots=True)
class Machine:
    """The state of one budget over time."""

    state: State = "unknown"
    since: float = 0.0
    """When it was entered, Unix seconds."""
    _period: int | None = None
    _limit: int | None = None

    def step(self, found: Situation, thresholds: Thresholds, now: float, *, rolling: bool) -> bool:
        """Look again; True when the state has changed."""
        # A rolling span has no beginning that could end an overrun: there it ends when the sum has come down.
        begun = not rolling and self._period != found.period_start
        fresh = begun or self._limit != found.limit or self.state == "unknown"
        self._period, self._limit = found.period_start, found.limit
        entered = _entered(found, thresholds)
        if fresh or _RANK[entered] > _RANK[self.state]:
            return self._become(entered, now)
        if now - self.since < DWELL_SECONDS or _holds(self.state, found, thresholds, rolling=rolling):
            return False
        return self._become(max(entered, _left_to(found, thresholds), key=_RANK.__getitem__), now)

    def recall(self, state: State, since: float, period: int, limit: int) -> None:
        """As it was before the exporter was started again."""
        self.state, self.since, self._period, self._limit = state, since, period, limit

    def doubt(self) -> None:
        """Something else is counted from now on: the next look decides anew."""
        self._limit = None

    def lose(self, now: float) -> bool:
        """Nothing can be said: the ledger does not answer. Lost telemetry is no spent budget."""
        return self._become("unknown", now)

    def _become(self, state: State, now: float) -> bool:
        if state == self.state:
            return False
        self.state, self.since = state, now
        return True


def _entered(found: Situation, thresholds: Thresholds) -> State:
    """The state by the thresholds of entering."""
    if found.spent > found.limit:
        return "over_budget"
    used = found.spent / found.limit
    if used >= thresholds.soft:
        return "soft_cap"
    expected = found.forecast is not None and found.forecast > found.limit
    return "at_risk" if used >= thresholds.at_risk or expected else "within_budget"


def _holds(state: State, found: Situation, thresholds: Thresholds, *, rolling: bool) -> bool:
    """Whether a state is not left yet."""
    used = found.spent / found.limit
    if state == "over_budget":
        return not rolling or used > 1 - _SLACK
    if state == "soft_cap":
        return used >= thresholds.soft - _SLACK
    if state == "at_risk":
        expected = found.forecast is not None and found.forecast >= found.limit * (1 - _SLACK)
        return used >= thresholds.at_risk - _SLACK or expected
    return state == "within_budget"


def _left_to(found: Situation, thresholds: Thresholds) -> State:
    """The best state whose own way out is not yet open."""
    for state in ("soft_cap", "at_risk"):
        if _holds(state, found, thresholds, rolling=True):
            return state
    return "within_budget"
