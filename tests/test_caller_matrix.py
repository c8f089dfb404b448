"""The caller matrix: scenario × client version × plugin off, on and broken (see `tests/matrix`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.environments import OPENAI_ANTHROPIC
from tests.matrix import compatibility
from tests.matrix.families import FAMILIES
from tests.matrix.runner import Runs
from tests.matrix.suite import FIRST, check, check_ends, ends
from tests.matrix.table import Column


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return ends(tmp_path_factory.mktemp("matrix"), FIRST)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("family", FIRST)
def test_oldest_and_newest(runs: Runs, family: str, record_property: Callable[[str, object], None]) -> None:
    check_ends(runs, family, record_property)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_major(tmp_path: Path, family: str, record_property: Callable[[str, object], None]) -> None:
    record_property("table", check(Runs(tmp_path, (family,), "every"), family, "every").text())


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
