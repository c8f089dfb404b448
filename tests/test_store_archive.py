"""Days as files: what a store holds, to the last digit; reports over them; into another store and nothing twice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlglot
import sqlglot.expressions
from exporter_kit import NOW, Event, logs, new_id, usage_event
from genai_meter_exporter.normalise import Batch, normalise
from genai_meter_exporter.receive import protobuf
from genai_meter_exporter.store import Query, StoreError, dialects
from genai_meter_exporter.store.archive import Archive, Form, open_archive
from genai_meter_exporter.store.base import Price
from genai_meter_exporter.store.transfer import export_days, import_days, report_over
from ledger_kit import ENGINES, Ledger, foreign_span, ledger_of_engine

DAY = 86_400_000_000_000
TODAY = datetime.fromtimestamp(NOW // 10**9, UTC).date()
YESTERDAY = TODAY - timedelta(days=1)
TOMORROW = TODAY + timedelta(days=1)

NINE = ("hour", "2026-11-22T09:00Z")
QUERIES = [
    Query(("tenant", "model")),
    Query(("day",), NOW - 12 * 3600 * 10**9, NOW + 1),
    Query(("hour", "status"), where=(("tenant", "acme"),)),
    Query(("quarter",), where=(NINE,)),
    Query(("month", "host"), where=(("tenant", ""), ("attempt_count", "3"))),
    Query(("call_id",), until_ns=NOW),
    Query((), where=(("tenant", "acme"), NINE)),
    Query((), NOW + 1),
]

ledger = pytest.fixture(params=ENGINES)(ledger_of_engine)


@pytest.fixture
def sqlite(tmp_path: Path) -> Generator[Ledger]:
    """Another ledger, empty."""
    other = Ledger(tmp_path / "other" / "ledger.db")
    yield other
    other.store.close()


def fill(ledger: Ledger) -> None:
    """Three days: two accounts of a call, a revision, what has no price, what costs a lot, texts of all kinds."""
    charged = usage_event(tenant="acme", response_id="chatcmpl-1", context_ratio=0.1 + 0.2, cache_read=500)
    ledger.send(charged, usage_event(start_ns=NOW - DAY, tenant='q"uo,te\n\\N', feature="é\u2028", attempt_count=3))
    ledger.send(foreign_span(response_id="chatcmpl-1", input_tokens=1500))
    ledger.send(usage_event(start_ns=NOW - 2 * DAY, model="no-such-model", request_model="no-such-model"))
    dear = {"genai_meter.cost.what": "capacity", "genai_meter.cost.effective": 9 * 10**18, "genai_meter.cost.list": 1}
    ledger.send(Event({**usage_event().attributes, **dear}, name="genai_meter.cost"))
    ledger.revise(charged.call_id, Price("exact", 7, 9, "[]", None, "pb1:other"), 'a "reason"')
    ledger.put(beside())


def beside() -> Batch:
    """An outcome and an answer from a cache."""
    outcome = Event(
        {
            "genai_meter.outcome.name": "ticket_solved",
            "genai_meter.outcome.id": "t1",
            "genai_meter.outcome.value": 5 * 10**12,
            "genai_meter.tenant": "acme",
        },
        name="genai_meter.outcome",
    )
    hit = usage_event(tenant="acme", call_id=new_id(NOW - DAY), start_ns=NOW - DAY)
    hit.attributes["genai_meter.cache_hit"] = True
    batch = normalise(protobuf.parse("logs", logs([outcome, hit]).SerializeToString()))
    assert (len(batch.beside), batch.quarantined) == (2, [])
    return batch


def exported(ledger: Ledger, directory: Path, form: Form = "parquet", until: date = TOMORROW) -> dict[date, int]:
    """The days that were written and the calls of each."""
    with closing(ledger.reader()) as reader, closing(Archive(directory)) as archive:
        return {day: sums.calls for day, sums in export_days(reader, archive, until, form)}


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_what_was_written_is_read_as_it_was(ledger: Ledger, sqlite: Ledger, tmp_path: Path, form: Form) -> None:
    fill(ledger)
    directory = tmp_path / "it's here"
    assert exported(ledger, directory, form) == {YESTERDAY - timedelta(days=1): 1, YESTERDAY: 1, TODAY: 2}
    with closing(open_archive(directory)) as archive, closing(ledger.reader()) as reader:
        for query in QUERIES:
            assert archive.report(query) == reader.report(query), query
        assert archive.beside("outcome", Query(("tenant", "day"))) == [
            {"tenant": "acme", "day": str(TODAY), "events": 1, "successes": 1, "amount": 5 * 10**12}
        ]
        for kind in ("outcome", "cache_hit"):
            for by in (("tenant",), ("hour",), ("quarter",), ()):
                assert archive.beside(kind, Query(by)) == reader.beside(kind, Query(by))
        counts = [
            (tally.accepted, tally.duplicate) for _ in "12" for _, tally in import_days(archive, sqlite.store, NOW)
        ]
    assert counts == [(1, 0), (1, 0), (2, 0), (0, 1), (0, 1), (0, 2)]
    assert known(sqlite) == known(ledger)
    sqlite.store.close()
    sqlite.open()
    sqlite.check()


def known(ledger: Ledger) -> dict[str, Any]:
    """All that a store tells, keys in order."""
    with closing(ledger.reader()) as reader:
        told: dict[str, Any] = {
            table: sorted((at, sorted(row.items(), key=str)) for at, row in reader.others(table, 0, 2 * NOW))
            for table in ("linked", "revision", "outcome", "cache_hit")
        }
        told["calls"] = sorted((row["call_id"], sorted(row.items(), key=str)) for row in reader.calls(Query(())))
        assert [len(found) for found in told.values()] == [1, 1, 1, 1, 4]
        return told


def test_only_days_that_have_changed_are_written_again(ledger: Ledger, tmp_path: Path) -> None:
    fill(ledger)
    assert exported(ledger, tmp_path, until=TODAY) == {YESTERDAY - timedelta(days=1): 1, YESTERDAY: 1}
    assert exported(ledger, tmp_path, until=TODAY) == {}
    late = usage_event(start_ns=NOW - DAY, tenant="late")
    ledger.send(late)
    assert exported(ledger, tmp_path, until=TODAY) == {YESTERDAY: 2}
    ledger.revise(late.call_id, Price("exact", 1, 1, "[]", None, None), "why")
    assert exported(ledger, tmp_path, "csv", until=TODAY) == {YESTERDAY: 2}
    assert sorted(path.name for path in (tmp_path / "usage").iterdir()) == ["2026-11-20.parquet", "2026-11-21.csv"]
    with closing(open_archive(tmp_path)) as archive, closing(ledger.reader()) as reader:
        query = Query(("day", "tenant", "host"), None, NOW // DAY * DAY)
        assert archive.report(query) == reader.report(query)


def test_outcomes_that_come_later_are_written_too(ledger: Ledger, sqlite: Ledger, tmp_path: Path) -> None:
    ledger.send(usage_event())
    assert exported(ledger, tmp_path) == {TODAY: 1}
    # Of a day that has been written, and of one without a call.
    ledger.put(beside())
    assert exported(ledger, tmp_path) == {YESTERDAY: 0, TODAY: 1}
    assert exported(ledger, tmp_path) == {}
    with closing(open_archive(tmp_path)) as archive:
        assert [day for day, _ in import_days(archive, sqlite.store, NOW)] == [YESTERDAY, TODAY]
    with closing(sqlite.reader()) as reader:
        found = [
            (kind, row["day"], row["events"], row["amount"])
            for kind in ("outcome", "cache_hit")
            for row in reader.beside(kind, Query(("day",)))
        ]
    assert found == [("outcome", str(TODAY), 1, 5 * 10**12), ("cache_hit", str(YESTERDAY), 1, 0)]


def test_a_call_whose_id_is_of_another_time_is_in_the_file_of_its_day(ledger: Ledger, tmp_path: Path) -> None:
    ledger.send(usage_event(), usage_event(call_id=b"\xfe" * 16), usage_event(call_id=b"\x01" * 16))
    assert exported(ledger, tmp_path) == {TODAY: 3}
    with closing(open_archive(tmp_path)) as archive:
        found = archive.report(Query(("call_id",)))
    assert {row["call_id"] for row in found} > {"fe" * 16, "01" * 16}


def test_days_that_were_removed_stay_in_the_files(ledger: Ledger, tmp_path: Path) -> None:
    fill(ledger)
    exported(ledger, tmp_path)
    before = (NOW // DAY - 1) * DAY
    while ledger.store.retire(before, 10):
        pass
    assert exported(ledger, tmp_path) == {}
    with closing(open_archive(tmp_path)) as archive:
        assert sum(row["calls"] for row in archive.report(Query(("host",)))) == 4
        with pytest.raises(StoreError, match="started before the first that this store still keeps"):
            list(import_days(archive, ledger.store, NOW))


def test_there_is_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="has no exported days"):
        open_archive(tmp_path)


def test_a_column_that_older_files_do_not_have_is_unknown(ledger: Ledger, tmp_path: Path) -> None:
    import duckdb

    fill(ledger)
    exported(ledger, tmp_path)
    file = tmp_path / "usage" / f"{YESTERDAY}.parquet"
    with duckdb.connect() as db:
        db.execute(f"CREATE TABLE t AS SELECT * EXCLUDE (feature) FROM read_parquet('{file}')")
        db.execute(f"COPY t TO '{file}' (FORMAT parquet)")
    with closing(open_archive(tmp_path)) as archive:
        assert {row["feature"] for row in archive.report(Query(("feature",)))} == {""}


def test_a_report_over_files_goes_on_in_the_store(ledger: Ledger, tmp_path: Path) -> None:
    fill(ledger)
    exported(ledger, tmp_path, until=TODAY)
    with closing(open_archive(tmp_path)) as archive, closing(ledger.reader()) as reader:
        for query in QUERIES:
            assert report_over(archive, reader, query) == reader.report(query), query
    # What was taken from the store is still in the files.
    while ledger.store.retire(NOW // DAY * DAY, 10):
        pass
    with closing(open_archive(tmp_path)) as archive, closing(ledger.reader()) as reader:
        (row,) = report_over(archive, reader, Query(("operation",), where=(("provider", "openai"),)))
        assert row["calls"] == 4


# --- the commands ------------------------------------------------------------------------------------
def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`genai-meter …`."""
    program = "from genai_meter_exporter.cli import main; raise SystemExit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )


