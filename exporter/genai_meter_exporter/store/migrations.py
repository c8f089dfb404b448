"""The SQLite schema, one migration a version. A released migration is never edited."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Final

from genai_meter_exporter.cells import COUNTS, DIMENSIONS, MONEY
from genai_meter_exporter.store import beside, quarantine
from genai_meter_exporter.store.base import StoreError
from genai_meter_exporter.store.layout import COLUMNS, KINDS, MORE, OWN, SHARED, STORED, cell_id

_SQL_TYPE: Final = {
    "text": "TEXT",
    "json": "TEXT",
    "int": "INTEGER",
    "bool": "INTEGER",
    "time": "INTEGER",
    "pico_usd": "INTEGER",
    "float": "REAL",
}

_DIMENSIONS: Final = ", ".join(f"{name} TEXT NOT NULL" for name in DIMENSIONS)
_COUNTS: Final = ", ".join(f"{name} INTEGER NOT NULL" for name in COUNTS)
_MONEY: Final = ", ".join(f"{name}_micro INTEGER NOT NULL, {name}_pico INTEGER NOT NULL" for name in MONEY)

_WIDE: Final = ", ".join(f"{name} {_SQL_TYPE[kind]}" for name, kind in KINDS.items() if name != "call_id")
_SUMS: Final = ", ".join([*COUNTS, *(f"{name}_{part}" for name in MONEY for part in ("micro", "pico"))])

_VERSION_1: Final = (
    f"CREATE TABLE usage (call_id BLOB PRIMARY KEY, {_WIDE}) WITHOUT ROWID",
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


def _json_of(names: Sequence[str]) -> str:
    """JSON object of the columns that are not null; a function of SQLite's has 127 arguments at most."""
    text = "'{}'"
    for start in range(0, len(names), 50):
        pairs = ", ".join(f"'{name}', {name}" for name in names[start : start + 50])
        text = f"json_patch({text}, json_object({pairs}))"
    return text


_OWN_COLUMNS: Final = ", ".join(f"{name} {_SQL_TYPE[KINDS[name]]}" for name in OWN if name != "call_id")
_KNOWN: Final = ", ".join(
    "COALESCE(model, request_model, '')" if name == "model" else f"COALESCE({name}, '')" for name in DIMENSIONS
)
_SHOWN: Final = ", ".join(DIMENSIONS)
_BY_DAY: Final = ", ".join(
    [*(f"SUM({name})" for name in COUNTS)]
    + [f"SUM({name}_micro) + SUM({name}_pico) / 1000000, SUM({name}_pico) % 1000000" for name in MONEY]
)

_VERSION_2: Final = (
    # Narrow rows: dimensions once, rare columns as JSON. The view `usage` (below) shows all columns.
    f"CREATE TABLE cell (id INTEGER PRIMARY KEY, {_DIMENSIONS})",
    f"CREATE TABLE call (call_id BLOB PRIMARY KEY, {_OWN_COLUMNS}, cell INTEGER NOT NULL, more TEXT NOT NULL) "
    "WITHOUT ROWID",
    f"INSERT OR IGNORE INTO cell SELECT cell_id({_KNOWN}), {_KNOWN} FROM usage",
    f"INSERT OR IGNORE INTO cell SELECT cell_id({_SHOWN}), {_SHOWN} FROM rollup",
    f"INSERT INTO call ({', '.join(STORED)}) "
    f"SELECT {', '.join(OWN)}, cell_id({_KNOWN}), {_json_of(sorted(MORE))} FROM usage",
    "DROP TABLE usage",
    "CREATE INDEX call_recorded ON call (recorded_at)",
    "ALTER TABLE rollup RENAME TO rollup_1",
    *(
        f"CREATE TABLE {table} (start INTEGER NOT NULL, cell INTEGER NOT NULL, {_COUNTS}, {_MONEY}, "
        "PRIMARY KEY (start, cell)) WITHOUT ROWID"
        for table in ("rollup", "rollup_day")
    ),
    f"INSERT INTO rollup SELECT grain, cell_id({_SHOWN}), {_SUMS} FROM rollup_1",
    "DROP TABLE rollup_1",
    f"INSERT INTO rollup_day SELECT start / 86400 * 86400, cell, {_BY_DAY} FROM rollup GROUP BY 1, 2",
    # The way up from spans that are no usage, one row a transaction: trace id, span id, parent span id.
    "CREATE TABLE span_parent (seen INTEGER NOT NULL, spans BLOB NOT NULL)",
    "CREATE INDEX span_parent_seen ON span_parent (seen)",
    # raw_since: calls that started before it have been removed, their roll-ups stay.
    "CREATE TABLE fact (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
)

