"""The PostgreSQL schema, one migration a version. A released migration is never edited."""

from __future__ import annotations

import hashlib
import time
from typing import Any, Final

from psycopg import Connection

from genai_meter_exporter.cells import COUNTS, DIMENSIONS, MONEY
from genai_meter_exporter.normalise.record import Kind
from genai_meter_exporter.store import beside, quarantine
from genai_meter_exporter.store.base import StoreError
from genai_meter_exporter.store.layout import COLUMNS, KINDS, MORE, OWN, SHARED

SQL_TYPE: Final = {
    "text": "text",
    "json": "text",
    "int": "bigint",
    "bool": "bigint",
    "time": "bigint",
    "pico_usd": "bigint",
    "float": "double precision",
}

_OWN: Final = ", ".join(f'"{name}" {SQL_TYPE[KINDS[name]]}' for name in OWN if name != "call_id")
_DIMENSIONS: Final = ", ".join(f'"{name}" text NOT NULL' for name in DIMENSIONS)
# Sums of any size: numeric.
_SUMS: Final = ", ".join(
    [*(f"{name} bigint NOT NULL" for name in COUNTS), *(f"{name} numeric NOT NULL" for name in MONEY)]
)


def _beside(kind: Kind) -> str:
    types = {"id": "bytea PRIMARY KEY", "time_ns": "bigint NOT NULL", "recorded_at": "bigint NOT NULL"}
    types |= {name: SQL_TYPE[what] for name, what in beside.OWN[kind].items()}
    columns = [f'"{name}" ' + types.get(name, "text") for name in beside.COLUMNS[kind]]
    return f"CREATE TABLE {kind} ({', '.join(columns)})"


_VERSION_1: Final = (
    f"CREATE TABLE cell (id bigint PRIMARY KEY, {_DIMENSIONS})",
    f"CREATE TABLE call (call_id bytea PRIMARY KEY, {_OWN}, cell bigint NOT NULL, more jsonb NOT NULL)",
    "CREATE INDEX call_start ON call (start)",
    # What linking looks for, in the window only.
    "CREATE INDEX call_response ON call (response_id) WHERE response_id IS NOT NULL",
    "CREATE INDEX call_trace ON call (trace_id) WHERE trace_id IS NOT NULL",
    """CREATE TABLE linked (
        call_id bytea NOT NULL, source text NOT NULL, charge bytea NOT NULL, rule text NOT NULL,
        recorded_at bigint NOT NULL, record text NOT NULL, trace_id text, response_id text,
        PRIMARY KEY (call_id, source)
    )""",
    "CREATE INDEX linked_charge ON linked (charge)",
    "CREATE INDEX linked_trace ON linked (trace_id) WHERE trace_id IS NOT NULL",
    "CREATE INDEX linked_response ON linked (response_id) WHERE response_id IS NOT NULL",
    # The way up from spans that are no usage; kept for the window.
    """CREATE TABLE span_parent (
        trace_id bytea NOT NULL, span_id bytea NOT NULL, parent bytea NOT NULL, seen bigint NOT NULL,
        PRIMARY KEY (trace_id, span_id)
    )""",
    "CREATE INDEX span_parent_seen ON span_parent (seen)",
    """CREATE TABLE revision (
        call_id bytea NOT NULL, revision bigint NOT NULL, recorded_at bigint NOT NULL, reason text NOT NULL,
        price text NOT NULL, PRIMARY KEY (call_id, revision)
    )""",
    *(
        f"CREATE TABLE {table} (start bigint NOT NULL, cell bigint NOT NULL, {_SUMS}, PRIMARY KEY (start, cell))"
        for table in ("rollup", "rollup_day")
    ),
    # Each exporter its own share: their sum is the ledger's.
    """CREATE TABLE counter (
        instance text NOT NULL, family text NOT NULL, labels text NOT NULL, value numeric NOT NULL,
        shown boolean NOT NULL DEFAULT false, PRIMARY KEY (instance, family, labels)
    )""",
    """CREATE TABLE last_event (
        team text NOT NULL, environment text NOT NULL, service text NOT NULL, time_ns bigint NOT NULL,
        PRIMARY KEY (team, environment, service)
    )""",
    *(_beside(kind) for kind in beside.OWN),
    *(f"CREATE INDEX {kind}_time ON {kind} (time_ns)" for kind in beside.OWN),
    """CREATE TABLE quarantine (
        digest bytea PRIMARY KEY, signal text NOT NULL, reason text NOT NULL, producer text NOT NULL,
        record text NOT NULL, first_seen bigint NOT NULL, last_seen bigint NOT NULL, times bigint NOT NULL
    )""",
    "CREATE TABLE probe (instance text PRIMARY KEY, probed_at bigint NOT NULL)",
    # raw_since: calls that started before it have been removed, their roll-ups stay.
    "CREATE TABLE fact (name text PRIMARY KEY, value bigint NOT NULL)",
)

