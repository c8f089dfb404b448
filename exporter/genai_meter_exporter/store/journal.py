"""The SQLite ledger of one exporter in front of a larger store: it also keeps which rows that one has not yet got.

The journal makes durable and knows what is new; what has changed is noted in the same transaction, under a version that
only goes up. Whoever moves rows sends their present state with that version, and takes the note away when it is there:
after a crash between the two the same state is sent again under the same version.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Generator, Mapping, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

import orjson

from genai_meter_exporter.cells import COUNTS, DIMENSIONS, MONEY, Cell, Measures
from genai_meter_exporter.columns import Columns
from genai_meter_exporter.normalise.own import time_prefix
from genai_meter_exporter.normalise.record import Batch, Beside, Kind
from genai_meter_exporter.series import Deltas, SeriesKey
from genai_meter_exporter.store import beside
from genai_meter_exporter.store.base import Past, Price, Restored, StoreError, Written
from genai_meter_exporter.store.layout import OWN_VALUES, SHARED, unpack
from genai_meter_exporter.store.sqlite import SqliteStore
from genai_meter_exporter.store.sqlite_rows import MICRO, SqliteRows


class Table(IntEnum):
    """What a note is about."""

    CALL = 1
    LINKED = 2
    REVISION = 3
    OUTCOME = 4
    CACHE_HIT = 5
    ROLLUP = 6
    COUNTER = 7


_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS outbox ("
    "what INTEGER NOT NULL, key BLOB NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (what, key)) WITHOUT ROWID"
)
_NOTE: Final = "INSERT INTO outbox VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET version = excluded.version"
_NOTE_ALL: Final = (
    f"SELECT {Table.CALL}, call_id FROM call",
    f"SELECT {Table.LINKED}, CAST(call_id || source AS BLOB) FROM linked",
    f"SELECT {Table.REVISION}, CAST(call_id || printf('%d', revision) AS BLOB) FROM revision",
    f"SELECT {Table.OUTCOME}, id FROM outcome",
    f"SELECT {Table.CACHE_HIT}, id FROM cache_hit",
    f"SELECT {Table.ROLLUP}, CAST(printf('%d/%d', start, cell) AS BLOB) FROM rollup",
    f"SELECT {Table.COUNTER}, CAST(family AS BLOB) FROM counter WHERE labels = '[]'",
)
"""Everything that is there: a ledger that has been without a larger store before."""

_TABLES: Final[Mapping[Kind, Table]] = {"outcome": Table.OUTCOME, "cache_hit": Table.CACHE_HIT}


def _names(table: str, columns: Sequence[str]) -> str:
    return ", ".join(f"{table}.{name}" for name in columns)


_OWN: Final = _names("c", OWN_VALUES)
_SHARED: Final = _names("d", SHARED)
_SUMS: Final = ", ".join([*COUNTS, *(f"r.{name}_micro, r.{name}_pico" for name in MONEY)])
_SELECT: Final[Mapping[Table, str]] = {
    Table.CALL: f"SELECT o.key, o.version AS _version, {_OWN}, {_SHARED}, c.more FROM page AS o "
    "LEFT JOIN call AS c ON c.call_id = o.key LEFT JOIN cell AS d ON d.id = c.cell",
    Table.LINKED: "SELECT o.key, o.version AS _version, lower(hex(l.call_id)) AS call_id, l.source, "
    "lower(hex(l.charge)) AS charge, l.rule, l.recorded_at, l.record FROM page AS o JOIN linked AS l "
    "ON l.call_id = substr(o.key, 1, 16) AND l.source = CAST(substr(o.key, 17) AS TEXT)",
    Table.REVISION: "SELECT o.key, o.version AS _version, lower(hex(r.call_id)) AS call_id, r.revision, "
    "r.recorded_at, r.reason, r.price FROM page AS o JOIN revision AS r "
    "ON r.call_id = substr(o.key, 1, 16) AND r.revision = CAST(CAST(substr(o.key, 17) AS TEXT) AS INTEGER)",
    **{
        table: f"SELECT o.key, o.version AS _version, {_names('b', beside.COLUMNS[kind][1:])} "
        f"FROM page AS o JOIN {kind} AS b ON b.id = o.key"
        for kind, table in _TABLES.items()
    },
    Table.ROLLUP: f"SELECT o.key, o.version AS _version, r.start, r.cell, {_names('d', DIMENSIONS)}, {_SUMS} "
    "FROM (SELECT key, version, CAST(key AS TEXT) AS place FROM page) AS o "
    "JOIN rollup AS r ON r.start = CAST(o.place AS INTEGER) "
    "AND r.cell = CAST(substr(o.place, instr(o.place, '/') + 1) AS INTEGER) JOIN cell AS d ON d.id = r.cell",
    Table.COUNTER: "SELECT o.key, o.version AS _version, c.family, c.hi, c.lo FROM page AS o "
    "JOIN counter AS c ON c.family = CAST(o.key AS TEXT) AND c.labels = '[]'",
}
"""Table → the present rows of a page of the outbox."""


class JournalRows(SqliteRows):
    """Rows that remember what was changed."""

    def __init__(self, db: sqlite3.Connection) -> None:
        super().__init__(db)
        self.changed: set[tuple[int, bytes]] = set()

    def forget(self) -> None:
        """After a rollback nothing was changed."""
        super().forget()
        self.changed.clear()

    def insert(self, calls: Columns) -> None:
        """New calls."""
        super().insert(calls)
        self.changed.update((Table.CALL, key) for key in calls.told["call_id"])

    def delete(self, call_id: bytes) -> None:
        """A call that another record has replaced."""
        super().delete(call_id)
        self.changed.add((Table.CALL, call_id))

    def link(self, key: bytes, source: str, charge: bytes, rule: str, recorded_at: int, record: str) -> None:
        """Keep a record (JSON) beside the call it repeats; nothing happens when it is there."""
        super().link(key, source, charge, rule, recorded_at, record)
        self.changed.add((Table.LINKED, key + source.encode()))

    def add_link(self, call_id: bytes, link: str) -> None:
        """Name a linked record in its call's `links`."""
        super().add_link(call_id, link)
        self.changed.add((Table.CALL, call_id))

    def move_links(self, old: bytes, new: bytes) -> None:
        """What was linked to one call belongs to another."""
        for call_id, source in self._db.execute("SELECT call_id, source FROM linked WHERE charge = ?", (old,)):
            self.changed.add((Table.LINKED, call_id + source.encode()))
        super().move_links(old, new)

    def keep_revision(self, call_id: bytes, revision: int, recorded_at: int, reason: str, price: str) -> None:
        """What the price of a call was."""
        super().keep_revision(call_id, revision, recorded_at, reason, price)
        self.changed.add((Table.REVISION, call_id + b"%d" % revision))

    def set_columns(self, call_id: bytes, changed: Mapping[str, Any]) -> None:
        """Change columns of the table `call`."""
        super().set_columns(call_id, changed)
        self.changed.add((Table.CALL, call_id))

    def add_sums(self, rollup: Mapping[Cell, Measures], deltas: Deltas) -> None:
        """Roll-ups of both grains, counters, latest events: with the rows they follow from."""
        super().add_sums(rollup, deltas)
        ids = self._ids([dimensions for _, dimensions in rollup])
        starts = (start for start, _ in rollup)
        self.changed.update((Table.ROLLUP, b"%d/%d" % place) for place in zip(starts, ids, strict=True))
        self.changed.update((Table.COUNTER, family.encode()) for family, labels in deltas.values if not labels)


