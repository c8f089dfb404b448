"""`genai-meter usage`: spend and tokens from the ledger, by any dimension."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from genai_meter.pricing.cost import usd

from genai_meter_exporter.cells import MEASURES, MONEY
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


def _cost(row: Row) -> Decimal | None:
    """None when no call of the group has a price: that is unknown, not zero."""
    priced = row["calls"] - row["unpriced_calls"] - row["unknown_usage_calls"]
    return usd(row["cost"]) if priced or row["cost"] else None


def _totals(rows: Sequence[Row]) -> dict[str, Any]:
    return {name: sum(row[name] for row in rows) for name in MEASURES}


def _table(query: Query, rows: Sequence[Row]) -> None:
    totals = _totals(rows)
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
    cost = _cost(row)
    if cost is None:
        return "unpriced" if row["unpriced_calls"] else "unknown"
    more = "+?" if row["unpriced_calls"] or row["unknown_usage_calls"] else ""
    return ("<0.000001" if 0 < cost < _SMALLEST else f"{cost:,.6f}") + more


def _plain(query: Query, row: Row) -> dict[str, Any]:
    """One row for programs: money as exact decimal text, null where nothing has a price."""
    plain: dict[str, Any] = {name: row[name] for name in query.by}
    plain.update((name, row[name]) for name in MEASURES if name not in MONEY)
    cost = _cost(row)
    plain["list_cost_usd"] = None if cost is None else f"{usd(row['list_cost']):f}"
    plain["cost_usd"] = None if cost is None else f"{cost:f}"
    return plain


def _json(query: Query, rows: Sequence[Row]) -> None:
    span = {
        "since": None if query.since_ns is None else reports.time_of(query.since_ns),
        "until": None if query.until_ns is None else reports.time_of(query.until_ns),
    }
    total = _plain(Query(()), _totals(rows))
    reports.print_json(query, [_plain(query, row) for row in rows], **span, total=total)


def _csv(query: Query, rows: Sequence[Row]) -> None:
    headings = list(_plain(query, {**dict.fromkeys(query.by, ""), **_totals([])}))
    reports.print_csv(headings, [_plain(query, row) for row in rows])
