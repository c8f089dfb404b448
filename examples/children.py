"""Child processes that never outlive their parent's `with` block, and waits that always end."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

T = TypeVar("T")

_NOT_HANDED_OUT: Final = range(15_000, 32_768)
"""Linux gives port 0 one from 32768, others one from 49152."""


class DidNotHappen(RuntimeError):
    """Something that was waited for did not happen; the message has the log of the process that should have done it."""


def free_port(preferred: int = 0) -> int:
    """The preferred port of 127.0.0.1 when nobody listens there, else one that is free now.

    For programs that cannot take port 0, or come back on their port. It is none of those that the system itself hands
    out: as long as nobody listens there, nobody gets it.
    """
    for port in (preferred, *(secrets.choice(_NOT_HANDED_OUT) for _ in range(100))):
        with socket.socket() as probe, contextlib.suppress(OSError):
            if port:
                probe.bind(("127.0.0.1", port))
                return port
    raise OSError("no free port on 127.0.0.1")


def wait_for(what: str, check: Callable[[], T | None], timeout: float, child: Child | None = None) -> T:
    """Ask `check` until it returns something true; DidNotHappen after `timeout` seconds or when the child has ended."""
    deadline = time.monotonic() + timeout
    while True:
        result: T | None = None
        with contextlib.suppress(OSError):
            result = check()
        if result:
            return result
        ended = child is not None and child.process.poll() is not None
        if ended or time.monotonic() > deadline:
            reason = "its process ended" if ended else f"nothing within {timeout:g} s"
            log = f"\n{child.log_tail()}" if child else ""
            raise DidNotHappen(f"{what}: {reason}{log}")
        time.sleep(0.05)


class Running:
    """What is started by `with`, and ended with all it has put on its stack; `_start` that fails leaves nothing."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def _start(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()


class Child:
    """One process with its children, in a process group of its own; its output goes to a file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        env: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                cwd=directory,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def log_tail(self, lines: int = 15) -> str:
        """The last lines that it wrote."""
        written = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        return "\n".join(f"  {self.name}: {line}" for line in written)

    def printed(self, pattern: str, timeout: float) -> str:
        """The first group of `pattern` in its output, once that is there."""

        def find() -> str | None:
            found = re.search(pattern, self.log.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
            return found[1] if found else None

        return wait_for(f"{self.name} prints {pattern}", find, timeout, self)

    def succeed(self, timeout: float) -> None:
        """Wait until it has ended by itself, with success; DidNotHappen otherwise."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise DidNotHappen(f"{self.name} did not end within {timeout:g} s\n{self.log_tail()}") from None
        if code:
            raise DidNotHappen(f"{self.name} ended with {code}\n{self.log_tail()}")

    def stop(self, grace: float = 10) -> int:
        """End it and everything it started: asked first, killed after `grace` seconds."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace)
        self._signal(signal.SIGKILL)
        return self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
