"""A PostgreSQL server for tests: the one of this machine, or out of Debian's packages; never as root."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from examples.children import free_port
from examples.tools import ToolMissing, need

_HELD = re.compile(r"FATAL: +pre-existing shared memory block .* is still in use")


@dataclass
class Postgres:
    """A running server."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes]
    programs: Path
    _log_before: int = 0
    """Bytes of the log when it was last started."""

    def url(self, name: str) -> str:
        """Of a database, made when it is not there."""
        with psycopg.connect(self._of("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
                connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self._of(name)

    def kill(self) -> None:
        """SIGKILL to the server and all that belongs to it."""
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self._postmaster())], capture_output=True, text=True, check=False
        ).stdout.split()
        for pid in (self._postmaster(), *map(int, children)):
            # Its children end by themselves when it is gone: who is quicker is chance.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(60)

    def start(self) -> None:
        """Start it again, on the same port."""
        self._restart()
        self.wait()

    def wait(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self._of("postgres"), connect_timeout=20).close()
            except psycopg.Error:
                # Asked before the log is read: what it said when it ended is in there.
                has_ended = self.process.poll() is not None
                log = self._log.read_bytes()[self._log_before :].decode(errors="replace")
                assert time.monotonic() < deadline, f"PostgreSQL does not answer: {log[-2000:]}"
                time.sleep(0.1)
                if has_ended:
                    # Children of a server that was killed may hold its shared memory for a moment.
                    assert _HELD.search(log), f"PostgreSQL has ended: {log[-2000:]}"
                    self._restart()
            else:
                return

    @property
    def _log(self) -> Path:
        return self.directory.parent / "log"

    def _restart(self) -> None:
        self._log_before = self._log.stat().st_size
        self.process = _run(self.programs, self.directory, self.port)

    def _postmaster(self) -> int:
        return int((self.directory / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0])

    def _of(self, name: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"


@contextmanager
def served(*, synced: bool = False) -> Generator[Postgres]:
    """A new server, gone afterwards. Skips the test when this machine cannot have one, and says why."""
    try:
        programs = need("postgres").parent
    except ToolMissing as missing:
        pytest.skip(f"no PostgreSQL: {missing}")
    place = Path(tempfile.mkdtemp(prefix="genai-meter-postgres-"))
    try:
        place.chmod(0o755)
        directory = place / "data"
        directory.mkdir(mode=0o700)
        if user := _user():
            shutil.chown(directory, user)
        made = subprocess.run(
            _as_user(
                [str(programs / "initdb"), "-D", str(directory), "-A", "trust", "-U", "postgres", "-N", "-E", "UTF8"]
            ),
            cwd=place,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            pytest.skip(f"PostgreSQL's initdb does not run here: {made.stderr.strip()[-300:]}")
        server = Postgres(directory, free_port(), subprocess.Popen(["true"]), programs)
        server.process.wait()
        server.process = _run(programs, directory, server.port, synced=synced)
        try:
            server.wait()
            yield server
        finally:
            server.process.send_signal(signal.SIGINT)
            server.process.wait(60)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _run(programs: Path, directory: Path, port: int, *, synced: bool = True) -> subprocess.Popen[bytes]:
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "fsync": "on" if synced else "off",
        "shared_buffers": "32MB",
    }
    command = [str(programs / "postgres"), "-D", str(directory)]
    for name, value in options.items():
        command += ["-c", f"{name}={value}"]
    log = (directory.parent / "log").open("ab")
    with log:
        return subprocess.Popen(_as_user(command), cwd=directory.parent, stdout=log, stderr=log)


def _user() -> str | None:
    """PostgreSQL refuses root: an account that exists anyway."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)


def _as_user(command: Sequence[str]) -> list[str]:
    user = _user()
    # setpriv keeps the process id and needs no session.
    return [*command] if user is None else ["setpriv", f"--reuid={user}", "--clear-groups", *command]
