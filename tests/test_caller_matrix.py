"""The caller matrix: scenario × client version × plugin off, on and broken (see `tests/matrix`)."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.environments import OPENAI_ANTHROPIC
from tests.matrix import compatibility
from tests.matrix.families import FAMILIES, Rows, environments
from tests.matrix.runner import Outcome, run
from tests.matrix.table import Column


def check(directory: Path, rows: Rows) -> Outcome:
    """The tables of every family; fails with what is wrong."""
    for environment in environments(rows=rows):
        try:
            environment.python()
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            pytest.skip(f"the environment {environment.name} cannot be made here: {error}")
    outcome = run(directory, rows=rows)
    assert not outcome.wrong, "\n".join([outcome.text(), *outcome.wrong])
    return outcome


@pytest.mark.timeout(1800)
def test_oldest_and_newest(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    outcome = check(tmp_path, "ends")
    record_property("table", outcome.text())
    assert compatibility.drift(outcome) == [], "docs/compatibility.md is not of this matrix: run `make matrix`"


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_major(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    record_property("table", check(tmp_path, "every").text())


def test_newest_is_what_the_suite_runs_on() -> None:
    assert OPENAI_ANTHROPIC[-1].is_own, "a client library was updated: move the last row of OPENAI_ANTHROPIC along"


def test_every_family_is_in_the_docs_with_its_oldest_and_newest_version() -> None:
    page = compatibility.PAGE.read_text()
    for family in FAMILIES.values():
        versions = [row.version_of(family.package) for row in family.environments]
        told = re.findall(rf"^\| `{re.escape(family.package)}` \| (\S+) \|", page, re.MULTILINE)
        assert told == list(dict.fromkeys((versions[0], versions[-1]))), family.name


@pytest.mark.parametrize(
    ("scenario", "features"),
    [
        ("chat", ["calls"]),
        ("stream: break, then dropped", ["streams", "left or broken"]),
        ("async: retry 2 × 500", ["async", "errors", "retries"]),
        ("Azure: stream", ["streams", "clouds"]),
    ],
)
def test_features_of_a_scenario(scenario: str, features: list[str]) -> None:
    assert compatibility.features("openai", scenario) == features


def test_one_failure_is_a_no() -> None:
    column: Column = {
        "chat": ("ok", []),
        "stream": ("ok", []),
        "stream: close": ("FAIL", ["x"]),
        "embeddings": ("n/a", []),
    }
    marks = compatibility.marks("openai", column)
    assert [marks[name] for name in ("calls", "streams", "left or broken", "embeddings, rerank", "media")] == [
        "yes",
        "**no**",
        "**no**",
        "–",
        "–",
    ]
