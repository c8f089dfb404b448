"""Where usage is kept. One file per engine behind the small protocol of `base`."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from pathlib import Path

from genai_meter_exporter.bounds import Bounds
from genai_meter_exporter.config import Config, StoreSection, is_clickhouse
from genai_meter_exporter.store.base import Query, Reader, Revision, Store, StoreError
from genai_meter_exporter.store.rows import price_json

__all__ = [
    "Query",
    "Reader",
    "Revision",
    "Store",
    "StoreError",
    "ask_for_revisions",
    "open_readonly",
    "open_store",
    "shown",
]

Location = str | Path
"""A database's URL or a file."""


def open_readonly(location: Location) -> Reader:
    """Read a store, also while an exporter writes it; raises `StoreError` when there is none."""
    if is_clickhouse(location):
        from genai_meter_exporter.store.clickhouse_reader import ClickHouseReader

        return ClickHouseReader(str(location))
    if _is_url(location):
        from genai_meter_exporter.store.postgres_reader import PostgresReader

        return PostgresReader(str(location))
    from genai_meter_exporter.store.reader import SqliteReader

    return SqliteReader(location)


def open_store(location: Location, bounds: Bounds, config: Config) -> Store:
    """The store that a configuration names, to be opened by the one who writes it: with ClickHouse, a journal."""
    window_ns = int(config.linking.window_seconds * 1_000_000_000)
    store = config.store
    instance = store.instance or socket.gethostname()
    if is_clickhouse(store.url):
        from genai_meter_exporter.store.clickhouse import ClickHouseStore

        return ClickHouseStore(
            Path(location),
            str(store.url),
            bounds,
            instance=instance,
            calendar=store.calendar in (None, instance),
            kept_longer_ns=_kept_longer(store),
            move_rows=store.move_rows,
            move_seconds=store.move_seconds,
            synchronous=store.synchronous,
            window_ns=window_ns,
            quarantine_rows=store.quarantine_rows,
            busy_seconds=store.busy_seconds,
        )
    if _is_url(location):
        from genai_meter_exporter.store.postgres import PostgresStore

        return PostgresStore(
            str(location),
            bounds,
            instance=instance,
            synchronous=store.synchronous,
            window_ns=window_ns,
            quarantine_rows=store.quarantine_rows,
            busy_seconds=store.busy_seconds,
        )
    from genai_meter_exporter.store.sqlite import SqliteStore

    return SqliteStore(
        Path(location),
        bounds,
        synchronous=store.synchronous,
        window_ns=window_ns,
        quarantine_rows=store.quarantine_rows,
        busy_seconds=store.busy_seconds,
    )


def ask_for_revisions(location: Location, revisions: Sequence[Revision]) -> None:
    """Leave other prices for calls in the store; its writer carries them out. The last one asked for holds."""
    found = [(revision.call_id, price_json(revision.price), revision.reason) for revision in revisions]
    if _is_url(location):
        from genai_meter_exporter.store import postgres

        postgres.ask_for_revisions(str(location), found)
    else:
        from genai_meter_exporter.store import sqlite

        sqlite.ask_for_revisions(Path(location), found)


def shown(location: Location) -> str:
    """Where the store is, without a password."""
    return re.sub(r"//([^:/@]*):[^@]*@", r"//\1:…@", str(location)) if isinstance(location, str) else str(location)


def _kept_longer(store: StoreSection) -> int | None:
    """What ClickHouse keeps beyond the journals; None: everything."""
    if store.retention_days is None:
        return None
    days = store.retention_days - (store.journal_days or store.retention_days)
    return max(days, 0) * 86_400_000_000_000


def _is_url(location: Location) -> bool:
    return isinstance(location, str) and location.startswith(("postgresql://", "postgres://"))
