"""The file: of older versions it is upgraded when it is opened, and keeps every figure."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from exporter_kit import NOW, Event, logs, usage_event
from genai_meter_exporter import series
from genai_meter_exporter.normalise import normalise
from genai_meter_exporter.receive import protobuf
from genai_meter_exporter.store import Query, StoreError, open_readonly
from genai_meter_exporter.store.base import Tally
from genai_meter_exporter.store.migrations import MIGRATIONS
from genai_meter_exporter.store.postgres import migrate_database
from genai_meter_exporter.store.reader import SqliteReader
from ledger_kit import Ledger, PostgresLedger, foreign_span, ledger_of_engine

LEDGERS: Final = Path(__file__).parent / "fixtures" / "ledger"
FIRST = bytes.fromhex("01a2027bd68070000000000000000001")
SECOND = bytes.fromhex("01a202b2c50070000000000000000002")
THIRD = bytes.fromhex("01a2027bd68070000000000000000003")


def old_ledger(path: Path) -> Path:
    """A file as version 1 wrote it: three calls, one of them revised, one told by two producers."""
    with sqlite3.connect(path) as database:
        database.executescript((LEDGERS / "version_1.sql").read_text(encoding="utf-8"))
    database.close()
    return path


def test_a_ledger_of_version_1_keeps_every_figure(tmp_path: Path) -> None:
    ledger = Ledger(old_ledger(tmp_path / "ledger.db"))
    ledger.check()
    rows = ledger.rows()
    assert {key: (row["cost"], row["revision"]) for key, row in rows.items()} == {
        FIRST: (4_125_000_000, 0),
        SECOND: (None, 0),
        THIRD: (5 * 10**12, 1),
    }
    first = {name: value for name, value in rows[FIRST].items() if value is not None}
    expected: dict[str, Any] = {
        "call_id": FIRST,
        "start": NOW,
        "tenant": "acme",
        "team": "search",
        "workflow": "nightly",
        "run_id": "r1",
        "model": "gpt-4o-2024-08-06",
        "request_model": "gpt-4o",
        "stream": 1,
        "context_ratio": 0.25,
        "input_chars": '{"user":11}',
        "id_family": "openai.chat",
        "version": "7",
        "trace_id": "0a" * 16,
        "cache_read_tokens": 500,
    }
    assert {name: first.get(name) for name in expected} == expected
    assert {"feature", "agent", "variant"}.isdisjoint(first)
    assert rows[SECOND]["cost_status"] == "unpriced"
    assert rows[THIRD]["model"] is None
    # What was charged before the upgrade is charged after it: 1.5 USD more by the revision, nothing back.
    assert ledger.total(series.LEDGER_COST) == 4_125_000_000 + 5 * 10**12
    assert ledger.total(series.LEDGER_CREDIT) == 0


def test_an_upgraded_ledger_goes_on(tmp_path: Path) -> None:
    ledger = Ledger(old_ledger(tmp_path / "ledger.db"))
    again = usage_event(call_id=FIRST, tenant="acme", team="search", cache_read=500, response_id="chatcmpl-1")
    twin = foreign_span(response_id="chatcmpl-1", trace_id=b"\x0a" * 16, number=5, input_tokens=1500)
    assert ledger.send(again) == Tally(duplicate=1)
    assert ledger.send(twin) == Tally(duplicate=1)
    assert ledger.send(usage_event(tenant="acme", variant="b")) == Tally(accepted=1)
    ledger.reopen()
    ledger.check()
    reader = SqliteReader(ledger.path)
    report = reader.report(Query(("tenant", "month")))
    reader.close()
    assert {(row["tenant"], row["month"]): (row["calls"], row["cost"]) for row in report} == {
        ("acme", "2026-11"): (3, 4_125_000_000 + 5 * 10**12 + 3_500_000_000),
        ("zeta", "2026-11"): (1, 0),
    }


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.store.close()
    with sqlite3.connect(ledger.path) as database:
        database.execute("INSERT INTO schema_version VALUES (99, 0)")
    database.close()
    with pytest.raises(StoreError, match="was written by a newer genai-meter"):
        ledger.open()


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE accounts (name TEXT)")
    with pytest.raises(StoreError, match="is a database of another program: name another store"):
        Ledger(path)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("accounts",)]


def test_every_commit_is_synced_under_full_and_none_under_normal(tmp_path: Path) -> None:
    for mode, expected in (("FULL", 3), ("NORMAL", 0)):
        ledger = Ledger(tmp_path / f"{mode}.db", synchronous=mode)
        for _ in range(3):
            ledger.send(usage_event())
        assert ledger.store.syncs == expected
        ledger.store.close()


def test_there_is_no_store_to_read(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store at"):
        open_readonly(tmp_path / "nothing.db")


# --- the command -----------------------------------------------------------------------------------
def store(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`genai-meter store …`."""
    program = "from genai_meter_exporter.cli import main; raise SystemExit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, "store", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_migration_is_rehearsed_then_done(tmp_path: Path) -> None:
    path = old_ledger(tmp_path / "ledger.db")
    before = path.read_bytes()
    latest = len(MIGRATIONS)
    tried = store("migrate", "--dry-run", "--data-dir", tmp_path)
    assert (tried.returncode, tried.stderr) == (0, "")
    assert f"would be brought to schema {latest} ({latest - 1} steps)" in tried.stdout
    assert tried.stdout.count("3 calls  5.004125 USD") == 4
    assert path.read_bytes() == before
    done = store("migrate", "--data-dir", tmp_path)
    assert f"is brought to schema {latest} ({latest - 1} steps)" in done.stdout
    assert "has this version's schema" in store("migrate", "--data-dir", tmp_path).stdout
    checked = store("check", "--data-dir", tmp_path)
    assert (checked.returncode, checked.stdout.count("3 calls  5.004125 USD")) == (0, 4)
    Ledger(path).check()


