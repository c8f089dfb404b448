"""`genai-meter usage`: spend and tokens from the ledger, by any dimension."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from genai_meter_exporter.api import figures
from genai_meter_exporter.commands import reports
from genai_meter_exporter.commands.reports import Row
from genai_meter_exporter.store import Query

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


def run(options: argparse.Namespace) -> int:
    """Print one report."""
    show = {"table": _table, "json": _json, "csv": _csv}
    return reports.run("usage", options, lambda reader, query: reader.report(query), show)


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
