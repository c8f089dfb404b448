"""Out of a call: one inference span, its metrics, one usage event. Never raises, each call once.

Providers are looked up through the API and may be set before or after; without an SDK everything
here is a no-op.
"""

from __future__ import annotations

import atexit
import os
import queue
import sys
import threading
import time
from contextvars import Token
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from opentelemetry import _logs, metrics, trace
from opentelemetry._logs import Logger, LoggerProvider, SeverityNumber
from opentelemetry.context import Context, attach, get_current
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, TracerProvider

from genai_meter import (
    __version__,
    attribution,
    environment,
    estimator,
    interop,
    leaving,
    records,
    runs,
    safety,
    semconv,
    settle,
)
from genai_meter.metrics import Instruments
from genai_meter.safety import guarded, internal_errors, swallow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from genai_meter.call import Call, Status
    from genai_meter.records import Kind
    from genai_meter.settle import Outcome
    from genai_meter.spool import Spool

Active: TypeAlias = tuple[Context, Token[Context]]
"""What `activate` gives and `deactivate` takes."""

Job: TypeAlias = "Callable[[], None]"
Step: TypeAlias = "Callable[[Call, Outcome, Kind, Mapping[str, Any]], None]"

_ASKED_AGAIN_NS: Final = 1_000_000_000

# Python 3.11 looks a member of an enumeration up anew each time, which takes longer than a call.
_CLIENT: Final = SpanKind.CLIENT
_INFO: Final = SeverityNumber.INFO


# --- pipeline ---------------------------------------------------------------------------------------
@dataclass(slots=True)
class _Providers:
    """Explicit providers; None is the global one."""

    tracer: TracerProvider | None = None
    meter: MeterProvider | None = None
    logger: LoggerProvider | None = None


@dataclass(slots=True)
class _Pipeline:
    tracer: Tracer
    logger: Logger
    instruments: Instruments
    spool: Spool | None
    """The logger, when events go through a spool."""
    asked_ns: int = 0
    """When the logger last said that somebody takes events."""

    def takes_events(self, call: Call) -> bool:
        """A yes holds for a second: asking takes as long as ten attributes. A no may change with every call."""
        now = call.end_ns or 0
        if 0 <= now - self.asked_ns < _ASKED_AGAIN_NS:
            return True
        enabled = self.logger.enabled(context=call.context, severity_number=_INFO, event_name=semconv.EVENT_USAGE)
        self.asked_ns = now if enabled else 0
        return enabled

    def retire(self) -> None:
        """Another one takes its place."""
        self.instruments.retire()
        if self.spool is not None:
            guarded(self.spool.close)


_providers = _Providers()
_pipeline: _Pipeline | None = None
_pipeline_lock = threading.RLock()
_forked: bool = False


def bind(
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
) -> None:
    """Emit to these providers from now on, to the global ones where None; settings are read again."""
    global _providers, _pipeline
    with _pipeline_lock:
        if _pipeline is not None:
            _pipeline.retire()
        _providers = _Providers(tracer_provider, meter_provider, logger_provider)
        _pipeline = None
        attribution.use_provider(tracer_provider)


def _get() -> _Pipeline:
    return _pipeline or _build()


def _build() -> _Pipeline:
    global _pipeline
    with _pipeline_lock:
        if _pipeline is None:
            # A scope of its own for a forked child: its totals begin at zero, and a delta exporter must
            # not compare them with what the parent had exported.
            scope: dict[str, Any] | None = {"process.pid": os.getpid()} if _forked else None
            spool = guarded(_spool, scope) if environment.settings().spool_dir is not None else None
            _pipeline = _Pipeline(
                trace.get_tracer(semconv.SCOPE, __version__, _providers.tracer),
                spool or _logs.get_logger(semconv.SCOPE, __version__, _providers.logger),
                Instruments(_providers.meter, environment.settings().semconv, __version__, scope),
                spool,
            )
            guarded(leaving.arm, _drain_all, forked=_forked)
            if spool is None and _providers.logger is None and not _forked:
                guarded(_warn_without_sdk)
        return _pipeline


def _warn_without_sdk() -> None:
    """Without an SDK the API drops in silence what is emitted; the base install has none."""
    taken = not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    if not taken and "opentelemetry.sdk" not in sys.modules and find_spec("opentelemetry.sdk") is None:
        safety.logger.warning(
            "genai_meter: usage goes nowhere, no OpenTelemetry SDK is installed: pip install 'genai-meter[otlp]'"
        )


def _spool(scope: dict[str, Any] | None) -> Spool | None:
    from genai_meter import spool  # only for those who ask for one

    return spool.make(_providers.logger, _providers.meter, scope)


def instruments() -> Instruments:
    """The instruments in use."""
    return _get().instruments


def logger() -> Logger:
    """The OpenTelemetry logger in use."""
    return _get().logger


