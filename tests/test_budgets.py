"""Budgets: exact against a recomputation from raw events, at any instant, in any zone; their states and forecasts."""

from __future__ import annotations

import calendar
import json
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from exporter_kit import Served, usage_event
from genai_meter_exporter.budgets import forecast as forecasts
from genai_meter_exporter.budgets.engine import Engine
from genai_meter_exporter.budgets.history import History, accuracy
from genai_meter_exporter.budgets.model import PICO, Budget, Budgets, Thresholds
from genai_meter_exporter.budgets.periods import midnight, period_at
from genai_meter_exporter.budgets.states import Machine, Situation
from genai_meter_exporter.cells import DIMENSIONS, GRAIN_SECONDS, MEASURES, Cell, Measures
from hypothesis import given, settings
from hypothesis import strategies as st

ZONES = ("UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Kathmandu", "Pacific/Apia", "Australia/Lord_Howe")


def seconds(text: str) -> int:
    """Unix seconds of an ISO instant."""
    return int(datetime.fromisoformat(text).timestamp())


def budget(**changes: Any) -> Budget:
    return Budget.model_validate({"name": "b", "amount": {"usd": 100}, **changes})


def cell(at: int, cost: int = 0, calls: int = 1, tokens: int = 0, **dimensions: str) -> tuple[Cell, Measures]:
    """What one commit adds at an instant."""
    told = {"calls": calls, "input_tokens": tokens, "cost": cost}
    where = (at // GRAIN_SECONDS * GRAIN_SECONDS, tuple(dimensions.get(name, "") for name in DIMENSIONS))
    return where, tuple(told.get(name, 0) for name in MEASURES)


def engine(*entries: Budget, **more: Any) -> Engine:
    return Engine(Budgets(entries=list(entries), **more), History(None))


def spent(found: Engine, now: float) -> list[int]:
    return [standing.spent for standing in found.standings(now)]


# --- exactness ------------------------------------------------------------------------------------------
def brute(told: Budget, tz: ZoneInfo, events: list[tuple[int, int, str]], now: float) -> int:
    """The same sum by another way: every event looked at by the wall clock of the zone."""
    local = datetime.fromtimestamp(now, tz)

    def inside(at: int) -> bool:
        there = datetime.fromtimestamp(at, tz)
        if told.period == "hour":
            return (there.date(), there.hour, there.utcoffset()) == (local.date(), local.hour, local.utcoffset())
        if told.period == "day":
            return there.date() == local.date()
        if told.period == "week":
            return there.isocalendar()[:2] == local.isocalendar()[:2]
        if told.period == "month":
            return (there.year, there.month) == (local.year, local.month)
        if told.dates:
            return told.dates[0] <= there.date() <= told.dates[1]
        end = int(now) // GRAIN_SECONDS * GRAIN_SECONDS + GRAIN_SECONDS
        return end - (told.rolling_seconds or 0) <= at // GRAIN_SECONDS * GRAIN_SECONDS < end

    teams = told.values.get("team")
    return sum(cost for at, cost, team in events if inside(at) and (teams is None or team in teams))


FIRST, LAST = seconds("2026-02-20T00:00+00:00"), seconds("2026-05-10T00:00+00:00")
"""Across the changes of the clock in spring and autumn, and three ends of months."""


@settings(max_examples=150, deadline=None)
@given(
    period=st.sampled_from(["hour", "day", "week", "month", "rolling 24h", "rolling 7d", "2026-03-15/2026-04-20"]),
    name=st.sampled_from(ZONES),
    scope=st.sampled_from([{}, {"team": "search"}, {"team": ["search", "ads"]}]),
    start=st.integers(FIRST, LAST - 40 * 86400),
    events=st.lists(
        st.tuples(
            st.integers(0, 39 * 86400),
            st.integers(-5 * PICO, 50 * PICO),
            st.sampled_from(["search", "ads", "core"]),
            st.integers(0, 3 * 86400),
        ),
        max_size=40,
    ),
)
def test_spent_is_what_the_raw_events_say_at_every_instant(
    period: str,
    name: str,
    scope: dict[str, Any],
    start: int,
    events: list[tuple[int, int, str, int]],
) -> None:
    """Late arrivals and corrections (negative amounts) among them."""
    told = budget(period=period, timezone=name, scope=scope)
    found, tz = engine(told), ZoneInfo(name)
    seen: list[tuple[int, int, str]] = []
    for arrival, at, cost, team in sorted((start + at + late, start + at, c, t) for at, c, t, late in events):
        seen.append((at, cost, team))
        found.apply(dict([cell(at, cost, team=team)]))
        (standing,) = found.evaluate(arrival)
        assert standing.spent == brute(told, tz, seen, arrival)
    arrived = max((start + at + late for at, _, _, late in events), default=start)
    for now in range(arrived, start + 45 * 86400, 7 * 3600):
        assert spent(found, now) == [brute(told, tz, seen, now)]


def test_tokens_and_calls_are_budgets_too() -> None:
    found = engine(
        budget(name="tokens", amount={"tokens": 1000}, period="day"),
        budget(name="calls", amount={"calls": 10}, period="day", scope={"tenant": "acme"}),
    )
    now = seconds("2026-11-22T12:00+00:00")
    found.apply(dict([cell(now, 5, calls=2, tokens=300, tenant="acme")]))
    found.apply(dict([cell(now, 5, calls=3, tokens=50, tenant="other")]))
    assert spent(found, now) == [350, 2]


def test_the_counter_never_falls_and_no_period_resets_it() -> None:
    found = engine(budget(period="hour"))
    now = seconds("2026-11-22T12:00+00:00")
    for at, cost in ((now, 7), (now, -3), (now + 3600, 5)):
        found.apply(dict([cell(at, cost)]))
    (standing,) = found.standings(now + 3600)
    assert (standing.spent, standing.charged) == (5, 12)


# --- periods --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("period", "zone", "now", "first", "last"),
    [
        ("month", "Europe/Berlin", "2026-03-31T23:30+02:00", "2026-03-01T00:00+01:00", "2026-04-01T00:00+02:00"),
        ("month", "UTC", "2026-12-31T23:59+00:00", "2026-12-01T00:00+00:00", "2027-01-01T00:00+00:00"),
        ("week", "America/New_York", "2026-11-01T12:00-05:00", "2026-10-26T00:00-04:00", "2026-11-02T00:00-05:00"),
        ("day", "Europe/Berlin", "2026-10-25T12:00+01:00", "2026-10-25T00:00+02:00", "2026-10-26T00:00+01:00"),
        ("hour", "Asia/Kathmandu", "2026-11-22T10:10+05:45", "2026-11-22T10:00+05:45", "2026-11-22T11:00+05:45"),
        ("2026-10-01/2026-10-31", "UTC", "2026-11-22T00:00+00:00", "2026-10-01T00:00+00:00", "2026-11-01T00:00+00:00"),
    ],
)
def test_periods_are_on_the_wall_clock_of_their_zone(period: str, zone: str, now: str, first: str, last: str) -> None:
    found = period_at(budget(period=period), ZoneInfo(zone), seconds(now))
    assert (found.start, found.end) == (seconds(first), seconds(last))


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("day", ["2026-04-04T10:00", "2026-10-03T10:00", "2026-10-25T00:00", "2026-03-29T00:00"])
def test_hours_lie_side_by_side_when_the_clock_jumps(zone: str, day: str) -> None:
    first = seconds(f"{day}+00:00")
    hourly, tz = budget(period="hour"), ZoneInfo(zone)
    periods = [period_at(hourly, tz, first + quarter * 900 + 1) for quarter in range(32)]
    for number, period in enumerate(periods):
        assert period.start <= first + number * 900 < period.end
        assert period == periods[number - 1] or not number or period.start == periods[number - 1].end
    assert sum(period.end - period.start < 3600 for period in dict.fromkeys(periods)) == (
        1 if zone == "Australia/Lord_Howe" and day.endswith("T10:00") else 0
    )


