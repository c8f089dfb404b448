"""Budgets in the configuration: what makes no sense is refused, and what is most likely not meant is named."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from genai_meter_exporter.budgets.model import PICO, Budget, Budgets, Thresholds
from genai_meter_exporter.commands.budgets import warnings
from genai_meter_exporter.config import ConfigError, load
from pydantic import ValidationError


def budget(**changes: Any) -> Budget:
    return Budget.model_validate({"name": "b", "amount": {"usd": 100}, **changes})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "Search Team"}, "must be lower case letters"),
        ({"amount": {}}, "give exactly one of usd, tokens, calls"),
        ({"amount": {"usd": 1, "calls": 1}}, "give exactly one of usd, tokens, calls"),
        ({"amount": {"usd": 0}}, "must be more than 0"),
        ({"amount": {"usd": "1O0"}}, "is no amount of USD"),
        ({"scope": {"custmer": "x"}}, "custmer is no dimension; use some of: tenant, team"),
        ({"period": "quarter"}, "must be hour, day, week, month"),
        ({"period": "rolling 500d"}, "must not be longer than 400 days"),
        ({"period": "2026-10-31/2026-10-01"}, "must end after it begins"),
        ({"timezone": "Europe/Berlim"}, "is no time zone like Europe/Berlin"),
        ({"thresholds": {"at_risk": 0.97}}, "at_risk (0.97) must be below soft (0.95)"),
        ({"plan": {"weekdays": [1]}}, "weekdays must be 7 weights"),
        ({"events": [{"first": "1.12.2026", "multiplier": 2}]}, "is no date like 2026-10-01"),
        ({"events": [{"first": "2026-12-03", "last": "2026-12-01", "multiplier": 2}]}, "is before first (2026-12-03)"),
        ({"events": [{"first": "2026-12-03", "multiplier": math.inf}]}, "Input should be a finite number"),
        ({"amount": {"usd": "1e-13"}}, "must be more than 0"),
        ({"amount": {"usd": "1e999999999"}}, "must be at most 1,000,000,000,000 USD"),
        ({"scope": {"tenant": []}}, "tenant has no value; leave it out for all"),
        ({"period": "9999-12-31/9999-12-31"}, "must be in the years 1970 to 2199"),
        ({"plan": {"weekdays": [math.nan] * 7}}, "Input should be a finite number"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        budget(**changes)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"contracts": [{"tenant": "acme", "usd_per_hour": 1}] * 2}, "two contracts of the tenant 'acme'"),
        ({"run_caps": [{"workflow": "triage", "usd": 1}] * 2}, "two caps of the workflow 'triage' and the team ''"),
    ],
)
def test_what_would_be_the_same_series_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Budgets.model_validate(changes)
    assert reason in str(caught.value)


def test_days_need_no_quotes(tmp_path: Path) -> None:
    file = tmp_path / "genai-meter.yaml"
    event = "{first: 2026-12-01, last: 2026-12-03, multiplier: 2}"
    file.write_text(f"budgets: {{entries: [{{name: a, amount: {{usd: 1}}, events: [{event}]}}]}}\n")
    (found,) = load(file).budgets.entries[0].events
    assert (found.first, found.last) == ("2026-12-01", "2026-12-03")
    assert [found.holds(date(2026, 12, day)) for day in (1, 3, 4)] == [True, True, False]


def test_a_mistake_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "genai-meter.yaml"
    file.write_text("budgets:\n  entries:\n    - name: a\n      amount: {usd: 10}\n      period: fortnight\n")
    with pytest.raises(ConfigError, match=r"line 5: budgets.entries.0.period: .* must be hour, day, week, month"):
        load(file)


def test_amounts_are_exact() -> None:
    assert budget(amount={"usd": 0.1}).amount.quantity == PICO // 10
    assert budget(amount={"usd": "12000.000000000001"}).amount.quantity == 12000 * PICO + 1


def test_environments_have_profiles() -> None:
    told = Budgets(
        profiles={"dev": Thresholds(at_risk=0.5, soft=0.6)},
        entries=[
            budget(name="dev", scope={"environment": "dev"}),
            budget(name="own", scope={"environment": "dev"}, thresholds={"at_risk": 0.7, "soft": 0.9}),
            budget(name="prod", scope={"environment": "prod"}),
        ],
    )
    assert [told.thresholds(entry).at_risk for entry in told.entries] == [0.5, 0.7, 0.8]


def test_check_names_what_is_most_likely_not_meant() -> None:
    told = Budgets(
        entries=[
            budget(name="a", owner="ada", next_step="look"),
            budget(name="b", owner="bob", next_step="look", amount={"usd": 50}),
            budget(name="c", period="day", runbook="https://example.org", amount={"usd": "0.001"}),
        ]
    )
    assert [(number, text.partition(":")[0]) for number, text in warnings(told)] == [
        (2, "nobody owns it"),
        (2, "less than a cent"),
        (1, "the same scope and period as a"),
    ]