_VERSION_2: Final = (
    # Prices that another process has asked for; the writer carries them out, in the order of the calls.
    "CREATE TABLE pending_revision (call_id bytea PRIMARY KEY, price text NOT NULL, reason text NOT NULL)",
)

_VERSION_3: Final = (quarantine.RETRY_TABLE.format(bytes="bytea"),)

MIGRATIONS: Final = (_VERSION_1, _VERSION_2, _VERSION_3)


def _view() -> str:
    own = [f'c."{name}" AS "{name}"' for name in OWN]
    shared = [f'NULLIF(d."{name}", \'\') AS "{name}"' for name in SHARED]
    more = [f"(c.more->>'{name}')::{SQL_TYPE[KINDS[name]]} AS \"{name}\"" for name in COLUMNS if name in MORE]
    columns = ", ".join([*own, *shared, *more])
    return f"CREATE VIEW usage AS SELECT {columns} FROM call AS c JOIN cell AS d ON d.id = c.cell"


def rehearse(connection: Connection[dict[str, Any]]) -> list[int]:
    """Migrate, and take it all back: the versions it would go through."""
    with connection.transaction(force_rollback=True):
        return migrate(connection)


def migrate(connection: Connection[dict[str, Any]]) -> list[int]:
    """Bring the database to this version's schema: the versions it went through."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(current_schema()))", (MIGRATION_LOCK,))
        connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version int PRIMARY KEY, applied_at bigint)")
        found = connection.execute("SELECT COALESCE(MAX(version), 0) AS version FROM schema_version").fetchone()
        version: int = found["version"] if found else 0
        if version > len(MIGRATIONS):
            raise StoreError(
                f"the database was written by a newer genai-meter (schema {version}, this one knows "
                f"{len(MIGRATIONS)}): upgrade genai-meter, or name another store"
            )
        pending = list(range(version + 1, len(MIGRATIONS) + 1))
        for number in pending:
            for statement in MIGRATIONS[number - 1]:
                connection.execute(statement.encode())
            connection.execute("INSERT INTO schema_version VALUES (%s, %s)", (number, time.time_ns()))
        _make_view(connection)
    return pending


def _make_view(connection: Connection[dict[str, Any]]) -> None:
    """Only when the fields have changed: it waits for whoever is reading."""
    view = _view()
    fields = repr((view, *beside.COLUMNS.items()))
    digest = int.from_bytes(hashlib.blake2b(fields.encode(), digest_size=8).digest(), "big") >> 1
    if connection.execute("SELECT 1 FROM fact WHERE name = 'view' AND value = %s", (digest,)).fetchone():
        return
    _add_columns(connection)
    connection.execute("DROP VIEW IF EXISTS usage")
    connection.execute(view.encode())
    connection.execute(
        "INSERT INTO fact VALUES ('view', %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (digest,)
    )


def _add_columns(connection: Connection[dict[str, Any]]) -> None:
    """A field that the event schema has gained since the tables were made becomes a column."""
    for kind, columns in beside.COLUMNS.items():
        for name in columns:
            sql_type = SQL_TYPE[beside.OWN[kind].get(name, "text")]
            connection.execute(f'ALTER TABLE {kind} ADD COLUMN IF NOT EXISTS "{name}" {sql_type}'.encode())


MIGRATION_LOCK: Final = 0x67656E01
WRITER_LOCK: Final = 0x67656E02
LEADER_LOCK: Final = 0x67656E03
INSTANCE_LOCK: Final = 0x67656E04
"""Classes of advisory locks, for each schema: one migrates, one transaction writes, one leads, one bears a name."""