def test_a_midnight_that_does_not_exist_is_the_instant_after_the_gap() -> None:
    # Beirut's clocks went from 00:00 to 01:00 on 2022-03-27.
    assert midnight(ZoneInfo("Asia/Beirut"), date(2022, 3, 27)) == seconds("2022-03-26T22:00+00:00")


# --- states ---------------------------------------------------------------------------------------------
def steps(*found: tuple[int, float, int | None]) -> Iterator[str]:
    """States of a budget of 100 after (minute, spent, forecast) each."""
    machine = Machine()
    for minute, amount, expected in found:
        machine.step(Situation(int(amount), 100, expected, 0), Thresholds(), minute * 60, rolling=False)
        yield machine.state


def test_states_are_left_later_than_they_are_entered() -> None:
    assert list(steps((0, 10, 50), (1, 80, 90), (20, 76, 90), (21, 74, 96), (40, 74, 94))) == [
        "within_budget",
        "at_risk",
        "at_risk",
        "at_risk",
        "within_budget",
    ]
    assert list(steps((0, 95, None), (30, 91, None), (31, 89, None))) == ["soft_cap", "soft_cap", "at_risk"]


def test_a_state_gets_worse_at_once_and_better_after_ten_minutes() -> None:
    assert list(steps((0, 10, 101), (5, 10, 50), (9, 10, 50), (10, 10, 50))) == [
        "at_risk",
        "at_risk",
        "at_risk",
        "within_budget",
    ]
    assert list(steps((0, 10, None), (1, 101, None))) == ["within_budget", "over_budget"]


