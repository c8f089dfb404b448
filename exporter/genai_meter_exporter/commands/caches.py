"""`genai-meter caches`: answers from the applications' own caches, their share and what they did not cost."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Final

from genai_meter.pricing.cost import usd

from genai_meter_exporter.commands import reports
from genai_meter_exporter.commands.reports import Row
from genai_meter_exporter.store import Query, Reader

COLUMNS: Final = ("cache_hits", "calls", "hit_rate", "cost_avoided_usd")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    reports.configure(parser, by="service,feature")


def run(options: argparse.Namespace) -> int:
    """Print one report."""
    show = {"table": _table, "json": reports.print_json, "csv": _csv}
    return reports.run("caches", options, report, show)


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


def _table(query: Query, rows: Sequence[Row]) -> None:
    caption = f"{reports.span_of(query)} A hit is no call; the rate is hits / (hits + calls)."
    table = reports.new_table(query.by, caption, ("cache hits", "calls", "hit rate", "cost avoided USD"))
    for row in rows:
        figures = f"{row['cache_hits']:,}", f"{row['calls']:,}", f"{row['hit_rate']:.1%}", row["cost_avoided_usd"]
        table.add_row(*reports.dimensions_of(query.by, row), *figures)
    reports.print_table(table, f"No cache hits. {reports.span_of(query)}")


def _csv(query: Query, rows: Sequence[Row]) -> None:
    reports.print_csv([*query.by, *COLUMNS], rows)
