"""`GENAI_METER_SPOOL_DIR`: events are on disk before the caller has the answer, and are shipped in the background.

Takes the place of the OpenTelemetry logger of our scope. The span, the metrics and every other
log record go the way of the SDK as before. Nothing is synced: what the kernel has taken survives the
death of the process in whatever way, not a power cut.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from opentelemetry import _logs, metrics, trace
from opentelemetry._logs import Logger
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.trace import format_span_id, format_trace_id

from genai_meter import __version__, environment, semconv, spool_files, spool_shipping
from genai_meter.safety import guarded, logger, swallow
from genai_meter.spool_files import Head, Segment, SpoolError
from genai_meter.spool_shipping import ACKNOWLEDGED, GIVEN_UP, HELD, SPOOLED, Destination, Job, Later, Sender

if TYPE_CHECKING:
    from opentelemetry.context import Context

_MEMORY_BYTES: Final = 4 * 1024 * 1024
"""What waits in memory while the disk takes nothing."""
_TICK: Final = 1.0
"""Seconds between two looks at what there is to ship."""
_LOOK_AROUND: Final = 10.0
"""Seconds between two looks for files of processes that have died."""
_BREATH: Final = 0.0005
_LONGEST_WAIT: Final = 30.0
_LONGEST_ASKED: Final = 300.0
"""Of the time that a receiver asks for."""
_EXIT_SECONDS: Final = 5.0
"""How long the end of the process waits for what is being shipped."""
_AT_ONCE: Final = 32
"""Events that one call writes for others, when the disk takes them again."""
_STUCK_SECONDS: Final = 0.5
"""How long the disk is left alone after it took nothing."""


def _breathe() -> None:
    """In between, calls have the interpreter for themselves; else each would wait for it up to five milliseconds."""
    time.sleep(_BREATH)


def make(provider: Any, meter_provider: MeterProvider | None, scope: dict[str, Any] | None) -> Spool | None:
    """The spool that the settings ask for; None when there can be none, which is said in one log line."""
    settings = environment.settings()
    directory = settings.spool_dir
    if directory is None or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    try:
        directory = os.path.abspath(directory)
        spool_files.prepare(directory)
        made = Spool(directory, settings.spool_max_bytes, spool_shipping.destination(os.environ), provider)
    except (SpoolError, OSError) as error:
        logger.warning("GENAI_METER_SPOOL_DIR is ignored, a process that is killed loses events: %s", error)
        return None
    made.observe(meter_provider, scope)
    return made


class Spool(Logger):
    """Writes events to a directory and has a thread ship them."""

    def __init__(self, directory: str, max_bytes: int, to: Destination, provider: Any) -> None:
        super().__init__(semconv.SCOPE, __version__)
        self._directory = directory
        self._max_bytes = max_bytes
        self._provider = provider
        self._counts: Counter[str] = Counter()
        self._told: set[str] = set()
        self._writer = spool_files.new_writer()
        # Re-entrant: a finalizer may end a call of its own.
        self._lock = threading.RLock()
        self._segment: Segment | None = None
        self._room = max_bytes - spool_files.total(directory)
        self._held: deque[bytes] = deque()
        self._held_bytes = 0
        self._stuck_until = -math.inf
        self._closed = False
        # Of the thread.
        self._to = to
        self._thread: threading.Thread | None = None
        self._stop: threading.Event
        self._sender: Sender | None = None
        self._pending = False
        self._away = False
        self._looked_around = -math.inf

    # --- written by calls ---------------------------------------------------------------------------
    def enabled(self, *_args: Any, **_kwargs: Any) -> bool:
        """Always: whoever sets up a spool wants the events."""
        return True

    def emit(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        *,
        timestamp: int | None = None,
        context: Context | None = None,
        attributes: Any = None,
        event_name: str | None = None,
        **_severity: Any,
    ) -> None:
        """Write one event: on disk when this returns."""
        span = trace.get_current_span(context).get_span_context()
        now = time.time_ns()
        ids = (format_trace_id(span.trace_id), format_span_id(span.span_id)) if span.is_valid else ("", "")
        event = [event_name, timestamp or now, now, *ids, int(span.trace_flags), attributes]
        data = spool_files.encode(event).encode()
        problem: OSError | None = None
        with self._lock:
            self._pending = True
            try:
                if self._held:
                    self._write_held(_AT_ONCE)
                self._write(data)
                self._counts[SPOOLED] += 1
            except OSError as error:
                problem = error
                self._hold(data)
            if self._thread is None and not self._closed:
                self._start()
        if problem is not None:
            self._tell_full(problem)

    def _write(self, data: bytes) -> None:
        """Append one record, whole or not at all. The caller holds the lock."""
        if self._room < len(data):
            raise OSError(errno.EDQUOT, f"GENAI_METER_SPOOL_MAX_BYTES ({self._max_bytes}) is reached")
        segment = self._segment
        if segment is None:
            segment = self._segment = self._begin()
        try:
            size = segment.append(data)
        except OSError:
            # Perhaps half a line is in it, its last one; perhaps only this file is at its limit.
            self._seal()
            segment = self._segment = self._begin()
            size = segment.append(data)
        self._room -= size
        if segment.size >= spool_files.SEGMENT_BYTES:
            self._seal()

    def _begin(self) -> Segment:
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        segment = Segment(self._directory, self._head(), self._writer)
        self._room -= segment.size
        return segment

    def _head(self) -> Head:
        return Head(_resource(self._provider), semconv.SCOPE, __version__)

    def _seal(self, successor: Segment | None = None) -> None:
        """The file is through; from now on it may be shipped. The caller holds the lock."""
        segment, self._segment = self._segment, successor
        if segment is not None:
            self._counts[GIVEN_UP] += segment.close()

    def _hold(self, data: bytes) -> None:
        """Keep an event in memory. The caller holds the lock."""
        if self._held_bytes + len(data) > _MEMORY_BYTES:
            # What is on disk, or waits, was there first: the newest event is given up.
            self._counts[GIVEN_UP] += 1
            return
        self._held.append(data)
        self._held_bytes += len(data)
        self._counts[HELD] += 1

    def _write_held(self, at_most: int) -> None:
        """Write what waits; a disk that has just refused is not asked again at once. The caller holds the lock."""
        if time.monotonic() < self._stuck_until:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        try:
            for _ in range(min(len(self._held), at_most)):
                self._write(self._held[0])
                self._unhold()
        except OSError:
            self._stuck_until = time.monotonic() + _STUCK_SECONDS
            raise

    def _unhold(self) -> None:
        self._held_bytes -= len(self._held.popleft())

    def _tell_full(self, error: OSError) -> None:
        reason = error.strerror or type(error).__name__
        self._tell(
            "full",
            "the spool %s takes no events (%s): %d bytes of them wait in memory, then the newest are given up, counted "
            "in %s",
            self._directory,
            reason,
            _MEMORY_BYTES,
            semconv.METRIC_SPOOL_EVENTS,
        )

    def _tell(self, kind: str, text: str, *values: object) -> None:
        """One log line for each kind of trouble."""
        if kind not in self._told:
            self._told.add(kind)
            logger.warning(f"genai_meter: {text} (logged once)", *values)

    # --- in the background --------------------------------------------------------------------------
    def _start(self) -> None:
        # Made with the thread: gevent replaces both, perhaps after this module was imported.
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="genai_meter-spool", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            # No more threads to be had: the events stay on disk.
            swallow("spool.start", error)

    def _work(self) -> None:
        stop, wait = self._stop, _TICK
        while not stop.wait(wait):
            asked = guarded(self._tick, lambda: not stop.is_set())
            if asked is None:
                wait = _TICK
            else:
                wait = min(max(wait, _TICK) * 2, _LONGEST_WAIT) * random.uniform(0.5, 1.0)
                wait = max(wait, min(asked, _LONGEST_ASKED))

    def _tick(self, go_on: Callable[[], bool]) -> float | None:
        """Ship what there is. None when all of it was taken, else the seconds that the receiver asked for."""
        look_around = time.monotonic() - self._looked_around >= _LOOK_AROUND
        if not (self._pending or self._away or look_around):
            return None
        self._pending = False
        try:
            with suppress_instrumentation():
                self._ship(go_on, look_around=look_around)
        except (Later, SpoolError) as error:
            self._away = True
            spool_files.note(self._directory, str(error))
            self._tell("away", "events wait in the spool %s: %s", self._directory, error)
            return error.seconds if isinstance(error, Later) else _LONGEST_WAIT
        finally:
            self._measure()
        if self._away:
            self._away = False
            self._told.discard("away")
            logger.info("genai_meter: the spool %s is shipped again", self._directory)
        return None

    def _ship(self, go_on: Callable[[], bool], *, look_around: bool) -> None:
        """Everything that is there now, the oldest first. Raises `Later`."""
        if self._sender is None:
            self._sender = Sender(self._to, self._counts, _breathe)
        job = Job(self._directory, self._sender, self._counts, go_on)
        # Somebody may have removed it.
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        shipped = 0
        if look_around:
            # What others have left behind when they died.
            spool_files.sweep(self._directory)
            shipped += job.run().files
            self._looked_around = time.monotonic()
        else:
            shipped += job.run(writer=self._writer).files
        # Nothing is in front of it any more. While the receiver is away, it grows to its full size.
        if self._next_segment():
            shipped += job.run(writer=self._writer).files
        with self._lock:
            waiting = list(self._held)
        if waiting:
            self._ship_held(self._sender, waiting)
        if shipped or waiting:
            spool_files.note(self._directory, None)

    def _next_segment(self) -> bool:
        """Begin the next file here and not in a call; False when there is nothing in the one before."""
        segment = self._segment
        if segment is None or not segment.events:
            return False
        try:
            successor = None if self._closed else self._begin()
        except OSError:
            successor = None
        with self._lock:
            self._seal(successor)
        return True

    def _ship_held(self, sender: Sender, waiting: list[bytes]) -> None:
        """What the disk did not take goes straight from memory."""
        refused = sender.send(self._head(), [json.loads(data) for data in waiting])
        with self._lock:
            self._counts[GIVEN_UP] += len(refused)
            # Some may have been written meanwhile, and are sent twice: the receiver knows them by their ids.
            for data in waiting:
                if self._held and self._held[0] is data:
                    self._unhold()

    def _measure(self) -> None:
        with self._lock:
            self._room = self._max_bytes - spool_files.total(self._directory)

    # --- the end ------------------------------------------------------------------------------------
    def close(self) -> None:
        """Ship what can be shipped at once; the rest stays on disk for whoever comes."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            self._last_tick(thread)
        with self._lock:
            if self._held:
                self._stuck_until = -math.inf
                with contextlib.suppress(OSError):
                    self._write_held(len(self._held))
            lost = len(self._held)
            self._counts[GIVEN_UP] += lost
            self._held.clear()
            self._seal()
        if lost:
            logger.warning("genai_meter: %d events are lost, the spool %s takes none", lost, self._directory)

    def _last_tick(self, thread: threading.Thread) -> None:
        self._stop.set()
        if thread.ident is not None:
            thread.join(_EXIT_SECONDS)
        if thread.is_alive() or self._away:
            return
        until, self._pending = time.monotonic() + _EXIT_SECONDS, True
        self._to, self._sender = self._to._replace(timeout=min(self._to.timeout, _EXIT_SECONDS)), None
        guarded(self._tick, lambda: time.monotonic() < until)

    def after_fork(self) -> None:
        """In the child, which gets a spool of its own: this one is its parent's."""
        spool_files.after_fork()

    # --- its own metrics ----------------------------------------------------------------------------
    def observe(self, provider: MeterProvider | None, scope: dict[str, Any] | None) -> None:
        """Show what becomes of events as metrics."""
        meter = metrics.get_meter(semconv.SCOPE, __version__, provider, None, scope)
        meter.create_observable_counter(
            semconv.METRIC_SPOOL_EVENTS,
            [self._observe_events],
            "{event}",
            "Events of the spool, by what became of them",
        )
        meter.create_observable_gauge(
            semconv.METRIC_SPOOL_SIZE, [self._observe_size], "By", "Bytes in the spool directory, of all processes"
        )

    def counts(self) -> dict[str, int]:
        """What became of the events of this process so far."""
        with self._lock:
            return dict(self._counts)

    def _observe_events(self, _options: CallbackOptions) -> Iterator[Observation]:
        seen = {SPOOLED: 0, HELD: 0, GIVEN_UP: 0, ACKNOWLEDGED: 0, **self.counts()}
        return (Observation(count, {semconv.SPOOL_STATE: state}) for state, count in seen.items())

    def _observe_size(self, _options: CallbackOptions) -> Iterator[Observation]:
        yield Observation(self._max_bytes - self._room)


# --- the resource -----------------------------------------------------------------------------------
def _resource(provider: Any) -> dict[str, Any]:
    """Attributes of the resource as the SDK has it; without an SDK, what OpenTelemetry's variables say."""
    for candidate in (provider or _logs.get_logger_provider(), trace.get_tracer_provider()):
        attributes = getattr(getattr(candidate, "resource", None), "attributes", None)
        if attributes is not None:
            return dict(attributes)
    found: dict[str, Any] = {}
    for pair in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        name, equals, value = pair.partition("=")
        if equals:
            found[name.strip()] = unquote(value.strip())
    if service := os.environ.get("OTEL_SERVICE_NAME"):
        found[semconv.SERVICE_NAME] = service
    return found
