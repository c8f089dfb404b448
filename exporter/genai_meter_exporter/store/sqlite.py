"""The SQLite ledger: WAL, one writer, everything of a batch in one transaction."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import orjson

from genai_meter_exporter import series
from genai_meter_exporter.bounds import Bounds
from genai_meter_exporter.cells import DIMENSIONS
from genai_meter_exporter.normalise.own import time_prefix
from genai_meter_exporter.normalise.record import Batch, Beside, Quarantined
from genai_meter_exporter.series import SeriesKey
from genai_meter_exporter.store import beside, linking, quarantine, rows
from genai_meter_exporter.store.adopting import adopt
from genai_meter_exporter.store.base import Kept, Past, Price, Restored, StoreError, Written
from genai_meter_exporter.store.gains import count_tallies, gains, quarantine_rows, refuse_retired
from genai_meter_exporter.store.linking import LinkingIndex
from genai_meter_exporter.store.migrations import migrate
from genai_meter_exporter.store.placing import Placing
from genai_meter_exporter.store.sqlite_rows import MICRO, SqliteRows, labels_json

_PAGE_BYTES: Final = 8192
"""A row of a call fits into a quarter of a page: without overflow pages the file is half as large."""

_PARENTS_PENDING: Final = 100_000
"""Spans that wait for a commit; beyond it the oldest are forgotten."""

_UPSERT_QUARANTINE: Final = (
    "INSERT INTO quarantine VALUES (?, ?, ?, ?, ?, ?, ?, 1) "
    "ON CONFLICT DO UPDATE SET last_seen = excluded.last_seen, times = times + 1"
)


class SqliteStore:
    """The one writer of a store file. Used by one thread after `open`."""

    alone = True
    embedded = True
    _rows_type = SqliteRows

    def __init__(
        self,
        path: Path,
        bounds: Bounds,
        *,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        window_ns: int = 600_000_000_000,
        quarantine_rows: int = 10_000,
        busy_seconds: float = 5.0,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._path = path
        self._bounds = bounds
        self._synchronous = synchronous
        self._window_ns = window_ns
        self._quarantine_rows = quarantine_rows
        self._busy_seconds = busy_seconds
        self._clock = clock
        self._index = LinkingIndex(window_ns)
        self._parents: list[bytes] = []
        """Spans and their parents, not committed yet."""
        self._lock: int | None = None
        self.syncs = 0

    def open(self) -> Restored:
        """Lock, migrate, rebuild the linking index; returns the counters."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self._path)
            self._db = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=self._busy_seconds
            )
            self._db.row_factory = sqlite3.Row
            self._db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute(f"PRAGMA synchronous = {self._synchronous}")
            self._db.execute("PRAGMA cache_size = -65536")
            migrate(self._db, str(self._path))
            self._rows = self._rows_type(self._db)
            self._raw_since = _raw_since(self._db)
            self._build_index(self._clock())
            return self._restore()
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"the store {self._path} cannot be opened: {error}") from error

    def write(self, batches: Sequence[Batch], shown: Sequence[SeriesKey], now_ns: int) -> Written:
        """Write batches in a transaction that stays open; raises `StoreError` and leaves nothing behind."""
        with self._transaction():
            return self._write(batches, shown, now_ns)

    def revise(self, call_id: bytes, price: Price, reason: str, now_ns: int) -> Written:
        """Give a call another price in a transaction that stays open; the old one is kept as a revision."""
        with self._transaction():
            placing = Placing(self._rows, self._index, now_ns)
            placing.revise(call_id, price, reason)
            deltas = gains(placing, self._bounds)
            self._rows.add_sums(deltas.cells, deltas)
            return Written([], deltas)

    def revise_pending(self, limit: int, now_ns: int) -> Written | None:
        """Carry out revisions that were asked for, in a transaction that stays open; None when there are none."""
        try:
            found = self._db.execute("SELECT * FROM pending_revision ORDER BY call_id LIMIT ?", (limit,)).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"the store cannot be read: {error}") from error
        if not found:
            return None
        with self._transaction():
            placing = Placing(self._rows, self._index, now_ns)
            for row in found:
                if self._rows.get(row["call_id"]) is not None:
                    placing.revise(row["call_id"], rows.price_of(row["price"]), row["reason"])
            keys = [(row["call_id"],) for row in found]
            self._db.executemany("DELETE FROM pending_revision WHERE call_id = ?", keys)
            deltas = gains(placing, self._bounds)
            self._rows.add_sums(deltas.cells, deltas)
            return Written([], deltas)

    def quarantine_pending(self, limit: int) -> list[Kept]:
        """Records of the quarantine that somebody has asked to be read again."""
        try:
            return quarantine.pending(quarantine.sqlite_execute(self._db), limit)
        except sqlite3.Error as error:
            raise StoreError(f"the store cannot be read: {error}") from error

    def adopt(self, past: Sequence[Past], events: Sequence[Beside], now_ns: int) -> Written:
        """Take over calls and events of another store as they are, in a transaction that stays open."""
        with self._transaction():
            placing = Placing(self._rows, self._index, now_ns)
            tally = adopt(self._rows, placing, past, self._raw_since)
            deltas = gains(placing, self._bounds)
            beside.write(self._db, events, deltas, self._bounds, now_ns)
            self._rows.add_sums(deltas.cells, deltas)
            self._rows.keep_recent(now_ns, now_ns - self._window_ns)
            return Written([tally], deltas)

    def learn(self, parents: Iterable[tuple[bytes, bytes]]) -> None:
        """The way up from spans that are no usage (trace id + span id, parent span id); kept with the next commit."""
        known = list(parents)
        self._index.learn_parents(known)
        self._parents += [span + parent for span, parent in known if len(span) == 24 and len(parent) == 8]
        del self._parents[:-_PARENTS_PENDING]

    def commit(self) -> None:
        """Make the open transaction durable; raises `StoreError` and leaves nothing behind."""
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._undo()
            raise StoreError(f"the store cannot commit: {error}") from error
        self._parents.clear()
        if self._synchronous == "FULL":
            # In WAL mode FULL syncs the log before COMMIT returns; NORMAL syncs at checkpoints only.
            self.syncs += 1

    def probe(self, size: int = 0) -> None:
        """Give the open transaction so many bytes to commit; raises `StoreError` and leaves nothing behind."""
        try:
            value = "zeroblob(?)" if size else "?"
            self._db.execute(f"INSERT OR REPLACE INTO probe VALUES (1, {value})", (size or self._clock(),))
        except sqlite3.Error as error:
            self._undo()
            raise StoreError(f"the store cannot commit: {error}") from error

    def leads(self) -> bool:
        """The file has one writer."""
        return True

    def retire(self, before_ns: int, limit: int) -> int:
        """Remove calls that started before, `limit` at most, and commit; their sums stay. How many they were."""
        with self._transaction():
            found = self._db.execute(
                "SELECT call_id FROM call WHERE call_id < ? ORDER BY call_id LIMIT ?", (time_prefix(before_ns), limit)
            )
            keys = [(row["call_id"],) for row in found]
            for table, column in (("call", "call_id"), ("linked", "charge"), ("revision", "call_id")):
                self._db.executemany(f"DELETE FROM {table} WHERE {column} = ?", keys)
            self._db.execute(
                "INSERT INTO fact VALUES ('raw_since', ?) ON CONFLICT DO UPDATE SET value = MAX(value, excluded.value)",
                (before_ns,),
            )
        self.commit()
        self._raw_since = max(self._raw_since, before_ns)
        for (key,) in keys:
            self._index.forget(key)
        return len(keys)

    def top(self, dimension: str, limit: int) -> list[str]:
        """The values of a dimension with the highest cost, best first."""
        if dimension not in DIMENSIONS:
            return []
        found = self._db.execute(
            f"SELECT {dimension} AS value FROM rollup_day JOIN cell ON cell.id = rollup_day.cell "
            "GROUP BY 1 ORDER BY SUM(cost_micro) DESC, 1 LIMIT ?",
            (limit,),
        )
        return [row["value"] for row in found]

    def rows(self, since: bytes) -> Iterator[Mapping[str, Any]]:
        """Ledger rows from a key on, in order."""
        for row in self._db.execute("SELECT * FROM usage WHERE call_id >= ? ORDER BY call_id", (since,)):
            yield dict(row)

    def close(self) -> None:
        """Checkpoint and unlock."""
        self._db.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextlib.contextmanager
    def _transaction(self) -> Generator[None, None, None]:
        """Begin; whatever goes wrong is undone. The commit is the caller's."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise StoreError(f"the store cannot be written: {error}") from error
        self._index.begin()
        try:
            yield
        except sqlite3.Error as error:
            self._undo()
            raise StoreError(f"the store cannot be written: {error}") from error
        except BaseException:
            self._undo()
            raise

    def _write(self, batches: Sequence[Batch], shown: Sequence[SeriesKey], now_ns: int) -> Written:
        if self._raw_since:
            refuse_retired(batches, self._raw_since)
        self._index.expire(now_ns)
        placing = Placing(self._rows, self._index, now_ns)
        for batch in batches:
            self.learn(batch.parents)
        tallies = placing.place(batches)
        deltas = gains(placing, self._bounds)
        for batch in batches:
            if batch.retried:
                quarantine.settle(quarantine.sqlite_execute(self._db), batch.retried)
        self._quarantine([q for batch in batches for q in batch.quarantined], now_ns)
        beside.write(self._db, [event for batch in batches for event in batch.beside], deltas, self._bounds, now_ns)
        count_tallies(deltas, tallies)
        self._rows.add_sums(deltas.cells, deltas)
        self._db.executemany(
            "UPDATE counter SET shown = 1 WHERE family = ? AND labels = ?",
            [(family, labels_json(labels)) for family, labels in shown],
        )
        self._rows.keep_recent(now_ns, now_ns - self._window_ns)
        self._keep_parents(now_ns)
        return Written(tallies, deltas)

    def _keep_parents(self, now_ns: int) -> None:
        if self._parents:
            self._db.execute("DELETE FROM span_parent WHERE seen < ?", (now_ns - self._window_ns,))
            self._db.execute("INSERT INTO span_parent VALUES (?, ?)", (now_ns, b"".join(self._parents)))

    def _quarantine(self, records: Iterable[Quarantined], now_ns: int) -> None:
        entries = [(*row, now_ns, now_ns) for row in quarantine_rows(records)]
        if not entries:
            return
        self._db.executemany(_UPSERT_QUARANTINE, entries)
        self._db.execute(
            "DELETE FROM quarantine WHERE digest IN "
            "(SELECT digest FROM quarantine ORDER BY last_seen DESC LIMIT -1 OFFSET ?)",
            (self._quarantine_rows,),
        )

    def _undo(self) -> None:
        """Roll back, in the file and in memory."""
        self._index.rollback()
        self._rows.forget()
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise StoreError(f"the store cannot be read: {error}") from error

    def _build_index(self, now_ns: int) -> None:
        horizon = now_ns - self._window_ns
        self._db.execute("CREATE TEMP TABLE newest (call_id BLOB PRIMARY KEY) WITHOUT ROWID")
        self._db.executemany("INSERT OR IGNORE INTO newest VALUES (?)", ((key,) for key in self._rows.recent(horizon)))
        linked: dict[bytes, list[linking.UsageRecord]] = {}
        for row in self._db.execute(
            "SELECT linked.charge, linked.record FROM newest CROSS JOIN linked ON linked.charge = newest.call_id"
        ):
            values = orjson.loads(row["record"])
            linked.setdefault(row["charge"], []).append(rows.record_of(values, bytes.fromhex(values["call_id"])))
        columns = ", ".join(f'usage."{name}"' for name in linking.COLUMNS)
        charges = self._db.execute(
            f"SELECT {columns} FROM newest CROSS JOIN usage ON usage.call_id = newest.call_id "
            "WHERE usage.recorded_at >= ? ORDER BY usage.recorded_at",
            (horizon,),
        )
        linking.restore(
            self._index,
            (
                (rows.record_of(dict(row), row["call_id"]), row["recorded_at"], linked.get(row["call_id"], []))
                for row in charges
            ),
        )
        self._db.execute("DROP TABLE newest")
        for row in self._db.execute("SELECT spans FROM span_parent WHERE seen >= ? ORDER BY seen", (horizon,)):
            spans: bytes = row["spans"]
            self._index.learn_parents(
                (spans[start : start + 24], spans[start + 24 : start + 32]) for start in range(0, len(spans), 32)
            )
        self._index.begin()

    def _restore(self) -> Restored:
        restored = Restored()
        for row in self._db.execute("SELECT family, labels, hi, lo, shown FROM counter"):
            family = row["family"].partition(":")[0]
            if family not in series.LABELS:
                continue
            labels = tuple(orjson.loads(row["labels"]))
            key = row["family"], labels
            restored.values[key] = row["hi"] * MICRO + row["lo"]
            if row["shown"]:
                restored.shown.add(key)
            self._bounds.restore(family, series.LABELS[family], labels)
        for row in self._db.execute("SELECT * FROM last_event"):
            restored.last_events[row["team"], row["environment"], row["service"]] = row["time_ns"]
        return restored


def ask_for_revisions(path: Path, revisions: Sequence[tuple[bytes, str, str]]) -> None:
    """Leave other prices (JSON) and their reasons for the writer."""
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT OR REPLACE INTO pending_revision VALUES (?, ?, ?)", revisions)
            db.execute("COMMIT")
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be written: {error}") from None


def _raw_since(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT value FROM fact WHERE name = 'raw_since'").fetchone()
    return row["value"] if row else 0


@contextlib.contextmanager
def locked(path: Path) -> Generator[None]:
    """As long as this lasts, nobody writes the file; raises `StoreError` when an exporter does."""
    descriptor = _lock(path)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(path: Path) -> int:
    """One writer a file: the lock ends with the process, however it ends."""
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise StoreError(
            f"the store {path} is in use by another `genai-meter serve`: stop it, or give this one its own --data-dir"
        ) from None
    return descriptor