def test_the_latest_calls_are_linked_after_an_upgrade_too(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.send(usage_event(response_id="chatcmpl-1"))
    ledger.store.close()
    with sqlite3.connect(ledger.path) as database:
        # As version 5 had it.
        database.executescript(
            "DROP TABLE recent; CREATE INDEX call_recorded ON call (recorded_at); "
            "DELETE FROM schema_version WHERE version > 5"
        )
    database.close()
    ledger.open()
    assert ledger.send(foreign_span(response_id="chatcmpl-1", trace_id=b"\x09" * 16)) == Tally(linked=1)
    ledger.check()
    ledger.store.close()


def test_a_ledger_whose_sums_differ_is_told(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.send(usage_event())
    ledger.store.close()
    with sqlite3.connect(ledger.path) as database:
        database.execute("UPDATE rollup SET cost_pico = cost_pico + 1")
    database.close()
    told = store("check", "--data-dir", tmp_path)
    assert (told.returncode, told.stderr) == (1, "they do not agree\n")


def test_a_database_is_migrated_and_rehearsed(postgres: str) -> None:
    ledger = PostgresLedger.new(postgres)
    ledger.store.close()
    with psycopg.connect(ledger.url) as connection:
        connection.execute("DROP TABLE pending_revision, quarantine_retry")
        connection.execute("DELETE FROM schema_version WHERE version > 1")
    for rehearse, expected in ((True, [2, 3]), (True, [2, 3]), (False, [2, 3]), (False, [])):
        assert migrate_database(ledger.url, rehearse=rehearse) == expected
    ledger.open()
    ledger.send(usage_event())
    ledger.check()
    ledger.store.close()


def test_fields_that_the_event_has_gained_become_columns(ledger_and_engine: tuple[Ledger, str]) -> None:
    ledger, engine = ledger_and_engine
    ledger.store.close()
    if engine == "sqlite":
        with sqlite3.connect(ledger.path) as database:
            database.execute("DROP VIEW usage")
            database.execute("ALTER TABLE outcome DROP COLUMN team")
        database.close()
    else:
        assert isinstance(ledger, PostgresLedger)
        with psycopg.connect(ledger.url) as connection:
            connection.execute("ALTER TABLE outcome DROP COLUMN team")
            # As a program leaves it that does not know the field.
            connection.execute("UPDATE fact SET value = 1 WHERE name = 'view'")
    ledger.open()
    outcome = Event(
        {"genai_meter.outcome.name": "solved", "genai_meter.outcome.id": "1", "genai_meter.team": "search"},
        name="genai_meter.outcome",
    )
    ledger.put(normalise(protobuf.parse("logs", logs([outcome]).SerializeToString())))
    with closing(ledger.reader()) as reader:
        assert [row["team"] for row in reader.beside("outcome", Query(("team",)))] == ["search"]


@pytest.fixture(params=("sqlite", "postgres"))
def ledger_and_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[tuple[Ledger, str]]:
    """ClickHouse's is in test_clickhouse.py."""
    for ledger in ledger_of_engine(request, tmp_path):
        yield ledger, request.param
