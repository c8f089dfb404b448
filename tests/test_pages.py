"""The short form of `make false-pages`: a day and a half of office hours, then a retry storm; and what it rests on."""

from __future__ import annotations

from pathlib import Path

import pytest
from exporter_kit import NOW, usage_event
from genai_meter_exporter.budgets.engine import instant
from genai_meter_exporter.cells import DIMENSIONS, MEASURES, Cell, Measures
from genai_meter_exporter.store import Query
from ledger_kit import Ledger

from benchmarks import pages
from benchmarks.pages_exporter import Rollups
from benchmarks.pages_rules import Episode, Rule, fire, read_by, shipped, stages
from benchmarks.pages_workloads import WORKLOADS, Change
from benchmarks.pages_worlds import BEGIN, World, episodes
from examples.tools import ToolMissing, need

HOUR = 3600
DAY = 24 * HOUR


@pytest.mark.timeout(300)
def test_a_retry_storm_pages_and_the_day_before_it_nobody(tmp_path: Path) -> None:
    try:
        need("prometheus")
    except ToolMissing as error:
        pytest.skip(str(error))
    storm = BEGIN + DAY + 9 * HOUR
    world = World("short", WORKLOADS["office"], BEGIN, storm + HOUR, Change(storm, attempts=0.6))
    critical = [found for found in episodes(world, tmp_path) if found.labels["severity"] == "critical"]
    assert {(found.alert, found.labels["service"]) for found in critical} == {("GenAIMeterRetryStorm", "office")}
    assert storm + 300 <= min(found.begin for found in critical) <= storm + 1200


# --- alerts -------------------------------------------------------------------------------------------
def rule(name: str = "Alert", expression: str = "x", hold: int | None = 120) -> Rule:
    return Rule(name, expression, 60, (), hold)


def spans(active: list[int], hold: int) -> list[tuple[int, int]]:
    return [(found.begin, found.end) for found in fire(rule(hold=hold), (("a", "1"),), active)]


def test_for_is_pending_then_firing_and_begins_anew_after_a_gap() -> None:
    assert list(fire(rule(), (("a", "1"),), [60, 120, 180, 240])) == [Episode("Alert", {"a": "1"}, 180, 300)]
    assert spans([60, 120], 120) == []
    assert spans([60, 120, 180, 300, 360], 120) == [(180, 240)]
    assert spans([60, 180, 240], 0) == [(60, 120), (180, 300)]
    assert spans([], 0) == []


def test_recorded_series_come_before_what_reads_them() -> None:
    low = rule("service:genai_meter_a:rate5m", "rate(genai_meter_a_total[5m])", None)
    high = rule("service:genai_meter_a_rate5m:avg", "avg_over_time(service:genai_meter_a:rate5m[1d])", None)
    alert = rule("A", "service:genai_meter_a_rate5m:avg > 1")
    assert stages([alert, high, low]) == [[low], [high]]
    assert read_by([alert, high, low]) == {"genai_meter_a_total"}
    with pytest.raises(ValueError, match="read each other: service:genai_meter_a:b"):
        stages([rule("service:genai_meter_a:b", "service:genai_meter_a:b > 1", None)])


def test_every_shipped_alert_is_evaluated_as_it_is_shipped() -> None:
    rules = shipped()
    spike = next(found for found in rules if found.name == "GenAIMeterHourlySpendSpike")
    assert (spike.interval, spike.hold, dict(spike.labels)["severity"]) == (60, 300, "critical")
    assert {name for name, _ in pages.severities()} >= set(pages.UNMOVED)
    assert sum(len(stage) for stage in stages(rules)) + sum(found.hold is not None for found in rules) == len(rules)


# --- the roll-ups in memory ----------------------------------------------------------------------------
def test_roll_ups_in_memory_answer_as_the_ledger_does(tmp_path: Path) -> None:
    """The questions that the search for anomalies asks."""
    ledger = Ledger(tmp_path / "ledger.db")
    events = [
        usage_event(
            start_ns=NOW - hours * HOUR * 10**9,
            input_tokens=1000 * (hours + 1),
            output_tokens=hours,
            team="search",
            tenant=f"tenant-{hours % 3}",
            feature=f"feature-{hours % 2}",
        )
        for hours in range(60)
    ]
    ledger.send(*events)
    reader = ledger.reader()
    try:
        cells: dict[Cell, Measures] = {
            (instant(row["quarter"]), tuple(row[name] for name in DIMENSIONS)): tuple(row[name] for name in MEASURES)
            for row in reader.report(Query(("quarter", *DIMENSIONS)))
        }
        rollups = Rollups()
        for where, what in cells.items():
            rollups.add({where: what})
        now = NOW // 10**9
        for by, since, until, where in (
            (("tenant",), now - DAY, now, ()),
            (("day", "tenant"), now // DAY * DAY - 2 * DAY, now // DAY * DAY, ()),
            (("feature", "model"), now - 40 * HOUR - 900, now - 2700, (("tenant", "tenant-1"),)),
        ):
            query = Query(by, since * 10**9, until * 10**9, where)
            told = [{name: row[name] for name in (*by, *MEASURES)} for row in reader.report(query)]
            assert told
            assert sorted(rollups.report(query), key=str) == sorted(told, key=str)
    finally:
        reader.close()
        ledger.store.close()
