"""Reports from a SQLite store, from any process."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from genai_meter_exporter import series
from genai_meter_exporter.cells import COUNTS, DIMENSIONS, GRAIN_SECONDS, MONEY
from genai_meter_exporter.normalise.own import time_prefix
from genai_meter_exporter.normalise.record import Kind
from genai_meter_exporter.store import beside
from genai_meter_exporter.store.base import Query, StoreError, no_column
from genai_meter_exporter.store.layout import OWN, SHARED, unpack
from genai_meter_exporter.store.sqlite_rows import DAY_SECONDS, MICRO

_GRAIN_NS: Final = GRAIN_SECONDS * 1_000_000_000

_HOUR_NS: Final = 3_600_000_000_000

PERIODS: Final = {"quarter": "%Y-%m-%dT%H:%MZ", "hour": "%Y-%m-%dT%H:00Z", "day": "%Y-%m-%d", "month": "%Y-%m"}
"""Dimensions of time, in UTC."""

_SUMMED: Final = (*COUNTS, *(f"{name}_{part}" for name in MONEY for part in ("micro", "pico")))

_FROM_RAW: Final = {
    "calls": "COUNT(*)",
    "retries": "SUM(MAX(COALESCE(attempt_count, 1) - 1, 0))",
    "unpriced_calls": "SUM(cost_status IS 'unpriced' AND NOT (input_tokens IS NULL AND output_tokens IS NULL))",
    "unknown_usage_calls": "SUM(cost_status IS 'unpriced' AND input_tokens IS NULL AND output_tokens IS NULL)",
    **{name: f"SUM(COALESCE({name}, 0))" for name in COUNTS if name.endswith("_tokens")},
}
"""Measure → SQL over the ledger; the same figures as `cells.measures`."""


LINES: Final = (
    "SELECT {}, {}, c.more FROM call AS c JOIN cell AS d ON d.id = c.cell "
    "WHERE c.start >= ? AND c.start < ? AND c.call_id >= ? AND c.call_id <= ?".format(
        ", ".join(f'c."{name}"' for name in OWN), ", ".join(f'd."{name}"' for name in SHARED)
    )
)
"""The calls of a span of time, without the view: it takes each rare column out of its JSON alone."""

OTHERS: Final = {
    "linked": "SELECT c.start AS time_of_row, l.call_id, l.source, l.charge, l.rule, l.recorded_at, l.record "
    "FROM linked AS l JOIN call AS c ON c.call_id = l.charge WHERE c.start >= ? AND c.start < ?",
    "revision": "SELECT c.start AS time_of_row, r.call_id, r.revision, r.recorded_at, r.reason, r.price "
    "FROM revision AS r JOIN call AS c ON c.call_id = r.call_id WHERE c.start >= ? AND c.start < ?",
    "outcome": "SELECT time_ns AS time_of_row, o.* FROM outcome AS o WHERE time_ns >= ? AND time_ns < ?",
    "cache_hit": "SELECT time_ns AS time_of_row, o.* FROM cache_hit AS o WHERE time_ns >= ? AND time_ns < ?",
}
"""Table → its rows of a span of time."""


def existing(path: Path) -> Path:
    """A store's file that is there and may be read; raises `StoreError`."""
    if not path.is_file():
        raise StoreError(f"there is no store at {path}: start `genai-meter serve`, or name another with --data-dir")
    if not os.access(path, os.R_OK):
        raise StoreError(f"{path} cannot be read: permission denied")
    return path


