"""`genai-meter anomalies`: what was unusual in the ledger, since when, and what it came from."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from genai_meter_exporter import config as configuration
from genai_meter_exporter.anomalies.watch import FILE
from genai_meter_exporter.budgets import backtest
from genai_meter_exporter.display import console, printable
from genai_meter_exporter.lines import Lines


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--data-dir", metavar="DIR", help="where the store lives (default: ~/.local/state/genai-meter)")
    parser.add_argument("--since", metavar="7d", default="7d", help="how far back (default: 7d)")
    parser.add_argument("--format", choices=("table", "json"), default="table")


def run(options: argparse.Namespace) -> int:
    """Print what the exporter has kept; 2 when it cannot be done."""
    directory: Path = configuration.data_directory(options.data_dir)
    try:
        days = backtest.days(options.since)
    except ValueError as error:
        print(f"genai-meter anomalies: {error}", file=sys.stderr)
        return 2
    if not (directory / FILE).exists():
        print(f"nothing was found so far: {directory / FILE} is written by `genai-meter serve`", file=sys.stderr)
    now = time.time()
    rows = told(Lines(directory, FILE, {"labels": dict}, read_only=True).read(now), now - days * 86_400)
    if options.format == "json":
        print(json.dumps(rows, indent=2))
    else:
        _table(rows, days)
    return 0


def told(entries: list[dict[str, Any]], since: float) -> list[dict[str, Any]]:
    """One row an anomaly that was open since an instant, the latest first."""
    rows: list[dict[str, Any]] = []
    opened: dict[tuple[Any, ...], dict[str, Any]] = {}
    for entry in entries:
        key = entry["kind"], *entry["labels"].items()
        if entry.get("event") == "opened":
            opened[key] = {
                "opened": _instant(entry["at"]),
                "closed": None,
                "kind": entry["kind"],
                "who": entry["labels"],
                "what": entry["text"],
                "due_to": entry["due_to"],
            }
            rows.append(opened[key])
        elif entry.get("event") == "closed" and key in opened:
            row = opened.pop(key)
            row["closed"] = _instant(entry["at"])
            if entry["at"] < since:
                rows.remove(row)
    return rows[::-1]


def _table(rows: list[dict[str, Any]], days: int) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("SINCE", "UNTIL", "KIND", "WHO", "WHAT", "PRIMARILY DUE TO"):
        table.add_column(name, overflow="fold")
    for row in rows:
        told = (row["opened"], row["closed"] or "now", row["kind"], _who(row["who"]), row["what"], row["due_to"])
        table.add_row(*map(printable, told))
    output = console(200)
    if rows:
        output.print(table)
    output.print(f"{len(rows)} in {days} days, {sum(row['closed'] is None for row in rows)} of them open")


def _who(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in labels.items() if value)


def _instant(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%MZ}"
