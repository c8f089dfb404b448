"""The reports as SQL of engines that keep columns: ClickHouse, DuckDB over Parquet, BigQuery over the same files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from genai_meter_exporter.cells import COUNTS, DIMENSIONS, GRAIN_SECONDS, MEASURES, MONEY
from genai_meter_exporter.normalise.record import Kind
from genai_meter_exporter.store import beside
from genai_meter_exporter.store.base import Query, no_column
from genai_meter_exporter.store.layout import KINDS
from genai_meter_exporter.store.reader import PERIODS

_UNKNOWN: Final = "input_tokens IS NULL AND output_tokens IS NULL"
_FROM_RAW: Final = {
    "calls": "COUNT(*)",
    "retries": "SUM(GREATEST(COALESCE(attempt_count, 1) - 1, 0))",
    "unpriced_calls": f"SUM(CASE WHEN cost_status = 'unpriced' AND NOT ({_UNKNOWN}) THEN 1 ELSE 0 END)",
    "unknown_usage_calls": f"SUM(CASE WHEN cost_status = 'unpriced' AND {_UNKNOWN} THEN 1 ELSE 0 END)",
    **{name: f"SUM(COALESCE({name}, 0))" for name in COUNTS if name.endswith("_tokens")},
}
"""Measure → SQL over the ledger; the same figures as `cells.measures`."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between engines."""

    name: str
    marks: Callable[[int, Any], str]
    """Number and value of a parameter → how it stands in the text."""
    quoted: str
    """Around names: `end` and `start` are words of some."""
    text_type: str
    money: str
    """Sum of one column of money, exact at any size."""
    instant: str
    """Unix seconds → an instant that is cut to whole hours, days or months before it is grouped by."""
    cut: Mapping[str, str]
    """Period → its first instant."""
    shown: str
    """An instant and a format → text, in UTC."""
    formats: Mapping[str, str]
    """Period → format."""
    seconds: str
    """Unix nanoseconds → the start of their quarter of an hour, in Unix seconds."""
    key: str
    """A key → hex digits."""
    earliest: str = ""
    """A condition that keeps only keys of calls from an instant on, where the engine can skip by key."""


_STRFTIME: Final = PERIODS
CLICKHOUSE: Final = Dialect(
    name="clickhouse",
    marks=lambda number, value: f"{{p{number}:{'Int64' if isinstance(value, int) else 'String'}}}",
    quoted="`",
    text_type="Nullable(String)",
    money="sum(toInt128(coalesce({0}, 0)))",
    instant="toDateTime({0}, 'UTC')",
    cut={"quarter": "{0}", "hour": "toStartOfHour({0})", "day": "toStartOfDay({0})", "month": "toStartOfMonth({0})"},
    shown="formatDateTime({0}, '{1}', 'UTC')",
    formats={name: form.replace("%M", "%i") for name, form in _STRFTIME.items()},
    seconds=f"intDiv({{0}}, {GRAIN_SECONDS * 10**9}) * {GRAIN_SECONDS}",
    key="{0}",
    earliest="call_id >= {0}",
)
DUCKDB: Final = Dialect(
    name="duckdb",
    marks=lambda number, _: f"$p{number}",
    quoted='"',
    text_type="VARCHAR",
    money="COALESCE(SUM({0}), 0)",
    instant="make_timestamp({0} * 1000000)",
    cut={"quarter": "{0}", **{name: f"date_trunc('{name}', {{0}})" for name in ("hour", "day", "month")}},
    shown="strftime({0}, '{1}')",
    formats=_STRFTIME,
    seconds=f"{{0}} // {GRAIN_SECONDS * 10**9} * {GRAIN_SECONDS}",
    key="replace(CAST({0} AS VARCHAR), '-', '')",
)
BIGQUERY: Final = Dialect(
    name="bigquery",
    marks=lambda number, _: f"@p{number}",
    quoted="`",
    text_type="STRING",
    money="COALESCE(SUM(CAST({0} AS BIGNUMERIC)), 0)",
    instant="TIMESTAMP_SECONDS({0})",
    cut={"quarter": "{0}", **{name: f"TIMESTAMP_TRUNC({{0}}, {name.upper()})" for name in ("hour", "day", "month")}},
    shown="FORMAT_TIMESTAMP('{1}', {0})",
    formats=_STRFTIME,
    seconds=f"DIV({{0}}, {GRAIN_SECONDS * 10**9}) * {GRAIN_SECONDS}",
    key="{0}",
)


BY_NAME: Final = {dialect.name: dialect for dialect in (CLICKHOUSE, DUCKDB, BIGQUERY)}