def test_over_budget_ends_with_the_period_or_a_new_amount_only() -> None:
    machine = Machine()
    thresholds = Thresholds()
    machine.step(Situation(101, 100, None, 0), thresholds, 0, rolling=False)
    machine.step(Situation(10, 100, None, 0), thresholds, 7200, rolling=False)
    assert machine.state == "over_budget"
    machine.step(Situation(10, 200, None, 0), thresholds, 7201, rolling=False)
    assert machine.state == "within_budget"
    machine.step(Situation(201, 200, None, 0), thresholds, 7300, rolling=False)
    machine.step(Situation(0, 200, None, 86400), thresholds, 86400, rolling=False)
    assert machine.state == "within_budget"
    # A rolling span has no end: the overrun ends when the sum has come down.
    rolling = Machine()
    rolling.step(Situation(101, 100, None, 0), thresholds, 0, rolling=True)
    rolling.step(Situation(96, 100, None, 900), thresholds, 900, rolling=True)
    assert rolling.state == "over_budget"
    rolling.step(Situation(94, 100, None, 1800), thresholds, 1800, rolling=True)
    assert rolling.state == "soft_cap"


def test_what_is_not_known_is_unknown() -> None:
    found = engine(budget())
    assert [standing.state for standing in found.standings(0)] == ["unknown"]
    assert [standing.state for standing in found.evaluate(1000.0)] == ["within_budget"]
    found.lose(2000.0)
    assert [standing.state for standing in found.standings(2000)] == ["unknown"]


# --- forecast -------------------------------------------------------------------------------------------
def office(found: Engine, first: date, days: int, weekday: int, weekend: int) -> None:
    """So much a day, at noon UTC."""
    for number in range(days):
        day = first + timedelta(days=number)
        at = calendar.timegm(day.timetuple()) + 12 * 3600
        found.apply(dict([cell(at, (weekend if day.weekday() > 4 else weekday) * PICO)]))


def test_a_forecast_knows_the_week() -> None:
    found = engine(budget(amount={"usd": 3000}))
    office(found, date(2026, 9, 1), 75, 100, 10)
    now = seconds("2026-11-15T00:00+00:00")
    (standing,) = found.standings(now)
    # Fourteen days are spent: ten on weekdays, four at weekends. To come: eleven and five.
    assert standing.spent == (10 * 100 + 4 * 10) * PICO
    assert standing.forecast is not None
    assert standing.forecast.method == "weekday_median"
    assert standing.forecast.median == (21 * 100 + 9 * 10) * PICO
    assert standing.forecast.upper > standing.forecast.median


def test_a_scope_that_only_gets_money_back_is_forecast_to_spend_nothing_more() -> None:
    found = engine(budget(amount={"usd": 3000}))
    office(found, date(2026, 9, 1), 75, -1, 0)
    (standing,) = found.standings(seconds("2026-11-15T00:00+00:00"))
    assert standing.forecast is not None
    assert (standing.spent, standing.forecast.median) == (-10 * PICO, -10 * PICO)


def test_a_known_event_is_expected_and_is_no_habit() -> None:
    launch = {"first": "2026-11-20", "multiplier": 3, "why": "launch"}
    past = {"first": "2026-11-02", "last": "2026-11-03", "multiplier": 0}
    found = engine(budget(events=[launch, past]))
    office(found, date(2026, 9, 1), 75, 100, 100)
    (standing,) = found.standings(seconds("2026-11-15T00:00+00:00"))
    assert standing.forecast is not None
    assert standing.forecast.median == (14 * 100 + 16 * 100 + 200) * PICO


