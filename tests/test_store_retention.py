"""Calls are kept for as long as the configuration says; their sums stay for ever."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from exporter_kit import NOW, Served, usage_event
from genai_meter_exporter import series
from genai_meter_exporter.store import Query, StoreError, open_readonly
from genai_meter_exporter.store.base import Tally
from ledger_kit import ENGINES, Ledger, foreign_span, ledger_of_engine

DAY = 86_400_000_000_000
TODAY = NOW // DAY * DAY

ledger = pytest.fixture(params=ENGINES)(ledger_of_engine)


def test_old_calls_go_and_their_sums_stay(ledger: Ledger) -> None:
    old = [usage_event(start_ns=NOW - days * DAY, tenant=f"t{days}", response_id=f"r{days}") for days in (3, 2, 1)]
    new = usage_event(tenant="t0", response_id="r0")
    ledger.send(*old, new)
    ledger.send(foreign_span(response_id="r3", start_ns=NOW - 3 * DAY, end_ns=NOW - 3 * DAY + 10**9))
    reader = ledger.reader()
    before = reader.report(Query(("tenant", "day")))
    assert ledger.store.retire(TODAY - DAY, 1) == 1
    assert ledger.store.retire(TODAY - DAY, 10) == 1
    assert ledger.store.retire(TODAY - DAY, 10) == 0
    assert set(ledger.rows()) == {old[2].call_id, new.call_id}
    assert reader.report(Query(("tenant", "day"))) == before
    assert [row["calls"] for row in before] == [1, 1, 1, 1]
    assert reader.get(old[0].call_id) is None
    assert ledger.total(series.LEDGER_COST) == 4 * 3_500_000_000
    with pytest.raises(StoreError, match=r"calls before 2026-11-21 have been removed"):
        reader.report(Query(("host",)))
    (row,) = reader.report(Query(("host",), since_ns=TODAY - DAY))
    assert row["calls"] == 2
    reader.close()


@pytest.mark.parametrize("reopened", [False, True])
def test_a_call_that_was_removed_is_not_charged_again(ledger: Ledger, reopened: bool) -> None:
    old, new = usage_event(start_ns=NOW - 3 * DAY), usage_event()
    ledger.send(old, new)
    ledger.settle()
    ledger.store.retire(TODAY - DAY, 10)
    if reopened:
        ledger.reopen()
    assert ledger.send(old, new) == Tally(duplicate=1, quarantined=1)
    assert ledger.total(series.LEDGER_COST) == 2 * 3_500_000_000
    assert set(ledger.rows()) == {new.call_id}


def test_it_runs_by_itself(tmp_path: Path) -> None:
    now = time.time_ns()
    old, new = (usage_event(start_ns=now - days * DAY, tenant="acme", model=None) for days in (40, 0))
    with Served(tmp_path / "data", {"store": {"retention_days": 30}}) as served:
        served.send(new)
        # The first look happens at the start: what comes later for those days is refused, and told.
        answer = served.post("logs", _body(old))
        assert (answer.status, b"store.retention_days" in answer.body) == (200, True)
        assert served.value("ingest_events_total", status="quarantined") == 1
    with Served(tmp_path / "kept") as served:
        served.send(old, new)
    served = Served(tmp_path / "kept", {"store": {"retention_days": 30}})
    with served:
        deadline = time.monotonic() + 60
        while _calls(served) != 1:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    reader = open_readonly(served.ledger)
    (row,) = reader.report(Query(("tenant",)))
    reader.close()
    assert row["calls"] == 2


def test_days_beyond_1970_keep_everything(tmp_path: Path) -> None:
    with Served(tmp_path / "data", {"store": {"retention_days": 36_500}}) as served:
        served.send(usage_event(start_ns=time.time_ns() - 400 * DAY))
        # The calendar's work is due every two seconds, then after the commit that comes next, before the one after it.
        time.sleep(2.1)
        served.send(usage_event())
        served.send(usage_event())
    assert _calls(served) == 3


def _body(event: object) -> bytes:
    from exporter_kit import Event, logs

    assert isinstance(event, Event)
    return logs([event]).SerializeToString()


def _calls(served: Served) -> int:
    from genai_meter_exporter.store.reader import SqliteReader

    reader = SqliteReader(served.ledger)
    try:
        return reader.totals()[0]
    finally:
        reader.close()