def test_a_ledger_goes_through_files_into_another(sqlite: Ledger, tmp_path: Path) -> None:
    fill(sqlite)
    sqlite.store.close()
    old, new, files = sqlite.path.parent, tmp_path / "new", tmp_path / "files"
    done = command("store", "export", "--data-dir", old, "--to", files, "--until", str(TOMORROW))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"3 days written to {files}"), done
    taken = command("store", "import", files, "--data-dir", new)
    assert (taken.returncode, taken.stderr) == (0, "")
    assert taken.stdout.endswith(f"4 calls taken over into {new / 'ledger.db'}, 0 were there\n")
    checked = command("store", "check", "--data-dir", new)
    assert (checked.returncode, checked.stdout.count("4 calls  9000000.003500000009 USD")) == (0, 4), checked
    reports = [
        command("usage", "--since", "all", "--by", "tenant,host", "--format", "csv", "--data-dir", *more).stdout
        for more in ((old,), (new,), (new, "--archive", files))
    ]
    assert reports[0].count("\n") == 5
    assert reports[0] == reports[1] == reports[2]
    sqlite.open()


@pytest.mark.parametrize("dialect", ["bigquery", "duckdb", "clickhouse"])
def test_every_report_is_sql_of_the_dialect(dialect: str) -> None:
    for query in QUERIES:
        for sql, parameters in (
            dialects.report(dialects.BY_NAME[dialect], dialects.ledger("usage"), query),
            dialects.report(dialects.BY_NAME[dialect], dialects.ledger("project.dataset.usage"), query),
            dialects.report_beside(
                dialects.BY_NAME[dialect],
                dialects.events("outcome", "outcome"),
                "outcome",
                Query(("tenant", "day"), query.since_ns, query.until_ns, (("team", "a"),)),
            ),
        ):
            (parsed,) = sqlglot.parse(sql, dialect=dialect)
            assert isinstance(parsed, sqlglot.expressions.Select)
            marks = {mark.name or str(mark.this) for mark in parsed.find_all(sqlglot.expressions.Parameter)}
            if dialect == "bigquery":
                assert marks == set(parameters)
                assert not list(parsed.find_all(sqlglot.expressions.Anonymous)), sql


