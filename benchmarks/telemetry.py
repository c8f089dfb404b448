"""An OpenTelemetry SDK as an application has it: batch processors, and exporters that count and drop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult


class NoSpans(SpanExporter):
    def __init__(self) -> None:
        self.spans = self.attributes = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += len(spans)
        self.attributes += sum(len(span.attributes or ()) for span in spans)
        return SpanExportResult.SUCCESS


class NoLogs(LogRecordExporter):
    def __init__(self) -> None:
        self.records = self.attributes = 0

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        self.records += len(batch)
        self.attributes += sum(len(item.log_record.attributes or ()) for item in batch)
        return LogRecordExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 10_000) -> bool:
        return True

    def shutdown(self) -> None:
        """Nothing is held."""


class NoMetrics(MetricExporter):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        for resource in metrics_data.resource_metrics:
            for scope in resource.scope_metrics:
                # Those of the SDK itself are there whatever is measured.
                if not scope.scope.name.startswith("opentelemetry.sdk"):
                    self.names.update(metric.name for metric in scope.metrics)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Nothing is held."""


class Telemetry:
    """The three signals, set as the global providers."""

    def __init__(self) -> None:
        resource = Resource.create({"service.name": "bench"})
        self.traces = TracerProvider(resource=resource)
        self.spans, self.points, self.records = NoSpans(), NoMetrics(), NoLogs()
        self.traces.add_span_processor(BatchSpanProcessor(self.spans, max_queue_size=2048))
        reader = PeriodicExportingMetricReader(self.points, export_interval_millis=60_000)
        self.metrics = MeterProvider([reader], resource=resource)
        self.logs = LoggerProvider(resource=resource)
        self.logs.add_log_record_processor(BatchLogRecordProcessor(self.records, max_queue_size=2048))
        trace.set_tracer_provider(self.traces)
        metrics.set_meter_provider(self.metrics)
        _logs.set_logger_provider(self.logs)

    def flush(self) -> None:
        self.traces.force_flush()
        self.logs.force_flush()
        self.metrics.force_flush()

    def emitted(self, run: Callable[[int], None], calls: int = 4) -> dict[str, Any]:
        """What one call emits: spans, log records, attributes of each, and the metrics there are by now."""
        self.flush()
        before = self._counted()
        run(calls)
        self.flush()
        found = {name: (count - before[name]) / calls for name, count in self._counted().items()}
        return {**found, "metrics": len(self.points.names)}

    def _counted(self) -> dict[str, int]:
        return {
            "spans": self.spans.spans,
            "span attributes": self.spans.attributes,
            "records": self.records.records,
            "record attributes": self.records.attributes,
        }
