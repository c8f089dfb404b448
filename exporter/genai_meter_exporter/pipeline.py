"""From request bodies to commits: a bounded queue, one reader thread, one writer thread, group commit."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from genai_meter_exporter import series
from genai_meter_exporter.access.binding import bind
from genai_meter_exporter.attribution_map import AttributionMap
from genai_meter_exporter.bounds import Bounds
from genai_meter_exporter.budgets.engine import Engine
from genai_meter_exporter.charging import charge
from genai_meter_exporter.counters import Counters
from genai_meter_exporter.jobs import Job, Jobs
from genai_meter_exporter.load import Disk, Doubt, Load, Observer, Room, State
from genai_meter_exporter.metrics import LiveFacts
from genai_meter_exporter.normalise import Batch, normalise
from genai_meter_exporter.normalise.again import read_again
from genai_meter_exporter.receive.raw import Parsed, Signal
from genai_meter_exporter.series import SeriesKey
from genai_meter_exporter.store.base import Reader, Store, StoreError, Tally, Written

logger: Final = logging.getLogger("genai_meter_exporter")

_REVIEW_SECONDS: Final = 3600.0
"""How often the named values of each label are chosen again by cost."""

_CALENDAR_SECONDS: Final = 2.0
"""How often the calendar's work is looked for: prices to be revised, days that are not to be kept any longer."""

_EVALUATION_SECONDS: Final = 10.0
"""How often the states of budgets are looked at; what they have spent is exact at any instant."""

_LOAD_SECONDS: Final = 60.0
"""How often budgets are read from a ledger that other exporters write too."""

_DAY_NS: Final = 86_400_000_000_000

_RETIRED_AT_ONCE: Final = 2_000
"""Calls removed in one transaction: requests do not wait long for it."""

_REVISED_AT_ONCE: Final = 500
"""Calls priced anew in one transaction."""

_READ_AGAIN_AT_ONCE: Final = 500
"""Records of the quarantine that are read again in one transaction."""

_FRESH_SECONDS: Final = 5.0
"""A commit that young proves that the store can be written."""

_CLOCKS: Final = {
    series.CLOCK_AHEAD.name: "a clock is ahead, calls count into a day that has not come",
    series.LATE.name: "calls are more than a week old, or a clock is behind",
}
"""Counter → what the log says when it grows."""

_REASONS_TOLD: Final = 100
"""Reasons in the log; producers word them in part, so they need a bound."""


class Busy(Exception):
    """No room: the producer should send again later."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the producer is told: committed, except what was quarantined."""

    rejected: int = 0
    reason: str = ""


