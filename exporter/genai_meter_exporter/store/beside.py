"""Tables beside the calls: outcomes, and answers from the application's own caches. No charge, no provider call.

The description is the same for every engine; what is SQLite's own says so.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from genai_meter import schema

from genai_meter_exporter import series
from genai_meter_exporter.bounds import Bounds
from genai_meter_exporter.cells import GRAIN_SECONDS
from genai_meter_exporter.normalise.record import Beside, Kind
from genai_meter_exporter.series import Deltas
from genai_meter_exporter.store.base import Query, no_column

WHO: Final = tuple(f.name for f in schema.FIELDS if f.group in ("process", "attribution"))
"""Who it belongs to: columns of both tables."""

OWN: Final[Mapping[Kind, Mapping[str, str]]] = {
    "outcome": {"outcome": "text", "success": "bool", "value": "pico_usd"},
    "cache_hit": {
        "provider": "text",
        "operation": "text",
        "model": "text",
        "cache": "text",
        "cost_avoided": "pico_usd",
        "usage_source": "text",
    },
}
"""Table → its own columns and their kinds."""

COLUMNS: Final[Mapping[Kind, tuple[str, ...]]] = {
    kind: ("id", "time_ns", "recorded_at", *own, "trace_id", "span_id", *WHO) for kind, own in OWN.items()
}
AMOUNT: Final[Mapping[Kind, str]] = {"outcome": "value", "cache_hit": "cost_avoided"}
"""Table → its column of money, in pico-USD."""

_SQL_TYPE: Final = {"text": "TEXT", "bool": "INTEGER", "pico_usd": "INTEGER"}
_CHUNK: Final = 500
_MICRO: Final = 1_000_000
_GRAIN_NS: Final = GRAIN_SECONDS * 1_000_000_000


# --- writing ------------------------------------------------------------------------------------------
def count(deltas: Deltas, bounds: Bounds, event: Beside) -> None:
    """Counters of one new event."""
    get = event.values.get

    def add(family: series.Family, labels: tuple[str, ...], amount: int) -> None:
        deltas.add(family.name, bounds.fold(family.name, family.labels, labels), amount)

    if event.kind == "outcome":
        who = get("team") or "", get("feature") or "", event.values["outcome"]
        add(series.OUTCOMES, (*who, "true" if get("success") else "false"), 1)
        if value := get("value"):
            add(series.OUTCOME_VALUE, who, value)
        return
    who = tuple(get(name) or "" for name in series.CACHE_HITS.labels)
    add(series.CACHE_HITS, who, 1)
    if avoided := get("cost_avoided"):
        add(series.COST_AVOIDED, who, avoided)


def sqlite_tables() -> tuple[str, ...]:
    """Statements that make both tables; the first version kept outcomes as one JSON text, under another name now."""
    statements = ["ALTER TABLE outcome RENAME TO outcome_1"]
    for kind, own in OWN.items():
        kinds = {"id": "BLOB PRIMARY KEY", "time_ns": "INTEGER NOT NULL", "recorded_at": "INTEGER NOT NULL"}
        kinds |= {name: _SQL_TYPE[what] for name, what in own.items()}
        columns = ", ".join(f"{name} {kinds.get(name, 'TEXT')}" for name in COLUMNS[kind])
        statements += [
            f"CREATE TABLE {kind} ({columns}) WITHOUT ROWID",
            f"CREATE INDEX {kind}_time ON {kind} (time_ns)",
        ]
    told = [f"json_extract(attributes, '$.\"{schema.BY_NAME[name].attribute}\"')" for name in WHO]
    statements += [
        f"INSERT INTO outcome (id, time_ns, recorded_at, outcome, success, {', '.join(WHO)}) "
        f"SELECT outcome_id, time_ns, time_ns, 'unnamed', 1, {', '.join(told)} FROM outcome_1",
        "DROP TABLE outcome_1",
    ]
    return tuple(statements)


def sqlite_add_columns(db: sqlite3.Connection) -> None:
    """A field that the event schema has gained since the tables were made becomes a column."""
    for kind, columns in COLUMNS.items():
        present = {row[1] for row in db.execute(f"PRAGMA table_info({kind})")}
        for name in columns:
            if name not in present:
                db.execute(f"ALTER TABLE {kind} ADD COLUMN {name} {_SQL_TYPE[OWN[kind].get(name, 'text')]}")


def write(db: sqlite3.Connection, events: Sequence[Beside], deltas: Deltas, bounds: Bounds, now_ns: int) -> None:
    """Insert what is new into SQLite, inside the open transaction, and count it."""
    for kind, columns in COLUMNS.items():
        new = {event.key: event for event in reversed(events) if event.kind == kind}
        for key in _present(db, kind, list(new)):
            del new[key]
        if not new:
            continue
        db.executemany(
            f"INSERT INTO {kind} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
            [row_of(event, columns, now_ns) for event in new.values()],
        )
        for event in new.values():
            count(deltas, bounds, event)


def row_of(event: Beside, columns: Iterable[str], now_ns: int) -> tuple[Any, ...]:
    """A row of its table."""
    values = {"recorded_at": now_ns, **event.values, "id": event.key, "time_ns": event.time_ns}
    return tuple(map(values.get, columns))


def _present(db: sqlite3.Connection, kind: Kind, keys: Sequence[bytes]) -> list[bytes]:
    found: list[bytes] = []
    for start in range(0, len(keys), _CHUNK):
        chunk = keys[start : start + _CHUNK]
        marks = ", ".join("?" * len(chunk))
        found += [row[0] for row in db.execute(f"SELECT id FROM {kind} WHERE id IN ({marks})", chunk)]
    return found


# --- reading ------------------------------------------------------------------------------------------
def sqlite_report(db: sqlite3.Connection, kind: Kind, query: Query, periods: Mapping[str, str]) -> list[dict[str, Any]]:
    """One row a group: its dimensions, `events`, `successes` (of outcomes) and `amount` in pico-USD."""
    columns = frozenset(COLUMNS[kind])

    def expression(name: str) -> str:
        if name in periods:
            return f"strftime('{periods[name]}', time_ns / {_GRAIN_NS} * {GRAIN_SECONDS}, 'unixepoch')"
        if name not in columns:
            raise no_column(kind, name, columns)
        return f"CAST(COALESCE({name}, '') AS TEXT)"

    conditions = [f"{expression(name)} = ?" for name, _ in query.where]
    arguments: list[Any] = [value for _, value in query.where]
    for operator, bound in ((">=", query.since_ns), ("<", query.until_ns)):
        if bound is not None:
            conditions.append(f"time_ns {operator} ?")
            arguments.append(bound)
    amount = AMOUNT[kind]
    groups = "".join(f"{expression(name)} AS {name}_, " for name in query.by)
    sql = (
        f"SELECT {groups}COUNT(*) AS events, {'SUM(success)' if kind == 'outcome' else '0'} AS successes, "
        f"COALESCE(SUM({amount} / {_MICRO}), 0) AS micro, COALESCE(SUM({amount} % {_MICRO}), 0) AS pico FROM {kind}"
    )
    sql += f" WHERE {' AND '.join(conditions)}" if conditions else ""
    sql += f" GROUP BY {', '.join(f'{name}_' for name in query.by)}" if query.by else ""
    rows = [
        {
            **{name: row[f"{name}_"] for name in query.by},
            "events": row["events"],
            "successes": row["successes"] or 0,
            "amount": row["micro"] * _MICRO + row["pico"],
        }
        for row in db.execute(sql, arguments)
        if row["events"]
    ]
    rows.sort(key=lambda row: (-row["events"], [row[name] for name in query.by]))
    return rows