# --- the span of a call -------------------------------------------------------------------------------
def open_span(call: Call, native: Span | None = None) -> None:
    """At the first attempt: claim the span another instrumentation made for this call, else start ours.

    `native` is known to be this call's, and need not be the current one.
    """
    if call.span is None:
        try:
            _open_span(call, native)
        except Exception as error:  # noqa: BLE001 - as `guarded`, which costs more than most of this
            swallow("open_span", error)


def _open_span(call: Call, native: Span | None) -> None:
    if call.prepared.request.stream:
        _reaper.start()
    context, start = get_current(), records.start_of(call)
    call.attributes = records.at_start(call, start)
    # Where nothing is current, nothing can suppress us and no span be this call's.
    if context and not is_instrumentation_enabled():
        # Whoever suppresses instrumentation wants no span; the money is metered all the same.
        call.span, call.context = trace.INVALID_SPAN, context
        return
    foreign = native
    if foreign is None and (context or interop.keepers):
        foreign = interop.find(call, context)
    if foreign is not None:
        if foreign is not trace.get_current_span(context):
            context = trace.set_span_in_context(foreign, context)
        call.span, call.context = foreign, context
        foreign.set_attribute(interop.CLAIMED, call.attributes[interop.CLAIMED])
        if foreign.is_recording():
            interop.before_end(foreign, partial(_enrich_early, call, foreign))
        return
    call.span = (_pipeline or _build()).tracer.start_span(
        start.name, context, _CLIENT, records.span_at_start(call, start), start_time=call.start_ns
    )
    call.span_is_ours = True
    call.context = trace.set_span_in_context(call.span, context)


def activate(call: Call) -> Active | None:
    """Make our span current for the HTTP exchange; None when there is nothing of ours to make current."""
    if call.context is None or not call.span_is_ours:
        return None
    return call.context, attach(call.context)


def deactivate(active: Active | None) -> None:
    """Undo `activate`, unless something else has become current since."""
    if active is None:
        return
    context, token = active
    try:
        if token.var.get() is context:
            token.var.reset(token)
    except Exception as error:  # noqa: BLE001 - as `guarded`, which costs more than this
        swallow("deactivate", error)


# --- the end of a call ----------------------------------------------------------------------------------
def finish(call: Call, status: Status, error_type: str | None = None, *, in_finalizer: bool = False) -> None:
    """End a call: exactly once, whoever comes first. Never raises.

    A dropped stream is ended by a finalizer, which may run inside any lock of anybody: it is
    handed to a thread of ours, and `flush` waits for it.
    """
    try:
        call.open.pop()
    except IndexError:
        return
    error_type = error_type or call.error_type
    if error_type is None:
        # An error inside a stream that began with 200.
        error_type = call.reading.error_type
        if error_type is not None and status == "ok":
            status = "error"
        elif status == "error" and error_type is None:
            error_type = "_OTHER"
    call.status, call.error_type = status, error_type
    if call.end_ns is None:
        call.end_ns = time.time_ns()
    if not (in_finalizer or status == "abandoned") or not _reaper.take(call):
        _end(call)


def _end(call: Call) -> None:
    try:
        if call.span is None:
            open_span(call)
        _report(call, _STEPS)
    except Exception as error:  # noqa: BLE001 - as `guarded`
        swallow("finish", error)


def _report(call: Call, steps: tuple[Step, ...]) -> None:
    """Tell what became of the call; a step that fails spoils no other one."""
    # In place of `guarded`, which costs more than some of the steps.
    try:
        outcome = settle.settle(call)
    except Exception as error:  # noqa: BLE001 - as `guarded`
        swallow("settle", error)
        outcome = settle.Outcome(call.reading.model or call.prepared.request.model)
    try:
        kind, shared = records.kind_of(call, outcome), records.at_end(call, outcome)
    except Exception as error:  # noqa: BLE001 - as `guarded`
        swallow("records.at_end", error)
        kind, shared = records.Kind(), {}
    for step in steps:
        try:
            step(call, outcome, kind, shared)
        except Exception as error:  # noqa: BLE001 - as `guarded`
            swallow(step.__qualname__, error)


def _end_span(call: Call, outcome: Outcome, kind: Kind, shared: Mapping[str, Any]) -> None:
    span = call.span
    if span is None:
        return
    if not call.span_is_ours:
        interop.release(span)
        if span.is_recording():
            _enrich(call, span, outcome, kind, shared)
        elif span.get_span_context().trace_flags.sampled:
            call.span_complete = call.span_told == outcome.usage_told()
        return
    if span.is_recording():
        span.set_attributes(records.span_at_end(call, outcome, kind, shared))
        if call.status == "error":
            span.set_status(StatusCode.ERROR)
    span.end(call.end_ns)


def _enrich(call: Call, span: Span, outcome: Outcome, kind: Kind, shared: Mapping[str, Any]) -> None:
    """Add to the span of another instrumentation what it lacks."""
    told = {**call.attributes, **records.span_at_end(call, outcome, kind, shared)}
    span.set_attributes(interop.missing(span, told))