class Journal(SqliteStore):
    """The one writer of a journal file."""

    _rows_type = JournalRows

    def open(self) -> Restored:
        """Lock, migrate, rebuild the linking index; returns the counters."""
        restored = super().open()
        try:
            self._prepare()
        except sqlite3.Error as error:
            raise StoreError(f"the journal {self._path} cannot be opened: {error}") from error
        return restored

    def write(self, batches: Sequence[Batch], shown: Sequence[SeriesKey], now_ns: int) -> Written:
        """Write batches in a transaction that stays open; raises `StoreError` and leaves nothing behind."""
        written = super().write(batches, shown, now_ns)
        self._note({(_TABLES[event.kind], event.key) for batch in batches for event in batch.beside}, now_ns)
        return written

    def revise(self, call_id: bytes, price: Price, reason: str, now_ns: int) -> Written:
        """Give a call another price in a transaction that stays open; the old one is kept as a revision."""
        written = super().revise(call_id, price, reason, now_ns)
        self._note(set(), now_ns)
        return written

    def revise_pending(self, limit: int, now_ns: int) -> Written | None:
        """Carry out revisions that were asked for, in a transaction that stays open; None when there are none."""
        written = super().revise_pending(limit, now_ns)
        if written is not None:
            self._note(set(), now_ns)
        return written

    def adopt(self, past: Sequence[Past], events: Sequence[Beside], now_ns: int) -> Written:
        """Take over calls and events of another store as they are, in a transaction that stays open."""
        written = super().adopt(past, events, now_ns)
        self._note({(_TABLES[event.kind], event.key) for event in events}, now_ns)
        return written

    def retire(self, before_ns: int, limit: int) -> int:
        """Remove calls that started before, `limit` at most, and commit; none that has not been moved."""
        try:
            waiting = self._db.execute(
                "SELECT 1 FROM outbox WHERE what = ? AND key < ? LIMIT 1", (Table.CALL, time_prefix(before_ns))
            ).fetchone()
        except sqlite3.Error as error:
            raise StoreError(f"the journal cannot be read: {error}") from error
        return 0 if waiting else super().retire(before_ns, limit)

    def _prepare(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            fresh = not self._db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'outbox'").fetchone()
            self._db.execute(_SCHEMA)
            row = self._db.execute("SELECT value FROM fact WHERE name = 'version'").fetchone()
            self._version: int = row["value"] if row else 0
            if fresh:
                for everything in _NOTE_ALL:
                    self._db.execute(f"INSERT INTO outbox SELECT *, ? FROM ({everything})", (self._clock(),))
                self._set_version(self._clock())
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise

    def _note(self, more: set[tuple[int, bytes]], now_ns: int) -> None:
        """What the open transaction has changed, under a version of its own."""
        rows = self._rows
        assert isinstance(rows, JournalRows)
        changed = sorted(rows.changed | more)
        rows.changed.clear()
        if not changed:
            return
        try:
            self._set_version(now_ns)
            self._db.executemany(_NOTE, [(what, key, self._version) for what, key in changed])
        except sqlite3.Error as error:
            self._undo()
            raise StoreError(f"the journal cannot be written: {error}") from error

    def _set_version(self, now_ns: int) -> None:
        # The clock's, so that it goes on above what was there should the file be lost; kept, should the clock go back.
        self._version = max(self._version + 1, now_ns)
        self._db.execute(
            "INSERT INTO fact VALUES ('version', ?) ON CONFLICT DO UPDATE SET value = excluded.value", (self._version,)
        )


class Page:
    """A part of the outbox: rows as they are now, each a line of JSON."""

    def __init__(self, table: Table, notes: Sequence[tuple[int, bytes, int]], lines: list[bytes]) -> None:
        self.table = table
        self.notes = notes
        self.lines = lines


class Outbox:
    """The way of rows out of a journal; a connection of its own, for another thread than the writer's."""

    def __init__(self, path: Path, busy_seconds: float) -> None:
        self._path = path
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=busy_seconds)
        self._db.row_factory = sqlite3.Row
        self._db.execute("CREATE TEMP TABLE page (key BLOB PRIMARY KEY, version INTEGER) WITHOUT ROWID")

    def waiting(self) -> int:
        """Rows that have not been moved."""
        return self._db.execute("SELECT COUNT(*) FROM outbox").fetchone()[0]

    def page(self, table: Table, limit: int) -> Page | None:
        """The next rows of a table; None when there are none."""
        with self._transaction("BEGIN"):
            found = self._db.execute(
                "SELECT what, key, version FROM outbox WHERE what = ? ORDER BY key LIMIT ?", (table, limit)
            )
            notes = [(row["what"], row["key"], row["version"]) for row in found]
            if not notes:
                return None
            self._db.execute("DELETE FROM page")
            self._db.executemany("INSERT INTO page VALUES (?, ?)", [note[1:] for note in notes])
            write = _LINES.get(table, _plain)
            lines = [write(row) for row in self._db.execute(_SELECT[table])]
        return Page(table, notes, lines)

    def moved(self, page: Page) -> None:
        """The larger store has these rows; what has changed since stays in the outbox."""
        with self._transaction("BEGIN IMMEDIATE"):
            self._db.executemany("DELETE FROM outbox WHERE what = ? AND key = ? AND version = ?", page.notes)

    def fact(self, name: str) -> int:
        """A number that the journal keeps; 0 when it does not."""
        row = self._db.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return row["value"] if row else 0

    def keep(self, name: str, value: int) -> None:
        """Keep a number."""
        self._db.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Generator[None]:
        self._db.execute(begin)
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _call(row: sqlite3.Row) -> bytes:
    key: bytes = row["key"]
    gone = row["start"] is None
    first = {"_version": row["_version"], "call_id": key.hex(), "_month": month_of(key), "_gone": int(gone)}
    return orjson.dumps(first) if gone else unpack(row, first)


