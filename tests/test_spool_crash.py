"""Applications killed under load: every answer a caller had is one row of the ledger.

`make drill` runs the long form.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from environments import ROOT
from exporter_kit import Served
from genai_meter_exporter.cli import main
from load_kit import scraped

from examples.children import free_port
from examples.provider import Provider

WAYS = ("SIGKILL", "SIGTERM", "os._exit")
LIVING = 2
"""Processes that call at the same time."""
THREADS = 2
"""Of each process; see spool/worker.py."""

Row = tuple[str | None, str]
"""Of the ledger: response id and status."""


class Nursery:
    """A program that forks the processes that call; see spool/worker.py."""

    def __init__(self, journal: Path, log: Path, environment: dict[str, str]) -> None:
        program = [str(Path(sys.executable).parent / "opentelemetry-instrument"), sys.executable]
        self._log = log.open("ab")
        self._process = subprocess.Popen(
            [*program, str(ROOT / "tests" / "spool" / "worker.py"), str(journal)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self._told() == "ready"

    def _told(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def fork(self, how: str) -> int:
        """A process that calls; its id."""
        assert self._process.stdin
        print(how, file=self._process.stdin, flush=True)
        return int(self._told())

    def kill(self) -> None:
        """SIGKILL; its children go on."""
        self._process.kill()
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._log.close()


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def wait_gone(pid: int) -> None:
    """Until it has."""
    deadline = time.monotonic() + 60
    while not gone(pid):
        assert time.monotonic() < deadline, f"process {pid} does not end"
        time.sleep(0.01)


@contextlib.contextmanager
def exporter(place: Path, store: dict[str, Any]) -> Generator[Served]:
    """An exporter that comes back on the same port."""
    listen = {"grpc_port": 0, "http_port": free_port(), "metrics_port": 0}
    served = Served(place, {"listen": listen, **({"store": store} if store else {})})
    served.start(keep_ports=True)
    try:
        yield served
    finally:
        served.stop()


def drill(place: Path, kills: int, store: dict[str, Any], rows: Callable[[Path], list[Row]]) -> dict[str, int]:
    """Kill applications `kills` times, in turn by each way; the exporter and the parent of all now and then."""
    chance, journal, spool = random.Random(11), place / "journal", place / "spool"
    with Provider() as provider, exporter(place / "exporter", store) as served:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "GENAI_METER_", "OPENAI_"))}
        environment = {
            **kept,
            "PYTHONPATH": os.pathsep.join([str(ROOT), kept.get("PYTHONPATH", "")]).rstrip(os.pathsep),
            "PYTHONWARNINGS": "ignore",
            "OPENAI_API_KEY": "k",
            "OPENAI_BASE_URL": f"{provider.url}/v1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": served.http,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
            "GENAI_METER_SPOOL_DIR": str(spool),
        }
        nursery = Nursery(journal, place / "log", environment)
        living = [nursery.fork("run") for _ in range(LIVING)]
        for number in range(kills):
            way = WAYS[number % len(WAYS)]
            if way == "os._exit":
                wait_gone(nursery.fork(f"exit {chance.uniform(0.05, 0.6)}"))
            else:
                time.sleep(chance.uniform(0.05, 0.6))
                pid = living.pop(0)
                os.kill(pid, getattr(signal, way))
                wait_gone(pid)
                living.append(nursery.fork("run"))
            if number % 10 == 3:
                served.kill()
                served.start(keep_ports=True)
            if number % 20 == 10:
                nursery.kill()
                nursery = Nursery(journal, place / "log", environment)
        for pid in living:
            os.kill(pid, signal.SIGKILL)
            wait_gone(pid)
        nursery.kill()
        assert main(["spool", "ship", str(spool), "--endpoint", served.http]) == 0
        assert list(spool.iterdir()) == []
        ledger = rows(served.ledger)
        shown, _cost = scraped(served)
        had = journal.read_text(encoding="ascii").split()
        answered = {answer.response_id for answer in provider.served}
    log = (place / "log").read_text(encoding="utf-8")
    assert "Traceback" not in log, log
    found = Counter(response_id for response_id, _ in ledger if response_id is not None)
    unnamed = Counter(status for response_id, status in ledger if response_id is None)
    # Threads go on while a process that leaves sends its last: a stream that ends meanwhile has been told as cut off.
    without = len(set(had) - found.keys())
    cut_off = min(without, unnamed["abandoned"])
    return {
        "kills": kills,
        "answers that callers had": len(had),
        "rows": len(ledger),
        "rows of streams that os._exit cut off at their start": unnamed["abandoned"],
        "rows without response id that are not of abandoned calls": unnamed.total() - unnamed["abandoned"],
        "rows of calls that died between disk and caller": len(found.keys() - set(had)),
        "rows that /metrics does not show": len(ledger) - shown,
        "answers whose row says that they were cut off": cut_off,
        "lost": without - cut_off,
        "doubled": found.total() - len(found),
        "rows that no provider has answered": len(found.keys() - answered),
    }


def check(figures: dict[str, int]) -> None:
    """Nothing lost, nothing doubled; what else is there was cut off on its last step."""
    print(figures)
    zero = (
        "lost",
        "doubled",
        "rows that no provider has answered",
        "rows that /metrics does not show",
        "rows without response id that are not of abandoned calls",
    )
    assert {name: figures[name] for name in zero} == dict.fromkeys(zero, 0)
    assert figures["answers that callers had"] > 5 * figures["kills"]
    # At each death no thread can be further than one call.
    assert figures["rows of calls that died between disk and caller"] <= THREADS * (figures["kills"] + LIVING)
    # Only who leaves by os._exit can still tell of a stream whose id has not come yet.
    exits = figures["kills"] // len(WAYS)
    assert figures["rows of streams that os._exit cut off at their start"] <= THREADS * exits


def sqlite_rows(ledger: Path) -> list[Row]:
    """All of the file."""
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as database:
        return database.execute("SELECT response_id, status FROM usage").fetchall()


def test_five_kills_of_applications(tmp_path: Path) -> None:
    check(drill(tmp_path, 5, {}, sqlite_rows))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_kills_of_applications(tmp_path: Path) -> None:
    check(drill(tmp_path, 100, {}, sqlite_rows))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_kills_of_applications_on_postgresql(tmp_path: Path, postgres: str) -> None:
    def rows(_ledger: Path) -> list[Row]:
        with psycopg.connect(postgres) as database:
            return database.execute("SELECT response_id, status FROM usage").fetchall()

    check(drill(tmp_path, 100, {"url": postgres}, rows))
