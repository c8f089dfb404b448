"""The exporter away, the disk full: no call waits for either, nothing is lost without being counted.

`make outage` runs the long form.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from disk_kit import small_disk
from environments import ROOT
from exporter_kit import Served
from genai_meter import spool_files
from genai_meter_exporter.cli import main
from spool_kit import NOWHERE, Receiver, make, on_disk, response_ids, spooling, states, wait_until
from test_spool_crash import exporter

VARIANTS = ("without", "up", "away")
"""No spool; a spool; a spool whose exporter is away."""


class Steady:
    """A program that calls at a steady rate; see spool/steady.py."""

    def __init__(self, place: Path, name: str, rate: int, seconds: int, variables: dict[str, str]) -> None:
        self.journal = place / f"{name}.ids"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "GENAI_METER_", "OPENAI_"))}
        environment = {
            **kept,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PYTHONWARNINGS": "ignore",
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_SERVICE_NAME": name,
            **variables,
        }
        arguments = [str(ROOT / "tests" / "spool" / "steady.py"), str(rate), str(seconds), str(self.journal)]
        self._log = (place / f"{name}.log").open("wb")
        self._process = subprocess.Popen(
            [str(Path(sys.executable).parent / "opentelemetry-instrument"), sys.executable, *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def go(self) -> None:
        """Begin."""
        assert self._process.stdin
        print(file=self._process.stdin, flush=True)

    def figures(self) -> dict[str, Any]:
        """How long the calls took, when all are made."""
        return json.loads(self._line())

    def ids(self) -> list[str]:
        """Response ids that the caller had."""
        return self.journal.read_text(encoding="ascii").split()

    def end(self) -> None:
        """Let it end."""
        self._process.communicate(timeout=60)
        self._log.close()
        assert self._process.returncode == 0

    def abandon(self) -> None:
        """End it, whatever has happened."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()
            self._log.close()


def charged(served: Served, service: str) -> list[str]:
    """Response ids of a service in the ledger; its first call is not in its journal."""
    with closing(sqlite3.connect(f"file:{served.ledger}?mode=ro", uri=True)) as ledger:
        rows = ledger.execute("SELECT response_id FROM usage WHERE service = ?", (service,)).fetchall()
    return [row[0] for row in rows]


def outage(place: Path, rate: int, seconds: int, variants: tuple[str, ...]) -> dict[str, Any]:
    """The same calls at the same time, in each variant."""
    with contextlib.ExitStack() as stack:
        away = stack.enter_context(exporter(place / "away", {}))
        there = stack.enter_context(exporter(place / "there", {})) if variants != ("away",) else away
        logs = {"without": there.http, "up": there.http, "away": away.http}
        programs: dict[str, Steady] = {}
        for name in variants:
            spool = {} if name == "without" else {"GENAI_METER_SPOOL_DIR": str(place / f"spool-{name}")}
            programs[name] = Steady(place, name, rate, seconds, {"OTEL_EXPORTER_OTLP_ENDPOINT": logs[name], **spool})
            stack.callback(programs[name].abandon)
        away.kill()
        for program in programs.values():
            program.go()
        figures = {name: program.figures() for name, program in programs.items()}
        figures["away"]["waiting"] = len(on_disk(place / "spool-away"))
        away.start(keep_ports=True)
        # The program that is still there ships by itself; its own file stays, empty of events.
        wait_until(lambda: (away.value("ledger_events_total") or 0) > rate * seconds, 600)
        for program in programs.values():
            program.end()
        for name, program in programs.items():
            ids, rows = program.ids(), Counter(charged(away if name == "away" else there, name))
            figures[name]["lost"] = len(set(ids) - rows.keys())
            figures[name]["doubled"] = rows.total() - len(rows)
    assert list((place / "spool-away").iterdir()) == []
    return figures


def check(figures: dict[str, Any], calls: int) -> None:
    """Nothing lost; in the outage, all were on disk when their calls returned."""
    for name, found in figures.items():
        print(name, found)
        assert (found["calls"], found["lost"], found["doubled"]) == (calls, 0, 0)
    assert [figures["away"]["spool"][state] for state in ("spooled", "held", "given_up")] == [calls + 1, 0, 0]
    assert figures["away"]["waiting"] >= calls


def test_an_exporter_away_for_twenty_seconds(tmp_path: Path) -> None:
    check(outage(tmp_path, 20, 20, ("away",)), 400)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_exporter_away_for_ten_minutes(tmp_path: Path) -> None:
    figures = outage(tmp_path, 200, 600, VARIANTS)
    check(figures, 120_000)
    for kind in ("client", "meter"):
        ratios = {name: figures[name][kind]["p990"] / figures["without"][kind]["p990"] for name in VARIANTS}
        print(f"p99 as a ratio, {kind}:", {name: round(ratio, 3) for name, ratio in ratios.items()})
        assert max(ratios.values()) < 1.25


# --- a full disk ------------------------------------------------------------------------------------
def test_a_full_disk_breaks_no_call_and_what_is_lost_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genai_meter.spool._MEMORY_BYTES", 200_000)
    with small_disk(tmp_path / "disk", "512k") as disk:
        with spooling(disk / "spool", NOWHERE) as pipeline:
            ids = [make(number) for number in range(1000)]
            found = states(pipeline)
            assert len(pipeline.spans) == 1000
            assert found["spooled"] + found["held"] + found["given_up"] == 1000
            assert min(found.values()) > 100
            kept = [event[6]["gen_ai.response.id"] for event in on_disk(disk / "spool")]
            assert kept == ids[: found["spooled"]]
        with Receiver() as receiver:
            assert main(["spool", "ship", str(disk / "spool"), "--endpoint", receiver.url]) == 0
            assert response_ids(receiver.taken) == kept
        assert spool_files.total(str(disk / "spool")) == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_disk_that_is_full_of_other_things(tmp_path: Path) -> None:
    """The exporter is there: what the disk does not take goes through memory, and nothing is lost."""
    with small_disk(tmp_path / "disk", "2m") as disk, exporter(tmp_path / "exporter", {}) as served:
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": served.http, "GENAI_METER_SPOOL_DIR": str(disk / "spool")}
        program = Steady(tmp_path, "full", 200, 60, variables)
        program.go()
        figures = program.figures()
        program.end()
        print(figures)
        rows = Counter(charged(served, "full"))
        assert figures["spool"]["given_up"] == 0
        assert figures["spool"]["held"] > 10_000
        assert (set(program.ids()) - rows.keys(), rows.total() - len(rows)) == (set(), 0)
