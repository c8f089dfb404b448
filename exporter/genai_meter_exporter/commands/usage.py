"""`genai-meter usage`: spend and tokens from the ledger, by any dimension."""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from genai_meter.pricing.cost import usd

from genai_meter_exporter import config as configuration
from genai_meter_exporter.cells import GRAIN_SECONDS, MEASURES, MONEY
from genai_meter_exporter.config import ConfigError
from genai_meter_exporter.normalise.record import MAX_INT
from genai_meter_exporter.store import Query, StoreError, open_readonly

_UNITS: Final = {"m": 60, "h": 3600, "d": 86400, "w": 604800}
_GRAIN_NS: Final = GRAIN_SECONDS * 1_000_000_000
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
    parser.add_argument(
        "--by", default="model", metavar="A,B", help="dimensions: any column of the ledger, or hour, day, month (UTC)"
    )
    parser.add_argument("--since", default="7d", metavar="TIME", help="7d, 12h, 30m, 2w, an ISO time (UTC), or all")
    parser.add_argument("--until", metavar="TIME", help="like --since; exclusive (default: now)")
    parser.add_argument("--where", action="append", default=[], metavar="K=V", help="only this value; may be repeated")
    parser.add_argument("--format", choices=("table", "json", "csv"), default="table")
    parser.add_argument("--config", metavar="FILE", type=Path, help="the exporter's configuration")
    parser.add_argument("--data-dir", metavar="DIR", help="where the store lives (default: ~/.local/state/genai-meter)")


def run(options: argparse.Namespace) -> int:
    """Print one report."""
    try:
        query = query_of(options, datetime.now(UTC))
        reader = open_readonly(configuration.store_path(configuration.load(options.config), options.data_dir))
        try:
            rows = reader.report(query)
        finally:
            reader.close()
    except (ConfigError, StoreError, ValueError) as error:
        print(f"genai-meter usage: {error}", file=sys.stderr)
        return 2
    _PRINTERS[options.format](query, rows)
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
    return Query(by, _instant(options.since, now), _instant(options.until, now), tuple(where))


def _instant(text: str | None, now: datetime) -> int | None:
    """Unix nanoseconds; a span back from now starts at the quarter of an hour it falls into."""
    if text is None or text == "all":
        return None
    try:
        instant = _nanoseconds(text, now)
    except OverflowError:
        instant = -1
    if not 0 <= instant <= MAX_INT:
        raise ValueError(f"{text!r} is before 1970 or too late: write all for everything")
    return instant


def _nanoseconds(text: str, now: datetime) -> int:
    if match := re.fullmatch(r"(\d+)([mhdw])", text):
        moment = now - timedelta(seconds=int(match[1]) * _UNITS[match[2]])
        return int(moment.timestamp()) * 1_000_000_000 // _GRAIN_NS * _GRAIN_NS
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time: write 7d, 12h, 30m, 2w, an ISO time, or all") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86400 + delta.seconds) * 1_000_000_000 + delta.microseconds * 1000


def _cost(row: Mapping[str, Any]) -> Decimal | None:
    """None when no call of the group has a price: that is unknown, not zero."""
    priced = row["calls"] - row["unpriced_calls"] - row["unknown_usage_calls"]
    return usd(row["cost"]) if priced or row["cost"] else None


def _totals(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: sum(row[name] for row in rows) for name in MEASURES}


def _table(query: Query, rows: Sequence[Mapping[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    totals = _totals(rows)
    incomplete = " '+?': some calls have no price or no usage; their cost is not in it."
    caption = span_of(query) + (incomplete if totals["unpriced_calls"] or totals["unknown_usage_calls"] else "")
    table = Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left", show_footer=bool(rows))
    for index, name in enumerate(query.by):
        table.add_column(name, footer="total" if index == 0 else "", overflow="fold")
    shown = [name for name in _COLUMNS if name == "calls" or totals[name]]
    for name in shown:
        table.add_column(_COLUMNS[name], justify="right", footer=_count(name, totals[name]))
    table.add_column("cost USD", justify="right", footer=_money(totals))
    for row in rows:
        counts = [_count(name, row[name]) for name in shown]
        table.add_row(*(str(row[name]) or "-" for name in query.by), *counts, _money(row))
    # Without markup: a tenant may be called "[/b]".
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)
    console.print(table if rows else f"No calls. {span_of(query)}")


def _count(name: str, value: int) -> str:
    if name in ("unpriced_calls", "unknown_usage_calls"):
        return f"{value:,}" if value else ""
    return f"{value:,}"


def _money(row: Mapping[str, Any]) -> str:
    cost = _cost(row)
    if cost is None:
        return "unpriced" if row["unpriced_calls"] else "unknown"
    more = "+?" if row["unpriced_calls"] or row["unknown_usage_calls"] else ""
    return ("<0.000001" if 0 < cost < _SMALLEST else f"{cost:,.6f}") + more


def span_of(query: Query) -> str:
    """The time that a report is about, in words."""
    since = _time(query.since_ns) if query.since_ns is not None else "the beginning"
    until = _time(query.until_ns) if query.until_ns is not None else "now"
    return f"{since} to {until}."


def _time(ns: int) -> str:
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _plain(query: Query, row: Mapping[str, Any]) -> dict[str, Any]:
    """One row for programs: money as exact decimal text, null where nothing has a price."""
    plain: dict[str, Any] = {name: row[name] for name in query.by}
    plain.update((name, row[name]) for name in MEASURES if name not in MONEY)
    cost = _cost(row)
    plain["list_cost_usd"] = None if cost is None else f"{usd(row['list_cost']):f}"
    plain["cost_usd"] = None if cost is None else f"{cost:f}"
    return plain


def _json(query: Query, rows: Sequence[Mapping[str, Any]]) -> None:
    document = {
        "by": list(query.by),
        "since": None if query.since_ns is None else _time(query.since_ns),
        "until": None if query.until_ns is None else _time(query.until_ns),
        "rows": [_plain(query, row) for row in rows],
        "total": _plain(Query(()), _totals(rows)),
    }
    print(json.dumps(document, indent=2))


def _csv(query: Query, rows: Sequence[Mapping[str, Any]]) -> None:
    plain = [_plain(query, row) for row in rows]
    headings = list(_plain(query, {**dict.fromkeys(query.by, ""), **_totals([])}))
    writer = csv.DictWriter(sys.stdout, headings, lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain)


_PRINTERS: Final[Mapping[str, Callable[[Query, Sequence[Mapping[str, Any]]], None]]] = {
    "table": _table,
    "json": _json,
    "csv": _csv,
}
