"""`genai-meter quarantine`: what could not be read: who sent it and why; read it again, or throw it away."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from genai_meter_exporter import config as configuration
from genai_meter_exporter.commands import reports
from genai_meter_exporter.config import Config, ConfigError
from genai_meter_exporter.display import console, printable
from genai_meter_exporter.normalise.record import MAX_INT
from genai_meter_exporter.store import StoreError
from genai_meter_exporter.store.quarantine import Kept, Wanted, open_quarantine
from genai_meter_exporter.times import told_instant

_COLUMNS: Final[tuple[str, ...]] = ("producer", "signal", "reason", "records", "times", "first_seen", "last_seen")

_PATIENCE_SECONDS: Final = 60.0
"""How long the exporter that writes the ledger is waited for."""

_EPILOG: Final = """\
Records are kept without content: numbers, names, ids. A record is told from others by the first digits of its id.

  genai-meter quarantine                               who sends what cannot be read, and why
  genai-meter quarantine show --producer my.agent      each record
  genai-meter quarantine retry                         after an upgrade or a repair: read all of them again
  genai-meter quarantine purge --before 30d --yes      throw away what was last seen before
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands and their options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    _shared(parser)
    # What was said before the action holds unless it is said again.
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    _shared(shared)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    listing = actions.add_parser("list", parents=[shared], help="by producer and reason (the default)")
    listing.add_argument("--format", choices=("table", "json", "csv"), default="table")
    show = actions.add_parser("show", parents=[shared], help="each record as JSON, one a line")
    show.add_argument("id", nargs="?", default="", help="the first digits of its id")
    show.add_argument("--limit", type=_count, default=20, metavar="N", help="how many (default: 20)")
    retry = actions.add_parser("retry", parents=[shared], help="read them again; what can be read now is charged")
    retry.add_argument("id", nargs="?", default="", help="the first digits of its id")
    retry.add_argument("--overlay", metavar="FILE", type=Path, help="compiled overlay (default: the configuration's)")
    purge = actions.add_parser("purge", parents=[shared], help="throw them away; counters still know of them")
    purge.add_argument("id", nargs="?", default="", help="the first digits of its id")
    purge.add_argument("--yes", action="store_true", help="do it; without it they are only counted")
    parser.set_defaults(producer="", reason="", format="table", id="")


def _shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--producer", metavar="NAME", help="only of this instrumentation scope")
    parser.add_argument("--reason", metavar="TEXT", help="only with this in the reason")
    parser.add_argument("--before", metavar="TIME", help="only last seen before: 7d, 12h, 2w, or an ISO time (UTC)")
    parser.add_argument("--config", metavar="FILE", type=Path, help="the exporter's configuration")
    parser.add_argument("--data-dir", metavar="DIR", help="where the store lives (default: ~/.local/state/genai-meter)")


def run(options: argparse.Namespace) -> int:
    """Run one action."""
    try:
        config = configuration.load(options.config)
        location = configuration.written_path(config, options.data_dir)
        wanted = _wanted(options)
        if options.action == "show":
            return _show(location, wanted, options.limit)
        if options.action == "retry":
            return _retry(config, location, wanted, options)
        if options.action == "purge":
            return _purge(location, wanted, write=options.yes)
        return _list(location, wanted, options.format)
    except (ConfigError, StoreError, ValueError) as error:
        print(f"genai-meter quarantine: {error}", file=sys.stderr)
        return 2


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_INT:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of records: write 20")
    return int(text)


def _wanted(options: argparse.Namespace) -> Wanted:
    if not re.fullmatch(r"[0-9a-f]{0,32}", options.id):
        raise ValueError(f"{options.id!r} is no id: write the first hexadecimal digits that `show` prints")
    return Wanted(
        options.id, options.producer, options.reason, told_instant("--before", options.before, datetime.now(UTC))
    )


def _list(location: str | Path, wanted: Wanted, form: str) -> int:
    with open_quarantine(location) as quarantine:
        groups = quarantine.groups(wanted)
    rows: list[dict[str, Any]] = [
        dict(zip(_COLUMNS, (*group[:5], *map(_time, group[5:])), strict=True)) for group in groups
    ]
    if form == "json":
        print(json.dumps(rows, indent=2))
    elif form == "csv":
        reports.print_csv(_COLUMNS, rows)
    else:
        _table(rows)
    return 0


def _table(rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for name in _COLUMNS:
        right = name in ("records", "times")
        table.add_column(name.replace("_", " "), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else printable(value) for value in row.values()))
    console().print(table if rows else "Nothing is in quarantine.")


def _show(location: str | Path, wanted: Wanted, limit: int) -> int:
    with open_quarantine(location) as quarantine:
        found = quarantine.records(wanted, limit)
    for kept in found:
        print(json.dumps(_shown(kept), ensure_ascii=False))
    if not found:
        print("no such record is in quarantine", file=sys.stderr)
    return 0 if found else 1


def _shown(kept: Kept) -> dict[str, Any]:
    return {
        "id": kept.digest.hex(),
        "producer": kept.producer,
        "signal": kept.signal,
        "reason": kept.reason,
        "times": kept.times,
        "first_seen": _time(kept.first_seen),
        "last_seen": _time(kept.last_seen),
        "record": json.loads(kept.record),
    }


def _retry(config: Config, location: str | Path, wanted: Wanted, options: argparse.Namespace) -> int:
    """The ledger's writer reads them: the exporter that runs, or else this process."""
    from genai_meter_exporter.charging import PriceError, open_prices

    try:
        open_prices(options.overlay or configuration.overlay(config, options.config))
    except PriceError as error:
        raise ValueError(str(error)) from None
    with open_quarantine(location) as quarantine:
        asked = quarantine.count(wanted)
        quarantine.ask(wanted)
    if asked:
        _carry_out(config, location)
    patience = time.monotonic() + _PATIENCE_SECONDS
    while waiting := _waiting(location):
        if time.monotonic() > patience:
            print(f"{waiting:,} are left to the exporter that writes this ledger")
            return 1
        time.sleep(0.2)
    with open_quarantine(location) as quarantine:
        left = quarantine.count(wanted)
    print(f"{asked:,} read again: {max(asked - left, 0):,} can be read now, {min(left, asked):,} stay")
    return 0 if not left else 1


def _waiting(location: str | Path) -> int:
    with open_quarantine(location) as quarantine:
        return quarantine.asked()


def _carry_out(config: Config, location: str | Path) -> None:
    """Without an exporter on a file, this process is its writer; otherwise the exporter does it within seconds."""
    from genai_meter_exporter.attribution_map import AttributionMap
    from genai_meter_exporter.bounds import bounds_of
    from genai_meter_exporter.pipeline import read_quarantined
    from genai_meter_exporter.store import open_store

    if not isinstance(location, Path):
        return
    labels = config.labels
    store = open_store(location, bounds_of(labels), config)
    try:
        store.open()
    except StoreError:
        # An exporter has it.
        return
    try:
        attribution = AttributionMap(config.attribution.rules)
        while (batch := read_quarantined(store, attribution)) is not None:
            store.write([batch], (), time.time_ns())
            store.commit()
    finally:
        store.close()


def _purge(location: str | Path, wanted: Wanted, *, write: bool) -> int:
    with open_quarantine(location) as quarantine:
        found = quarantine.count(wanted)
        if write:
            quarantine.purge(wanted)
    print(f"{found:,} records " + ("are gone" if write else "would go; say --yes to throw them away"))
    return 0


def _time(ns: int) -> str:
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M UTC")
