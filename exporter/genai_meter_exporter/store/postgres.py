"""The PostgreSQL ledger: several exporters, one ledger. One transaction writes at a time; each parses and prices alone.

Linking looks into the database, so that two accounts of a call meet wherever they arrive. Counters are each exporter's
own share, under its own name; the shares sum to the ledger.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import orjson
import psycopg
from psycopg.rows import DictRow, dict_row

from genai_meter_exporter import series
from genai_meter_exporter.bounds import Bounds
from genai_meter_exporter.cells import DIMENSIONS
from genai_meter_exporter.normalise.own import time_prefix
from genai_meter_exporter.normalise.record import Batch, Beside
from genai_meter_exporter.series import SeriesKey
from genai_meter_exporter.store import postgres_schema, quarantine, rows
from genai_meter_exporter.store.adopting import adopt
from genai_meter_exporter.store.base import Kept, Past, Price, Restored, StoreError, Written
from genai_meter_exporter.store.gains import count_tallies, gains, quarantine_rows, refuse_retired
from genai_meter_exporter.store.linking import LinkingIndex
from genai_meter_exporter.store.placing import Placing
from genai_meter_exporter.store.postgres_rows import PostgresRows
from genai_meter_exporter.store.postgres_schema import INSTANCE_LOCK, LEADER_LOCK, WRITER_LOCK, migrate

_WRITE: Final = "SELECT pg_advisory_xact_lock(%s, hashtext(current_schema()))"
_LEAD: Final = "SELECT pg_try_advisory_lock(%s, hashtext(current_schema())) AS mine"
_LEAD_NO_MORE: Final = "SELECT pg_advisory_unlock(%s, hashtext(current_schema()))"

_FILL_BYTES: Final = 1500
"""Of a row: longer ones would be compressed."""
_FILL: Final = "INSERT INTO probe SELECT %s || ' ' || number || repeat('-', %s), 0 FROM generate_series(1, %s) number"

_PARENTS_PENDING: Final = 100_000
"""Spans that wait for a commit; beyond it the oldest are forgotten."""


class PostgresStore:
    """One exporter's way into the ledger. Used by one thread after `open`."""

    alone = False
    embedded = False

    def __init__(
        self,
        url: str,
        bounds: Bounds,
        *,
        instance: str,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        window_ns: int = 600_000_000_000,
        quarantine_rows: int = 10_000,
        busy_seconds: float = 5.0,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._url = url
        self._bounds = bounds
        self._instance = instance
        self._synchronous = synchronous
        self._window_ns = window_ns
        self._quarantine_rows = quarantine_rows
        self._busy_seconds = busy_seconds
        self._clock = clock
        self._parents: dict[bytes, bytes] = {}
        """Spans and their parents, not committed yet."""
        self._restored: Restored | None = None
        """What the counters are by the database, after its connection had been lost."""
        self.syncs = 0

    def open(self) -> Restored:
        """Connect, migrate, take this instance's name; returns its counters."""
        return self._connect()

    def write(self, batches: Sequence[Batch], shown: Sequence[SeriesKey], now_ns: int) -> Written:
        """Write batches in a transaction that stays open; raises `StoreError` and leaves nothing behind."""
        with self._transaction():
            return self._write(batches, shown, now_ns)

    def revise(self, call_id: bytes, price: Price, reason: str, now_ns: int) -> Written:
        """Give a call another price in a transaction that stays open; the old one is kept as a revision."""
        with self._transaction():
            placing = Placing(self._rows, LinkingIndex(self._window_ns), now_ns)
            placing.revise(call_id, price, reason)
            deltas = gains(placing, self._bounds)
            self._rows.add_sums(placing.rollup(), deltas)
            return Written([], deltas, self._take_restored())

    def revise_pending(self, limit: int, now_ns: int) -> Written | None:
        """Carry out revisions that were asked for, in a transaction that stays open; None when there are none."""
        with self._transaction():
            found = self._db.execute("SELECT * FROM pending_revision ORDER BY call_id LIMIT %s", (limit,)).fetchall()
            if not found:
                self._db.rollback()
                return None
            placing = Placing(self._rows, LinkingIndex(self._window_ns), now_ns)
            for row in found:
                if self._rows.get(row["call_id"]) is not None:
                    placing.revise(row["call_id"], rows.price_of(row["price"]), row["reason"])
            keys = [row["call_id"] for row in found]
            self._db.execute("DELETE FROM pending_revision WHERE call_id = ANY(%s)", (keys,))
            deltas = gains(placing, self._bounds)
            self._rows.add_sums(placing.rollup(), deltas)
            return Written([], deltas, self._take_restored())

    def quarantine_pending(self, limit: int) -> list[Kept]:
        """Records of the quarantine that somebody has asked to be read again."""
        try:
            found = quarantine.pending(quarantine.postgres_execute(self._db), limit)
            self._db.commit()
        except psycopg.Error as error:
            self._undo()
            raise StoreError(f"the database cannot be read: {_told(error)}") from error
        return found

    def adopt(self, past: Sequence[Past], events: Sequence[Beside], now_ns: int) -> Written:
        """Take over calls and events of another store as they are, in a transaction that stays open."""
        with self._transaction():
            since = self._db.execute("SELECT value FROM fact WHERE name = 'raw_since'").fetchone()
            placing = Placing(self._rows, LinkingIndex(self._window_ns), now_ns)
            tally = adopt(self._rows, placing, past, since["value"] if since else 0)
            deltas = gains(placing, self._bounds)
            self._rows.add_beside(events, deltas, self._bounds, now_ns)
            self._rows.add_sums(deltas.cells, deltas)
            return Written([tally], deltas, self._take_restored())

    def learn(self, parents: Iterable[tuple[bytes, bytes]]) -> None:
        """The way up from spans that are no usage (trace id + span id, parent span id); kept with the next commit."""
        self._parents.update(parents)
        for _ in range(len(self._parents) - _PARENTS_PENDING):
            del self._parents[next(iter(self._parents))]

    def commit(self) -> None:
        """Make the open transaction durable; raises `StoreError` and leaves nothing behind."""
        try:
            self._db.commit()
        except psycopg.Error as error:
            # Whether it was committed is not known: the connection is made anew, and the counters are read again.
            self._db.close()
            raise StoreError(f"the database cannot commit: {_told(error)}") from error
        self._parents.clear()
        if self._synchronous == "FULL":
            self.syncs += 1

    def probe(self, size: int = 0) -> None:
        """Give the open transaction so many bytes to commit; raises `StoreError` and leaves nothing behind."""
        try:
            if size:
                self._db.execute(_FILL, (self._instance, _FILL_BYTES, size // _FILL_BYTES + 1))
                self._db.execute("DELETE FROM probe WHERE probed_at = 0")
            self._db.execute(
                "INSERT INTO probe VALUES (%s, %s) ON CONFLICT (instance) DO UPDATE SET probed_at = excluded.probed_at",
                (self._instance, self._clock()),
            )
        except psycopg.Error as error:
            self._undo()
            raise StoreError(f"the database cannot be written: {_told(error)}") from error

    def leads(self) -> bool:
        """This exporter does the calendar's work: one at a time, another one when it is gone."""
        try:
            row = self._db.execute(_LEAD, (LEADER_LOCK,)).fetchone()
            if row and row["mine"] and self._leading:
                # A lock taken twice must be given back twice.
                self._db.execute(_LEAD_NO_MORE, (LEADER_LOCK,))
            self._leading = bool(row and row["mine"])
            self._db.commit()
        except psycopg.Error:
            return False
        return self._leading

    def retire(self, before_ns: int, limit: int) -> int:
        """Remove calls that started before, `limit` at most, and commit; their sums stay. How many they were."""
        with self._transaction():
            found = self._db.execute(
                "SELECT call_id FROM call WHERE call_id < %s ORDER BY call_id LIMIT %s", (time_prefix(before_ns), limit)
            )
            keys = [row["call_id"] for row in found]
            for table, column in (("call", "call_id"), ("linked", "charge"), ("revision", "call_id")):
                self._db.execute(f"DELETE FROM {table} WHERE {column} = ANY(%s)".encode(), (keys,))
            self._db.execute(
                "INSERT INTO fact VALUES ('raw_since', %s) ON CONFLICT (name) "
                "DO UPDATE SET value = GREATEST(fact.value, excluded.value)",
                (before_ns,),
            )
        self.commit()
        return len(keys)

    def top(self, dimension: str, limit: int) -> list[str]:
        """The values of a dimension with the highest cost, best first."""
        if dimension not in DIMENSIONS:
            return []
        try:
            found = self._db.execute(
                f'SELECT cell."{dimension}" AS value FROM rollup_day JOIN cell ON cell.id = rollup_day.cell '
                "GROUP BY 1 ORDER BY SUM(cost) DESC, 1 LIMIT %s".encode(),
                (limit,),
            ).fetchall()
            self._db.commit()
        except psycopg.Error as error:
            self._undo()
            raise StoreError(f"the database cannot be read: {_told(error)}") from error
        return [row["value"] for row in found]

    def rows(self, since: bytes) -> Iterator[Mapping[str, Any]]:
        """Ledger rows from a key on, in order."""
        with self._connection() as reading, reading.cursor("rows") as cursor:
            yield from cursor.execute("SELECT * FROM usage WHERE call_id >= %s ORDER BY call_id", (since,))

    def close(self) -> None:
        """Let go of the database; another exporter may lead."""
        self._db.close()

    def _connection(self) -> psycopg.Connection[dict[str, Any]]:
        return psycopg.Connection[DictRow].connect(
            self._url,
            row_factory=dict_row,
            connect_timeout=max(round(self._busy_seconds), 2),
            application_name=f"genai-meter {self._instance}",
        )

    def _connect(self) -> Restored:
        try:
            self._db = self._connection()
            self._leading = False
            self._db.execute("SELECT set_config('lock_timeout', %s, false)", (f"{round(self._busy_seconds * 1000)}ms",))
            self._db.execute(f"SET synchronous_commit = {'on' if self._synchronous == 'FULL' else 'off'}")
            self._db.commit()
            self._take_name()
            migrate(self._db)
            self._db.commit()
            self._rows = PostgresRows(self._db, self._instance)
            return self._read_counters()
        except psycopg.Error as error:
            raise StoreError(f"the database cannot be opened: {_told(error)}") from error

    def _take_name(self) -> None:
        """One exporter a name: the lock ends with the connection, however it ends."""
        deadline = time.monotonic() + self._busy_seconds
        while True:
            row = self._db.execute(
                "SELECT pg_try_advisory_lock(%s, hashtext(current_schema() || '/' || %s)) AS mine",
                (INSTANCE_LOCK, self._instance),
            ).fetchone()
            self._db.commit()
            if row and row["mine"]:
                return
            if time.monotonic() > deadline:
                self._db.close()
                raise StoreError(
                    f"another exporter of this database is named {self._instance!r}: give each its own store.instance"
                )
            # A connection that was cut off may take a moment to end.
            time.sleep(0.1)

    @contextlib.contextmanager
    def _transaction(self) -> Generator[None, None, None]:
        """Begin; whatever goes wrong is undone. The commit is the caller's."""
        if self._db.closed:
            self._restored = self._connect()
        try:
            self._db.execute(_WRITE, (WRITER_LOCK,))
        except psycopg.Error as error:
            self._undo()
            raise StoreError(f"the database cannot be written: {_told(error)}") from error
        try:
            yield
        except psycopg.Error as error:
            self._undo()
            raise StoreError(f"the database cannot be written: {_told(error)}") from error
        except BaseException:
            self._undo()
            raise

    def _write(self, batches: Sequence[Batch], shown: Sequence[SeriesKey], now_ns: int) -> Written:
        since = self._db.execute("SELECT value FROM fact WHERE name = 'raw_since'").fetchone()
        if since:
            refuse_retired(batches, since["value"])
        for batch in batches:
            self.learn(batch.parents)
            _scrub(batch)
        self._keep_parents(batches, now_ns)
        placing = Placing(self._rows, self._rows.index_for(batches, self._window_ns, now_ns), now_ns)
        tallies = placing.place(batches)
        deltas = gains(placing, self._bounds)
        for batch in batches:
            if batch.retried:
                quarantine.settle(quarantine.postgres_execute(self._db), batch.retried)
        entries = quarantine_rows(q for batch in batches for q in batch.quarantined)
        self._rows.add_quarantine(entries, now_ns, self._quarantine_rows)
        self._rows.add_beside([e for batch in batches for e in batch.beside], deltas, self._bounds, now_ns)
        count_tallies(deltas, tallies)
        self._rows.add_sums(placing.rollup(), deltas)
        self._rows.mark_shown(shown)
        return Written(tallies, deltas, self._take_restored())

    def _keep_parents(self, batches: Sequence[Batch], now_ns: int) -> None:
        parents = dict(self._parents)
        for batch in batches:
            for record in batch.records:
                if record.span_id and record.parent_span_id:
                    parents[record.trace_id + record.span_id] = record.parent_span_id
        if parents:
            self._rows.add_parents(parents.items(), now_ns)
            self._db.execute("DELETE FROM span_parent WHERE seen < %s", (now_ns - self._window_ns,))

    def _take_restored(self) -> Restored | None:
        restored, self._restored = self._restored, None
        return restored

    def _undo(self) -> None:
        """Roll back, in the database and in memory."""
        self._rows.forget()
        try:
            self._db.rollback()
        except psycopg.Error:
            self._db.close()

    def _read_counters(self) -> Restored:
        restored = Restored()
        for row in self._db.execute(
            "SELECT family, labels, value, shown FROM counter WHERE instance = %s", (self._instance,)
        ):
            family = row["family"].partition(":")[0]
            if family not in series.LABELS:
                continue
            labels = tuple(orjson.loads(row["labels"]))
            key = row["family"], labels
            restored.values[key] = int(row["value"])
            if row["shown"]:
                restored.shown.add(key)
            self._bounds.restore(family, series.LABELS[family], labels)
        for row in self._db.execute("SELECT * FROM last_event"):
            restored.last_events[row["team"], row["environment"], row["service"]] = row["time_ns"]
        self._db.commit()
        return restored


def migrate_database(url: str, *, rehearse: bool) -> list[int]:
    """Bring the database to this version's schema, or only try: the versions it goes through."""
    try:
        with psycopg.Connection[DictRow].connect(url, row_factory=dict_row) as connection:
            return postgres_schema.rehearse(connection) if rehearse else migrate(connection)
    except psycopg.Error as error:
        raise StoreError(f"the database cannot be migrated: {_told(error)}") from None


def ask_for_revisions(url: str, revisions: Sequence[tuple[bytes, str, str]]) -> None:
    """Leave other prices (JSON) and their reasons for the exporter that leads."""
    try:
        with psycopg.connect(url) as connection, connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO pending_revision VALUES (%s, %s, %s) ON CONFLICT (call_id) "
                "DO UPDATE SET price = excluded.price, reason = excluded.reason",
                revisions,
            )
    except psycopg.Error as error:
        raise StoreError(f"the database cannot be written: {_told(error)}") from None


def _scrub(batch: Batch) -> None:
    """PostgreSQL's text cannot hold NUL."""
    for values in (*(record.values for record in batch.records), *(event.values for event in batch.beside)):
        for name, value in values.items():
            if type(value) is str and "\x00" in value:
                values[name] = value.replace("\x00", "\ufffd")


def _told(error: psycopg.Error) -> str:
    """The first line, without what was sent."""
    return str(error).partition("\n")[0]
