"""Between the reader and the writer: what has been read and waits to be written, and whose turn it is.

Where writing is this process's own work, the two take turns. Side by side they would hand each other the interpreter
every few milliseconds, and each would find the processor's caches full of what the other needs: a record would cost
a tenth more.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from genai_meter_exporter.normalise import Batch
from genai_meter_exporter.store.base import Tally

_GATHER_SECONDS: Final = 0.5
"""How long the first request of a group waits at most for others that are being read."""
_LOOK_SECONDS: Final = 0.005
"""A request that turns out to have nothing in it does not say so."""


@dataclass(frozen=True, slots=True)
class Job:
    """Something to write."""

    batch: Batch | None
    """None: no records, only what else is waiting to be written (or a probe)."""
    done: Future[Tally]

    @property
    def size(self) -> int:
        """Rows to be written."""
        return self.batch.size if self.batch else 0


class Jobs:
    """What waits to be written. Filled by the event loop; one thread reads, another one writes."""

    def __init__(self, group_records: int, *, in_turn: bool) -> None:
        self.closed = False
        """Nothing is left, nothing will come."""
        self._group_records = group_records
        self._in_turn = in_turn
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._coming = 0
        """Requests handed to the reader; the event loop's."""
        self._turn = threading.Condition()
        self._reads = self._writes = False

    def put(self, batch: Batch | None) -> Future[Tally]:
        """Have something written; the result comes when it is durable."""
        job = Job(batch, Future())
        # Whoever waits may give up; the writer's result must still find its future.
        job.done.set_running_or_notify_cancel()
        self._waiting.put(job)
        return job.done

    def close(self) -> None:
        """Nothing more will be put."""
        self._waiting.put(None)

    def gather(self, timeout: float) -> list[Job]:
        """What is to be written together: all that is there, and what is being read. Raises `queue.Empty`."""
        job = self._waiting.get(timeout=timeout)
        until = time.monotonic() + _GATHER_SECONDS
        jobs: list[Job] = []
        size = 0
        while job is not None:
            jobs.append(job)
            size += job.size
            if size >= self._group_records:
                return jobs
            try:
                job = self._next(until)
            except queue.Empty:
                return jobs
        self.closed = True
        return jobs

    def _next(self, until: float) -> Job | None:
        while self._in_turn and self._coming and time.monotonic() < until:
            try:
                return self._waiting.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                continue
        return self._waiting.get_nowait()

    @contextmanager
    def coming(self) -> Generator[None]:
        """In the event loop: a request is being read, its records will be put."""
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1

    @contextmanager
    def reading(self) -> Generator[None]:
        """The reader's turn; the writer goes first."""
        with self._turn:
            self._turn.wait_for(lambda: not (self._in_turn and self._writes))
            self._reads = True
        try:
            yield
        finally:
            with self._turn:
                self._reads = False
                self._turn.notify_all()

    @contextmanager
    def writing(self) -> Generator[None]:
        """The writer's turn."""
        with self._turn:
            self._writes = True
            self._turn.wait_for(lambda: not (self._in_turn and self._reads))
        try:
            yield
        finally:
            with self._turn:
                self._writes = False
                self._turn.notify_all()
