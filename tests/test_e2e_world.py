"""The world of `make e2e` is the same at any time of any day: its budgets stand as the drill wants them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from e2e import world
from genai_meter_exporter.budgets.engine import Engine
from genai_meter_exporter.budgets.history import History
from genai_meter_exporter.budgets.model import PICO, Budgets
from test_budgets import cell

TEAMS = {entry["team"] for entry in world.config(0.0, used_early=0.5)["budgets"]["entries"]}


def past(now: float) -> Engine:
    """An engine that has seen what the services did."""
    told = world.config(now, used_early=world.early_share(now))["budgets"]
    engine = Engine(Budgets.model_validate(told), History(None))
    end = world.last_quarter(now)
    for service in world.PAST:
        for ago in range(world.DAYS * 24) if service.team in TEAMS else ():
            usd = service.usd_lately if service.usd_lately is not None and ago < world.LATELY else service.usd
            engine.apply(dict([cell(end - ago * 3600 - 600, round(usd * PICO), team=service.team)]))
    return engine


@pytest.mark.parametrize(
    "began",
    [
        "2026-11-22T16:30",
        "2026-11-22T21:59",
        "2026-11-22T23:55",
        "2026-11-23T00:00",
        "2026-11-30T23:55",
        "2026-12-31T09:55",
        "2026-12-31T23:55",
    ],
)
def test_budgets_stand_as_the_drill_wants_them(began: str) -> None:
    now = datetime.fromisoformat(began).replace(tzinfo=UTC).timestamp()
    engine = past(now)
    share = world.early_share(now)
    for _ in range(2):
        standings = {standing.budget.team: standing for standing in engine.evaluate(now)}
        states = {team: standing.state for team, standing in standings.items()}
        assert states == {
            **dict.fromkeys(("burn", "drift", "over", "calm", "early"), "within_budget"),
            "grow": "at_risk",
            "soft": "soft_cap",
        }
        now += 600
    engine.apply(dict([cell(int(now), 5 * PICO, team="early")]))
    (early,) = (standing for standing in engine.evaluate(now) if standing.budget.team == "early")
    # More than what counts as early, less than twice as much and some.
    assert share < early.used < 2.5 * share + 0.01


def test_at_any_time_there_is_a_zone_whose_day_goes_on() -> None:
    """A leap year and the one before it, quarter of an hour by quarter of an hour."""
    begin = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp())
    for now in range(begin, begin + 731 * 86_400, 900):
        local = [datetime.fromtimestamp(at + 3600 * world.ZONES[world.zone(now)], UTC) for at in (now, now + 7199)]
        assert local[0].date() == local[1].date()
        assert local[0].day < 31
