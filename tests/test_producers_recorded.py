"""Recorded real traffic under other people's producers: what the ledger charges, against the truth of the files."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from exporter_kit import Served

from tests.producers import judging, replaying, running, vercel
from tests.producers.replaying import Run
from tests.producers.sample import Recorded
from tests.traffic.server import Replay

MISSING: Final = (FileNotFoundError, subprocess.CalledProcessError)
"""An environment cannot be made here."""


@pytest.fixture(scope="module")
def recorded(traffic: Path) -> Recorded:
    """A few exchanges of every kind."""
    return Recorded(traffic / "dev.jsonl.gz")


RUNS: Final = replaying.RUNS | replaying.TOGETHER | {name: vercel.Run(name) for name in running.VERCEL}


def driven(run: Run | vercel.Run, recorded: Recorded, place: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the calls of a run ended with, and the ledger after them."""
    chosen = recorded.of(run.providers)
    recorded.write(chosen, place / "calls.jsonl")
    with Replay(chosen) as replay, Served(place / "exporter") as served:
        try:
            told = run.again(served.http, replay.url, place / "calls.jsonl", place / "told.jsonl")
        except MISSING as error:
            pytest.skip(f"the environment cannot be made here: {error}")
        served.stop()
        with closing(sqlite3.connect(f"file:{served.ledger}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            assert [tuple(row) for row in database.execute("SELECT reason, producer FROM quarantine")] == []
            return told, [dict(row) for row in database.execute("SELECT * FROM usage ORDER BY start")]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", RUNS)
def test_recorded_calls(
    name: str, recorded: Recorded, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    told, rows = driven(RUNS[name], recorded, tmp_path)
    verdict = judging.judge(name, told, rows, recorded)
    record_property("table", f"{judging.HEAD}\n{verdict.line()}")
    assert verdict.wrong == []
    assert verdict.seen["equal"] + verdict.seen["differs"] >= 10
    assert judging.stale(verdict, told) == []
