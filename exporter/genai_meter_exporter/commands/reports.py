"""What the reports on the ledger share: their options, the question these ask, the ways to print the answer."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai_meter_exporter import config as configuration
from genai_meter_exporter import display
from genai_meter_exporter.cells import MEASURES
from genai_meter_exporter.config import ConfigError
from genai_meter_exporter.display import printable
from genai_meter_exporter.store import Query, Reader, StoreError, open_readonly
from genai_meter_exporter.times import told_instant

if TYPE_CHECKING:
    from rich.table import Table

Row = Mapping[str, Any]


def configure(parser: argparse.ArgumentParser, *, by: str, since: str = "7d") -> None:
    """Add the options, with what a report groups by and covers if it is not told."""
    parser.add_argument(
        "--by", default=by, metavar="A,B", help="dimensions: any column of the ledger, or hour, day, month (UTC)"
    )
    parser.add_argument("--since", default=since, metavar="TIME", help="7d, 12h, 30m, 2w, an ISO time (UTC), or all")
    parser.add_argument("--until", metavar="TIME", help="like --since; exclusive (default: now)")
    parser.add_argument("--where", action="append", default=[], metavar="K=V", help="only this value; may be repeated")
    parser.add_argument("--format", choices=("table", "json", "csv"), default="table")
    parser.add_argument("--config", metavar="FILE", type=Path, help="the exporter's configuration")
    parser.add_argument("--data-dir", metavar="DIR", help="where the store lives (default: ~/.local/state/genai-meter)")


def run(
    name: str,
    options: argparse.Namespace,
    report: Callable[[Reader, Query], Sequence[Row]],
    show: Mapping[str, Callable[[Query, Sequence[Row]], None]],
) -> int:
    """Ask the ledger and print in the way of `--format`. Returns 2, with one line on stderr, if it cannot be asked."""
    try:
        query = query_of(options, datetime.now(UTC))
        reader = open_readonly(configuration.store_path(configuration.load(options.config), options.data_dir))
        try:
            rows = report(reader, query)
        finally:
            reader.close()
    except (ConfigError, StoreError, ValueError) as error:
        print(f"genai-meter {name}: {error}", file=sys.stderr)
        return 2
    show[options.format](query, rows)
    return 0


def query_of(options: argparse.Namespace, now: datetime) -> Query:
    """The question that the options ask."""
    by = tuple(name.strip() for name in options.by.split(",") if name.strip())
    if not by or len(set(by)) != len(by):
        raise ValueError("--by needs one or more different dimensions, e.g. --by tenant,model")
    if measures := [name for name in by if name in MEASURES]:
        raise ValueError(f"--by {measures[0]}: this is a measure, not a dimension; every row has its sum")
    where: list[tuple[str, str]] = []
    for condition in options.where:
        name, equals, value = condition.partition("=")
        if not equals:
            raise ValueError(f"--where {condition}: write it as column=value")
        where.append((name.strip(), value))
    since, until = told_instant("--since", options.since, now), told_instant("--until", options.until, now)
    if since is not None and until is not None and since >= until:
        raise ValueError(f"--since {options.since} is not before --until {options.until}")
    return Query(by, since, until, tuple(where))


def span_of(query: Query) -> str:
    """The time that a report is about, in words."""
    since = time_of(query.since_ns) if query.since_ns is not None else "the beginning"
    until = time_of(query.until_ns) if query.until_ns is not None else "now"
    return f"{since} to {until}."


def time_of(ns: int) -> str:
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def new_table(dimensions: Iterable[str], caption: str, figures: Iterable[str] = ()) -> Table:
    """An empty table: dimensions on the left, figures on the right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left")
    for name in dimensions:
        table.add_column(name, overflow="fold")
    for name in figures:
        table.add_column(name, justify="right")
    return table


def dimensions_of(by: Iterable[str], row: Row) -> list[str]:
    """The left cells of a row."""
    return [printable(str(row[name])) or "-" for name in by]


def print_table(table: Table, empty: str) -> None:
    """Print the table, or the line `empty` if it has no row."""
    display.console().print(table if table.row_count else empty)


def print_json(query: Query, rows: Iterable[Row], **more: Any) -> None:
    """Print one document: the dimensions, what `more` says, the rows."""
    print(json.dumps({"by": list(query.by), **more, "rows": [dict(row) for row in rows]}, indent=2))


def print_csv(headings: Sequence[str], rows: Iterable[Row]) -> None:
    """Print the rows under their headings."""
    writer = csv.DictWriter(sys.stdout, headings, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
