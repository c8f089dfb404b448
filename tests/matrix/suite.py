"""The caller matrix as a test: a family's tables on its oldest and newest version, and its lines in the docs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from . import compatibility
from .families import FAMILIES, Rows, chosen
from .runner import Outcome, Runs

FIRST = ("openai", "anthropic", "google_genai", "litellm")
"""Families of one test file; the others have another one, so that two processes share the work."""
OTHERS = tuple(name for name in FAMILIES if name not in FIRST)


def check(runs: Runs, family: str, rows: Rows) -> Outcome:
    """The tables of one family; fails with what is wrong."""
    for environment in chosen(family, rows):
        try:
            environment.python()
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            pytest.skip(f"the environment {environment.name} cannot be made here: {error}")
    outcome = Outcome({family: runs.columns(family)})
    assert not outcome.wrong, "\n".join([outcome.text(), *outcome.wrong])
    return outcome


def check_ends(runs: Runs, family: str, record_property: Callable[[str, object], None]) -> None:
    """Oldest and newest version, and that the page has what comes out."""
    outcome = check(runs, family, "ends")
    record_property("table", outcome.text())
    assert compatibility.drift(outcome) == [], f"docs/compatibility.md is of another run: make matrix FAMILY={family}"


def ends(directory: Path, families: tuple[str, ...]) -> Runs:
    """Oldest and newest versions of some families, that share what they can."""
    return Runs(directory, families, "ends")
