"""Runs of workflows that the budgets watch."""

from __future__ import annotations

from genai_meter_exporter.budgets.engine import Engine
from genai_meter_exporter.budgets.history import History
from genai_meter_exporter.budgets.model import Budgets, RunCap
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
