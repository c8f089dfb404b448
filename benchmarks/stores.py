"""Every store with the same events: ingest, size, a month's report; each beside the bare engine in the same run."""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final, Protocol

import orjson
from genai_meter_exporter.bounds import Bounds
from genai_meter_exporter.charging import charge, open_prices
from genai_meter_exporter.columns import alike
from genai_meter_exporter.normalise import Batch, normalise
from genai_meter_exporter.normalise.record import UsageRecord
from genai_meter_exporter.receive import protobuf
from genai_meter_exporter.store.archive import Archive, open_archive
from genai_meter_exporter.store.base import Query, Reader, Store
from genai_meter_exporter.store.layout import KINDS, STORED, packed
from genai_meter_exporter.store.reader import SqliteReader
from genai_meter_exporter.store.sqlite import SqliteStore
from genai_meter_exporter.store.transfer import export_days

from benchmarks.ingest import RECORDS, bodies
from benchmarks.markdown import table

GROUP: Final = 4096
"""Events of one commit."""
MONTH_NS: Final = 1_793_491_200_000_000_000
"""2026-11-01."""
DAYS: Final = 30
DAY_NS: Final = 86_400_000_000_000
PLACE: Final = Path(__file__).with_name("STORES.md")

ROLLED_UP: Final = Query(("tenant", "model"), MONTH_NS, MONTH_NS + DAYS * DAY_NS)
FROM_ROWS: Final = Query(("tenant", "host"), MONTH_NS, MONTH_NS + DAYS * DAY_NS)


