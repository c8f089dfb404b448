"""The caller matrix: scenario × client version × plugin off, on and broken (see `tests/matrix`)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.matrix import table
from tests.matrix.environments import ENVIRONMENTS, Environment
from tests.matrix.scenario import SCENARIOS, declare

PROCESSES = 2
"""At a time."""


def run(environments: Sequence[Environment], directory: Path) -> str:
    """The table over `environments`; fails with what is wrong."""
    declare()
    for environment in environments:
        try:
            environment.python()
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            pytest.skip(f"the environment {environment.name} cannot be made here: {error}")
    with ThreadPoolExecutor(PROCESSES) as pool:
        results = {
            environment: {mode: pool.submit(table.play, environment, mode, directory) for mode in table.MODES}
            for environment in environments
        }
        columns = {
            f"{environment.openai}/{environment.anthropic}": table.verdicts(
                {mode: result.result() for mode, result in by_mode.items()}
            )
            for environment, by_mode in results.items()
        }
    text = table.table(columns)
    wrong = [
        f"{head} {name}: {line}" for head, column in columns.items() for name in column for line in column[name][1]
    ]
    assert not wrong, "\n".join([text, *wrong])
    assert all(len(column) == len(SCENARIOS) for column in columns.values())
    return text


@pytest.mark.timeout(900)
def test_oldest_and_newest(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    record_property("table", run([ENVIRONMENTS[0], ENVIRONMENTS[-1]], tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_major(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    record_property("table", run(ENVIRONMENTS, tmp_path))


def test_newest_is_what_the_suite_runs_on() -> None:
    assert ENVIRONMENTS[-1].is_own, "a client library was updated: move the last row of ENVIRONMENTS along"
