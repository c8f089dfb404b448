"""How full the exporter and its disk are, what the store has shown it can write, and who is told what happens."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol

_RECORD_BYTES: Final = 8192
"""What a record may add to the store: a page."""

_PROBE_BYTES: Final = 16 * 1024 * 1024
"""Of one probe at most."""


class Observer(Protocol):
    """Is told of requests and commits; calls take microseconds and never fail."""

    def received(self, signal: str, size: int, records: int, rejected: int, started_ns: int) -> None:
        """A request that had usage in it has been committed."""
        ...

    def committed(self, requests: int, records: int, started_ns: int) -> None:
        """A transaction has ended, for this many requests."""
        ...

    def close(self) -> None:
        """Nothing more is told."""
        ...


class Load(NamedTuple):
    """How full the queue is."""

    requests: int
    bytes: int
    limit_requests: int
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class State:
    """How it stands now, for the operator."""

    leads: bool
    """Does the calendar's work on the ledger."""
    requests: int
    """Under way."""
    bytes: int
    book_id: str
    calls: int
    """In the ledger, by this exporter's counters."""
    cost: int
    """Pico-USD, likewise."""


class Doubt:
    """What the store could not write, until it has written as much: a small commit proves nothing about a large one."""

    def __init__(self) -> None:
        self.records = 0
        """0: no doubt."""
        self.reason = ""

    @property
    def bytes(self) -> int:
        """What a probe has to write that is as large."""
        return min(self.records * _RECORD_BYTES, _PROBE_BYTES)

    def failed(self, records: int, reason: str) -> None:
        """So many could not be written together."""
        self.records, self.reason = max(self.records, records, 1), reason

    def wrote(self, records: int) -> None:
        """So many could be."""
        if records >= self.records:
            self.records, self.reason = 0, ""


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system of a store in a file."""

    directory: Path
    wanted: int
    """Bytes that must be free. A commit is no proof of them: a log that SQLite has made already has room of its own."""

    def full(self) -> str | None:
        """Why nothing more should be sent; None: there is room."""
        try:
            found = os.statvfs(self.directory)
        except OSError as error:
            return f"the disk of the store cannot be read: {error.strerror}"
        if not found.f_blocks:
            # A file system that does not say how large it is.
            return None
        free = found.f_frsize * (found.f_bavail if os.geteuid() else found.f_bfree)
        if free >= self.wanted:
            return None
        return f"the disk of the store is full: {free} bytes are free, {self.wanted} wanted"


class Room:
    """The part of the queue's bytes that one request takes while it is being received."""

    def __init__(self, grow: Callable[[int], None]) -> None:
        self._grow = grow
        self._size = 0

    def take(self, size: int) -> None:
        """Have room for this many bytes; raises `Busy`. Having more is fine."""
        if size > self._size:
            self._grow(size - self._size)
            self._size = size

    def __enter__(self) -> Room:
        return self

    def __exit__(self, *raised: object) -> None:
        self._grow(-self._size)
