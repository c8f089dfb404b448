"""`genai-meter outcomes`: what came of the spend: success rate, value and cost per success, by any dimension."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from genai_meter.pricing.cost import usd

from genai_meter_exporter.commands import reports
from genai_meter_exporter.commands.reports import Row
from genai_meter_exporter.store import Query, Reader

COLUMNS: Final = (
    "outcomes",
    "successes",
    "success_rate",
    "value_usd",
    "calls",
    "cost_usd",
    "cost_per_success_usd",
    "cache_hits",
    "cost_avoided_usd",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    reports.configure(parser, by="outcome,feature", since="30d")


def run(options: argparse.Namespace) -> int:
    """Print one report."""
    show = {"table": _table, "json": _json, "csv": _csv}
    return reports.run("outcomes", options, report, show)


def report(reader: Reader, query: Query) -> list[dict[str, Any]]:
    """One row a group. Its cost is that of all calls of the group, failures and retries included."""
    spent = _without(query, "outcome")
    costs = {_group(spent, row): row for row in reader.report(spent)}
    hits = {_group(spent, row): row for row in reader.beside("cache_hit", spent)}
    rows: list[dict[str, Any]] = []
    for row in reader.beside("outcome", query):
        group = _group(spent, row)
        cost, hit = costs.get(group), hits.get(group)
        pico = cost["cost"] if cost else 0
        rows.append(
            {
                **{name: row[name] for name in query.by},
                "outcomes": row["events"],
                "successes": row["successes"],
                "success_rate": row["successes"] / row["events"],
                "value_usd": usd(row["amount"]),
                "calls": cost["calls"] if cost else 0,
                "cost_usd": usd(pico),
                "cost_per_success_usd": usd(pico // row["successes"]) if row["successes"] else None,
                "cache_hits": hit["events"] if hit else 0,
                "cost_avoided_usd": usd(hit["amount"]) if hit else Decimal(0),
                "incomplete": bool(cost and (cost["unpriced_calls"] or cost["unknown_usage_calls"])),
            }
        )
    return rows


def _without(query: Query, name: str) -> Query:
    """The question to the calls: they have no outcome of their own."""
    return Query(
        tuple(dimension for dimension in query.by if dimension != name),
        query.since_ns,
        query.until_ns,
        tuple(condition for condition in query.where if condition[0] != name),
    )


def _group(query: Query, row: Row) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in query.by)


def _table(query: Query, rows: Sequence[Row]) -> None:
    caption = f"{reports.span_of(query)} Cost: all calls of the group, whatever their outcome."
    if any(row["incomplete"] for row in rows):
        caption += " '+?': some calls have no price or no usage; their cost is not in it."
    shown = [name for name in COLUMNS if name in _ALWAYS or any(row[name] for row in rows)]
    figures = [name.replace("_usd", " USD").replace("_", " ") for name in shown]
    table = reports.new_table(query.by, caption, figures)
    for row in rows:
        table.add_row(*reports.dimensions_of(query.by, row), *(_cell(row, name) for name in shown))
    reports.print_table(table, f"No outcomes. {reports.span_of(query)}")


_ALWAYS: Final = frozenset({"outcomes", "successes", "success_rate", "calls", "cost_usd", "cost_per_success_usd"})


def _cell(row: Row, name: str) -> str:
    value = row[name]
    if value is None:
        return "-"
    if name == "success_rate":
        return f"{value:.1%}"
    if isinstance(value, Decimal):
        more = "+?" if row["incomplete"] and name.startswith("cost_") and "avoided" not in name else ""
        return f"{value:,.6f}{more}"
    return f"{value:,}"


def _plain(query: Query, row: Row) -> dict[str, Any]:
    """One row for programs: money as exact decimal text, null where there was no success."""
    plain: dict[str, Any] = {name: row[name] for name in query.by}
    for name in COLUMNS:
        value = row[name]
        plain[name] = f"{value:f}" if isinstance(value, Decimal) else value
    return plain


def _json(query: Query, rows: Sequence[Row]) -> None:
    reports.print_json(query, [_plain(query, row) for row in rows])


def _csv(query: Query, rows: Sequence[Row]) -> None:
    reports.print_csv([*query.by, *COLUMNS], [_plain(query, row) for row in rows])