def _enrich_early(call: Call, span: Span) -> None:
    """Another instrumentation ends its span now; what it carries is what has been read so far."""
    outcome = settle.settle(call)
    _enrich(call, span, outcome, records.kind_of(call, outcome), records.at_end(call, outcome))
    call.span_told = outcome.usage_told()


def charge(call: Call) -> None:
    """Record a call that ran elsewhere: its event, tokens and cost; no span, no duration. Never raises."""
    try:
        call.open.pop()
    except IndexError:
        return
    guarded(_charge, call)


def _charge(call: Call) -> None:
    # Whoever reads its result now is no part of the call: neither trace nor exemplar point there.
    call.span, call.context = trace.INVALID_SPAN, Context()
    call.attributes = records.at_start(call, records.start_of(call))
    _report(call, _STEPS_LATE)


def drain() -> None:
    """Have what was emitted sent on: the queue of the SDK is bounded, and throws away what is too much."""
    _drain(_providers.logger or _logs.get_logger_provider())


def _drain(provider: Any) -> None:
    flush_now = getattr(provider, "force_flush", None)
    if callable(flush_now):
        guarded(flush_now)


def _measure(call: Call, outcome: Outcome, kind: Kind, _shared: Mapping[str, Any]) -> None:
    (_pipeline or _build()).instruments.record(call, outcome, kind)


def _measure_late(call: Call, outcome: Outcome, kind: Kind, _shared: Mapping[str, Any]) -> None:
    _get().instruments.record(call, outcome, kind, late=True)


def _emit_event(call: Call, outcome: Outcome, kind: Kind, shared: Mapping[str, Any]) -> None:
    pipeline = _pipeline or _build()
    if pipeline.takes_events(call):
        pipeline.logger.emit(
            timestamp=call.end_ns,
            context=call.context,
            severity_number=_INFO,
            severity_text="INFO",
            attributes=records.event(call, outcome, kind, shared),
            event_name=semconv.EVENT_USAGE,
        )


_STEPS: Final[tuple[Step, ...]] = (_end_span, _measure, _emit_event, runs.add, estimator.learn)
_STEPS_LATE: Final[tuple[Step, ...]] = (_measure_late, _emit_event, runs.add)


# --- calls ended by a finalizer ---------------------------------------------------------------------------
class _Reaper:
    """Ends abandoned calls on a thread of its own."""

    _calls: queue.SimpleQueue[Call | threading.Event | Job]

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = False

    def start(self) -> None:
        """Have the thread, started from a place that is no finalizer."""
        if self._running or _exiting:
            return
        with self._lock:
            if not self._running:
                # `SimpleQueue.put` is the one hand-over that is safe inside a finalizer. Made with the thread:
                # gevent replaces both, perhaps after this module was imported, and a mixture blocks for ever.
                self._calls = queue.SimpleQueue()
                self._running = True
                try:
                    threading.Thread(target=self._work, name="genai_meter-reaper", daemon=True).start()
                except RuntimeError as error:
                    # No more threads to be had: dropped calls are ended on the spot.
                    self._running = False
                    swallow("emit.reaper", error)

    def take(self, work: Call | Job) -> bool:
        """Take over the end of a call, or another job; False when it must be done on the spot."""
        if not self._running or _exiting:
            return False
        self._calls.put(work)
        return True

    def flush(self, seconds: float) -> bool:
        """Wait until every call taken so far is ended."""
        if not self._running:
            return True
        done = threading.Event()
        self._calls.put(done)
        return done.wait(seconds)

    def _work(self) -> None:
        while True:
            item = self._calls.get()
            if isinstance(item, threading.Event):
                item.set()
            elif callable(item):
                guarded(item)
            else:
                _end(item)
            del item


_exiting = False
_reaper = _Reaper()


def aside(job: Job) -> None:
    """Do a job on the thread of ours, in turn, else on the spot."""
    _reaper.start()
    if not _reaper.take(job):
        guarded(job)


def expect_drops() -> None:
    """Have the thread that ends dropped calls, before the first one can be dropped."""
    _reaper.start()


def flush(seconds: float = 5.0) -> bool:
    """Wait until calls whose streams were dropped have been emitted; False when that takes too long."""
    return _reaper.flush(seconds)


def _drain_all() -> None:
    flush()
    drain()
    _drain(_providers.tracer or trace.get_tracer_provider())
    _drain(_providers.meter or metrics.get_meter_provider())


def _at_exit() -> None:
    global _exiting
    flush()
    _exiting = True
    if _pipeline is not None and _pipeline.spool is not None:
        guarded(_pipeline.spool.close)


def _after_fork() -> None:
    """The child counts from zero, on locks and a thread of its own."""
    global _pipeline, _pipeline_lock, _reaper, _forked
    _pipeline_lock = threading.RLock()
    _reaper = _Reaper()
    _forked = True
    if _pipeline is not None:
        _pipeline.instruments.retire()
        if _pipeline.spool is not None:
            _pipeline.spool.after_fork()
        _pipeline = None
    leaving.after_fork()
    internal_errors.clear()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
