"""How full the exporter is, and who is told what it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol


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
