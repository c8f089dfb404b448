"""`genai-meter store`: check the ledger, bring it to this version's schema, write its days to files and read them."""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from genai_meter_exporter import config as configuration
from genai_meter_exporter.bounds import bounds_of
from genai_meter_exporter.config import Config, ConfigError, is_clickhouse
from genai_meter_exporter.prices.calc import usd_text
from genai_meter_exporter.store import Query, Reader, StoreError, open_readonly, open_store, shown
from genai_meter_exporter.store.base import Tally
from genai_meter_exporter.store.reader import existing
from genai_meter_exporter.times import day

_Totals = tuple[int, int]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands and their options."""
    actions = parser.add_subparsers(dest="store", required=True, metavar="ACTION")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--config", metavar="FILE", type=Path, help="the exporter's configuration")
    shared.add_argument("--data-dir", metavar="DIR", help="where the store lives (default: ~/.local/state/genai-meter)")
    actions.add_parser("check", parents=[shared], help="rows, roll-ups and counters must tell the same sums")
    migrate = actions.add_parser("migrate", parents=[shared], help="bring the store to this version's schema")
    migrate.add_argument("--dry-run", action="store_true", help="on a copy (or taken back), and check the result")
    export = actions.add_parser("export", parents=[shared], help="write closed days to files; those that have changed")
    export.add_argument("--to", required=True, metavar="DIR", type=Path, help="where they are, a file a day and table")
    export.add_argument("--format", choices=("parquet", "csv"), default="parquet")
    export.add_argument("--until", metavar="DAY", type=day, help="only days before (UTC; default: yesterday)")
    take = actions.add_parser("import", parents=[shared], help="take over the calls of files that `export` wrote")
    take.add_argument("directory", metavar="DIR", type=Path)


def run(options: argparse.Namespace) -> int:
    """Run one action."""
    try:
        location = configuration.store_path(configuration.load(options.config), options.data_dir)
        if options.store == "export":
            return _export(open_readonly(location), options)
        if options.store == "import":
            return _import(configuration.load(options.config), options)
        if options.store == "check":
            return _check(open_readonly(location))
        return _migrate(location, rehearse=options.dry_run)
    except (ConfigError, StoreError, sqlite3.Error) as error:
        print(f"genai-meter store: {error}", file=sys.stderr)
        return 2


def _export(reader: Reader, options: argparse.Namespace) -> int:
    from genai_meter_exporter.store.archive import Archive
    from genai_meter_exporter.store.transfer import export_days

    # What comes late mostly comes within a day.
    until = options.until or datetime.now(UTC).date() - timedelta(days=1)
    count = 0
    with closing(reader), closing(Archive(options.to)) as archive:
        for written, sums in export_days(reader, archive, until, options.format):
            print(f"{written}  {sums.calls:>14,} calls  {usd_text(sums.cost)} USD", flush=True)
            count += 1
    print(f"{count} day{'' if count == 1 else 's'} written to {options.to}")
    return 0


def _import(config: Config, options: argparse.Namespace) -> int:
    from genai_meter_exporter.store.archive import open_archive
    from genai_meter_exporter.store.transfer import import_days

    location = configuration.written_path(config, options.data_dir)
    if not isinstance(location, Path):
        # A share of the counters that no exporter has.
        config = config.model_copy(update={"store": config.store.model_copy(update={"instance": "import"})})
    labels = config.labels
    store = open_store(location, bounds_of(labels), config)
    total = Tally()
    with closing(open_archive(options.directory)) as archive:
        store.open()
        with closing(store):
            for taken, tally in import_days(archive, store, time.time_ns()):
                print(f"{taken}  {tally.accepted:>14,} calls taken over, {tally.duplicate:,} were there", flush=True)
                total.accepted += tally.accepted
                total.duplicate += tally.duplicate
    print(f"{total.accepted:,} calls taken over into {shown(location)}, {total.duplicate:,} were there")
    return 0


def _check(reader: Reader) -> int:
    """Print what each source tells; 1 when they do not agree."""
    with closing(reader):
        found = dict(_sources(reader))
    for name, (calls, cost) in found.items():
        print(f"{name:<24}  {calls:>14,} calls  {usd_text(cost)} USD")
    if len(set(found.values())) == 1:
        return 0
    print("they do not agree", file=sys.stderr)
    return 1


def _sources(reader: Reader) -> Iterator[tuple[str, _Totals]]:
    if reader.raw_since():
        print("Calls have been removed (store.retention_days): their rows are in no sum of rows.")
    else:
        yield "rows", reader.totals()
    for name, by in (("roll-ups by day", "day"), ("roll-ups by quarter", "hour")):
        rows = reader.report(Query((by,)))
        yield name, (sum(row["calls"] for row in rows), sum(row["cost"] for row in rows))
    yield "counters", reader.counted()


def _migrate(location: str | Path, *, rehearse: bool) -> int:
    if not isinstance(location, Path):
        return _migrate_database(location, rehearse=rehearse)
    existing(location)
    if not rehearse:
        _print(location, _migrate_file(location), done="is")
        return 0
    with tempfile.TemporaryDirectory(dir=location.parent) as directory:
        copy = Path(directory) / location.name
        read_only = f"{location.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(read_only, uri=True)) as source, closing(sqlite3.connect(copy)) as target:
            try:
                source.backup(target)
            except sqlite3.Error as error:
                raise StoreError(f"{location} cannot be copied: {error}") from None
        _print(location, _migrate_file(copy), done="would be")
        return _check(open_readonly(copy))


def _migrate_file(path: Path) -> list[int]:
    from genai_meter_exporter.store.migrations import migrate
    from genai_meter_exporter.store.sqlite import locked

    try:
        with locked(path), closing(sqlite3.connect(path, isolation_level=None)) as connection:
            return migrate(connection, str(path))
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be migrated: {error}") from None


def _migrate_database(url: str, *, rehearse: bool) -> int:
    if is_clickhouse(url):
        from genai_meter_exporter.store.clickhouse import migrate_database
    else:
        from genai_meter_exporter.store.postgres import migrate_database

    _print(url, migrate_database(url, rehearse=rehearse), done="would be" if rehearse else "is")
    return 0


def _print(location: str | Path, versions: list[int], *, done: str) -> None:
    if versions:
        print(f"{shown(location)} {done} brought to schema {versions[-1]} ({len(versions)} steps)")
    else:
        print(f"{shown(location)} has this version's schema")
