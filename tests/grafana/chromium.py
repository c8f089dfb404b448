"""A headless Chromium: from PATH, else out of Debian's packages, unpacked below `.tools/grafana`."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from grafana.node import TOOLS

NAMES: Final = ("chromium-headless-shell", "chromium", "google-chrome", "chrome")
UNPACKED: Final = TOOLS / "chromium"
PROGRAM: Final = UNPACKED / "usr" / "lib" / "chromium" / "chromium-headless-shell"
FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--allow-file-access-from-files",
    "--virtual-time-budget=20000",
    "--enable-logging=stderr",
)


def find() -> Path:
    """The program; skips where it cannot be had."""
    for name in NAMES:
        if found := shutil.which(name):
            return Path(found)
    if not PROGRAM.exists():
        problem = _fetch()
        if problem or not PROGRAM.exists():
            pytest.skip(f"no Chromium on PATH, and Debian's package cannot be had: {problem}")
    return PROGRAM


def _fetch() -> str:
    """Debian's package with all that it needs and this machine lacks; returns the problem."""
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        return "no apt-get on this machine"
    cache = UNPACKED / "cache"
    (cache / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    options = ["-qq", "-y", "--no-install-recommends", "--download-only", "-o", f"Dir::Cache={cache}"]
    options += ["-o", "Debug::NoLocking=true", "-o", "APT::Sandbox::User="]
    command = ["apt-get", *options, "install", NAMES[0]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        return done.stderr.strip()[-300:]
    for package in (cache / "archives").glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, UNPACKED], timeout=120, check=True)
    shutil.rmtree(cache)
    return ""


def draw(page: Path, picture: Path, width: int, height: int) -> str:
    """Draw a page into a PNG; what the page wrote to its console."""
    program = find()
    command = [program, *FLAGS, f"--window-size={width},{height}", f"--screenshot={picture}", page.as_uri()]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=180, check=True, env={**os.environ, **_libraries(program)}
    )
    return done.stderr


def _libraries(program: Path) -> Mapping[str, str]:
    if program != PROGRAM:
        return {}
    places = [path.parent for path in UNPACKED.glob("usr/lib/*/*.so*")]
    places += [path.parent for path in UNPACKED.glob("usr/lib/*/pulseaudio/*.so*")]
    return {"LD_LIBRARY_PATH": ":".join(sorted({str(place) for place in places}))}
