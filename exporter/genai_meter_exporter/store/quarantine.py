"""What could not be read: shown, read again by a later version, or thrown away. The same table in every engine."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from genai_meter_exporter.store.base import Kept, StoreError
from genai_meter_exporter.store.reader import existing

Execute = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
"""Runs one statement with `?` for its arguments; the rows it returns, as tuples."""

_COLUMNS: Final = "digest, signal, reason, producer, record, first_seen, last_seen, times"

RETRY_TABLE: Final = "CREATE TABLE quarantine_retry (digest {bytes} PRIMARY KEY)"
"""Records that somebody has asked to be read again; the writer does it."""


class Wanted(NamedTuple):
    """Which records are meant; all when nothing is said."""

    digest: str = ""
    """The first hex digits of their name."""
    producer: str = ""
    reason: str = ""
    """A part of the reason."""
    before_ns: int | None = None
    """Last seen before."""

    def condition(self) -> tuple[str, list[Any]]:
        """As SQL, and its arguments."""
        parts: list[str] = []
        arguments: list[Any] = []
        if self.digest:
            first = bytes.fromhex(self.digest.ljust(32, "0"))
            last = bytes.fromhex(self.digest.ljust(32, "f"))
            parts.append("digest BETWEEN ? AND ?")
            arguments += [first, last]
        if self.producer:
            parts.append("producer = ?")
            arguments.append(self.producer)
        if self.reason:
            escaped = self.reason.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
            parts.append("reason LIKE ? ESCAPE '\\'")
            arguments.append(f"%{escaped}%")
        if self.before_ns is not None:
            parts.append("last_seen < ?")
            arguments.append(self.before_ns)
        return " AND ".join(parts) or "1 = 1", arguments


class Quarantine:
    """The table, from another process than its writer's; one transaction."""

    def __init__(self, execute: Execute) -> None:
        self._execute = execute

    def groups(self, wanted: Wanted) -> list[tuple[str, str, str, int, int, int, int]]:
        """Producer, signal, reason, distinct records, times they came, first and last seen; the latest first."""
        condition, arguments = wanted.condition()
        rows = self._execute(
            "SELECT producer, signal, reason, COUNT(*), SUM(times), MIN(first_seen), MAX(last_seen) FROM quarantine "
            f"WHERE {condition} GROUP BY 1, 2, 3 ORDER BY 7 DESC, 1, 2, 3",
            arguments,
        )
        return [(*row[:3], *map(int, row[3:])) for row in rows]  # pyright: ignore[reportReturnType]

    def records(self, wanted: Wanted, limit: int) -> list[Kept]:
        """The latest first."""
        condition, arguments = wanted.condition()
        rows = self._execute(
            f"SELECT {_COLUMNS} FROM quarantine WHERE {condition} ORDER BY last_seen DESC, digest LIMIT ?",
            [*arguments, limit],
        )
        return [_kept(row) for row in rows]

    def count(self, wanted: Wanted) -> int:
        """Distinct records."""
        condition, arguments = wanted.condition()
        return self._execute(f"SELECT COUNT(*) FROM quarantine WHERE {condition}", arguments)[0][0]

    def ask(self, wanted: Wanted) -> None:
        """Have the writer read them again."""
        condition, arguments = wanted.condition()
        self._execute(
            "INSERT INTO quarantine_retry SELECT digest FROM quarantine "
            f"WHERE {condition} AND digest NOT IN (SELECT digest FROM quarantine_retry)",
            arguments,
        )

    def asked(self) -> int:
        """How many wait for the writer."""
        return self._execute(
            "SELECT COUNT(*) FROM quarantine_retry WHERE digest IN (SELECT digest FROM quarantine)", ()
        )[0][0]

    def purge(self, wanted: Wanted) -> None:
        """Throw them away; the counters still know of them."""
        condition, arguments = wanted.condition()
        self._execute(f"DELETE FROM quarantine WHERE {condition}", arguments)


def _kept(row: Sequence[Any]) -> Kept:
    return Kept(bytes(row[0]), *row[1:])


def pending(execute: Execute, limit: int) -> list[Kept]:
    """For the writer: records that are to be read again."""
    if not execute("SELECT 1 FROM quarantine_retry LIMIT 1", ()):
        return []
    found = execute(
        f"SELECT {_COLUMNS} FROM quarantine WHERE digest IN (SELECT digest FROM quarantine_retry) "
        "ORDER BY first_seen, digest LIMIT ?",
        (limit,),
    )
    return [_kept(row) for row in found]


def settle(execute: Execute, retried: Mapping[bytes, str | None]) -> None:
    """For the writer: these have been read again, or still cannot be, for this reason."""
    for digest, reason in retried.items():
        execute("DELETE FROM quarantine_retry WHERE digest = ?", (digest,))
        if reason is None:
            execute("DELETE FROM quarantine WHERE digest = ?", (digest,))
        else:
            execute("UPDATE quarantine SET reason = ? WHERE digest = ?", (reason, digest))
    if retried:
        execute("DELETE FROM quarantine_retry WHERE digest NOT IN (SELECT digest FROM quarantine)", ())


def sqlite_execute(db: sqlite3.Connection) -> Execute:
    """Statements on SQLite."""

    def execute(sql: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in db.execute(sql, tuple(arguments))]

    return execute


def postgres_execute(db: Any) -> Execute:
    """Statements on a connection of psycopg's."""

    def execute(sql: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
        from psycopg.rows import tuple_row

        with db.cursor(row_factory=tuple_row) as cursor:
            cursor.execute(sql.replace("%", "%%").replace("?", "%s").encode(), list(arguments))
            return cursor.fetchall() if cursor.description else []

    return execute


@contextlib.contextmanager
def open_quarantine(location: str | Path) -> Generator[Quarantine]:
    """The quarantine of a store, in a transaction that is committed at the end; raises `StoreError`."""
    if isinstance(location, Path):
        try:
            with contextlib.closing(sqlite3.connect(existing(location), timeout=30, isolation_level=None)) as db:
                db.execute("BEGIN IMMEDIATE")
                if not db.execute("PRAGMA table_info(quarantine)").fetchone():
                    raise StoreError(f"{location} is no genai-meter store, or of an older version")
                yield Quarantine(sqlite_execute(db))
                db.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreError(f"the quarantine of {location} cannot be used: {error}") from None
        return
    import psycopg

    try:
        with psycopg.connect(location) as connection:
            yield Quarantine(postgres_execute(connection))
    except psycopg.Error as error:
        told = str(error).partition("\n")[0]
        raise StoreError(f"the quarantine cannot be used: {told}") from None