_VERSION_4: Final = (
    # Prices that another process has asked for; the writer carries them out, in the order of the calls.
    "CREATE TABLE pending_revision (call_id BLOB PRIMARY KEY, price TEXT NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID",
)

_VERSION_5: Final = (quarantine.RETRY_TABLE.format(bytes="BLOB") + " WITHOUT ROWID",)

_VERSION_6: Final = (
    # What the linking index is rebuilt from: keys of new calls, one row a transaction. An index of the table `call`
    # cost a fifth of each insert.
    "CREATE TABLE recent (seen INTEGER NOT NULL, keys BLOB NOT NULL)",
    "CREATE INDEX recent_seen ON recent (seen)",
    "INSERT INTO recent SELECT recorded_at, call_id FROM call "
    "WHERE recorded_at >= (SELECT MAX(recorded_at) FROM call) - 3600000000000 ORDER BY recorded_at",
    "DROP INDEX call_recorded",
)

MIGRATIONS: Final = (_VERSION_1, _VERSION_2, beside.sqlite_tables(), _VERSION_4, _VERSION_5, _VERSION_6)


def _view() -> str:
    """`usage`: one row a call, one column a field, as readers want it."""
    own = [f"c.{name} AS {name}" for name in OWN]
    shared = [f"NULLIF(d.{name}, '') AS {name}" for name in SHARED]
    more = [f"json_extract(c.more, '$.{name}') AS {name}" for name in COLUMNS if name in MORE]
    columns = ", ".join([*own, *shared, *more])
    return f"CREATE VIEW usage AS SELECT {columns} FROM call AS c JOIN cell AS d ON d.id = c.cell"


def migrate(connection: sqlite3.Connection, path: str) -> list[int]:
    """Bring the file to this version's schema: the versions it went through. Refuses one newer than this program."""
    connection.create_function("cell_id", len(DIMENSIONS), lambda *names: cell_id(names), deterministic=True)
    connection.execute("BEGIN IMMEDIATE")
    try:
        pending = _migrate(connection, path)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return pending


def _migrate(connection: sqlite3.Connection, path: str) -> list[int]:
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and "schema_version" not in tables:
        raise StoreError(f"{path} is a database of another program: name another store")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, applied_at INTEGER NOT NULL)"
    )
    (version,) = connection.execute("SELECT COALESCE(MAX(version), 0) FROM schema_version").fetchone()
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path} was written by a newer genai-meter (schema {version}, this one knows {len(MIGRATIONS)}): "
            "upgrade genai-meter, or name another store"
        )
    if version == 1:
        _add_missing_columns(connection)
    elif version > 1:
        # Made anew below: the fields may have changed.
        connection.execute("DROP VIEW IF EXISTS usage")
    pending = list(range(version + 1, len(MIGRATIONS) + 1))
    for number in pending:
        for statement in MIGRATIONS[number - 1]:
            connection.execute(statement)
        connection.execute("INSERT INTO schema_version VALUES (?, ?)", (number, time.time_ns()))
    beside.sqlite_add_columns(connection)
    connection.execute(_view())
    return pending


def _add_missing_columns(connection: sqlite3.Connection) -> None:
    """Version 1 had a column for every field that its program knew."""
    present = {row[1] for row in connection.execute("PRAGMA table_info(usage)")}
    for name, kind in KINDS.items():
        if name not in present:
            connection.execute(f"ALTER TABLE usage ADD COLUMN {name} {_SQL_TYPE[kind]}")