def _rollup(row: sqlite3.Row) -> bytes:
    values: dict[str, Any] = dict(row)
    del values["key"]
    for name in MONEY:
        # 128 bits are more than JSON's readers take for a number.
        values[name] = str(values.pop(f"{name}_micro") * MICRO + values.pop(f"{name}_pico"))
    return orjson.dumps(values)


def _counter(row: sqlite3.Row) -> bytes:
    value = str(row["hi"] * MICRO + row["lo"])
    return orjson.dumps({"family": row["family"], "value": value, "_version": row["_version"]})


def _event(row: sqlite3.Row) -> bytes:
    values = {name: row[name] for name in row.keys() if row[name] is not None}  # noqa: SIM118
    values["id"] = values.pop("key").hex()
    return orjson.dumps(values)


def _plain(row: sqlite3.Row) -> bytes:
    values: dict[str, Any] = dict(row)
    del values["key"]
    return orjson.dumps(values)


_LINES: Final = {
    Table.CALL: _call,
    Table.OUTCOME: _event,
    Table.CACHE_HIT: _event,
    Table.ROLLUP: _rollup,
    Table.COUNTER: _counter,
}

_FIRST_YEAR: Final = 2020
_LAST_YEAR: Final = 2100


def month_of(key: bytes) -> int:
    """The month that a key's time falls into (year × 100 + month); 0 for a key that is not of our time."""
    milliseconds = int.from_bytes(key[:6], "big")
    try:
        moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    except (ValueError, OverflowError):
        return 0
    return moment.year * 100 + moment.month if _FIRST_YEAR <= moment.year <= _LAST_YEAR else 0
