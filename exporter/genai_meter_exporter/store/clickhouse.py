"""ClickHouse: each exporter writes its own journal, and moves rows from there in large batches.

Durable is what the journal has; what is in ClickHouse is a copy that may be sent again at any time, because a row
replaces an older version of itself and nothing else.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import orjson
from clickhouse_connect.driver.exceptions import ClickHouseError

from genai_meter_exporter.bounds import Bounds
from genai_meter_exporter.normalise.own import time_prefix
from genai_meter_exporter.store import clickhouse_schema
from genai_meter_exporter.store.base import Restored, StoreError
from genai_meter_exporter.store.clickhouse_reader import connect, told
from genai_meter_exporter.store.clickhouse_schema import Refused
from genai_meter_exporter.store.journal import Journal, Outbox, Page, Table

logger: Final = logging.getLogger("genai_meter_exporter")

_NAMES: Final = {
    Table.CALL: "call",
    Table.LINKED: "linked",
    Table.REVISION: "revision",
    Table.OUTCOME: "outcome",
    Table.CACHE_HIT: "cache_hit",
    Table.ROLLUP: "rollup",
    Table.COUNTER: "counter",
}
_SHARES: Final = (Table.ROLLUP, Table.COUNTER)
"""Of these each exporter has rows of its own."""

_SETTINGS: Final = {
    # A field that a newer exporter knows waits for the column; one that nobody sent is unknown.
    "input_format_skip_unknown_fields": 1,
    "input_format_null_as_default": 1,
    "max_partitions_per_insert_block": 0,
    "async_insert": 0,
}

_FAST_SECONDS: Final = 0.05
"""Between pages when there are more."""


class Mover:
    """Moves rows from a journal to ClickHouse. One thread, or one caller."""

    def __init__(self, path: Path, url: str, instance: str, *, rows: int, busy_seconds: float) -> None:
        self._path = path
        self._url = url
        self._instance = instance
        self._rows = rows
        self._busy_seconds = busy_seconds
        self._client: Any = None
        self._outbox: Outbox | None = None
        self.keep_since = 0
        """Calls that started before are removed from ClickHouse, by this exporter for all; their sums stay."""
        self._kept_since = 0

    def move(self) -> int:
        """One page of each table; how many rows there were. Raises `StoreError`; sent again is what it had sent."""
        try:
            outbox = self._open()
            pages = [page for table in Table if (page := outbox.page(table, self._rows)) is not None]
            for page in pages:
                self._send(page)
                outbox.moved(page)
            self._retire(self.keep_since)
        except (ClickHouseError, sqlite3.Error, OSError) as error:
            self.close()
            raise StoreError(f"rows cannot be moved to ClickHouse: {told(error)}") from error
        return sum(len(page.notes) for page in pages)

    def check(self) -> None:
        """Make the tables; refuse a journal that is not the one this name had. Raises `StoreError`."""
        try:
            self._open()
        except (ClickHouseError, sqlite3.Error, OSError) as error:
            self.close()
            raise StoreError(f"ClickHouse cannot be used: {told(error)}") from error

    def _retire(self, before_ns: int) -> None:
        if before_ns <= self._kept_since:
            return
        client = self._client
        self._keep("raw_since", before_ns, before_ns)
        first = time_prefix(before_ns).hex()
        for table, column in (("call", "call_id"), ("linked", "charge"), ("revision", "call_id")):
            client.command(f"DELETE FROM {table} WHERE {column} < {{first:String}}", {"first": first})
        self._kept_since = before_ns

    def close(self) -> None:
        """Let go of both."""
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None
        if self._client is not None:
            with contextlib.suppress(ClickHouseError, OSError):
                self._client.close()
            self._client = None

    def _open(self) -> Outbox:
        if self._outbox is None:
            self._outbox = Outbox(self._path, self._busy_seconds)
        if self._client is None:
            self._client = connect(self._url)
            clickhouse_schema.migrate(self._client)
            self._know_journal(self._outbox)
        return self._outbox

    def _know_journal(self, outbox: Outbox) -> None:
        """Shares are replaced whole: another journal under this name would take the old one's away."""
        own = outbox.fact("journal")
        name = f"journal/{self._instance}"
        found = self._client.query(
            "SELECT value FROM fact FINAL WHERE name = {name:String}", parameters={"name": name}
        ).result_rows
        if found and found[0][0] != own:
            raise Refused(
                f"the ledger has rows of an exporter {self._instance!r} that come from another journal than "
                f"{self._path}: bring that journal back, or give this exporter another store.instance"
            )
        if not own:
            own = secrets.randbits(62) + 1
            outbox.keep("journal", own)
        if not found:
            self._keep(name, own, 1)

    def _keep(self, name: str, value: int, version: int) -> None:
        self._client.command(
            "INSERT INTO fact (name, value, _version) VALUES ({name:String}, {value:Int64}, {version:UInt64})",
            {"name": name, "value": value, "version": version},
        )

    def _send(self, page: Page) -> None:
        if not page.lines:
            return
        lines = page.lines
        if page.table in _SHARES:
            head = b'{"instance":' + orjson.dumps(self._instance) + b","
            lines = [head + line[1:] for line in lines]
        self._client.raw_insert(
            _NAMES[page.table], insert_block=b"\n".join(lines), fmt="JSONEachRow", settings=dict(_SETTINGS)
        )


