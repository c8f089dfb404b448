"""`genai-meter estimates`: how far the applications' token estimates are from the providers' counts."""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from genai_meter_exporter.commands import reports
from genai_meter_exporter.commands.reports import Row
from genai_meter_exporter.store import Query, Reader

COLUMNS: Final = ("calls", "counted", "estimated", "drift", "median_error", "p90_error")
_DIRECTIONS: Final = ("input", "output")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    reports.configure(parser, by="provider,model")


def run(options: argparse.Namespace) -> int:
    """Print one report."""
    show = {"table": _table, "json": reports.print_json, "csv": _csv}
    return reports.run("estimates", options, report, show)


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


def _table(query: Query, rows: Sequence[Row]) -> None:
    caption = f"{reports.span_of(query)} Drift: (estimated - counted) / counted. Errors: of one call, whichever way."
    by = (*query.by, "tokens")
    table = reports.new_table(by, caption, [name.replace("_", " ") for name in COLUMNS])
    for row in rows:
        counts = [f"{row[name]:,}" for name in COLUMNS[:3]]
        ratios = [f"{row[name]:+.1%}" if name == "drift" else f"{row[name]:.1%}" for name in COLUMNS[3:]]
        table.add_row(*reports.dimensions_of(by, row), *counts, *ratios)
    reports.print_table(table, f"No calls with an estimate and a count. {reports.span_of(query)}")


def _csv(query: Query, rows: Sequence[Row]) -> None:
    reports.print_csv([*query.by, "tokens", *COLUMNS], rows)
