"""Node.js programs with pinned packages, below `.tools/grafana`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TOOLS = ROOT / ".tools" / "grafana"
OLDEST_NODE = 20


def packages(name: str) -> Path:
    """A directory with the packages of `tests/grafana/<name>/package-lock.json`; skips where they cannot be had."""
    npm = shutil.which("npm")
    node = shutil.which("node")
    if not npm or not node:
        pytest.skip("neither node nor npm is on PATH")
    told = run([node, "--version"], ROOT).strip()
    if int(told.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        pytest.skip(f"node is {told}, the packages need {OLDEST_NODE} or newer")
    source, made = Path(__file__).parent / name, TOOLS / name
    locked = (source / "package-lock.json").read_bytes()
    done = made / "installed"
    if not done.exists() or done.read_bytes() != locked:
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        for file in ("package.json", "package-lock.json"):
            shutil.copyfile(source / file, made / file)
        try:
            run([npm, "ci", "--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund"], made)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"npm cannot install the packages: {error.stderr.strip()[-300:]}")
        done.write_bytes(locked)
    return made


def run(command: list[str | Path], directory: Path) -> str:
    """What a program prints; CalledProcessError when it fails."""
    done = subprocess.run(
        [str(part) for part in command], cwd=directory, capture_output=True, text=True, timeout=600, check=True
    )
    return done.stdout
