"""`genai-meter caches`: answers from the applications' own caches, their share and what they did not cost."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from datetime import UTC, datetime
from typing import Any, Final

from genai_meter.pricing.cost import usd

from genai_meter_exporter import config as configuration
from genai_meter_exporter.commands import usage
from genai_meter_exporter.config import ConfigError
from genai_meter_exporter.store import Query, Reader, StoreError, open_readonly

COLUMNS: Final = ("cache_hits", "calls", "hit_rate", "cost_avoided_usd")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options: those of `usage`."""
    usage.configure(parser)
    parser.set_defaults(by="service,feature")


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
        print(f"genai-meter caches: {error}", file=sys.stderr)
        return 2
    _print(options.format, query, rows)
    return 0


def report(reader: Reader, query: Query) -> list[dict[str, Any]]:
    """One row a group that had hits: beside them the provider calls of the group, which had none."""
    names = tuple(name for name in query.by if name != "cache")
    spent = Query(names, query.since_ns, query.until_ns, tuple(c for c in query.where if c[0] != "cache"))
    calls = {tuple(str(row[name]) for name in names): row["calls"] for row in reader.report(spent)}
    rows: list[dict[str, Any]] = []
    for row in reader.beside("cache_hit", query):
        asked = calls.get(tuple(str(row[name]) for name in names), 0)
        rows.append(
            {
                **{name: row[name] for name in query.by},
                "cache_hits": row["events"],
                "calls": asked,
                "hit_rate": row["events"] / (row["events"] + asked),
                "cost_avoided_usd": f"{usd(row['amount']):f}",
            }
        )
    return rows


def _print(how: str, query: Query, rows: list[dict[str, Any]]) -> None:
    if how == "json":
        print(json.dumps({"by": list(query.by), "rows": rows}, indent=2))
    elif how == "csv":
        writer = csv.DictWriter(sys.stdout, [*query.by, *COLUMNS], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        _table(query, rows)


def _table(query: Query, rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    caption = f"{usage.span_of(query)} A hit is no call; the rate is hits / (hits + calls)."
    table = Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left")
    for name in query.by:
        table.add_column(name, overflow="fold")
    for name in ("cache hits", "calls", "hit rate", "cost avoided USD"):
        table.add_column(name, justify="right")
    for row in rows:
        figures = f"{row['cache_hits']:,}", f"{row['calls']:,}", f"{row['hit_rate']:.1%}", row["cost_avoided_usd"]
        table.add_row(*(str(row[name]) or "-" for name in query.by), *figures)
    # Without markup: a tenant may be called "[/b]".
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)
    console.print(table if rows else f"No cache hits. {usage.span_of(query)}")
