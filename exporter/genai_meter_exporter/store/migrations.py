"""The SQLite schema, one migration a version. A released migration is never edited."""

from __future__ import annotations

import sqlite3
import time
from typing import Final

from genai_meter.schema import FIELDS

from genai_meter_exporter.cells import COUNTS, DIMENSIONS, MONEY
from genai_meter_exporter.store.base import StoreError

_SQL_TYPE: Final = {
    "text": "TEXT",
    "json": "TEXT",
    "int": "INTEGER",
    "bool": "INTEGER",
    "time": "INTEGER",
    "pico_usd": "INTEGER",
    "float": "REAL",
}

EXTRA_COLUMNS: Final = {"parent_span_id": "TEXT", "recorded_at": "INTEGER"}
"""Columns of the ledger that are no field of the event."""

COLUMNS: Final = (*(f.name for f in FIELDS), *EXTRA_COLUMNS)

_LEDGER: Final = ", ".join(f"{f.name} {_SQL_TYPE[f.kind]}" for f in FIELDS if f.name != "call_id")
_EXTRA: Final = ", ".join(f"{name} {kind}" for name, kind in EXTRA_COLUMNS.items())
_DIMENSIONS: Final = ", ".join(f"{name} TEXT NOT NULL" for name in DIMENSIONS)
_COUNTS: Final = ", ".join(f"{name} INTEGER NOT NULL" for name in COUNTS)
_MONEY: Final = ", ".join(f"{name}_micro INTEGER NOT NULL, {name}_pico INTEGER NOT NULL" for name in MONEY)

_VERSION_1: Final = (
    f"CREATE TABLE usage (call_id BLOB PRIMARY KEY, {_LEDGER}, {_EXTRA}) WITHOUT ROWID",
    # What the linking index is rebuilt from: what came lately, however old the calls are.
    "CREATE INDEX usage_recorded ON usage (recorded_at)",
    # The other records of a call: kept, never added.
    """CREATE TABLE linked (
        call_id BLOB NOT NULL, source TEXT NOT NULL, charge BLOB NOT NULL, rule TEXT NOT NULL,
        recorded_at INTEGER NOT NULL, record TEXT NOT NULL, PRIMARY KEY (call_id, source)
    ) WITHOUT ROWID""",
    "CREATE INDEX linked_charge ON linked (charge)",
    # What a price was before it was revised; `usage` has the one in force.
    """CREATE TABLE revision (
        call_id BLOB NOT NULL, revision INTEGER NOT NULL, recorded_at INTEGER NOT NULL, reason TEXT NOT NULL,
        price TEXT NOT NULL, PRIMARY KEY (call_id, revision)
    ) WITHOUT ROWID""",
    f"""CREATE TABLE rollup (
        grain INTEGER NOT NULL, {_DIMENSIONS}, {_COUNTS}, {_MONEY}, PRIMARY KEY (grain, {", ".join(DIMENSIONS)})
    ) WITHOUT ROWID""",
    # value = hi * 10**6 + lo; shown: a scrape has had the series at zero.
    """CREATE TABLE counter (
        family TEXT NOT NULL, labels TEXT NOT NULL, hi INTEGER NOT NULL, lo INTEGER NOT NULL,
        shown INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (family, labels)
    ) WITHOUT ROWID""",
    """CREATE TABLE last_event (
        team TEXT NOT NULL, environment TEXT NOT NULL, service TEXT NOT NULL, time_ns INTEGER NOT NULL,
        PRIMARY KEY (team, environment, service)
    ) WITHOUT ROWID""",
    """CREATE TABLE outcome (
        outcome_id BLOB PRIMARY KEY, time_ns INTEGER NOT NULL, attributes TEXT NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE quarantine (
        digest BLOB PRIMARY KEY, signal TEXT NOT NULL, reason TEXT NOT NULL, producer TEXT NOT NULL,
        record TEXT NOT NULL, first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL, times INTEGER NOT NULL
    ) WITHOUT ROWID""",
    "CREATE TABLE probe (one INTEGER PRIMARY KEY, probed_at INTEGER NOT NULL)",
)

MIGRATIONS: Final = (_VERSION_1,)


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """Bring the file to this version's schema; refuses one that is newer than this program."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, applied_at INTEGER NOT NULL)"
        )
        (version,) = connection.execute("SELECT COALESCE(MAX(version), 0) FROM schema_version").fetchone()
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{path} was written by a newer genai-meter (schema {version}, this one knows {len(MIGRATIONS)}): "
                "upgrade genai-meter, or name another store"
            )
        for number, statements in enumerate(MIGRATIONS[version:], version + 1):
            for statement in statements:
                connection.execute(statement)
            connection.execute("INSERT INTO schema_version VALUES (?, ?)", (number, time.time_ns()))
        _add_new_fields(connection)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _add_new_fields(connection: sqlite3.Connection) -> None:
    """A field that the event schema has gained since the file was made becomes a column."""
    present = {row[1] for row in connection.execute("PRAGMA table_info(usage)")}
    for field in FIELDS:
        if field.name not in present:
            connection.execute(f"ALTER TABLE usage ADD COLUMN {field.name} {_SQL_TYPE[field.kind]}")
