"""Every function of ours made to raise in turn: what the caller gets stays what it was, and the error is counted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.environments import CLIENTS, ROOT

SMALL = Path(__file__).parent / "fixtures" / "traffic"
PROVIDERS = (
    "anthropic",
    "aws.bedrock",
    "cohere",
    "gcp.gemini",
    "groq",
    "huggingface",
    "mistral_ai",
    "ollama",
    "openai",
)
"""Some of those whose recordings are driven in the long form."""


def chaos(python: str, place: Path, *options: str) -> str:
    command = [python, "-W", "ignore", "-m", "tests.chaos", str(place), *options]
    kept = {name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "instrumentation")])
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**kept, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": ""},
        capture_output=True,
        text=True,
        timeout=7000,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


def check(table: str) -> None:
    found = re.search(r"(\d+) functions, (\d+) calls, (\d+) broken: 0 noticed, (\d+) not counted", table)
    assert found, table
    functions, calls, broken, uncounted = map(int, found.groups())
    assert functions >= 100
    assert calls >= 8
    assert broken > functions
    assert uncounted < functions / 20, table


def test_a_few_calls(record_property: Callable[[str, object], None]) -> None:
    table = chaos(sys.executable, SMALL, "--most", "6")
    record_property("table", table)
    check(table)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_kind_of_recorded_call(traffic: Path, record_property: Callable[[str, object], None]) -> None:
    table = chaos(str(CLIENTS.python()), traffic)
    record_property("table", table)
    check(table)
    (exchanges,) = re.findall(r"^exchanges: (.*)$", table, re.MULTILINE)
    assert [name for name in PROVIDERS if name not in exchanges] == []
