"""The ClickHouse schema, one migration a version. A released migration is never edited.

Every table replaces a row by a later version of it, so that sending rows again changes nothing. The keys are those of
the journals: they never change, whatever else does. Calls are in the order of time by their key.
"""

from __future__ import annotations

import time
import uuid
from typing import Any, Final

from genai_meter_exporter.cells import COUNTS, DIMENSIONS, MONEY
from genai_meter_exporter.store import beside
from genai_meter_exporter.store.base import StoreError
from genai_meter_exporter.store.layout import KINDS, SHARED

_TYPE: Final = {
    "text": "Nullable(String)",
    "json": "Nullable(String)",
    "int": "Nullable(Int64)",
    "bool": "Nullable(Int64)",
    "time": "Nullable(Int64)",
    "pico_usd": "Nullable(Int64)",
    "float": "Nullable(Float64)",
}
_FEW: Final = frozenset({*SHARED, "model", "request_model", "source", "cost_status", "book_id"})
"""Columns of few different values."""

# A note is taken out of the journal only when the rows are on disk.
_SYNCED: Final = "SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"


def _column(name: str, kind: str) -> str:
    return f"`{name}` {'LowCardinality(Nullable(String))' if name in _FEW else _TYPE[kind]}"


def call_columns() -> list[str]:
    """Columns of the table `call` that follow from the event's fields."""
    return [_column(name, kind) for name, kind in KINDS.items() if name not in ("call_id", "start")]


def beside_columns(kind: beside.Kind) -> list[str]:
    """The same of outcomes or cache hits."""
    own = beside.OWN[kind]
    return [_column(name, own.get(name, "text")) for name in beside.COLUMNS[kind] if name not in _BESIDE_KEYS]


_BESIDE_KEYS: Final = ("id", "time_ns", "recorded_at")


def _table(name: str, columns: list[str], order: str, *, partition: str = "", gone: bool = False) -> str:
    by = f"PARTITION BY {partition} " if partition else ""
    engine = f"ReplacingMergeTree(_version{', _gone' if gone else ''})"
    return f"CREATE TABLE IF NOT EXISTS {name} ({', '.join(columns)}) ENGINE = {engine} {by}ORDER BY {order} {_SYNCED}"


_RECORD: Final = ["record String", "_version UInt64"]

_VERSION_1: Final = (
    _table(
        "call",
        [
            "call_id String CODEC(ZSTD(1))",
            "_month UInt32",
            "_version UInt64",
            "_gone UInt8",
            "start Int64 CODEC(ZSTD(1))",
            *call_columns(),
        ],
        "call_id",
        partition="_month",
        gone=True,
    ),
    _table(
        "linked",
        ["call_id String", "source String", "charge String", "rule String", "recorded_at Int64", *_RECORD],
        "(call_id, source)",
    ),
    _table(
        "revision",
        ["call_id String", "revision Int64", "recorded_at Int64", "reason String", "price String", "_version UInt64"],
        "(call_id, revision)",
    ),
    *(
        _table(
            kind,
            ["id String", "time_ns Int64", "recorded_at Int64", "_version UInt64", *beside_columns(kind)],
            "id",
        )
        for kind in beside.OWN
    ),
    # Each exporter its own share: their sum is the ledger's.
    _table(
        "rollup",
        ["instance LowCardinality(String)", "start Int64", "cell Int64", "_version UInt64"]
        + [f"`{name}` LowCardinality(String)" for name in DIMENSIONS]
        + [*(f"{name} Int64" for name in COUNTS), *(f"{name} Int128" for name in MONEY)],
        "(start, cell, instance)",
        partition="toYYYYMM(toDateTime(start, 'UTC'))",
    ),
    _table(
        "counter",
        ["instance LowCardinality(String)", "family String", "value Int128", "_version UInt64"],
        "(instance, family)",
    ),
    # raw_since: calls that started before it have been removed. journal/<instance>: the journal of that name.
    _table("fact", ["name String", "value Int64", "_version UInt64"], "name"),
)

MIGRATIONS: Final = (_VERSION_1,)


class Refused(StoreError):
    """Waiting will not help; the message says what will."""


_VERSIONS: Final = (
    "CREATE TABLE IF NOT EXISTS schema_version (version Int64, applied_at Int64) ENGINE = MergeTree ORDER BY version"
)


def migrate(client: Any) -> list[int]:
    """Bring the database to this version's schema: the versions it went through.

    Each statement may run twice: two exporters that start together, or one that was killed between two of them.
    """
    client.command(_VERSIONS)
    version = int(client.command("SELECT max(version) FROM schema_version"))
    if version > len(MIGRATIONS):
        raise Refused(
            f"the database was written by a newer genai-meter (schema {version}, this one knows {len(MIGRATIONS)}): "
            "upgrade genai-meter, or name another store"
        )
    pending = list(range(version + 1, len(MIGRATIONS) + 1))
    for number in pending:
        for statement in MIGRATIONS[number - 1]:
            client.command(statement)
        client.command(
            "INSERT INTO schema_version (version, applied_at) VALUES ({number:Int64}, {now:Int64})",
            {"number": number, "now": time.time_ns()},
        )
    _add_columns(client)
    return pending


def rehearse(client: Any) -> list[int]:
    """Migrate a database beside it that has the same empty tables, and drop that: the versions it would go through."""
    beside_it = f"rehearsal_{uuid.uuid4().hex}"
    home = client.command("SELECT currentDatabase()")
    client.command(f"CREATE DATABASE {beside_it}")
    try:
        for (name,) in client.query("SELECT name FROM system.tables WHERE database = currentDatabase()").result_rows:
            client.command(f"CREATE TABLE {beside_it}.`{name}` AS `{home}`.`{name}`")
            if name == "schema_version":
                client.command(f"INSERT INTO {beside_it}.schema_version SELECT * FROM `{home}`.schema_version")
        client.database = beside_it
        return migrate(client)
    finally:
        client.database = home
        client.command(f"DROP DATABASE {beside_it}")


def _add_columns(client: Any) -> None:
    """A field that the event schema has gained since the tables were made becomes a column."""
    wanted = {"call": call_columns(), **{kind: beside_columns(kind) for kind in beside.OWN}}
    found = client.query("SELECT table, name FROM system.columns WHERE database = currentDatabase()").result_rows
    present = {(table, name) for table, name in found}
    for table, columns in wanted.items():
        missing = [column for column in columns if (table, column.split("`")[1]) not in present]
        if missing:
            client.command(f"ALTER TABLE {table} {', '.join(f'ADD COLUMN IF NOT EXISTS {c}' for c in missing)}")