class ClickHouseStore(Journal):
    """One exporter's share: its journal, and a thread that moves rows."""

    def __init__(
        self,
        path: Path,
        url: str,
        bounds: Bounds,
        *,
        instance: str,
        calendar: bool = True,
        kept_longer_ns: int | None = 0,
        move_rows: int = 50_000,
        move_seconds: float = 2.0,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        window_ns: int = 600_000_000_000,
        quarantine_rows: int = 10_000,
        busy_seconds: float = 5.0,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(
            path,
            bounds,
            synchronous=synchronous,
            window_ns=window_ns,
            quarantine_rows=quarantine_rows,
            busy_seconds=busy_seconds,
            clock=clock,
        )
        self.mover = Mover(path, url, instance, rows=move_rows, busy_seconds=busy_seconds)
        self._calendar = calendar
        self._kept_longer_ns = kept_longer_ns if calendar else None
        """How much longer than the journal ClickHouse keeps calls; None: for ever, or until another exporter says."""
        self._move_seconds = move_seconds
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing = False

    def open(self) -> Restored:
        """Open the journal; ClickHouse may be away. Refuses a journal that is not the one this name had."""
        restored = super().open()
        try:
            self.mover.check()
        except Refused:
            self.mover.close()
            super().close()
            raise
        except StoreError as error:
            self._tell(error)
        if self._move_seconds:
            self._closing.clear()
            self._thread = threading.Thread(target=self._move, name="genai-meter-mover", daemon=True)
            self._thread.start()
        return restored

    def leads(self) -> bool:
        """This exporter is the one that the configuration names."""
        return self._calendar

    def retire(self, before_ns: int, limit: int) -> int:
        """Remove calls that started before, `limit` at most, and commit; none that has not been moved."""
        if self._kept_longer_ns is not None:
            self.mover.keep_since = max(self.mover.keep_since, before_ns - self._kept_longer_ns)
        return super().retire(before_ns, limit)

    def close(self) -> None:
        """Move what is left, if ClickHouse answers; close the journal."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(30)
            self._thread = None
        else:
            self.mover.close()
        super().close()

    def _move(self) -> None:
        wait = 0.0
        while not self._closing.wait(wait):
            moved = self._try()
            wait = _FAST_SECONDS if moved else self._move_seconds
        while self._try():
            pass
        self.mover.close()

    def _try(self) -> int:
        try:
            moved = self.mover.move()
        except StoreError as error:
            self._tell(error)
            return 0
        if self._failing:
            logger.warning("rows are moved to ClickHouse again")
        self._failing = False
        return moved

    def _tell(self, error: StoreError) -> None:
        if not self._failing:
            logger.error("%s; they wait in the journal", error)
        self._failing = True


def migrate_database(url: str, *, rehearse: bool) -> list[int]:
    """Bring the database to this version's schema, or try on a copy of its tables: the versions it goes through."""
    client = connect(url)
    try:
        return clickhouse_schema.rehearse(client) if rehearse else clickhouse_schema.migrate(client)
    except (ClickHouseError, OSError) as error:
        raise StoreError(f"the database cannot be migrated: {told(error)}") from None
    finally:
        client.close()
