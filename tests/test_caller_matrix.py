"""The caller matrix: scenario × client version × plugin off, on and broken (see `tests/matrix`)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.environments import OPENAI_ANTHROPIC
from tests.matrix.families import environments
from tests.matrix.runner import run


def check(directory: Path, *, every: bool) -> str:
    """The tables of every family; fails with what is wrong."""
    for environment in environments(every=every):
        try:
            environment.python()
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            pytest.skip(f"the environment {environment.name} cannot be made here: {error}")
    outcome = run(directory, every=every)
    assert not outcome.wrong, "\n".join([outcome.text(), *outcome.wrong])
    return outcome.text()


@pytest.mark.timeout(1200)
def test_oldest_and_newest(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    record_property("table", check(tmp_path, every=False))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_major(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    record_property("table", check(tmp_path, every=True))


def test_newest_is_what_the_suite_runs_on() -> None:
    assert OPENAI_ANTHROPIC[-1].is_own, "a client library was updated: move the last row of OPENAI_ANTHROPIC along"
