"""What budgets remember does not grow with the time they run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from genai_meter_exporter.budgets.engine import Engine
from genai_meter_exporter.budgets.history import FILE, History
from genai_meter_exporter.budgets.model import PICO, Budgets
from test_budgets import budget, cell, seconds

NOW = seconds("2026-11-02T00:00+00:00")
DAY, QUARTER = 86_400, 900


class Nothing:
    """An empty ledger."""

    def report(self, query: Any) -> list[dict[str, Any]]:
        """No row."""
        return []


def lines(directory: Path) -> list[dict[str, Any]]:
    """What the file has."""
    return [json.loads(line) for line in (directory / FILE).read_text(encoding="utf-8").splitlines()]


def run(engine: Engine, days: int) -> None:
    """Spend a dollar each quarter of an hour."""
    for at in range(NOW, NOW + days * DAY, QUARTER):
        engine.apply(dict([cell(at, PICO, tenant="acme")]))
        engine.evaluate(at + 60.0)


@pytest.mark.parametrize("period", ["month", "rolling 24h"])
def test_counters_do_not_crowd_out_what_was_judged(tmp_path: Path, period: str) -> None:
    engine = Engine(Budgets(entries=[budget(period=period, amount={"usd": 10_000})]), History(tmp_path))
    engine.load(Nothing(), NOW)
    run(engine, 20)
    kinds = [line["kind"] for line in lines(tmp_path)]
    assert kinds.count("spend") <= 2 * DAY // QUARTER
    # Each day from the second of November to the twenty-first.
    assert kinds.count("forecast") == (20 if period == "month" else 0)
    engine.close(NOW + 20 * DAY)
    spends = [line for line in History(tmp_path).read(NOW + 20 * DAY) if line["kind"] == "spend"]
    assert [spend["charged"] for spend in spends] == [20 * DAY // QUARTER * PICO]
    # Reading has shortened the file.
    assert [line for line in lines(tmp_path) if line["kind"] == "spend"] == spends


def test_a_reader_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    told = [{"at": NOW + number, "kind": "spend", "budget": "b", "charged": number} for number in range(3)]
    text = "".join(json.dumps(line) + "\n" for line in told)
    (tmp_path / FILE).write_text(text, encoding="utf-8")
    assert History(tmp_path, read_only=True).read(NOW) == told[-1:]
    assert (tmp_path / FILE).read_text(encoding="utf-8") == text


def test_contracts_forget_what_is_older_than_they_look_at() -> None:
    engine = Engine(Budgets.model_validate({"contracts": [{"tenant": "acme", "usd_per_hour": 1}]}), History(None))
    engine.load(Nothing(), NOW)
    run(engine, 40)
    now = NOW + 40 * DAY - QUARTER + 60.0
    ((contract, spent),) = engine.contract_costs(now)
    assert (contract.tenant, spent) == ("acme", 30 * DAY // QUARTER * PICO)
    ((_, tracker),) = engine.contracts
    assert len(tracker.sums.quarters) <= 30 * DAY // QUARTER + 2


def test_a_budget_that_is_gone_is_judged_no_more(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = [
        line
        for name in ("b", "gone")
        for line in (
            {"at": NOW, "kind": "forecast", "budget": name, "period": 1, "day": 5, "median": 110, "upper": 120},
            {"at": NOW, "kind": "period", "budget": name, "period": 1, "spent": 100},
        )
    ]
    (tmp_path / FILE).write_text("".join(json.dumps(line) + "\n" for line in told), encoding="utf-8")
    both = Budgets(entries=[budget(), budget(name="gone")])
    engine = Engine(both, History(tmp_path))
    engine.load(Nothing(), NOW)
    assert [judged.budget for judged in engine.accuracy] == ["b", "gone"]
    engine.exchange(Budgets(entries=[budget()]), _never, NOW)
    assert [judged.budget for judged in engine.accuracy] == ["b"]
    engine = Engine(Budgets(entries=[budget()]), History(tmp_path))
    engine.load(Nothing(), NOW)
    assert [judged.budget for judged in engine.accuracy] == ["b"]


def _never() -> Any:
    raise AssertionError("nothing new is to be read")
