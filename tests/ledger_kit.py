"""A store with its counters, and records of several producers, for the ledger's tests."""

from __future__ import annotations

import uuid
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from exporter_kit import NOW, Event, SpanOf, logs, traces
from genai_meter_exporter import series
from genai_meter_exporter.bounds import Bounds
from genai_meter_exporter.cells import DIMENSIONS
from genai_meter_exporter.charging import charge
from genai_meter_exporter.normalise import Batch, normalise
from genai_meter_exporter.receive import protobuf
from genai_meter_exporter.store import Query
from genai_meter_exporter.store.base import Price, Reader, Restored, Store, Tally, Written
from genai_meter_exporter.store.reader import SqliteReader
from genai_meter_exporter.store.sqlite import SqliteStore


class Ledger:
    """A store with its counters, opened and reopened."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self._options = options
        self.counters: dict[series.SeriesKey, int] = {}
        self.open()

    def make(self) -> Store:
        """A store over what is there."""
        return SqliteStore(self.path, Bounds({}, 1000, 10_000), clock=lambda: NOW, **self._options)

    def reader(self) -> Any:
        """Another way in, that reads only."""
        return SqliteReader(self.path)

    def open(self) -> Restored:
        """Open it; the counters are those of the store."""
        self.store = self.make()
        restored = self.store.open()
        self.counters = dict(restored.values)
        return restored

    def reopen(self) -> None:
        """Close and open: nothing may have changed."""
        before = self.counters
        self.store.close()
        self.open()
        assert self.counters == before

    def settle(self) -> None:
        """Wait for what happens after the commit."""

    def put(self, *batches: Batch, now: int = NOW) -> list[Tally]:
        """Write and commit in one transaction."""
        return self._commit(self.store.write(batches, (), now))

    def revise(self, call_id: bytes, price: Price, reason: str) -> None:
        """Give a call another price."""
        self._commit(self.store.revise(call_id, price, reason, NOW))

    def revise_pending(self, limit: int) -> bool:
        """Carry out revisions that were asked for; False when there were none."""
        written = self.store.revise_pending(limit, NOW)
        if written is None:
            return False
        self._commit(written)
        return True

    def _commit(self, written: Written) -> list[Tally]:
        self.store.commit()
        for key, amount in written.deltas.values.items():
            assert amount >= 0
            self.counters[key] = self.counters.get(key, 0) + amount
        return written.tallies

    def send(self, *records: Event | SpanOf, now: int = NOW) -> Tally:
        """Put events and spans, in their order, as one batch."""
        (tally,) = self.put(batch_of(records), now=now)
        return tally

    def rows(self) -> dict[bytes, dict[str, Any]]:
        """The whole ledger."""
        return {row["call_id"]: dict(row) for row in self.store.rows(b"")}

    def total(self, family: series.Family) -> int:
        """Sum of a counter family."""
        return sum(amount for (name, _), amount in self.counters.items() if name == family.name)

    def check(self) -> None:
        """Counters and roll-ups equal the ledger, row by row."""
        rows = list(self.rows().values())
        assert self.total(series.LEDGER_EVENTS) - self.total(series.LEDGER_WITHDRAWN) == len(rows)
        cost = sum(row["cost"] or 0 for row in rows)
        assert self.total(series.LEDGER_COST) - self.total(series.LEDGER_CREDIT) == cost
        assert self.total(series.COST_USD) - self.total(series.CREDIT) == cost
        reader = self.reader()
        try:
            assert reader.totals() == (len(rows), cost)
            # An odd bound, far outside, makes the report read the rows instead of the roll-ups.
            by = tuple(name for name in DIMENSIONS)
            assert reader.report(Query(by)) == reader.report(Query(by, since_ns=1))
        finally:
            reader.close()


class PostgresLedger(Ledger):
    """A ledger in a schema of its own in a PostgreSQL database; several instances may share it."""

    def __init__(self, url: str, *, instance: str = "one", **options: Any) -> None:
        self.url = url
        self.instance = instance
        super().__init__(Path("unused"), **options)

    @classmethod
    def new(cls, database: str, **options: Any) -> PostgresLedger:
        """An empty one."""
        import psycopg

        schema = f"ledger_{uuid.uuid4().hex}"
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {schema}".encode())
        return cls(f"{database}?options=-csearch_path%3D{schema}", **options)

    def make(self) -> Store:
        """A store over what is there."""
        from genai_meter_exporter.store.postgres import PostgresStore

        bounds = Bounds({}, 1000, 10_000)
        return PostgresStore(self.url, bounds, instance=self.instance, clock=lambda: NOW, **self._options)

    def reader(self) -> Any:
        """Another way in, that reads only."""
        from genai_meter_exporter.store.postgres_reader import PostgresReader

        return PostgresReader(self.url)


class ClickHouseLedger(Ledger):
    """A journal, and a database of ClickHouse that gets its rows before anybody reads them."""

    def __init__(self, path: Path, url: str, *, instance: str = "one", **options: Any) -> None:
        self.url = url
        self.instance = instance
        super().__init__(path, **options)

    def make(self) -> Store:
        """A store over what is there; it moves rows when it is told to."""
        from genai_meter_exporter.store.clickhouse import ClickHouseStore

        bounds = Bounds({}, 1000, 10_000)
        options: dict[str, Any] = {"move_seconds": 0.0, **self._options}
        return ClickHouseStore(self.path, self.url, bounds, instance=self.instance, clock=lambda: NOW, **options)

    def settle(self) -> None:
        """Move rows until nothing is left."""
        from genai_meter_exporter.store.clickhouse import ClickHouseStore

        assert isinstance(self.store, ClickHouseStore)
        while self.store.mover.move():
            pass

    def reader(self) -> Any:
        """What is in ClickHouse; asking moves first."""
        from genai_meter_exporter.store.clickhouse_reader import ClickHouseReader

        self.settle()
        return _Moved(self, ClickHouseReader(self.url))


class _Moved:
    """A reader that sees what was written before each question."""

    def __init__(self, ledger: ClickHouseLedger, reader: Reader) -> None:
        self._ledger = ledger
        self._reader = reader

    def __getattr__(self, name: str) -> Any:
        if name == "pending":
            # Revisions wait in the journal.
            return SqliteReader(self._ledger.path).pending
        if name != "close":
            self._ledger.settle()
        return getattr(self._reader, name)


ENGINES = ("sqlite", "postgres", "clickhouse")
LINKING = ("sqlite", "postgres", pytest.param("clickhouse", marks=pytest.mark.slow))
"""Behind ClickHouse it is SQLite that links: `make stores` looks at it too."""


def ledger_of_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Ledger]:
    """An empty ledger of the engine that the fixture is parametrised with."""
    if request.param == "sqlite":
        ledger = Ledger(tmp_path / "ledger.db")
    elif request.param == "clickhouse":
        import clickhouse_kit

        ledger = ClickHouseLedger(tmp_path / "journal.db", clickhouse_kit.new_database())
    else:
        ledger = PostgresLedger.new(request.getfixturevalue("postgres"))
    yield ledger
    ledger.store.close()


def batch_of(records: Sequence[Event | SpanOf]) -> Batch:
    """Events and spans as one normalised and priced batch, as they come from their own requests."""
    joined = Batch()
    for record in records:
        if isinstance(record, Event):
            batch = normalise(protobuf.parse("logs", logs([record]).SerializeToString()))
        else:
            batch = normalise(protobuf.parse("traces", traces([record]).SerializeToString()))
        assert not batch.quarantined, batch.quarantined
        joined.records += batch.records
        joined.parents += batch.parents
    charge(joined)
    return joined


def foreign_span(
    *, number: int = 1, input_tokens: int | None = 1000, output_tokens: int | None = 100, **changes: Any
) -> SpanOf:
    """An inference span of another producer about the same call as `usage_event`."""
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
    }
    if input_tokens is not None:
        attributes["gen_ai.usage.input_tokens"] = input_tokens
    if output_tokens is not None:
        attributes["gen_ai.usage.output_tokens"] = output_tokens
    if response_id := changes.pop("response_id", None):
        attributes["gen_ai.response.id"] = response_id
    attributes |= changes.pop("attributes", {})
    span = SpanOf(attributes, span_id=number.to_bytes(8, "big"), trace_id=b"\x01" * 16)
    return replace(span, **changes)
