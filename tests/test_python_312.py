"""The heart of the suite on Python 3.12, where the machine has it (`make test-312` runs all of it)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEART = (
    "test_dialects_openai.py",
    "test_dialects_anthropic.py",
    "test_dialects_vectors.py",
    "test_pricing.py",
    "test_emit.py",
    "test_instrumentor.py",
    "test_provider.py",
)


@pytest.mark.timeout(600)
def test_the_heart_of_the_suite_passes() -> None:
    if sys.version_info[:2] == (3, 12):
        pytest.skip("this run is on Python 3.12 already")
    if subprocess.run([ROOT / ".ci/find-python", "3.12"], capture_output=True, check=False).returncode:
        pytest.skip("no Python 3.12 on this machine")
    made = subprocess.run(
        ["make", ".tools/envs/py312/.ready"], cwd=ROOT, capture_output=True, text=True, timeout=400, check=False
    )
    assert made.returncode == 0, made.stdout + made.stderr
    files = [ROOT / "tests" / name for name in HEART]
    done = subprocess.run(
        [ROOT / ".tools/envs/py312/bin/python", "-m", "pytest", "-n0", "-p", "no:cacheprovider", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
