"""`genai-meter usage`: spend and tokens from the ledger, by any dimension."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

from genai_meter_exporter.api import figures
from genai_meter_exporter.cells import MEASURES
from genai_meter_exporter.commands import reports
from genai_meter_exporter.commands.reports import Row
from genai_meter_exporter.store import Query, Reader, StoreError

_SMALLEST: Final = Decimal("0.000001")
"""What the table shows at least of a cost that is not zero."""

_COLUMNS: Final = {
    "calls": "calls",
    "input_tokens": "input",
    "cache_read_tokens": "cache read",
    "cache_write_tokens": "cache write",
    "output_tokens": "output",
    "reasoning_tokens": "reasoning",
    "unpriced_calls": "unpriced",
    "unknown_usage_calls": "no usage",
}
"""Measure → heading of the table."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    reports.configure(parser, by="model")
    parser.add_argument(
        "--archive",
        metavar="DIR",
        type=Path,
        help="days that `genai-meter store export` wrote, from there; later ones"
        " from the store (needs the extra duckdb)",
    )
    parser.add_argument(
        "--sql", choices=("bigquery", "clickhouse", "duckdb"), help="print the report as SQL over exported days instead"
    )


def run(options: argparse.Namespace) -> int:
    """Print one report."""
    if options.sql:
        return _sql(options)
    show = {"table": _table, "json": _json, "csv": _csv}

    def report(reader: Reader, query: Query) -> Sequence[Row]:
        if options.archive is None:
            return reader.report(query)
        from genai_meter_exporter.store.archive import open_archive
        from genai_meter_exporter.store.transfer import report_over

        with closing(open_archive(options.archive)) as archive:
            return report_over(archive, reader, query)

    return reports.run("usage", options, report, show)


def _sql(options: argparse.Namespace) -> int:
    """What a warehouse is asked that has loaded the files of `usage`."""
    from genai_meter_exporter.store import dialects

    try:
        query = reports.query_of(options, datetime.now(UTC))
        sql, parameters = dialects.report(dialects.BY_NAME[options.sql], dialects.ledger("usage"), query)
    except (StoreError, ValueError) as error:
        print(f"genai-meter usage: {error}", file=sys.stderr)
        return 2
    columns = [*query.by, *MEASURES]
    print(f"-- {', '.join(columns)}; money in pico-USD")
    for name, value in parameters.items():
        print(f"-- {name} = {value!r}")
    print(sql)
    return 0


def _table(query: Query, rows: Sequence[Row]) -> None:
    totals = figures.totals(rows)
    incomplete = " '+?': some calls have no price or no usage; their cost is not in it."
    caption = reports.span_of(query) + (incomplete if totals["unpriced_calls"] or totals["unknown_usage_calls"] else "")
    shown = [name for name in _COLUMNS if name == "calls" or totals[name]]
    table = reports.new_table(query.by, caption, (*(_COLUMNS[name] for name in shown), "cost USD"))
    footers = "total", *("" for _ in query.by[1:]), *(_count(name, totals[name]) for name in shown), _money(totals)
    for column, footer in zip(table.columns, footers, strict=True):
        column.footer = footer
    table.show_footer = True
    for row in rows:
        counts = [_count(name, row[name]) for name in shown]
        table.add_row(*reports.dimensions_of(query.by, row), *counts, _money(row))
    reports.print_table(table, f"No calls. {reports.span_of(query)}")


def _count(name: str, value: int) -> str:
    if name in ("unpriced_calls", "unknown_usage_calls"):
        return f"{value:,}" if value else ""
    return f"{value:,}"


def _money(row: Row) -> str:
    cost = figures.cost(row)
    if cost is None:
        return "unpriced" if row["unpriced_calls"] else "unknown"
    more = "+?" if row["unpriced_calls"] or row["unknown_usage_calls"] else ""
    return ("<0.000001" if 0 < cost < _SMALLEST else f"{cost:,.6f}") + more


def _json(query: Query, rows: Sequence[Row]) -> None:
    span = {
        "since": None if query.since_ns is None else reports.time_of(query.since_ns),
        "until": None if query.until_ns is None else reports.time_of(query.until_ns),
    }
    total = figures.plain((), figures.totals(rows))
    reports.print_json(query, [figures.plain(query.by, row) for row in rows], **span, total=total)


def _csv(query: Query, rows: Sequence[Row]) -> None:
    headings = list(figures.plain(query.by, {**dict.fromkeys(query.by, ""), **figures.totals([])}))
    reports.print_csv(headings, [figures.plain(query.by, row) for row in rows])