class SqliteReader:
    """A read-only connection."""

    def __init__(self, path: str | Path) -> None:
        self._path = existing(Path(path))
        try:
            self._connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None
            )
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("PRAGMA busy_timeout = 5000")
            self._columns = {row["name"] for row in self._connection.execute("PRAGMA table_info(usage)")}
        except sqlite3.Error as error:
            # Whoever reads a file in WAL mode that nobody has open makes its `-shm` anew.
            owner = (getattr(error, "sqlite_errorname", None) or "").startswith("SQLITE_READONLY")
            hint = "; while no exporter runs, only who may write to its directory can read it" if owner else ""
            raise StoreError(f"{self._path} cannot be read: {error}{hint}") from None
        if not self._columns:
            raise StoreError(f"{self._path} is no genai-meter store, or has never been opened by `genai-meter serve`")

    def get(self, call_id: bytes) -> Mapping[str, Any] | None:
        """The ledger row of a call, by its own id or by that of a record linked to it."""
        for sql in (
            "SELECT * FROM usage WHERE call_id = ?",
            "SELECT usage.* FROM usage JOIN linked ON linked.charge = usage.call_id WHERE linked.call_id = ?",
        ):
            for row in self._rows(sql, (call_id,)):
                return dict(row)
        return None

    def revisions(self, call_id: bytes) -> list[Mapping[str, Any]]:
        """What the price of a call was, oldest first: `revision`, `recorded_at`, `reason`, `price` (JSON)."""
        sql = "SELECT revision, recorded_at, reason, price FROM revision WHERE call_id = ? ORDER BY revision"
        return [dict(row) for row in self._rows(sql, (call_id,))]

    def calls(self, query: Query) -> Iterator[Mapping[str, Any]]:
        """The rows of a span of time, in order; `by` does not matter."""
        check_kept(query, self.raw_since())
        conditions, arguments = self._of_ledger(query)
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        for row in self._rows(f"SELECT * FROM usage{where} ORDER BY call_id", arguments):
            yield dict(row)

    def lines(self, since_ns: int, until_ns: int, *, by_key: bool) -> Iterator[tuple[int, bytes]]:
        """The calls of a span of time: when they started, and what is known of them as JSON, the key in hex."""
        for row in self._rows(LINES, (since_ns, until_ns, *key_bounds(since_ns, until_ns, by_key))):
            yield row["start"], unpack(row, {"call_id": row["call_id"].hex()})

    def others(self, table: str, since_ns: int, until_ns: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Rows of `linked`, `revision`, `outcome` or `cache_hit`, each with its time: that of its call, or its own."""
        for row in self._rows(OTHERS[table], (since_ns, until_ns)):
            values = dict(row)
            yield values.pop("time_of_row"), values

    def pending(self) -> int:
        """Revisions that have been asked for and not been carried out."""
        (row,) = self._rows("SELECT COUNT(*) FROM pending_revision")
        return row[0]

    def report(self, query: Query) -> list[dict[str, Any]]:
        """One row a group, the highest cost first; from the roll-ups when they can answer."""
        if not rollup_can(query):
            check_kept(query, self.raw_since())
        sql, arguments = _from_rollup(query) if rollup_can(query) else self._from_ledger(query)
        rows = [dict(row) for row in self._rows(sql, arguments)]
        for row in rows:
            for name in MONEY:
                row[name] = row.pop(f"{name}_micro") * MICRO + row.pop(f"{name}_pico")
        rows.sort(key=lambda row: (-row["cost"], -row["calls"], [str(row[name]) for name in query.by]))
        return rows

    def beside(self, kind: Kind, query: Query) -> list[dict[str, Any]]:
        """One row a group of outcomes or cache hits: its dimensions, `events`, `successes`, `amount` in pico-USD."""
        try:
            return beside.sqlite_report(self._connection, kind, query, PERIODS)
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: the report failed: {error}") from None

    def counted(self) -> tuple[int, int]:
        """The same by the counters: charges less withdrawals and credits."""
        found = self._rows("SELECT family, hi, lo FROM counter WHERE family LIKE 'ledger_%'")
        return net({row["family"]: row["hi"] * MICRO + row["lo"] for row in found})

    def raw_since(self) -> int:
        """Calls that started before have been removed; 0: none has."""
        return next((row["value"] for row in self._rows("SELECT value FROM fact WHERE name = 'raw_since'")), 0)

    def totals(self) -> tuple[int, int]:
        """Calls and cost (pico-USD) of the whole ledger, summed from its rows."""
        (row,) = self._rows(
            f"SELECT COUNT(*), COALESCE(SUM(cost / {MICRO}), 0), COALESCE(SUM(cost % {MICRO}), 0) FROM usage"
        )
        return row[0], row[1] * MICRO + row[2]

    def close(self) -> None:
        """Let go of the store."""
        self._connection.close()

    def _rows(self, sql: str, arguments: Sequence[Any] = ()) -> Iterator[sqlite3.Row]:
        try:
            yield from self._connection.execute(sql, arguments)
        except sqlite3.Error as error:
            raise StoreError(f"{self._path} cannot be read: {error}") from None

    def _from_ledger(self, query: Query) -> tuple[str, list[Any]]:
        conditions, arguments = self._of_ledger(query)
        sums = [f"{_FROM_RAW[name]} AS {name}" for name in COUNTS]
        for name in MONEY:
            sums.append(f"COALESCE(SUM({name} / {MICRO}), 0) AS {name}_micro")
            sums.append(f"COALESCE(SUM({name} % {MICRO}), 0) AS {name}_pico")
        return _select("usage", query.by, sums, conditions, _ledger_expression), arguments

    def _of_ledger(self, query: Query) -> tuple[list[str], list[Any]]:
        for name in (*query.by, *(name for name, _ in query.where)):
            if name not in PERIODS and name not in self._columns:
                raise no_column("the ledger", name, self._columns)
        conditions, arguments = _conditions(query, _ledger_expression)
        if query.since_ns is not None:
            # The key starts with the call's time, to within its clock's truth: an hour of slack, then exactly.
            conditions += ["call_id >= ?", "start >= ?"]
            arguments += [time_prefix(max(query.since_ns - _HOUR_NS, 0)), query.since_ns]
        if query.until_ns is not None:
            conditions.append("start < ?")
            arguments.append(query.until_ns)
        return conditions, arguments


def key_bounds(since_ns: int, until_ns: int, by_key: bool) -> tuple[bytes, bytes]:
    """Keys of calls of a span of time, to within an hour; else all keys."""
    if not by_key:
        return b"", b"\xff" * 17
    return time_prefix(max(since_ns - _HOUR_NS, 0)), time_prefix(until_ns + _HOUR_NS)


def rollup_can(query: Query) -> bool:
    """The roll-ups know the dimensions and the bounds."""
    return all(name in DIMENSIONS or name in PERIODS for name in (*query.by, *(n for n, _ in query.where))) and not any(
        bound is not None and bound % _GRAIN_NS for bound in (query.since_ns, query.until_ns)
    )


def net(counters: Mapping[str, int]) -> tuple[int, int]:
    """Calls and cost of the ledger by its label-free counters."""
    get = counters.get
    calls = get(series.LEDGER_EVENTS.name, 0) - get(series.LEDGER_WITHDRAWN.name, 0)
    return calls, get(series.LEDGER_COST.name, 0) - get(series.LEDGER_CREDIT.name, 0)


def check_kept(query: Query, raw_since: int) -> None:
    """The rows that a report needs are still there; raises `StoreError`."""
    if raw_since and (query.since_ns is None or query.since_ns < raw_since):
        since = f"{datetime.fromtimestamp(raw_since // 1_000_000_000, UTC):%Y-%m-%d}"
        raise StoreError(
            f"calls before {since} have been removed (store.retention_days), only their sums by "
            f"{', '.join(DIMENSIONS)} are kept: ask for these by whole quarters of an hour, or --since {since}"
        )


def _from_rollup(query: Query) -> tuple[str, list[Any]]:
    """Sums by cell and period first: what the cells are is looked up once a group, not once a row."""
    source, bounds = quarters_and_days(query)
    arguments: list[Any] = [*bounds]
    conditions: list[str] = []
    of_cells = [name for name, _ in query.where if name not in PERIODS]
    if of_cells:
        matching = " AND ".join(f"{name} = ?" for name in of_cells)
        conditions.append(f"r.cell IN (SELECT id FROM cell WHERE {matching})")
        arguments += [value for name, value in query.where if name not in PERIODS]
    for name, value in query.where:
        if name in PERIODS:
            conditions.append(f"{_rollup_period(name)} = ?")
            arguments.append(value)
    sums = [f"SUM({name}) AS {name}" for name in _SUMMED]
    periods = {name: f"{_rollup_period(name)} AS {name}" for name in query.by if name in PERIODS}
    joined = len(periods) < len(query.by)
    keys = [*(["r.cell AS cell"] if joined else []), *periods.values()]
    names = [*(["r.cell"] if joined else []), *(_rollup_period(name) for name in periods)]
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    inner = f"SELECT {', '.join([*keys, *sums])} FROM ({source}) AS r{where}"
    inner += f" GROUP BY {', '.join(names)}" if names else ""
    table = f"({inner}) AS r" + (" JOIN cell ON cell.id = r.cell" if joined else "")
    return _select(table, query.by, sums, [], str), arguments


def quarters_and_days(query: Query) -> tuple[str, list[int]]:
    """Sums by cell: whole UTC days from their own table, the quarters of an hour before and after them."""
    since = None if query.since_ns is None else query.since_ns // 1_000_000_000
    until = None if query.until_ns is None else query.until_ns // 1_000_000_000
    if any(name in ("quarter", "hour") for name in (*query.by, *(name for name, _ in query.where))):
        conditions, arguments = _between(since, until)
        return f"SELECT * FROM rollup{conditions}", arguments
    first = None if since is None else -(-since // DAY_SECONDS) * DAY_SECONDS
    last = None if until is None else until // DAY_SECONDS * DAY_SECONDS
    if first is not None and last is not None and first >= last:
        conditions, arguments = _between(since, until)
        return f"SELECT * FROM rollup{conditions}", arguments
    conditions, arguments = _between(first, last)
    parts = [f"SELECT * FROM rollup_day{conditions}"]
    for low, high in ((since, first), (last, until)):
        if low is not None and high is not None and low < high:
            more, bounds = _between(low, high)
            parts.append(f"SELECT * FROM rollup{more}")
            arguments += bounds
    return " UNION ALL ".join(parts), arguments


def _between(since: int | None, until: int | None) -> tuple[str, list[int]]:
    bounds = [(operator, bound) for operator, bound in ((">=", since), ("<", until)) if bound is not None]
    conditions = " AND ".join(f"start {operator} ?" for operator, _ in bounds)
    return (f" WHERE {conditions}" if conditions else ""), [bound for _, bound in bounds]


def _conditions(query: Query, expression: Any) -> tuple[list[str], list[Any]]:
    return [f"{expression(name)} = ?" for name, _ in query.where], [value for _, value in query.where]


def _select(table: str, by: tuple[str, ...], sums: list[str], conditions: list[str], expression: Any) -> str:
    groups = [f"{expression(name)} AS {name}_" for name in by]
    named = [f"{name}_ AS {name}" for name in by]
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    inner = f"SELECT {', '.join([*groups, *sums])} FROM {table}{where}"
    if by:
        inner += f" GROUP BY {', '.join(f'{name}_' for name in by)}"
    return f"SELECT {', '.join([*named, *_SUMMED])} FROM ({inner}) WHERE calls > 0"


def _rollup_period(name: str) -> str:
    return f"strftime('{PERIODS[name]}', r.start, 'unixepoch')"


def _ledger_expression(name: str) -> str:
    if name in PERIODS:
        return f"strftime('{PERIODS[name]}', start / {_GRAIN_NS} * {GRAIN_SECONDS}, 'unixepoch')"
    if name == "model":
        return "COALESCE(NULLIF(model, ''), request_model, '')"
    if name == "call_id":
        return "lower(hex(call_id))"
    return f"CAST(COALESCE({name}, '') AS TEXT)"