class Events:
    """Calls of a month, evenly spread: normalised and priced once, then copied under new ids and times."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._chance = random.Random(1)
        open_prices(None)
        self._patterns: list[UsageRecord] = []
        for body in bodies(8, 1):
            batch = normalise(protobuf.parse("logs", body))
            charge(batch)
            self._patterns += batch.records
        assert len(self._patterns) == 8 * RECORDS

    def groups(self) -> Iterator[tuple[Batch, int]]:
        """What one commit writes, and its instant."""
        step = DAYS * DAY_NS // self.count
        for first in range(0, self.count, GROUP):
            count = min(GROUP, self.count - first)
            records = [self._record(number, MONTH_NS + number * step) for number in range(first, first + count)]
            yield Batch(records=records), records[-1].values["end"]

    def _record(self, number: int, start: int) -> UsageRecord:
        pattern = self._patterns[number * 7 % len(self._patterns)]
        values = dict(pattern.values)
        values["end"] += start - values["start"]
        values["start"] = start
        tail = self._chance.randbytes(16)
        values["response_id"] = f"chatcmpl-{tail.hex()}"
        key = (start // 1_000_000).to_bytes(6, "big") + b"\x70" + tail[:9]
        return UsageRecord(key, values, pattern.usages, pattern.producer, pattern.rank, tail, tail[:8])


@dataclass(slots=True)
class Figures:
    """What one store did."""

    store: str
    events: int
    ingest_seconds: float = 0.0
    bare_seconds: float = 0.0
    move_seconds: float = 0.0
    bytes: int = 0
    bare_bytes: int = 0
    month_seconds: float = 0.0
    rows_seconds: float = 0.0
    bare_query_seconds: float = 0.0
    notes: list[str] = field(default_factory=list[str])


class Bare(Protocol):
    """The engine alone: the columns of a call under its key, in batches of the same size, as durable."""

    def insert(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """One batch, committed."""
        ...

    def query(self) -> int:
        """Sums by model over all rows; how many groups."""
        ...


_GROUPED: Final = "SELECT model, COUNT(*), SUM(input_tokens), SUM(cost / 1000000) FROM bare GROUP BY model"
_SQL_TYPE: Final = {"text": "TEXT", "json": "TEXT", "float": "DOUBLE PRECISION"}
_TYPES: Final = {name: _SQL_TYPE.get(KINDS.get(name, "int"), "BIGINT") for name in STORED} | {"more": "TEXT"}


class BareSqlite:
    """WAL, synced."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        for pragma in ("page_size = 8192", "journal_mode = WAL", "synchronous = FULL", "cache_size = -65536"):
            self._db.execute(f"PRAGMA {pragma}")
        types = _TYPES | {"call_id": "BLOB PRIMARY KEY"}
        columns = ", ".join(f'"{name}" {kind}' for name, kind in types.items())
        self._db.execute(f"CREATE TABLE bare ({columns}) WITHOUT ROWID")
        self._insert = f"INSERT INTO bare VALUES ({', '.join('?' * len(STORED))})"

    def insert(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """One batch, committed."""
        self._db.execute("BEGIN")
        self._db.executemany(self._insert, rows)
        self._db.execute("COMMIT")

    def query(self) -> int:
        """Sums by model over all rows; how many groups."""
        return len(self._db.execute(_GROUPED).fetchall())


class BarePostgres:
    """COPY into a table with the key."""

    def __init__(self, url: str) -> None:
        import psycopg

        self._db = psycopg.connect(url)
        types = _TYPES | {"call_id": "bytea PRIMARY KEY"}
        columns = ", ".join(f'"{name}" {kind}' for name, kind in types.items())
        self._db.execute(f"CREATE TABLE bare ({columns})".encode())
        self._db.commit()

    def insert(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """One batch, committed."""
        with self._db.cursor().copy("COPY bare FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        self._db.commit()

    def query(self) -> int:
        """Sums by model over all rows; how many groups."""
        return len(self._db.execute(_GROUPED).fetchall())

    def size(self) -> tuple[int, int]:
        """Bytes of the bare table, and of all the others."""
        row = self._db.execute("SELECT pg_total_relation_size('bare'), pg_database_size(current_database())").fetchone()
        assert row is not None
        return row[0], row[1] - row[0]


class BareClickHouse:
    """Lines of JSON into MergeTree, synced."""

    def __init__(self, client: Any) -> None:
        self._client = client
        types = {"TEXT": "Nullable(String)", "BIGINT": "Nullable(Int64)", "DOUBLE PRECISION": "Nullable(Float64)"}
        columns = ", ".join(
            f"`{name}` {'String' if name == 'call_id' else types[kind]}" for name, kind in _TYPES.items()
        )
        client.command(
            f"CREATE TABLE bare ({columns}) ENGINE = MergeTree ORDER BY call_id "
            "SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"
        )

    def insert(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """One batch, committed."""
        lines = (orjson.dumps(dict(zip(STORED, row, strict=True)), default=bytes.hex) for row in rows)
        self._client.raw_insert("bare", insert_block=b"\n".join(lines), fmt="JSONEachRow")

    def query(self) -> int:
        """Sums by model over all rows; how many groups."""
        return len(self._client.query(_GROUPED.replace("/ 1000000", "")).result_rows)


def fill(figures: Figures, events: Events, store: Store, bare: Bare) -> None:
    """The same groups into both, one after the other."""
    for batch, now_ns in events.groups():
        calls = alike([{**record.values, "call_id": record.key, "usage": "[]"} for record in batch.records])
        rows = [row for columns in calls for row in zip(*packed(columns, (1,) * columns.count), strict=True)]
        figures.bare_seconds += took(lambda rows=rows: bare.insert(rows))
        figures.ingest_seconds += took(lambda batch=batch, now_ns=now_ns: _write(store, batch, now_ns))
    figures.bare_query_seconds = least(bare.query)


def _write(store: Store, batch: Batch, now_ns: int) -> None:
    (tally,) = store.write([batch], (), now_ns).tallies
    assert tally.accepted == len(batch.records)
    store.commit()


def ask(figures: Figures, reader: Reader) -> None:
    """A month by tenant and model, which the roll-ups know; by tenant and host, which they do not."""
    assert reader.totals()[0] == figures.events
    figures.month_seconds = least(lambda: reader.report(ROLLED_UP))
    figures.rows_seconds = least(lambda: reader.report(FROM_ROWS))


class Clock:
    """CPU time of this process, all its threads, and of a server's processes: what others do here plays no part."""

    server: int | None = None
    """Process id of the server."""

    def now(self) -> float:
        """Seconds."""
        return time.process_time() + (0.0 if self.server is None else sum(self._ticks(self.server)) / _TICKS)

    def _ticks(self, parent: int) -> Iterator[int]:
        for file in Path("/proc").glob("[0-9]*/stat"):
            try:
                # After the name, which may hold anything: state, parent, …; user and system time are 11 further,
                # then those of its children that have ended.
                fields = file.read_text(encoding="utf-8").rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                yield int(fields[11]) + int(fields[12])
            elif file.parent.name == str(parent):
                yield sum(map(int, fields[11:15]))


_TICKS: Final = os.sysconf("SC_CLK_TCK")
CLOCK: Final = Clock()


def took(what: Callable[[], object]) -> float:
    """CPU seconds."""
    start = CLOCK.now()
    what()
    return CLOCK.now() - start


def least(what: Callable[[], object]) -> float:
    """Seconds of the best of three."""
    return min(took(what) for _ in range(3))


def sqlite_store(events: Events, place: Path) -> Iterator[Figures]:
    """The embedded store, and its days as Parquet."""
    figures = Figures("SQLite", events.count)
    store = SqliteStore(place / "ledger.db", Bounds({}, 200, 10_000), clock=lambda: MONTH_NS)
    store.open()
    fill(figures, events, store, BareSqlite(place / "bare.db"))
    store.close()
    figures.bytes, figures.bare_bytes = size(place, "ledger.db*"), size(place, "bare.db*")
    with closing(SqliteReader(place / "ledger.db")) as reader:
        ask(figures, reader)
        yield figures
        yield _parquet(events, place, reader, figures)


def _parquet(events: Events, place: Path, reader: Reader, sqlite: Figures) -> Figures:
    figures = Figures("Parquet, DuckDB", events.count, notes=["written from SQLite; bare: DuckDB, from lines of JSON"])
    lines = place / "bare.json"
    with lines.open("wb") as file:
        for row in reader.calls(ROLLED_UP):
            file.write(orjson.dumps(row, default=bytes.hex, option=orjson.OPT_APPEND_NEWLINE))
    import duckdb

    with duckdb.connect() as db:
        copy = f"COPY (FROM read_json('{lines}')) TO '{place / 'bare.parquet'}' (COMPRESSION zstd)"
        figures.bare_seconds = took(lambda: db.execute(copy))
        figures.bare_bytes = (place / "bare.parquet").stat().st_size
        grouped = _GROUPED.replace("bare", f"read_parquet('{place / 'bare.parquet'}')")
        figures.bare_query_seconds = least(lambda: db.execute(grouped).fetchall())
    with closing(Archive(place / "days")) as archive:
        figures.ingest_seconds = took(lambda: list(export_days(reader, archive, date(2027, 1, 1), "parquet")))
    figures.bytes = size(place, "days/*/*")
    with closing(open_archive(place / "days")) as archive:
        figures.month_seconds = least(lambda: archive.report(ROLLED_UP))
        figures.rows_seconds = least(lambda: archive.report(FROM_ROWS))
        assert archive.report(FROM_ROWS) == reader.report(FROM_ROWS)
    assert sqlite.events == figures.events
    return figures


def postgres_store(events: Events, place: Path) -> Iterator[Figures]:
    """A server of its own, synced."""
    from genai_meter_exporter.store.postgres import PostgresStore
    from genai_meter_exporter.store.postgres_reader import PostgresReader

    from tests.postgres_kit import served

    figures = Figures("PostgreSQL", events.count)
    with served(synced=True) as server:
        url = server.url("ledger")
        CLOCK.server = server.process.pid
        bare = BarePostgres(url)
        store = PostgresStore(url, Bounds({}, 200, 10_000), instance="one", clock=lambda: MONTH_NS)
        store.open()
        fill(figures, events, store, bare)
        store.close()
        figures.bare_bytes, figures.bytes = bare.size()
        with closing(PostgresReader(url)) as reader:
            ask(figures, reader)
        CLOCK.server = None
        yield figures


def clickhouse_store(events: Events, place: Path) -> Iterator[Figures]:
    """The engine in this process; the journal is synced, rows are moved after each twelve commits."""
    from genai_meter_exporter.store.clickhouse import ClickHouseStore
    from genai_meter_exporter.store.clickhouse_reader import ClickHouseReader, connect

    from tests import clickhouse_kit

    figures = Figures(
        "ClickHouse (chdb)", events.count, notes=["writing the journal and moving from it are both in the rate"]
    )
    url = clickhouse_kit.new_database()
    client = connect(url)
    store = ClickHouseStore(
        place / "journal.db", url, Bounds({}, 200, 10_000), instance="one", move_seconds=0, clock=lambda: MONTH_NS
    )
    store.open()
    fill(figures, events, store, BareClickHouse(client))

    def move() -> None:
        while store.mover.move():
            pass

    figures.move_seconds = took(move)
    store.close()
    for name in ("call", "rollup", "bare"):
        client.command(f"OPTIMIZE TABLE {name} FINAL")
    sizes = dict(
        client.query(
            "SELECT table, sum(bytes_on_disk) FROM system.parts "
            "WHERE active AND database = currentDatabase() GROUP BY 1"
        ).result_rows
    )
    figures.bare_bytes = sizes.pop("bare")
    figures.bytes = sum(sizes.values())
    figures.notes.append(
        f"its journal: {size(place, 'journal.db*') / events.count:.0f} bytes an event while it is kept"
    )
    with closing(ClickHouseReader(url)) as reader:
        ask(figures, reader)
    yield figures


STORES: Final = {"sqlite": sqlite_store, "postgres": postgres_store, "clickhouse": clickhouse_store}


def size(place: Path, pattern: str) -> int:
    """Bytes of files."""
    return sum(path.stat().st_size for path in place.glob(pattern))


HEADINGS: Final = [
    "store",
    "events",
    "events per CPU second",
    "÷ bare engine",
    "bytes/event",
    "÷ bare engine",
    "month from roll-ups",
    "month from rows",
    "bare: all rows by model",
]


NAMES: Final = ("SQLite", "Parquet, DuckDB", "PostgreSQL", "ClickHouse (chdb)")
"""In the order of the table."""


def page(found: Sequence[Figures], before: str = "") -> str:
    """The file; stores that were not run keep what `before` says of them."""
    rows, notes = _written(before)
    for figures in found:
        rows[figures.store] = _row(figures)
        notes[figures.store] = f"- {figures.store}: {'; '.join(_notes(figures))}."
    return "\n".join(
        [
            "# Stores",
            "",
            f"Written by `make stores`. The same events into every store, in groups of {GROUP:,}, synced before",
            "they are acknowledged, with linking, roll-ups and counters; the bare engine beside it gets the columns of",
            "the calls alone, in the same groups, in turn. Seconds are of CPU time, the server's included: the ratios",
            "are what counts. Ingest is what the store itself takes: parsing and pricing are in RESULTS.md. A group of",
            "these events touches nearly as many roll-up cells as it has events, which is the dearest case.",
            "",
            table(HEADINGS, [rows[name] for name in NAMES if name in rows]),
            "",
            *(notes[name] for name in NAMES if name in notes),
            "",
        ]
    )


def _written(text: str) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Rows and notes of a file, by store."""
    rows: dict[str, list[str]] = {}
    notes: dict[str, str] = {}
    for line in text.splitlines():
        for name in NAMES:
            if line.startswith(f"| {name} |"):
                rows[name] = [cell.strip() for cell in line.strip("|").split("|")]
            elif line.startswith(f"- {name}: "):
                notes[name] = line
    return rows, notes


def _row(figures: Figures) -> list[str]:
    seconds = figures.ingest_seconds + figures.move_seconds
    return [
        figures.store,
        f"{figures.events:,}",
        f"{figures.events / seconds:,.0f}",
        f"{figures.bare_seconds / seconds:.2f}",
        f"{figures.bytes / figures.events:.0f}",
        f"{figures.bytes / figures.bare_bytes:.2f}",
        f"{figures.month_seconds * 1000:,.0f} ms",
        f"{figures.rows_seconds * 1000:,.0f} ms",
        f"{figures.bare_query_seconds * 1000:,.0f} ms",
    ]


def _notes(figures: Figures) -> Iterator[str]:
    rate, width = figures.events / figures.bare_seconds, figures.bare_bytes / figures.events
    yield f"bare {rate:,.0f} rows per CPU second, {width:.0f} bytes each"
    if figures.move_seconds:
        yield f"{figures.ingest_seconds:.0f} s into the journal, {figures.move_seconds:.0f} s from there"
    yield from figures.notes


def main() -> None:
    """Run; each store in a directory that is removed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--store", action="append", choices=tuple(STORES), help="only this one; may be repeated")
    options = parser.parse_args()
    found: list[Figures] = []
    for name in options.store or STORES:
        with ExitStack() as stack:
            place = Path(tempfile.mkdtemp(prefix=f"genai-meter-{name}-"))
            stack.callback(shutil.rmtree, place, ignore_errors=True)
            for figures in STORES[name](Events(options.events), place):
                found.append(figures)
                print(page(found), flush=True)
                # At once: hours of work are not lost with the last store.
                before = PLACE.read_text(encoding="utf-8") if PLACE.exists() else ""
                PLACE.write_text(page([figures], before), encoding="utf-8")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"peak memory {memory} MiB; {subprocess.run(['nproc'], capture_output=True, text=True).stdout.strip()} CPUs")


if __name__ == "__main__":
    main()
