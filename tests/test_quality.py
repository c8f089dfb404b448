"""Lint, formatting, types and import contracts, so that one command proves all."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
LONGEST_FILE = 500
APPLICATION_MAY_IMPORT = sys.stdlib_module_names | {"genai_meter", "opentelemetry", "wrapt"}


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "command", ["ruff check", "ruff format --check", "pyright", "lint-imports"], ids=lambda c: c.replace(" ", "-")
)
def test_is_clean(command: str) -> None:
    program, *arguments = command.split()
    done = subprocess.run([BIN / program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def test_no_source_file_is_too_long() -> None:
    folders = ("instrumentation", "exporter", "dashboards", "alert_rules", "examples", "benchmarks", "tests")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in files}
    assert {path: length for path, length in lengths.items() if length > LONGEST_FILE} == {}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module


def test_the_application_half_imports_next_to_nothing() -> None:
    names = {name for path in (ROOT / "instrumentation").rglob("*.py") for name in imported(path)}
    assert {name for name in names if name.partition(".")[0] not in APPLICATION_MAY_IMPORT} == set()
    assert {name for name in names if name.startswith("opentelemetry.sdk")} == set()