class Parameters:
    """The values of a statement, in their order."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.values: dict[str, Any] = {}

    def add(self, value: Any) -> str:
        """What stands for it in the text."""
        mark = self._dialect.marks(len(self.values), value)
        self.values[f"p{len(self.values)}"] = value
        return mark


@dataclass(frozen=True, slots=True)
class Source:
    """Where a report reads from."""

    table: str
    time: str
    """Its column of time."""
    columns: frozenset[str]
    called: str
    """What it is called when a column is missing."""
    unit: int = 1_000_000_000
    """Of `time`, in one second."""


LEDGER: Final = "the ledger"


def ledger(table: str) -> Source:
    """Calls, a row each."""
    return Source(table, "start", frozenset(KINDS), LEDGER)


def rollup(table: str) -> Source:
    """Sums by quarter of an hour, their dimensions beside them."""
    return Source(table, "start", frozenset(DIMENSIONS), "the roll-up", unit=1)


def events(table: str, kind: Kind) -> Source:
    """Outcomes or cache hits."""
    return Source(table, "time_ns", frozenset(beside.COLUMNS[kind]), kind)


def report(dialect: Dialect, source: Source, query: Query) -> tuple[str, dict[str, Any]]:
    """SQL of one row a group: its dimensions and `cells.MEASURES`; and its parameters."""
    if source.called == LEDGER:
        sums = {**_FROM_RAW, **{name: dialect.money.format(name) for name in MONEY}}
    else:
        sums = {name: f"SUM({name})" for name in MEASURES}
    return _grouped(dialect, source, query, {name: sums[name] for name in MEASURES}, "calls")


def report_beside(dialect: Dialect, source: Source, kind: Kind, query: Query) -> tuple[str, dict[str, Any]]:
    """SQL of one row a group of outcomes or cache hits: `events`, `successes`, `amount`."""
    sums = {
        "events": "COUNT(*)",
        "successes": "SUM(COALESCE(success, 0))" if kind == "outcome" else "0",
        "amount": dialect.money.format(beside.AMOUNT[kind]),
    }
    return _grouped(dialect, source, query, sums, "events")


def of_calls(dialect: Dialect, source: Source, query: Query) -> tuple[str, dict[str, Any]]:
    """The condition (with WHERE) that a query puts on rows, and its parameters."""
    parameters = Parameters(dialect)
    return _where(dialect, source, query, parameters), parameters.values


def _grouped(
    dialect: Dialect, source: Source, query: Query, sums: Mapping[str, str], count: str
) -> tuple[str, dict[str, Any]]:
    parameters = Parameters(dialect)
    where = _where(dialect, source, query, parameters)
    # Periods are grouped as instants and written as text once a group.
    keys = [_cut(dialect, source, name) if name in PERIODS else _text(dialect, source, name) for name in query.by]
    groups = [f"{key} AS g{number}" for number, key in enumerate(keys)]
    shown = [
        f"{dialect.shown.format(f'g{number}', dialect.formats[name]) if name in PERIODS else f'g{number}'} AS k{number}"
        for number, name in enumerate(query.by)
    ]
    measured = [f"{sql} AS m_{name}" for name, sql in sums.items()]
    by = f" GROUP BY {', '.join(f'g{number}' for number in range(len(keys)))}" if keys else ""
    inner = f"SELECT {', '.join([*groups, *measured])} FROM {source.table}{where}{by}"
    columns = ", ".join([*shown, *(f"m_{name}" for name in sums)])
    return f"SELECT {columns} FROM ({inner}) AS s WHERE m_{count} > 0", parameters.values


def _where(dialect: Dialect, source: Source, query: Query, parameters: Parameters) -> str:
    conditions = [
        f"{_period(dialect, source, name) if name in PERIODS else _text(dialect, source, name)} = "
        f"{parameters.add(value)}"
        for name, value in query.where
    ]
    time = _name(dialect, source.time)
    for operator, bound in ((">=", query.since_ns), ("<", query.until_ns)):
        if bound is not None:
            conditions.append(f"{time} {operator} {parameters.add(bound * source.unit // 1_000_000_000)}")
    if dialect.earliest and source.called == LEDGER and query.since_ns is not None:
        # The key starts with the call's time, to within its clock's truth: an hour of slack.
        first = max(query.since_ns - 3_600_000_000_000, 0) // 1_000_000
        conditions.append(dialect.earliest.format(parameters.add(f"{first:012x}")))
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _cut(dialect: Dialect, source: Source, name: str) -> str:
    time = _name(dialect, source.time)
    seconds = time if source.unit == 1 else dialect.seconds.format(time)
    return dialect.cut[name].format(dialect.instant.format(seconds))


def _period(dialect: Dialect, source: Source, name: str) -> str:
    return dialect.shown.format(_cut(dialect, source, name), dialect.formats[name])


def _text(dialect: Dialect, source: Source, name: str) -> str:
    if name not in source.columns:
        raise no_column(source.called, name, source.columns)
    if name == "model" and source.called == LEDGER:
        return "COALESCE(NULLIF(model, ''), request_model, '')"
    if name in ("call_id", "id"):
        return dialect.key.format(name)
    return f"COALESCE(CAST({_name(dialect, name)} AS {dialect.text_type}), '')"


def _name(dialect: Dialect, name: str) -> str:
    return f"{dialect.quoted}{name}{dialect.quoted}"


def rows_of(query: Query, found: Sequence[Sequence[Any]], measures: Sequence[str] = MEASURES) -> list[dict[str, Any]]:
    """What a report returns: exact integers, the highest cost first."""
    rows: list[dict[str, Any]] = []
    width = len(query.by)
    for row in found:
        sums = {name: int(value or 0) for name, value in zip(measures, row[width:], strict=True)}
        rows.append({**dict(zip(query.by, row[:width], strict=True)), **sums})
    if "cost" in measures:
        rows.sort(key=lambda row: (-row["cost"], -row["calls"], [str(row[name]) for name in query.by]))
    else:
        rows.sort(key=lambda row: (-row["events"], [row[name] for name in query.by]))
    return rows


BESIDE_MEASURES: Final = ("events", "successes", "amount")
