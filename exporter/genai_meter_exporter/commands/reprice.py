"""`genai-meter reprice`: price calls of the ledger by another book; differences become revisions."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from genai_meter.pricing.resolver import BOOK_VARIABLE

from genai_meter_exporter import config as configuration
from genai_meter_exporter.bounds import bounds_of
from genai_meter_exporter.charging import PriceError, open_prices, price_record
from genai_meter_exporter.commands.reports import query_of, span_of
from genai_meter_exporter.config import Config, ConfigError
from genai_meter_exporter.normalise.record import UsageRecord, price_context
from genai_meter_exporter.prices.calc import usd_text
from genai_meter_exporter.prices.explain import from_row
from genai_meter_exporter.store import Reader, Revision, StoreError, ask_for_revisions, open_readonly, open_store
from genai_meter_exporter.store.base import Price, Query

_PRICE: Final = tuple(field.name for field in fields(Price))
_DECIDES: Final = ("cost_status", "list_cost", "cost")
"""A call gets a revision when one of these differs."""

_AT_ONCE: Final = 1_000

_PATIENCE_SECONDS: Final = 60.0
"""How long an exporter is waited for that carries out none."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--since", required=True, metavar="TIME", help="7d, 12h, 2w, an ISO time (UTC), or all")
    parser.add_argument("--until", metavar="TIME", help="like --since; exclusive (default: now)")
    parser.add_argument("--where", action="append", default=[], metavar="K=V", help="only this value; may be repeated")
    parser.add_argument("--book", metavar="FILE", type=Path, help=f"price book (default: ${BOOK_VARIABLE} or shipped)")
    parser.add_argument("--overlay", metavar="FILE", type=Path, help="compiled overlay (default: the configuration's)")
    parser.add_argument("--reason", metavar="TEXT", help="kept with every revision (default: the book's name)")
    parser.add_argument("--yes", action="store_true", help="write the revisions; without it they are only counted")
    parser.add_argument("--config", metavar="FILE", type=Path, help="the exporter's configuration")
    parser.add_argument("--data-dir", metavar="DIR", help="where the store lives (default: ~/.local/state/genai-meter)")
    # What `usage` calls dimensions plays no part here.
    parser.set_defaults(by="model")


def run(options: argparse.Namespace) -> int:
    """Price anew; the writer of the ledger carries the revisions out."""
    try:
        config = configuration.load(options.config)
        if options.book:
            os.environ[BOOK_VARIABLE] = str(options.book)
        book_id, _ = open_prices(options.overlay or configuration.overlay(config, options.config))
        location = configuration.written_path(config, options.data_dir)
        query = query_of(options, datetime.now(UTC))
        return _run(config, location, query, options.reason or f"priced by {book_id}", write=options.yes)
    except (ConfigError, PriceError, StoreError, ValueError) as error:
        print(f"genai-meter reprice: {error}", file=sys.stderr)
        return 2


def _run(config: Config, location: str | Path, query: Query, reason: str, *, write: bool) -> int:
    reader = open_readonly(location)
    try:
        total = [0, 0, 0]
        waiting: list[Revision] = []
        for row, price in _differences(reader.calls(query)):
            total[0] += 1
            grown = (price.cost or 0) - (row["cost"] or 0)
            total[1 if grown > 0 else 2] += abs(grown)
            if write:
                waiting.append(Revision(row["call_id"], price, reason))
            if len(waiting) >= _AT_ONCE:
                ask_for_revisions(location, waiting)
                waiting.clear()
        ask_for_revisions(location, waiting)
        print(
            f"{span_of(query)} Calls with another price: {total[0]:,}; "
            f"{usd_text(total[1])} USD more, {usd_text(total[2])} USD less. {reason}."
        )
        if not write:
            print("nothing written; say --yes to write the revisions")
            return 0 if not total[0] else 1
        _carry_out(config, location)
        return _wait(reader)
    finally:
        reader.close()


def _wait(reader: Reader) -> int:
    """Until the writer has carried out all, as long as it does; what it leaves stays asked for."""
    left, since = reader.pending(), time.monotonic()
    while left:
        if time.monotonic() - since > _PATIENCE_SECONDS:
            print("an exporter carries them out when it writes this ledger again", file=sys.stderr)
            return 1
        print(f"{left:,} revisions are left to the exporter that writes this ledger ...", flush=True)
        time.sleep(1)
        before, left = left, reader.pending()
        since = since if left == before else time.monotonic()
    return 0


def _differences(rows: Iterator[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Price]]:
    for row in rows:
        if row["book_id"] is None and row["cost"] is not None:
            # A fact of its producer: no price was used.
            continue
        values = dict(row)
        record = UsageRecord(
            key=row["call_id"],
            values=values,
            usages=from_row(row).usages,
            producer=row["source"],
            rank=row["source_rank"],
            context=price_context({name: value for name, value in values.items() if value is not None}),
        )
        price_record(record)
        if any(values[name] != row[name] for name in _DECIDES):
            yield row, Price(**{name: values[name] for name in _PRICE})


def _carry_out(config: Config, location: str | Path) -> None:
    """Without an exporter on a file, this process is its writer; otherwise the exporter does it within seconds."""
    labels = config.labels
    store = open_store(location, bounds_of(labels), config)
    if not isinstance(location, Path):
        return
    try:
        store.open()
    except StoreError:
        # An exporter has it.
        return
    try:
        while store.revise_pending(_AT_ONCE, time.time_ns()) is not None:
            store.commit()
    finally:
        store.close()
