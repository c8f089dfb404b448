"""Every function of ours made to raise in turn: what the caller gets stays what it was, and the error is counted."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from environments import ROOT

SMALL = Path(__file__).parent / "fixtures" / "traffic"


def chaos(place: Path, *options: str) -> str:
    command = [sys.executable, "-W", "ignore", "-m", "tests.chaos", str(place), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=7000, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


def check(table: str) -> None:
    found = re.search(r"(\d+) functions x (\d+) calls: 0 noticed, (\d+) not counted", table)
    assert found, table
    functions, calls, uncounted = map(int, found.groups())
    assert functions > 100
    assert calls > 8
    # What runs in a finalizer only is told by the interpreter itself, on stderr.
    assert uncounted < functions / 10, table


def test_a_few_calls(record_property: Callable[[str, object], None]) -> None:
    table = chaos(SMALL, "--most", "4")
    record_property("table", table)
    check(table)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_kind_of_recorded_call(traffic: Path, record_property: Callable[[str, object], None]) -> None:
    table = chaos(traffic, "--each", "2")
    record_property("table", table)
    check(table)