class Pipeline:
    """Everything between the listeners and the store."""

    def __init__(
        self,
        store: Store,
        counters: Counters,
        bounds: Bounds,
        facts: LiveFacts,
        *,
        queue_requests: int,
        queue_bytes: int,
        group_records: int,
        retention_days: int | None = None,
        attribution: AttributionMap | None = None,
        budgets: Engine | None = None,
        read: Callable[[], Reader] | None = None,
        shared: bool = False,
        disk: Disk | None = None,
    ) -> None:
        self.attribution = attribution or AttributionMap()
        """Who pays, where the application did not say; may be exchanged at any time."""
        self._budgets = budgets
        self._read_ledger = read
        """Opens the ledger for reading, for the budgets."""
        self._shared = shared
        """Other exporters write the same ledger: budgets are read again from time to time."""
        self._next_evaluation = 0.0
        self._next_load = 0.0
        self._store = store
        self._counters = counters
        self._bounds = bounds
        self._facts = facts
        self._queue_requests = queue_requests
        self._queue_bytes = queue_bytes
        self._retention_days = retention_days
        self._next_calendar = 0.0
        self._jobs = Jobs(group_records, in_turn=store.embedded)
        self._reader = ThreadPoolExecutor(1, "genai-meter-reader")
        self._writer = threading.Thread(target=self._write_loop, name="genai-meter-writer", daemon=True)
        self._requests = 0
        self._bytes = 0
        self._last_commit = 0.0
        self._next_review = 0.0
        self._failing = False
        self._doubt = Doubt()
        self._disk = disk
        self._told: set[str] = set()
        self._closing = False
        self._turn = threading.Lock()
        """The writer's, while it works; whoever has it knows that nothing is committed."""
        self._leads = False
        self.observer: Observer | None = None
        """Is told what happens; None: nobody."""

    def start(self) -> None:
        """Open the store and restore the counters; raises `StoreError`."""
        self._counters.restore(self._store.open())
        # More than the limit: values that had lost their place. They stay hidden, as before the restart.
        self._review(self._bounds.crowded)
        self._next_review = time.monotonic() + _REVIEW_SECONDS
        try:
            self._load_budgets()
        except StoreError as error:
            # What it writes is open; a ledger that others write too may be away for a while.
            if not self._shared or self._budgets is None:
                raise
            self._budgets.lose(time.time())
            self._tell(f"the budgets cannot be read: {error}")
        self._writer.start()

    def stop(self) -> None:
        """Commit what is queued, then close the store. No request may be under way."""
        self._reader.shutdown()
        self._jobs.close()
        self._writer.join()

    def reject(self, reason: str) -> None:
        """Count a request that was refused; each reason is logged once."""
        self._facts.rejected += 1
        self._tell(f"a request was refused: {reason}")

    def room(self) -> Room:
        """For a request that is being received; raises `Busy` when there is none for any."""
        if self._requests >= self._queue_requests:
            raise Busy
        return Room(self.grow)

    def grow(self, size: int) -> None:
        """Room for more bytes (or for less); raises `Busy` when there is none."""
        if size > 0 and self._bytes + size > self._queue_bytes:
            raise Busy
        self._bytes += size

    async def accept(
        self,
        signal: Signal,
        body: bytes,
        parse: Callable[[Signal, bytes], Parsed],
        tenants: frozenset[str] | None = None,
    ) -> Accepted:
        """Parse, normalise, price, commit. Raises `Garbage`, `Busy` or `StoreError`; returns when durable.

        With `tenants`, a record of any other goes to the quarantine.
        """
        if self._requests >= self._queue_requests or self._bytes + len(body) > self._queue_bytes:
            raise Busy
        self._requests += 1
        self._bytes += len(body)
        # Shielded: a producer that goes away does not undo what it sent, and its room is free when it is done.
        return await asyncio.shield(asyncio.ensure_future(self._accept(signal, body, parse, tenants)))

    async def _accept(
        self,
        signal: Signal,
        body: bytes,
        parse: Callable[[Signal, bytes], Parsed],
        tenants: frozenset[str] | None,
    ) -> Accepted:
        started = time.time_ns() if self.observer else 0
        try:
            loop = asyncio.get_running_loop()
            with self._jobs.coming():
                batch = await loop.run_in_executor(self._reader, self._read, signal, body, parse, tenants)
            self._facts.ignored.update(batch.ignored)
            if batch.size:
                await asyncio.wrap_future(self._jobs.put(batch))
            elif batch.parents:
                # Nothing to make durable: no need to wait.
                self._jobs.put(batch)
        finally:
            self._requests -= 1
            self._bytes -= len(body)
        rejected = batch.quarantined
        if self.observer is not None and batch.size:
            self.observer.received(signal, len(body), batch.size, len(rejected), started)
        for reason in {record.reason for record in rejected}:
            self._tell(f"a record was quarantined: {reason}")
        return Accepted(len(rejected), rejected[0].reason if rejected else "")

    @property
    def load(self) -> Load:
        """How full the queue is."""
        return Load(self._requests, self._bytes, self._queue_requests, self._queue_bytes)

    async def exchange(self, change: Callable[[], None]) -> None:
        """Make a change while nothing is read, priced or committed; raises what it raises."""

        def alone() -> None:
            with self._turn:
                change()
                self._next_evaluation = 0.0
                self._evaluate_budgets()

        await asyncio.get_running_loop().run_in_executor(self._reader, alone)

    def begin_shutdown(self) -> None:
        """Not ready from now on, so that nobody sends here any more; what comes all the same is still taken."""
        self._closing = True

    def state(self) -> State:
        """Waits for a commit that is under way."""
        calls, cost = self._counters.ledger()
        return State(self._leads, self._requests, self._bytes, self._facts.book_id, calls, cost)

    async def ready(self) -> str | None:
        """None when a commit is possible now; otherwise the reason."""
        if self._closing:
            return "shutting down"
        if self._requests >= self._queue_requests or self._bytes >= self._queue_bytes:
            return "the queue is full"
        if not self._writer.is_alive():
            return "the writer has stopped"
        if self._disk is not None and (full := await asyncio.to_thread(self._disk.full)) is not None:
            return full
        doubted = self._doubt.records
        if not doubted and time.monotonic() - self._last_commit < _FRESH_SECONDS:
            return None
        try:
            await asyncio.wait_for(asyncio.wrap_future(self._jobs.put(None)), 10)
        except StoreError as error:
            return str(error)
        except TimeoutError:
            return "the store does not answer"
        if doubted and not self._doubt.records:
            self._jobs.put(None)  # A small probe takes the place of the large one.
        return self._doubt.reason or None

    def record_shown(self) -> None:
        """After a scrape: let the store know which new series it was given."""
        if self._counters.shown():
            self._jobs.put(None)

    def _read(
        self,
        signal: Signal,
        body: bytes,
        parse: Callable[[Signal, bytes], Parsed],
        tenants: frozenset[str] | None,
    ) -> Batch:
        with self._jobs.reading():
            batch = normalise(parse(signal, body))
            self.attribution.apply(batch.records)
            if tenants is not None:
                bind(batch, tenants)
            charge(batch)
            return batch

    def _tell(self, text: str) -> None:
        if text not in self._told and len(self._told) < _REASONS_TOLD:
            self._told.add(text)
            logger.warning("%s (logged once)", text)

    def _write_loop(self) -> None:
        while not self._jobs.closed:
            try:
                # Never less than an instant: what waits for the disk goes first.
                jobs = self._jobs.gather(max(self._next_calendar - time.monotonic(), 0.001))
            except queue.Empty:
                with self._turn:
                    self._do_calendar()
                continue
            if not jobs:
                break
            with self._turn:
                self._commit(jobs)
                if time.monotonic() >= self._next_calendar:
                    self._do_calendar()
        if self._budgets is not None:
            self._budgets.close(time.time())
        self._store.close()

    def _do_calendar(self) -> None:
        """What nobody sends: one exporter of a ledger does it, a little at a time."""
        self._next_calendar = time.monotonic() + _CALENDAR_SECONDS
        self._evaluate_budgets()
        self._leads = self._store.leads()
        if not (self._leads or self._store.alone):
            return
        try:
            if self._revise() or self._read_again() or self._retire():
                self._next_calendar = 0.0
        except StoreError as error:
            self._tell(f"the calendar's work waits: {error}")

    def _load_budgets(self) -> None:
        """From the ledger; raises `StoreError`."""
        if self._budgets is None or self._read_ledger is None:
            return
        reader = self._read_ledger()
        try:
            self._budgets.load(reader, time.time())
        finally:
            reader.close()
        self._budgets.evaluate(time.time())
        self._next_load = time.monotonic() + _LOAD_SECONDS

    def _evaluate_budgets(self) -> None:
        """States follow the clock too, not only the spend."""
        now = time.monotonic()
        if self._budgets is None or now < self._next_evaluation:
            return
        self._next_evaluation = now + _EVALUATION_SECONDS
        if self._failing:
            self._budgets.lose(time.time())
            return
        try:
            if self._shared and now >= self._next_load:
                self._load_budgets()
            else:
                self._budgets.evaluate(time.time())
        except StoreError as error:
            self._budgets.lose(time.time())
            self._next_load = now + _LOAD_SECONDS
            self._tell(f"the budgets cannot be read: {error}")

    def _revise(self) -> bool:
        """Prices that were asked for by `genai-meter reprice`; True: there may be more."""
        written = self._store.revise_pending(_REVISED_AT_ONCE, time.time_ns())
        if written is None:
            return False
        self._make_durable(written, [])
        return True

    def _read_again(self) -> bool:
        """Records of the quarantine that `genai-meter quarantine retry` names; True: there may be more."""
        batch = read_quarantined(self._store, self.attribution)
        if batch is None:
            return False
        self._make_durable(self._store.write([batch], (), time.time_ns()), [])
        return True

    def _retire(self) -> bool:
        """Calls that are older than they are kept; True: there are more."""
        if self._retention_days is None:
            return False
        before = (time.time_ns() // _DAY_NS - self._retention_days) * _DAY_NS
        if before <= 0:
            # Kept for longer than there have been calls; instants before 1970 have no keys.
            return False
        return self._store.retire(before, _RETIRED_AT_ONCE) == _RETIRED_AT_ONCE

    def _commit(self, jobs: list[Job]) -> None:
        """One transaction for all that waits; every producer learns its end."""
        size = sum(job.size for job in jobs)
        probes = [job for job in jobs if job.batch is None]
        if not size and not probes:
            for job in jobs:
                self._store.learn(job.batch.parents if job.batch else ())
            return
        if self._doubt.records and 0 < len(probes) < len(jobs):
            # A probe is as large as what failed: what is smaller must not fail with it.
            self._commit([job for job in jobs if job.batch is not None])
            self._commit(probes)
            return
        started = time.time_ns() if self.observer else 0
        try:
            tallies = self._transaction([job.batch or Batch() for job in jobs])
        except StoreError as error:
            if not self._failing:
                logger.error("%s; producers are told to send again", error)
            self._failed(jobs, size, str(error))
            return
        except Exception as error:
            if len(jobs) > 1:
                # One request must not hold up all others: each alone, the bad one fails alone.
                for job in jobs:
                    self._commit([job])
                return
            logger.exception("the writer failed")
            self._failed(jobs, 0, f"internal error: {type(error).__name__}")
            return
        if self._failing:
            logger.warning("the store can be written again")
        self._failing = False
        self._doubt.wrote(size or self._doubt.records)
        self._last_commit = time.monotonic()
        for job, tally in zip(jobs, tallies, strict=True):
            job.done.set_result(tally)
        if self.observer is not None and any(tally.accepted or tally.linked for tally in tallies):
            self.observer.committed(len(jobs), size, started)

    def _failed(self, jobs: list[Job], records: int, reason: str) -> None:
        self._failing = True
        self._doubt.failed(records, reason)
        self._facts.store_errors += 1
        for job in jobs:
            job.done.set_exception(StoreError(reason))

    def _transaction(self, batches: list[Batch]) -> list[Tally]:
        if time.monotonic() >= self._next_review:
            self._next_review = time.monotonic() + _REVIEW_SECONDS
            self._review(self._bounds.full)
        shown = self._counters.shown()
        with self._jobs.writing():
            written = self._store.write(batches, shown, time.time_ns())
        if not any(batch.size for batch in batches) and (self._doubt.records or not shown):
            self._store.probe(self._doubt.bytes)
        self._make_durable(written, shown)
        return written.tallies

    def _make_durable(self, written: Written, shown: list[SeriesKey]) -> None:
        """Commit, and show it at the same instant."""
        if written.restored is not None:
            self._counters.restore(written.restored)
        with self._counters.lock:
            self._store.commit()
            self._counters.apply(written.deltas)
            if self._budgets is not None:
                self._budgets.apply(written.deltas.cells)
                self._budgets.observe(written.deltas.runs)
            self._counters.mark_recorded(shown)
            self._facts.syncs = self._store.syncs
        for family, labels in written.deltas.values:
            if family in _CLOCKS:
                team, environment, service = (label or "-" for label in labels)
                self._tell(f"{_CLOCKS[family]}: service {service}, environment {environment}, team {team}")

    def _review(self, due: Callable[[str], bool]) -> None:
        """Choose again which values have series of their own, of each label for which it is due."""
        for name in {label for labels in series.LABELS.values() for label in labels}:
            if due(name):
                self._bounds.review(name, self._store.top(name, self._bounds.limit(name)))


def read_quarantined(store: Store, attribution: AttributionMap) -> Batch | None:
    """Records of the quarantine that were asked to be read again, read and priced; None when there are none."""
    kept = store.quarantine_pending(_READ_AGAIN_AT_ONCE)
    if not kept:
        return None

    def finish(batch: Batch) -> None:
        attribution.apply(batch.records)
        charge(batch)

    return read_again(kept, normalise, finish)
