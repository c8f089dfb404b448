"""`genai-meter estimates`: how far the applications' token estimates are from the providers' counts."""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any, Final

from genai_meter_exporter import config as configuration
from genai_meter_exporter.commands import usage
from genai_meter_exporter.config import ConfigError
from genai_meter_exporter.store import Query, Reader, StoreError, open_readonly

COLUMNS: Final = ("calls", "counted", "estimated", "drift", "median_error", "p90_error")
_DIRECTIONS: Final = ("input", "output")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options: those of `usage`."""
    usage.configure(parser)
    parser.set_defaults(by="provider,model")


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
        print(f"genai-meter estimates: {error}", file=sys.stderr)
        return 2
    _print(options.format, query, rows)
    return 0


def report(reader: Reader, query: Query) -> list[dict[str, Any]]:
    """One row a group and direction, over the calls that the provider counted and the application estimated."""
    by = (*query.by, "call_id", *(f"estimated_{direction}_tokens" for direction in _DIRECTIONS))
    where = (*query.where, ("usage_source", "provider"))
    found: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
    for row in reader.report(Query(by, query.since_ns, query.until_ns, where)):
        for direction in _DIRECTIONS:
            counted, guessed = row[f"{direction}_tokens"], row[f"estimated_{direction}_tokens"]
            if counted and guessed:
                found[(*(str(row[name]) for name in query.by), direction)].append((counted, int(guessed)))
    return [
        {**dict(zip((*query.by, "tokens"), group, strict=True)), **_figures(pairs)}
        for group, pairs in sorted(found.items())
    ]


def _figures(pairs: list[tuple[int, int]]) -> dict[str, Any]:
    """Of (counted, estimated): which way the estimates lean, and how far one call is off."""
    counted, guessed = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    errors = sorted(abs(guess - count) / count for count, guess in pairs)
    return {
        "calls": len(pairs),
        "counted": counted,
        "estimated": guessed,
        "drift": (guessed - counted) / counted,
        "median_error": statistics.median(errors),
        "p90_error": errors[len(errors) * 9 // 10],
    }


def _print(how: str, query: Query, rows: list[dict[str, Any]]) -> None:
    if how == "json":
        print(json.dumps({"by": list(query.by), "rows": rows}, indent=2))
    elif how == "csv":
        writer = csv.DictWriter(sys.stdout, [*query.by, "tokens", *COLUMNS], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        _table(query, rows)


def _table(query: Query, rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    caption = f"{usage.span_of(query)} Drift: (estimated - counted) / counted. Errors: of one call, whichever way."
    table = Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left")
    for name in (*query.by, "tokens"):
        table.add_column(name, overflow="fold")
    for name in COLUMNS:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        counts = [f"{row[name]:,}" for name in COLUMNS[:3]]
        ratios = [f"{row[name]:+.1%}" if name == "drift" else f"{row[name]:.1%}" for name in COLUMNS[3:]]
        table.add_row(*(str(row[name]) or "-" for name in (*query.by, "tokens")), *counts, *ratios)
    # Without markup: a tenant may be called "[/b]".
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)
    console.print(table if rows else f"No calls with an estimate and a count. {usage.span_of(query)}")
