"""Exporters on ClickHouse, each with its journal: rows that are sent again replace themselves; none is lost."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import pytest
from clickhouse_kit import Server, engine, new_database
from exporter_kit import NOW, Served, usage_event
from genai_meter_exporter import series
from genai_meter_exporter.config import ConfigError, load
from genai_meter_exporter.store import Query, StoreError, open_readonly
from genai_meter_exporter.store.base import Price
from genai_meter_exporter.store.clickhouse import migrate_database
from genai_meter_exporter.store.reader import SqliteReader
from ledger_kit import ClickHouseLedger, Ledger, foreign_span
from load_kit import near, scraped, under_load

EACH = 3_500_000_000


@pytest.fixture
def ledger(tmp_path: Path) -> Generator[ClickHouseLedger]:
    """An empty one."""
    made = ClickHouseLedger(tmp_path / "journal.db", new_database(), busy_seconds=0.05, move_rows=3)
    yield made
    made.store.close()


@pytest.fixture
def server() -> Generator[Server]:
    """ClickHouse over HTTP."""
    with Server() as running:
        yield running


# --- rows that are sent again ---------------------------------------------------------------------------
def test_a_batch_that_was_inserted_and_not_noted_is_sent_again_and_counts_once(ledger: ClickHouseLedger) -> None:
    events = [usage_event(tenant="acme", response_id=f"r{number}") for number in range(5)]
    ledger.send(*events)
    # Between the insert and the note the journal cannot be written: as if the exporter had been killed there.
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(3):
            with pytest.raises(StoreError, match="rows cannot be moved to ClickHouse: database is locked"):
                ledger.settle()
        other.execute("ROLLBACK")
    database = ledger.url.rpartition("/")[2]
    assert engine().command(f"SELECT count() FROM {database}.call") == 9
    assert engine().command(f"SELECT count() FROM {database}.call FINAL") == 3
    # What has changed meanwhile replaces what was sent.
    ledger.revise(events[0].call_id, Price("exact", 7, 7, "[]", None, None), "why")
    ledger.send(foreign_span(response_id="r1"))
    ledger.check()
    with closing(ledger.reader()) as reader:
        assert reader.totals() == reader.counted() == (5, 4 * EACH + 7)
        (row,) = reader.report(Query(("tenant",)))
        assert (row["calls"], row["cost"]) == (5, 4 * EACH + 7)


def test_a_charge_that_another_record_takes_over_leaves_clickhouse(ledger: ClickHouseLedger) -> None:
    ledger.send(foreign_span(response_id="r1"))
    ledger.check()
    event = usage_event(response_id="r1", tenant="acme")
    ledger.send(event)
    ledger.check()
    with closing(ledger.reader()) as reader:
        assert [row["call_id"] for row in reader.calls(Query(()))] == [event.call_id]
        assert reader.totals() == (1, EACH)


def test_a_ledger_in_a_file_grows_into_clickhouse(tmp_path: Path) -> None:
    small = Ledger(tmp_path / "ledger.db")
    event = usage_event(tenant="acme", response_id="r1", start_ns=NOW - 86_400 * 10**9)
    small.send(event, usage_event(tenant="zeta"))
    small.send(foreign_span(response_id="r1", start_ns=NOW - 86_400 * 10**9, end_ns=NOW - 86_398 * 10**9))
    small.revise(event.call_id, Price("exact", 7, 7, "[]", None, None), "why")
    with closing(small.reader()) as reader:
        told = [reader.report(Query(("tenant", "day"))), reader.counted(), reader.revisions(event.call_id)]
    small.store.close()
    grown = ClickHouseLedger(small.path, new_database())
    grown.check()
    with closing(grown.reader()) as reader:
        assert [reader.report(Query(("tenant", "day"))), reader.counted(), reader.revisions(event.call_id)] == told
    assert grown.send(event).duplicate == 1
    grown.store.close()


# --- several ---------------------------------------------------------------------------------------------
def test_two_exporters_have_shares_that_sum_to_the_ledger(tmp_path: Path) -> None:
    url = new_database()
    one = ClickHouseLedger(tmp_path / "one.db", url, instance="one")
    two = ClickHouseLedger(tmp_path / "two.db", url, instance="two")
    # The same cell from both.
    one.send(usage_event(tenant="acme"), usage_event(tenant="zeta"))
    two.send(usage_event(tenant="acme"))
    two.settle()
    with closing(one.reader()) as reader:
        assert reader.totals() == reader.counted() == (3, 3 * EACH)
        assert {row["tenant"]: row["calls"] for row in reader.report(Query(("tenant",)))} == {"acme": 2, "zeta": 1}
        assert reader.report(Query(("tenant",))) == reader.report(Query(("tenant",), since_ns=1))
    assert one.total(series.LEDGER_EVENTS) + two.total(series.LEDGER_EVENTS) == 3
    one.store.close()
    two.store.close()


def test_another_journal_under_a_name_that_has_rows_is_refused(ledger: ClickHouseLedger, tmp_path: Path) -> None:
    ledger.send(usage_event())
    ledger.settle()
    with pytest.raises(StoreError, match=r"come from another journal than .*new\.db: bring that journal back"):
        ClickHouseLedger(tmp_path / "new.db", ledger.url)
    ClickHouseLedger(tmp_path / "new.db", ledger.url, instance="two").store.close()
    ledger.reopen()


def test_old_calls_are_removed_by_the_exporter_that_is_named(tmp_path: Path) -> None:
    url = new_database()
    one = ClickHouseLedger(tmp_path / "one.db", url, instance="one", calendar=False)
    day = 86_400 * 10**9
    one.send(usage_event(start_ns=NOW - 3 * day), usage_event())
    one.settle()
    before = NOW // day * day
    assert one.store.retire(before, 10) == 1
    with closing(one.reader()) as reader:
        assert (len(one.rows()), reader.totals()[0], reader.raw_since()) == (1, 2, 0)
        two = ClickHouseLedger(tmp_path / "two.db", url, instance="two", kept_longer_ns=day)
        assert (one.store.leads(), two.store.leads()) == (False, True)
        two.store.retire(before, 10)
        two.settle()
        assert (reader.totals()[0], reader.raw_since()) == (1, before - day)
        assert sum(row["calls"] for row in reader.report(Query(("day",)))) == 2
        two.store.close()
    one.store.close()


def test_a_database_is_migrated_and_rehearsed(ledger: ClickHouseLedger) -> None:
    ledger.send(usage_event(feature="search"))
    ledger.settle()
    database = ledger.url.rpartition("/")[2]
    before = engine().command("SELECT count() FROM system.databases")
    engine().command(f"TRUNCATE TABLE {database}.schema_version")
    engine().command(f"ALTER TABLE {database}.call DROP COLUMN feature")
    engine().command(f"ALTER TABLE {database}.outcome DROP COLUMN team")
    for rehearse, expected in ((True, [1]), (True, [1]), (False, [1]), (False, [])):
        assert migrate_database(ledger.url, rehearse=rehearse) == expected
    assert engine().command("SELECT count() FROM system.databases") == before
    # Fields that the schema has gained are columns again; what is sent from now on has them.
    ledger.send(usage_event(feature="chat"))
    with closing(ledger.reader()) as reader:
        assert {row["feature"] for row in reader.calls(Query(()))} == {None, "chat"}
        assert reader.beside("outcome", Query(("team",))) == []
    engine().command(f"INSERT INTO {database}.schema_version VALUES (99, 0)")
    ledger.store.close()
    with pytest.raises(StoreError, match="was written by a newer genai-meter"):
        ledger.open()


# --- over HTTP ------------------------------------------------------------------------------------------
def config(url: str, name: str = "one") -> dict[str, object]:
    """Of an exporter."""
    return {"store": {"url": url, "instance": name, "move_seconds": 0.05, "move_rows": 200}}


def test_clickhouse_is_away_and_nothing_is_lost(tmp_path: Path, server: Server) -> None:
    url = server.url()
    server.stop()
    with Served(tmp_path, config(url)) as served:
        served.send(usage_event(tenant="acme"))
        served.settled("ledger_cost_usd_total", EACH / 10**12)
        server.start()
        settled(Server.here(url), (1, EACH))
        server.stop()
        served.send(usage_event(tenant="acme"))
        served.settled("ledger_cost_usd_total", 2 * EACH / 10**12)
        served.kill()
        server.start()
        served.start()
        settled(Server.here(url), (2, 2 * EACH))
        served.send(usage_event(tenant="zeta"))
    log = (tmp_path / "stderr.log").read_text(encoding="utf-8")
    assert "they wait in the journal" in log
    assert "rows are moved to ClickHouse again" in log
    assert "secret" not in log
    # The end moved what was left.
    reader = open_readonly(url)
    assert {row["tenant"]: row["calls"] for row in reader.report(Query(("tenant",)))} == {"acme": 2, "zeta": 1}
    reader.close()
    with pytest.raises(StoreError, match="does not answer at 127"):
        open_readonly(url.replace("secret", "wrong"))


def settled(url: str, expected: tuple[int, int]) -> None:
    """Wait until the rows, the roll-ups and the counters in ClickHouse say it."""
    deadline = time.monotonic() + 60
    while True:
        found: set[tuple[int, int]] = set()
        try:
            with closing(open_readonly(url)) as reader:
                rows = reader.report(Query(("day",)))
                rolled_up = sum(row["calls"] for row in rows), sum(row["cost"] for row in rows)
                found = {reader.totals(), reader.counted(), rolled_up}
        except StoreError:
            pass
        if found == {expected}:
            return
        assert time.monotonic() < deadline, (found, expected)
        time.sleep(0.05)


def test_a_store_that_there_is_not_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("store:\n  url: mysql://db/meter\n", encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"config\.yaml, line 2: store\.url: .*a store is at postgresql://…, .*in a file$"
    ):
        load(file)


# --- the drill ------------------------------------------------------------------------------------------
def drill(data: Path, server: Server, kills: int) -> dict[str, int]:
    """Kill an exporter under load, while it moves rows, `kills` times; returns the figures."""
    url = server.url()
    chance = random.Random(7)
    with Served(data, config(url)) as served:
        with under_load(served, 2) as load:
            for _ in range(kills):
                time.sleep(chance.uniform(0.3, 1.0))
                with load.paused():
                    served.kill()
                    served.start()
        settled(Server.here(url), load.due)
        calls, cost = scraped(served)
        assert (calls, abs(cost - near(load.due[1])) <= 2000) == (load.due[0], True)
    with closing(SqliteReader(served.ledger)) as journal, closing(open_readonly(Server.here(url))) as reader:
        assert journal.totals() == reader.totals()
        for query in (Query(("tenant", "model", "status")), Query(("host",)), Query(("call_id",))):
            assert reader.report(query) == journal.report(query)
    database = url.rpartition("/")[2]
    rows = engine().command(f"SELECT count() FROM {database}.call")
    return {
        "kills": kills,
        "acknowledged": load.due[0],
        "requests sent again": load.resent,
        "rows in parts not merged yet": int(rows),
    }


@pytest.mark.timeout(300)
def test_three_kills_of_an_exporter_that_moves_rows(tmp_path: Path, server: Server) -> None:
    figures = drill(tmp_path, server, 3)
    assert figures["acknowledged"] > 60


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_kills_of_an_exporter_that_moves_rows(tmp_path: Path, server: Server) -> None:
    figures = drill(tmp_path, server, 100)
    print(figures)
    assert figures["acknowledged"] > 2000