def test_a_young_budget_goes_by_what_it_has() -> None:
    now = seconds("2026-11-11T00:00+00:00")
    ten = engine(budget())
    office(ten, date(2026, 11, 1), 10, 30, 30)
    three = engine(budget())
    office(three, date(2026, 11, 8), 3, 30, 30)
    (after_ten,), (after_three,) = ten.standings(now), three.standings(now)
    assert after_ten.forecast is not None
    assert (after_ten.forecast.method, after_ten.forecast.median) == ("last_7_days", 900 * PICO)
    assert after_three.forecast is not None
    assert (after_three.forecast.method, after_three.forecast.median) == ("period_so_far", 270 * PICO)
    assert engine(budget(period="rolling 7d")).standings(now)[0].forecast is None


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
@pytest.mark.parametrize("period", ["day", "week", "month"])
def test_the_plan_of_a_whole_period_is_its_amount(period: str, zone: str) -> None:
    weekdays = [1.0] * 7 if period == "day" else [1, 1, 1, 1, 1, 0.2, 0]
    weights = {"weekdays": weekdays, "hours": [0.1] * 8 + [1.0] * 10 + [0.3] * 6}
    told, tz = budget(period=period, plan=weights), ZoneInfo(zone)
    span = period_at(told, tz, seconds("2026-11-18T00:00+00:00"))
    rates = [forecasts.planned_per_second(told, tz, span, at) for at in range(span.start, span.end, 900)]
    assert sum(rates) * 900 == pytest.approx(100 * PICO)
    assert forecasts.planned_per_second(told, tz, span, span.end) == 0


# --- history --------------------------------------------------------------------------------------------
def test_states_and_forecasts_are_kept_over_a_restart(tmp_path: Path) -> None:
    told = Budgets(entries=[budget(amount={"usd": 900})])
    first = Engine(told, History(tmp_path))
    office(first, date(2026, 10, 1), 41, 29, 29)
    now = seconds("2026-11-11T01:00+00:00")
    (before,) = first.evaluate(now)
    first.close(now)
    entries = History(tmp_path).read(now)
    assert [entry["kind"] for entry in entries] == ["state", "forecast", "spend"]
    assert entries[1]["day"] == 10
    again = Engine(told, History(tmp_path))
    again.load(_Empty(), now + 60)
    (after,) = again.standings(now + 60)
    assert (after.state, after.since) == (before.state, before.since)
    assert after.charged == before.charged == 41 * 29 * PICO


