"""Reports from a PostgreSQL ledger, from any process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import psycopg
from psycopg.rows import DictRow, dict_row

from genai_meter_exporter.cells import COUNTS, GRAIN_SECONDS, MEASURES, MONEY
from genai_meter_exporter.normalise.own import time_prefix
from genai_meter_exporter.normalise.record import Kind
from genai_meter_exporter.store import beside
from genai_meter_exporter.store.base import Query, StoreError, no_column
from genai_meter_exporter.store.layout import COLUMNS, unpack
from genai_meter_exporter.store.reader import LINES, OTHERS, check_kept, key_bounds, net, quarters_and_days, rollup_can

_PERIODS: Final = {
    "quarter": 'YYYY-MM-DD"T"HH24:MI"Z"',
    "hour": 'YYYY-MM-DD"T"HH24":00Z"',
    "day": "YYYY-MM-DD",
    "month": "YYYY-MM",
}
_GRAIN_NS: Final = GRAIN_SECONDS * 1_000_000_000
_UNKNOWN: Final = "input_tokens IS NULL AND output_tokens IS NULL"
_FROM_RAW: Final = {
    "calls": "COUNT(*)",
    "retries": "SUM(GREATEST(COALESCE(attempt_count, 1) - 1, 0))",
    "unpriced_calls": f"COUNT(*) FILTER (WHERE cost_status = 'unpriced' AND NOT ({_UNKNOWN}))",
    "unknown_usage_calls": f"COUNT(*) FILTER (WHERE cost_status = 'unpriced' AND {_UNKNOWN})",
    **{name: f"SUM(COALESCE({name}, 0))" for name in COUNTS if name.endswith("_tokens")},
    **{name: f"COALESCE(SUM({name}), 0)" for name in MONEY},
}
"""Measure → SQL over the ledger; the same figures as `cells.measures`."""


class PostgresReader:
    """A connection that reads only."""

    def __init__(self, url: str) -> None:
        try:
            self._db = psycopg.Connection[DictRow].connect(
                url, row_factory=dict_row, autocommit=True, connect_timeout=10
            )
            self._db.read_only = True
            if self._db.execute("SELECT to_regclass('usage') AS found").fetchone() == {"found": None}:
                self._db.close()
                raise StoreError(
                    "the database is no genai-meter store, or has never been opened by `genai-meter serve`"
                )
        except psycopg.Error as error:
            raise StoreError(f"the database cannot be read: {_told(error)}") from None

    def get(self, call_id: bytes) -> Mapping[str, Any] | None:
        """The ledger row of a call, by its own id or by that of a record linked to it."""
        return (
            self._db.execute("SELECT * FROM usage WHERE call_id = %s", (call_id,)).fetchone()
            or self._db.execute(
                "SELECT usage.* FROM usage JOIN linked ON linked.charge = usage.call_id WHERE linked.call_id = %s",
                (call_id,),
            ).fetchone()
        )

    def revisions(self, call_id: bytes) -> list[Mapping[str, Any]]:
        """What the price of a call was, oldest first: `revision`, `recorded_at`, `reason`, `price` (JSON)."""
        return [
            *self._db.execute(
                "SELECT revision, recorded_at, reason, price FROM revision WHERE call_id = %s ORDER BY revision",
                (call_id,),
            )
        ]

    def calls(self, query: Query) -> Iterator[Mapping[str, Any]]:
        """The rows of a span of time, in order; `by` does not matter."""
        check_kept(query, self.raw_since())
        conditions, arguments, _ = _of_ledger(query)
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        with self._db.transaction(), self._db.cursor("calls") as cursor:
            yield from cursor.execute(f"SELECT * FROM usage{where} ORDER BY call_id".encode(), arguments)

    def lines(self, since_ns: int, until_ns: int, *, by_key: bool) -> Iterator[tuple[int, bytes]]:
        """The calls of a span of time: when they started, and what is known of them as JSON, the key in hex."""
        sql = LINES.replace("c.more", "c.more::text AS more").replace("?", "%s")
        with self._db.transaction(), self._db.cursor("lines") as cursor:
            for row in cursor.execute(sql.encode(), (since_ns, until_ns, *key_bounds(since_ns, until_ns, by_key))):
                yield row["start"], unpack(row, {"call_id": row["call_id"].hex()})

    def others(self, table: str, since_ns: int, until_ns: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Rows of `linked`, `revision`, `outcome` or `cache_hit`, each with its time: that of its call, or its own."""
        with self._db.transaction(), self._db.cursor("others") as cursor:
            for row in cursor.execute(OTHERS[table].replace("?", "%s").encode(), (since_ns, until_ns)):
                yield row.pop("time_of_row"), row

    def pending(self) -> int:
        """Revisions that have been asked for and not been carried out."""
        row = self._db.execute("SELECT COUNT(*) AS waiting FROM pending_revision").fetchone()
        return row["waiting"] if row else 0

    def report(self, query: Query) -> list[dict[str, Any]]:
        """One row a group, the highest cost first; from the roll-ups when they can answer."""
        if not rollup_can(query):
            check_kept(query, self.raw_since())
        sql, arguments = _from_rollup(query) if rollup_can(query) else _from_ledger(query)
        try:
            found = self._db.execute(sql.encode(), arguments).fetchall()
        except psycopg.Error as error:
            raise StoreError(f"the report failed: {_told(error)}") from None
        rows = [
            {**{name: row[name] for name in query.by}, **{name: int(row[name]) for name in MEASURES}} for row in found
        ]
        rows.sort(key=lambda row: (-row["cost"], -row["calls"], [str(row[name]) for name in query.by]))
        return rows

    def beside(self, kind: Kind, query: Query) -> list[dict[str, Any]]:
        """One row a group of outcomes or cache hits: its dimensions, `events`, `successes`, `amount` in pico-USD."""
        expression = _column(frozenset(beside.COLUMNS[kind]), "time_ns", kind)
        conditions, arguments = _conditions(query, expression)
        _bound(query, "time_ns", conditions, arguments)
        sums = [
            "COUNT(*) AS events",
            f"{'COALESCE(SUM(success), 0)' if kind == 'outcome' else '0'} AS successes",
            f"COALESCE(SUM({beside.AMOUNT[kind]}), 0) AS amount",
        ]
        sql = _select(kind, query.by, sums, conditions, expression)
        found = self._db.execute(f"SELECT * FROM ({sql}) AS s WHERE events > 0".encode(), arguments).fetchall()
        measures = ("events", "successes", "amount")
        rows = [{name: int(row[name]) if name in measures else row[name] for name in row} for row in found]
        rows.sort(key=lambda row: (-row["events"], [row[name] for name in query.by]))
        return rows

    def counted(self) -> tuple[int, int]:
        """The same by the counters of all exporters: charges less withdrawals and credits."""
        found = self._db.execute(
            "SELECT family, SUM(value) AS value FROM counter WHERE starts_with(family, 'ledger_') GROUP BY 1"
        )
        return net({row["family"]: int(row["value"]) for row in found})

    def raw_since(self) -> int:
        """Calls that started before have been removed; 0: none has."""
        row = self._db.execute("SELECT value FROM fact WHERE name = 'raw_since'").fetchone()
        return row["value"] if row else 0

    def totals(self) -> tuple[int, int]:
        """Calls and cost (pico-USD) of the whole ledger, summed from its rows."""
        row = self._db.execute("SELECT COUNT(*) AS calls, COALESCE(SUM(cost), 0) AS cost FROM call").fetchone()
        assert row is not None
        return row["calls"], int(row["cost"])

    def close(self) -> None:
        """Let go of the database."""
        self._db.close()


