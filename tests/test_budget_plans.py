"""Known events in the plan of a budget; runs of workflows that the budgets watch."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from genai_meter_exporter.budgets.engine import Engine
from genai_meter_exporter.budgets.forecast import planned_per_second
from genai_meter_exporter.budgets.history import History
from genai_meter_exporter.budgets.model import PICO, Amount, Budget, Budgets, KnownEvent, RunCap, zone
from genai_meter_exporter.budgets.periods import period_at
from genai_meter_exporter.series import Run


def test_a_run_is_known_for_a_day_after_its_last_call() -> None:
    """A scrape looks at every run that is kept."""
    engine = Engine(Budgets(run_caps=[RunCap(workflow="triage", usd=1)]), History(None))
    start = 1_795_338_000.0

    def call(at: float) -> dict[tuple[str, str], int]:
        engine.observe([Run("search", "triage", "run-1", 5, int(at * 1e9))])
        engine.evaluate(at)
        return engine.dearest_runs(at)

    assert call(start) == {("search", "triage"): 5}
    assert call(start + 12 * 3600) == {("search", "triage"): 10}
    engine.evaluate(start + 37 * 3600)
    assert call(start + 37 * 3600) == {("search", "triage"): 5}


def test_a_known_event_is_planned_for_and_the_whole_is_still_the_amount() -> None:
    launch = KnownEvent(first="2026-11-18", multiplier=3)
    told, utc = Budget(name="month", amount=Amount(usd=320), events=[launch]), zone("UTC")
    noon = datetime(2026, 11, 18, 12, tzinfo=UTC).timestamp()
    span = period_at(told, utc, noon)
    # Thirty days, one of which counts three times: 320 / 32 = 10 USD an ordinary day.
    assert planned_per_second(told, utc, span, noon - 86_400) * 86_400 == pytest.approx(10 * PICO)
    assert planned_per_second(told, utc, span, noon) * 86_400 == pytest.approx(30 * PICO)
    rates = [planned_per_second(told, utc, span, at) for at in range(span.start, span.end, 900)]
    assert sum(rates) * 900 == pytest.approx(320 * PICO)