def test_lines_that_tell_half_are_left_out(tmp_path: Path) -> None:
    now = seconds("2026-11-11T01:00+00:00")
    broken: list[dict[str, Any]] = [
        {"kind": "spend"},
        {"kind": "forecast", "period": 1, "day": "2"},
        {"kind": "state", "period": 1, "limit": 2},
        {"kind": "state", "state": "fine", "period": 1, "limit": 2},
        {"kind": "state", "state": "at_risk", "period": 1},
        {"kind": "period", "period": 1, "spent": 2.5},
    ]
    whole = {"at": int(now), "budget": "b", "kind": "spend", "charged": 7}
    lines = [*({"at": int(now), "budget": "b", **entry} for entry in broken), whole]
    (tmp_path / "budgets.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert History(tmp_path).read(now) == [whole]
    engine = Engine(Budgets(entries=[budget()]), History(tmp_path))
    engine.load(_Empty(), now)
    (standing,) = engine.evaluate(now)
    assert standing.charged == 7


class _Empty:
    """A ledger of which nothing is left: only the history knows."""

    def report(self, query: Any) -> list[dict[str, Any]]:
        return []


def test_forecasts_are_judged_when_their_period_is_over() -> None:
    entries = [
        {"kind": "forecast", "budget": "b", "period": 1, "day": 5, "median": 110, "upper": 130},
        {"kind": "forecast", "budget": "b", "period": 2, "day": 5, "median": 80, "upper": 90},
        {"kind": "forecast", "budget": "b", "period": 2, "day": 6, "median": 1, "upper": 1},
        {"kind": "forecast", "budget": "b", "period": 3, "day": 5, "median": 1, "upper": 1},
        {"kind": "period", "budget": "b", "period": 1, "spent": 100},
        {"kind": "period", "budget": "b", "period": 2, "spent": 100},
    ]
    (found,) = accuracy(entries)
    assert (found.budget, found.horizon, found.periods) == ("b", 5, 2)
    assert found.mape == pytest.approx(0.15)
    assert found.bias == pytest.approx(-0.05)
    assert found.coverage == 0.5


def test_the_day_of_the_period_is_the_zones_own() -> None:
    now = datetime(2026, 11, 1, 3, tzinfo=UTC).timestamp()
    west = period_at(budget(), ZoneInfo("America/Los_Angeles"), now)
    assert (west.first, west.last) == (date(2026, 10, 1), date(2026, 10, 31))


# --- served ---------------------------------------------------------------------------------------------
@contextmanager
def served_with_budgets(tmp_path: Path) -> Generator[Served]:
    now = time.time_ns()
    entries = [
        {
            "name": "search-day",
            "scope": {"team": "search"},
            "amount": {"usd": 0.001},
            "period": "rolling 24h",
            "team": "search",
            "owner": "ada",
            "next_step": "look",
        },
        {"name": "everything", "amount": {"calls": 100}, "period": "rolling 24h"},
    ]
    contracts = [{"tenant": "acme", "team": "sales", "usd_per_hour": 2, "revenue_usd_30d": "99.50"}]
    told = {
        "budgets": {"entries": entries, "contracts": contracts, "run_caps": [{"workflow": "triage", "usd": "0.01"}]}
    }
    with Served(tmp_path / "data", told) as served:
        served.send(
            usage_event(start_ns=now, team="search", tenant="acme", workflow="triage", run_id="r1"),
            usage_event(start_ns=now, team="search", workflow="triage", run_id="r1"),
            usage_event(start_ns=now, team="ads", workflow="triage", run_id="r2"),
        )
        yield served


def test_budgets_are_metrics_and_a_table_and_survive_a_restart(tmp_path: Path) -> None:
    with served_with_budgets(tmp_path) as served:
        by_team = {name: served_cost(served, name) for name in ("search", "ads")}
        assert by_team["search"] == 2 * by_team["ads"] > 0
        labels = {"budget": "search-day", "team": "search", "owner": "ada", "window": "rolling"}
        assert served.value("budget_spent_usd", **labels) == by_team["search"]
        assert served.value("budget_spend_usd_total", **labels) == by_team["search"]
        assert served.value("budget_limit_usd", **labels) == 0.001
        other = {"budget": "everything", "team": "", "owner": "", "window": "rolling"}
        assert served.value("budget_spent_calls", **other) == 3
        assert served.value("tenant_contract_usd_per_hour", tenant="acme", team="sales") == 2
        assert served.value("tenant_cost_30d_usd", tenant="acme") == by_team["ads"]
        assert served.value("tenant_revenue_30d_usd", tenant="acme", team="sales") == 99.5
        assert served.value("workflow_run_cost_max_usd", team="search", workflow="triage") == by_team["search"]
        assert served.value("workflow_run_cap_usd", team="search", workflow="triage") == 0.01
        served.kill()
        served.start()
        assert served.value("budget_spent_usd", **labels) == by_team["search"]
        assert served.value("budget_spend_usd_total", **labels) == by_team["search"]
        assert served.value("budget_state", state="over_budget", **labels) == 1
        done = command(served, "--format", "json")
        first, second = json.loads(done.stdout)
        # Twice 1,000 tokens in at 2.50 USD and 100 out at 10 USD a million.
        dollars = {"unit": "usd", "spent": "0.007000000000", "limit": "0.001000000000"}
        assert first.items() >= {"budget": "search-day", "state": "over_budget", **dollars}.items()
        assert second.items() >= {"budget": "everything", "unit": "calls", "spent": "3", "limit": "100"}.items()
        told = command(served, "check")
        assert told.returncode == 1
        assert "everything: nobody owns it" in told.stdout
        replayed = command(served, "backtest", "--since", "2d", "--format", "json")
        (alert,) = json.loads(replayed.stdout)
        assert datetime.fromisoformat(alert.pop("at")).utcoffset() == timedelta(0)
        assert alert == {"budget": "search-day", "alert": "exceeded", **dollars}


def command(served: Served, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`genai-meter budgets …` on the exporter's own configuration and ledger."""
    places = ("--config", str(served.data / "config.yaml"), "--data-dir", str(served.data))
    main = "from genai_meter_exporter.cli import main; raise SystemExit(main())"
    return subprocess.run(
        [sys.executable, "-c", main, "budgets", *arguments, *places], capture_output=True, text=True, check=False
    )


def served_cost(served: Served, team: str) -> float:
    """What the counters say that a team was charged, once they are shown."""
    deadline = time.monotonic() + 60
    while True:
        scraped = served.scrape()
        costs = {labels: value for (name, labels), value in scraped.items() if name == "genai_meter_cost_usd_total"}
        if sum(costs.values()) == scraped["genai_meter_ledger_cost_usd_total", frozenset()]:
            return sum(value for labels, value in costs.items() if ("team", team) in labels)
        assert time.monotonic() < deadline
