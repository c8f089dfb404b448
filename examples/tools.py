"""Prometheus, promtool, Alertmanager, amtool and PostgreSQL: from PATH, else out of Debian's packages.

The packages are unpacked into `.tools/debian`; nothing is installed into the system and no service
is started. `python -m examples.tools` fetches them once and prints where they are.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
DIRECTORY: Final = ROOT / ".tools" / "debian"

PACKAGES: Final = {
    "prometheus": ("prometheus",),
    "promtool": ("prometheus", "promtool"),
    "prometheus-alertmanager": ("prometheus-alertmanager",),
    "amtool": ("prometheus-alertmanager",),
    "postgres": ("postgresql-15", "postgresql-17"),
}
"""Tool → Debian packages that may hold it, in the order to try (newer releases split promtool off)."""

OTHER_NAMES: Final = {"prometheus-alertmanager": ("alertmanager",)}
"""Tool → what it is called outside of Debian."""

APT_TIMEOUT_S: Final = 240


class ToolMissing(RuntimeError):
    """A tool is neither on PATH nor to be had from Debian; the message says what to do."""


def find(tool: str) -> Path | None:
    """The tool if it is here already; never downloads."""
    for name in (tool, *OTHER_NAMES.get(tool, ())):
        on_path = shutil.which(name)
        if on_path:
            return Path(on_path)
    # Debian keeps PostgreSQL's servers beside each other, off PATH.
    places = [Path("/usr/lib/postgresql"), DIRECTORY / "usr" / "lib" / "postgresql"] if tool == "postgres" else []
    servers = [server for place in places for server in sorted(place.glob(f"*/bin/{tool}"), reverse=True)]
    for found in (DIRECTORY / "usr" / "bin" / tool, *servers):
        if os.access(found, os.X_OK):
            return found
    return None


def need(tool: str) -> Path:
    """The tool, fetched when it is not here; raises ToolMissing."""
    found = find(tool)
    if found:
        return found
    reasons: list[str] = []
    with _locked():
        for package in PACKAGES[tool]:
            found = find(tool)
            if found:
                return found
            problem = _fetch(package)
            if problem:
                reasons.append(f"{package}: {problem}")
    found = find(tool)
    if found:
        return found
    raise ToolMissing(
        f"{tool} is not on PATH and Debian's package could not be fetched ({'; '.join(reasons) or 'not in it'}). "
        f"Put {tool} on PATH (https://prometheus.io/download/, or Debian's {' or '.join(PACKAGES[tool])}), then retry."
    )


@contextmanager
def _locked() -> Generator[None]:
    """One fetch at a time, also between processes (tests run in parallel)."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    with (DIRECTORY / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(package: str) -> str | None:
    """Download and unpack one package; returns the problem, None when it worked."""
    for program in ("apt-get", "dpkg"):
        if not shutil.which(program):
            return f"no {program} on this machine"
    downloads = DIRECTORY / "downloads" / package
    shutil.rmtree(downloads, ignore_errors=True)
    downloads.mkdir(parents=True)
    problem = _run(["apt-get", *_SANDBOX, "download", package], downloads)
    if problem:
        # No package lists, or lists so old that the file has gone: fetch lists of our own.
        own_lists = _own_lists()
        _run(["apt-get", *own_lists, "update"], downloads)
        problem = _run(["apt-get", *own_lists, "download", package], downloads)
    if problem:
        return problem
    for archive in downloads.glob("*.deb"):
        problem = _run(["dpkg", "-x", str(archive), str(DIRECTORY)], downloads)
        archive.unlink()
    _relocate()
    return problem


_SHARED: Final = b"/usr/share/prometheus/alertmanager"
_RELATIVE: Final = b"usr/share//prometheus/alertmanager"


def _relocate() -> None:
    """Debian builds an absolute path into Alertmanager. In our unpacked copy it becomes relative, of equal length."""
    unpacked = DIRECTORY / "usr" / "bin" / "prometheus-alertmanager"
    if unpacked.exists():
        changed = unpacked.with_suffix(".relative")
        changed.write_bytes(unpacked.read_bytes().replace(_SHARED, _RELATIVE))
        changed.chmod(0o755)
        changed.replace(unpacked)


def directory_to_run_in(tool: Path) -> Path | None:
    """The working directory that an unpacked tool needs to find its files; None when any will do."""
    return DIRECTORY if tool.is_relative_to(DIRECTORY) else None


_SANDBOX: Final = ("-qq", "-o", f"APT::Sandbox::User={'root' if os.geteuid() == 0 else ''}")


def _own_lists() -> tuple[str, ...]:
    """Options that keep apt's lists and cache below our directory: no root needed, the system left as it is."""
    lists, cache = DIRECTORY / "apt" / "lists", DIRECTORY / "apt" / "cache"
    for directory in (lists / "partial", cache / "archives" / "partial"):
        directory.mkdir(parents=True, exist_ok=True)
    return (*_SANDBOX, "-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cache}", "-o", "Debug::NoLocking=true")


def _run(command: Sequence[str], directory: Path) -> str | None:
    """Run a command; returns its last line of complaint, None when it worked."""
    try:
        done = subprocess.run(
            command, cwd=directory, capture_output=True, text=True, timeout=APT_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{command[0]} took longer than {APT_TIMEOUT_S} s"
    if done.returncode == 0:
        return None
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return lines[-1] if lines else f"{command[0]} exited with {done.returncode}"


def main() -> int:
    """Fetch every tool and print its path."""
    for tool in PACKAGES:
        try:
            print(f"{tool}: {need(tool)}")
        except ToolMissing as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
