"""`genai-meter outcomes`: what came of the spend: success rate, value and cost per success, by any dimension."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from genai_meter.pricing.cost import usd

from genai_meter_exporter import config as configuration
from genai_meter_exporter.commands import usage
from genai_meter_exporter.config import ConfigError
from genai_meter_exporter.store import Query, Reader, StoreError, open_readonly

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
    """Add the options: those of `usage`."""
    usage.configure(parser)
    parser.set_defaults(by="outcome,feature", since="30d")


def run(options: argparse.Namespace) -> int:
    """Print one report."""
    try:
        query = usage.query_of(options, datetime.now(UTC))
        reader = open_readonly(configuration.store_path(configuration.load(options.config), options.data_dir))
        try:
            rows = report(reader, query)
        finally:
            reader.close()
    except (ConfigError, StoreError, ValueError) as error:
        print(f"genai-meter outcomes: {error}", file=sys.stderr)
        return 2
    _PRINTERS[options.format](query, rows)
    return 0


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


def _group(query: Query, row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in query.by)


def _table(query: Query, rows: Sequence[Mapping[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    caption = f"{usage.span_of(query)} Cost: all calls of the group, whatever their outcome."
    if any(row["incomplete"] for row in rows):
        caption += " '+?': some calls have no price or no usage; their cost is not in it."
    shown = [name for name in COLUMNS if name in _ALWAYS or any(row[name] for row in rows)]
    table = Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left")
    for name in query.by:
        table.add_column(name, overflow="fold")
    for name in shown:
        table.add_column(name.replace("_usd", " USD").replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(str(row[name]) or "-" for name in query.by), *(_cell(row, name) for name in shown))
    # Without markup: a tenant may be called "[/b]".
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)
    console.print(table if rows else f"No outcomes. {usage.span_of(query)}")


_ALWAYS: Final = frozenset({"outcomes", "successes", "success_rate", "calls", "cost_usd", "cost_per_success_usd"})


def _cell(row: Mapping[str, Any], name: str) -> str:
    value = row[name]
    if value is None:
        return "-"
    if name == "success_rate":
        return f"{value:.1%}"
    if isinstance(value, Decimal):
        more = "+?" if row["incomplete"] and name.startswith("cost_") and "avoided" not in name else ""
        return f"{value:,.6f}{more}"
    return f"{value:,}"


def _plain(query: Query, row: Mapping[str, Any]) -> dict[str, Any]:
    """One row for programs: money as exact decimal text, null where there was no success."""
    plain: dict[str, Any] = {name: row[name] for name in query.by}
    for name in COLUMNS:
        value = row[name]
        plain[name] = f"{value:f}" if isinstance(value, Decimal) else value
    return plain


def _json(query: Query, rows: Sequence[Mapping[str, Any]]) -> None:
    print(json.dumps({"by": list(query.by), "rows": [_plain(query, row) for row in rows]}, indent=2))


def _csv(query: Query, rows: Sequence[Mapping[str, Any]]) -> None:
    writer = csv.DictWriter(sys.stdout, [*query.by, *COLUMNS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(_plain(query, row) for row in rows)


_PRINTERS: Final[Mapping[str, Callable[[Query, Sequence[Mapping[str, Any]]], None]]] = {
    "table": _table,
    "json": _json,
    "csv": _csv,
}
