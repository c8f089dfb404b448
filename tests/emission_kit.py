"""A telemetry pipeline in memory, and calls to send through it."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from genai_meter import dialects, emit, environment, estimator, identity, safety
from genai_meter.attribution import current
from genai_meter.call import Attempt, Call, Prepared, Target
from genai_meter.instrumentor import LibraryInstrumentor
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

START_NS = 1_795_338_000_000_000_000
"""2026-11-22, within every price of the book."""
CALL_ID = bytes.fromhex("01a2027df00071238456789abcdef012")
CALL_ID_TEXT = "01a2027d-f000-7123-8456-789abcdef012"


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    severity: int
    timestamp: int
    trace_id: int
    span_id: int
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Point:
    """One series of a metric as exported."""

    attributes: dict[str, Any]
    value: float
    """Of a counter; the sum of a histogram."""
    count: int | None = None
    bounds: tuple[float, ...] = ()
    exemplars: tuple[tuple[int, int], ...] = ()
    """(trace id, span id)."""


class Telemetry:
    """SDK providers of all three signals, exporting to memory."""

    def __init__(self, temporality: AggregationTemporality = AggregationTemporality.CUMULATIVE) -> None:
        from opentelemetry.sdk.metrics import Counter, Histogram, ObservableCounter

        self._spans, self._logs = InMemorySpanExporter(), InMemoryLogRecordExporter()
        kinds: dict[type, AggregationTemporality] = dict.fromkeys((Counter, Histogram, ObservableCounter), temporality)
        self._reader = InMemoryMetricReader(preferred_temporality=kinds)
        self.tracer_provider = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.logger_provider = LoggerProvider(shutdown_on_exit=False)
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self._logs))

    def bind(self) -> None:
        emit.bind(self.tracer_provider, self.meter_provider, self.logger_provider)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._spans.get_finished_spans())

    def take(self, *, spans: bool = True) -> list[Mapping[str, Any]]:
        """What was charged so far, each with a span or none with one; then nothing."""
        assert emit.flush()
        found: list[Mapping[str, Any]] = [event.attributes for event in self.events]
        assert len(self.spans) == (len(found) if spans else 0)
        self.clear()
        return found

    @property
    def events(self) -> list[Event]:
        records = [log.log_record for log in self._logs.get_finished_logs()]
        return [
            Event(
                record.event_name or "",
                record.severity_number.value if record.severity_number else 0,
                record.timestamp or 0,
                record.trace_id or 0,
                record.span_id or 0,
                dict(record.attributes or {}),
            )
            for record in records
        ]

    def clear(self) -> None:
        """Forget spans and events; metrics go on."""
        self._spans.clear()
        self._logs.clear()

    def points(self) -> dict[str, list[Point]]:
        """Metric name → its series, all scopes of ours together."""
        found: dict[str, list[Point]] = {}
        data = self._reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    found.setdefault(metric.name, []).extend(_point(point) for point in metric.data.data_points)
        return found

    def scopes(self) -> list[tuple[str, dict[str, Any]]]:
        data = self._reader.get_metrics_data()
        return [
            (scope.scope.name, dict(scope.scope.attributes or {}))
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
        ]


def _point(point: Any) -> Point:
    exemplars = tuple((exemplar.trace_id, exemplar.span_id) for exemplar in point.exemplars)
    if hasattr(point, "value"):
        return Point(dict(point.attributes), point.value, None, (), exemplars)
    return Point(dict(point.attributes), point.sum, point.count, tuple(point.explicit_bounds), exemplars)


@contextmanager
def telemetry(
    temporality: AggregationTemporality = AggregationTemporality.CUMULATIVE, **settings: str
) -> Generator[Telemetry]:
    """A pipeline that everything is emitted to; keywords are `GENAI_METER_*` variables."""
    import pytest

    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(f"GENAI_METER_{name}", value)
        environment.reload()
        estimator.reset()
        pipeline = Telemetry(temporality)
        pipeline.bind()
        try:
            yield pipeline
        finally:
            patch.undo()
            environment.reload()
            emit.bind()


@contextmanager
def metered(*kinds: type[LibraryInstrumentor], **settings: str) -> Generator[Telemetry]:
    """Libraries metered, into memory; nothing of ours may have raised."""
    instrumentors = [kind() for kind in kinds]
    with telemetry(AggregationTemporality.CUMULATIVE, **settings) as pipeline:
        for instrumentor in instrumentors:
            instrumentor.instrument()
        safety.internal_errors.clear()
        yield pipeline
        for instrumentor in instrumentors:
            instrumentor.uninstrument()
        assert dict(safety.internal_errors) == {}


def call(
    dialect: str,
    body: Mapping[str, Any],
    *,
    provider: str = "openai",
    host: str = "api.openai.com",
    answer: Mapping[str, Any] | None = None,
    chunks: list[dict[str, Any]] | None = None,
    attempts: tuple[Attempt, ...] | None = None,
    call_id: bytes = CALL_ID,
    seconds: float = 1.5,
) -> Call:
    """A call as a client hands it over: read, not yet finished. It takes `seconds` from START_NS on."""
    wire = dialects.by_name(dialect)
    request = wire.request(body)
    target = Target(provider, host, sdk="test.Client")
    made = Call(Prepared(target, wire, request, current(), START_NS), call_id, start_ns=START_NS)
    emit.open_span(made)
    made.end_ns = START_NS + int(seconds * 1e9)
    made.attempts.extend(attempts or (Attempt(START_NS, made.end_ns, 200, "req-1"),))
    if answer is not None:
        wire.response(made.reading, answer)
    for number, chunk in enumerate(chunks or ()):
        if number == 0:
            made.first_chunk_ns = START_NS + 500_000_000
        made.chunk_count += 1
        wire.chunk(made.reading, chunk)
    return made


def now() -> int:
    return time.time_ns()


def minted() -> bytes:
    return identity.new_call_id()
