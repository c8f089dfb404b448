"""Forked workers, a queue, tasks, threads: the ledger is what the provider served, to the token.

`make concurrency` runs the long form.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from environments import ROOT, WEB
from exporter_kit import Served

from examples.provider import Provider

SIZES: Final = [24, pytest.param(1000, marks=(pytest.mark.slow, pytest.mark.timeout(1800)))]


@dataclass
class Drill:
    """The exporter and the provider of one drill."""

    served: Served
    provider: Provider
    scratch: Path

    @contextlib.contextmanager
    def program(self, *command: str, **more: str) -> Generator[subprocess.Popen[str]]:
        """A program under `opentelemetry-instrument`, until it ends or is told to; see `log`."""
        binaries = WEB.python().parent
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "GENAI_METER_", "OPENAI_"))}
        environment: Mapping[str, str] = {
            **kept,
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            "OPENAI_API_KEY": "k",
            "OPENAI_BASE_URL": f"{self.provider.url}/v1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.served.http,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_METRICS_EXPORTER": "none",
            **more,
        }
        arguments = [str(binaries / "opentelemetry-instrument"), str(binaries / command[0]), *command[1:]]
        with (
            self.log(command[0]).open("w") as log,
            subprocess.Popen(
                arguments, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
            ) as process,
        ):
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                    process.wait(60)

    def log(self, program: str) -> Path:
        """What a program writes."""
        return self.scratch / f"{program}.log"

    def run(self, *command: str, **more: str) -> str:
        """A program, to its end; what it printed."""
        with self.program(*command, **more) as process:
            printed, _ = process.communicate(timeout=900)
        assert process.returncode == 0, self.log(command[0]).read_text()
        return printed

    def check(self) -> list[Mapping[str, Any]]:
        """Every answer is one row with its tokens, and there is no other row; gives the rows."""
        self.served.stop()
        with closing(sqlite3.connect(f"file:{self.served.ledger}?mode=ro", uri=True)) as ledger:
            ledger.row_factory = sqlite3.Row
            rows: list[Mapping[str, Any]] = [dict(row) for row in ledger.execute("SELECT * FROM usage")]
            assert ledger.execute("SELECT reason FROM quarantine").fetchall() == []
        charged = sorted((row["response_id"], row["input_tokens"], row["output_tokens"]) for row in rows)
        assert charged == sorted(map(_charge, self.provider.served))
        return rows


def _charge(answer: Any) -> tuple[str, int, int]:
    return answer.response_id, answer.usage["prompt_tokens"], answer.usage["completion_tokens"]


@pytest.fixture
def drill(provider: Provider, tmp_path: Path) -> Iterator[Drill]:
    with Served(tmp_path / "exporter") as served:
        yield Drill(served, provider, tmp_path)


def _tenants(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return dict(Counter(row["tenant"] for row in rows))


def _thirds(size: int) -> dict[str, int]:
    return {f"tenant-{n}": len(range(n, size, 3)) for n in range(3)}


@pytest.mark.parametrize("size", SIZES)
def test_gunicorn_with_preload_and_forked_workers(drill: Drill, size: int) -> None:
    command = ("gunicorn", "--preload", "--workers", "4", "--threads", "2", "--bind", "127.0.0.1:0")
    with drill.program(*command, "tests.concurrency.web:app"):
        address = _address(drill.log("gunicorn"))
        with ThreadPoolExecutor(8) as pool:
            told = list(pool.map(_fetch, [f"{address}/{'stream' if n % 3 else ''}" for n in range(size)]))
            # The first worker may have answered all before there was a second one.
            while len(set(told)) == 1:
                told += pool.map(_fetch, [address] * 8)
    workers = set(told)
    rows = drill.check()
    # One call was made by the master, before the workers were there.
    assert len(rows) == len(told) + 1
    assert len({row["instance"] for row in rows}) == len(workers) + 1


def _address(log: Path) -> str:
    deadline = time.monotonic() + 60
    while not (found := re.search(r"Listening at: (http\S+)", log.read_text())):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    return found[1]


def _fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=120) as answer:
        assert answer.read()
        return answer.headers["x-process"]


@pytest.mark.parametrize("size", [12, pytest.param(300, marks=(pytest.mark.slow, pytest.mark.timeout(1800)))])
def test_celery_prefork(drill: Drill, size: int) -> None:
    queue = drill.scratch / "queue"
    for name in ("tasks", "results"):
        (queue / name).mkdir(parents=True)
    more = {"QUEUE": str(queue), "GENAI_METER_BAGGAGE_IN": "tenant"}
    command = ("celery", "-A", "tests.concurrency.tasks", "worker", "--pool", "prefork", "-c", "4", "-l", "ERROR")
    with drill.program(*command, **more):
        # The worker is stopped the moment the last answer is there: nothing may be left in a batch.
        workers = drill.run("python", "-m", "tests.concurrency.tasks", str(size), **more).split()
    assert len(workers) == size
    assert _tenants(drill.check()) == _thirds(size)


@pytest.mark.parametrize("size", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_streams_side_by_side_in_one_loop(drill: Drill, size: int) -> None:
    drill.run("python", "-m", "tests.concurrency.streams", str(size))
    assert _tenants(drill.check()) == _thirds(size)


@pytest.mark.parametrize("size", SIZES)
def test_threads(drill: Drill, size: int) -> None:
    drill.run("python", "-m", "tests.concurrency.threads", str(size))
    assert _tenants(drill.check()) == _thirds(size)


@pytest.mark.parametrize(
    "framework", ["flask", *(pytest.param(name, marks=pytest.mark.slow) for name in ("django", "fastapi"))]
)
def test_a_web_framework_hands_on_the_baggage_that_is_allowed(drill: Drill, framework: str) -> None:
    module = ("python", "-m", "tests.concurrency.incoming", framework)
    settings = {"DJANGO_SETTINGS_MODULE": "tests.concurrency.incoming"} if framework == "django" else {}
    drill.run(*module, GENAI_METER_BAGGAGE_IN="tenant", **settings)
    drill.run(*module, **settings)
    # The owner was sent, too, and is not allowed; without permission nothing is taken.
    assert sorted((row["tenant"] or "", row["owner"]) for row in drill.check()) == [("", None), ("acme", None)]
