"""`/readyz` on disks that fill: it says no before, and as long as what failed could not be written."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from disk_kit import small_disk
from exporter_kit import NOW, Answer, Served, fetch, logs, usage_event
from ledger_kit import Ledger, PostgresLedger

from examples.children import wait_for

MIB = 1024 * 1024


def ready(served: Served) -> tuple[int, str]:
    """What a balancer is told."""
    answer = fetch(f"{served.status_url}/readyz")
    return answer.status, answer.body.decode().strip()


def sender(served: Served) -> Callable[[int], Answer]:
    """Sends so many calls of many tenants at once."""
    number = itertools.count()

    def send(calls: int) -> Answer:
        events = [usage_event(start_ns=NOW + n * 10**9, tenant=f"t{n % 50}") for n in itertools.islice(number, calls)]
        return served.post("logs", logs(events).SerializeToString())

    return send


def grow_log(served: Served) -> None:
    """Until SQLite starts its log again from the front: from then on small commits need no room of the disk."""
    send = sender(served)
    log = served.data / "ledger.db-wal"
    size = -1
    while size < log.stat().st_size:
        size = log.stat().st_size
        for _ in range(10):
            assert send(40).status == 200


def test_a_disk_with_less_room_than_the_largest_request_is_not_ready_though_commits_succeed(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "disk", "24m") as disk,
        Served(disk / "data", {"limits": {"inflated_bytes": 2 * MIB}}) as served,
    ):
        grow_log(served)
        assert ready(served) == (200, "ready")
        fill(disk / "filler")
        # Into the log's own room.
        served.send(usage_event())
        assert ready(served) == (503, f"the disk of the store is full: 0 bytes are free, {2 * MIB} wanted")
        (disk / "filler").write_bytes(b"")
        assert ready(served) == (200, "ready")


def fill(file: Path) -> None:
    """Take all the room there is."""
    with file.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(b"-" * 4096)


def test_what_is_smaller_than_what_failed_proves_nothing(tmp_path: Path) -> None:
    resource: Any = pytest.importorskip("resource")
    with Served(tmp_path / "data") as served:
        grow_log(served)
        send = sender(served)
        unlimited = resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE)
        log = (served.data / "ledger.db-wal").stat().st_size
        resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, (log, unlimited[1]))
        large = [usage_event(start_ns=NOW + n, tenant=f"t{n}", feature=f"f{n}") for n in range(8000)]
        body = logs(large).SerializeToString()
        assert served.post("logs", body).status == 503
        assert send(40).status == 200
        assert ready(served) == (503, "the store cannot commit: disk I/O error")
        # Nor does a failed probe stop what is small enough.
        assert send(40).status == 200
        resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, unlimited)
        assert ready(served) == (200, "ready")
        assert served.post("logs", body).status == 200
        # What the probe has written makes room.
        wait_for("the small probe", lambda: probed(served) < MIB, 60)


def probed(served: Served) -> int:
    """Bytes of the last probe."""
    with closing(sqlite3.connect(served.ledger)) as database:
        ((size,),) = database.execute("SELECT length(probed_at) FROM probe")
    return size


def test_a_probe_of_sqlite_takes_as_much_of_the_log_as_it_is_told(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    log = tmp_path / "ledger.db-wal"
    before = log.stat().st_size
    probe(ledger, 5 * MIB)
    assert 5 * MIB < log.stat().st_size - before < 6 * MIB
    ledger.store.close()
    with closing(sqlite3.connect(ledger.path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def probe(ledger: Ledger, size: int) -> None:
    """In a transaction of its own."""
    ledger.store.write([], (), NOW)
    ledger.store.probe(size)
    ledger.store.commit()


def test_a_probe_of_postgresql_takes_as_much_of_the_disk_as_it_is_told(postgres: str) -> None:
    ledger = PostgresLedger.new(postgres)
    probe(ledger, 5 * MIB)
    with psycopg.connect(ledger.url) as connection:
        assert connection.execute("SELECT count(*) FROM probe").fetchone() == (1,)
        ((size,),) = connection.execute("SELECT pg_relation_size('probe')")
    assert 5 * MIB < size < 7 * MIB
    ledger.store.close()