_Expression = Callable[[str], str]


def _from_rollup(query: Query) -> tuple[str, list[Any]]:
    def expression(name: str) -> str:
        return _period(name, "r.start") if name in _PERIODS else f'"{name}"'

    conditions, arguments = _conditions(query, expression)
    source, bounds = quarters_and_days(query)
    table = f"({source.replace('?', '%s')}) AS r JOIN cell ON cell.id = r.cell"
    sums = [f"SUM({name}) AS {name}" for name in MEASURES]
    inner = _select(table, query.by, sums, conditions, expression)
    return f"SELECT * FROM ({inner}) AS s WHERE calls > 0", [*bounds, *arguments]


def _from_ledger(query: Query) -> tuple[str, list[Any]]:
    conditions, arguments, expression = _of_ledger(query)
    inner = _select("usage", query.by, [f"{sql} AS {name}" for name, sql in _FROM_RAW.items()], conditions, expression)
    return f"SELECT * FROM ({inner}) AS s WHERE calls > 0", arguments


def _of_ledger(query: Query) -> tuple[list[str], list[Any], _Expression]:
    expression = _column(frozenset(COLUMNS), "start", "the ledger")
    conditions, arguments = _conditions(query, expression)
    if query.since_ns is not None:
        # The key starts with the call's time, to within its clock's truth: an hour of slack, then exactly.
        conditions.append("call_id >= %s")
        arguments.append(time_prefix(max(query.since_ns - 3_600_000_000_000, 0)))
    _bound(query, '"start"', conditions, arguments)
    return conditions, arguments, expression


def _column(columns: frozenset[str], time: str, where: str) -> _Expression:
    def expression(name: str) -> str:
        if name in _PERIODS:
            return _period(name, f'"{time}" / {_GRAIN_NS} * {GRAIN_SECONDS}')
        if name not in columns:
            raise no_column(where, name, columns)
        if name == "model" and where == "the ledger":
            return "COALESCE(NULLIF(model, ''), request_model, '')"
        if name in ("call_id", "id"):
            return f"encode({name}, 'hex')"
        return f"COALESCE(\"{name}\"::text, '')"

    return expression


def _period(name: str, seconds: str) -> str:
    return f"to_char(to_timestamp({seconds}) AT TIME ZONE 'UTC', '{_PERIODS[name]}')"


def _conditions(query: Query, expression: _Expression) -> tuple[list[str], list[Any]]:
    return [f"{expression(name)} = %s" for name, _ in query.where], [value for _, value in query.where]


def _bound(query: Query, column: str, conditions: list[str], arguments: list[Any]) -> None:
    for operator, bound in ((">=", query.since_ns), ("<", query.until_ns)):
        if bound is not None:
            conditions.append(f"{column} {operator} %s")
            arguments.append(bound)


def _select(table: str, by: tuple[str, ...], sums: list[str], conditions: list[str], expression: _Expression) -> str:
    groups = [f'{expression(name)} AS "{name}"' for name in by]
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    grouped = f" GROUP BY {', '.join(str(number) for number in range(1, len(by) + 1))}" if by else ""
    return f"SELECT {', '.join([*groups, *sums])} FROM {table}{where}{grouped}"


def _told(error: psycopg.Error) -> str:
    return str(error).partition("\n")[0]