def test_the_sql_of_a_report_is_printed() -> None:
    told = command("usage", "--sql", "bigquery", "--by", "tenant,month", "--since", "2026-11-01", "--where", "team=a")
    assert told.returncode == 0, told
    head, *parameters, sql = told.stdout.splitlines()
    assert head.startswith("-- tenant, month, calls, retries,")
    assert parameters == ["-- p0 = 'a'", "-- p1 = 1793491200000000000"]
    assert "FORMAT_TIMESTAMP('%Y-%m', g1)" in sql
    wrong = command("usage", "--sql", "bigquery", "--by", "modle")
    assert (wrong.returncode, wrong.stderr) == (
        2,
        "genai-meter usage: the ledger has no column 'modle': is 'model' meant?\n",
    )


def test_without_the_extra_it_is_named(tmp_path: Path) -> None:
    program = "import sys; sys.modules['duckdb'] = None; from genai_meter_exporter.cli import main; sys.exit(main())"
    Ledger(tmp_path / "ledger.db").store.close()
    told = subprocess.run(
        [sys.executable, "-c", program, "store", "export", "--data-dir", str(tmp_path), "--to", str(tmp_path / "x")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, told.stderr) == (
        2,
        "this needs the package 'duckdb': pip install 'genai-meter[exporter,duckdb]'\n",
    )
