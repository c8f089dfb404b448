"""What the exporter tells of itself: its log, gauges of its queue, and spans and metrics of its own by OpenTelemetry.

Off by default. A request without usage makes no span: the exporter's own spans, should they come back to it through a
collector, beget no others. An endpoint that is its own is refused.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from prometheus_client.core import GaugeMetricFamily, Metric

from genai_meter_exporter.access.concerns import loopback
from genai_meter_exporter.config import ConfigError
from genai_meter_exporter.pipeline import Pipeline
from genai_meter_exporter.telemetry_settings import Telemetry

_SCOPE: Final = "genai_meter_exporter"
_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


# --- the log -----------------------------------------------------------------------------------------
class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        moment = datetime.fromtimestamp(record.created, UTC)
        told: dict[str, Any] = {
            "time": f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        told.update((name, value) for name, value in vars(record).items() if name not in _FIELDS)
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False, default=str)


def configure_log(style: Literal["text", "json"], level: str) -> None:
    """Write the log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(JsonFormatter() if style == "json" else text)
    logging.basicConfig(handlers=[handler], level=level, force=True)
    # It warns of each request that is no HTTP: anybody could fill the log.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)


# --- /metrics ----------------------------------------------------------------------------------------
def collect(pipeline: Pipeline) -> Iterable[Metric]:
    """How full the queue is: gauges for `/metrics`."""
    load = pipeline.load
    for name, doc, value in (
        ("queue_requests", "Requests under way.", load.requests),
        ("queue_bytes", "Bytes of the requests under way, those being received included.", load.bytes),
        ("queue_limit_requests", "Requests that may be under way (limits.queue_requests).", load.limit_requests),
        ("queue_limit_bytes", "Bytes that may be under way (limits.queue_bytes).", load.limit_bytes),
    ):
        yield GaugeMetricFamily(f"genai_meter_{name}", doc, value)


# --- OpenTelemetry -----------------------------------------------------------------------------------
class Observer:
    """Spans and metrics of requests and commits, through the OpenTelemetry SDK."""

    def __init__(self, settings: Telemetry, pipeline: Pipeline) -> None:
        from opentelemetry.metrics import CallbackOptions, NoOpMeterProvider, Observation
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.trace import NoOpTracerProvider

        resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME") or "genai-meter-exporter"})
        self._ends: list[Callable[[], object]] = []
        tracers = self._tracers(resource) if settings.traces else NoOpTracerProvider()
        meters = self._meters(resource) if settings.metrics else NoOpMeterProvider()
        self._tracer = tracers.get_tracer(_SCOPE)
        meter = meters.get_meter(_SCOPE)
        self._requests = meter.create_histogram("genai_meter.exporter.request.duration", "s")
        self._commits = meter.create_histogram("genai_meter.exporter.commit.duration", "s")
        self._records = meter.create_counter("genai_meter.exporter.records", "{record}")

        def waiting(_options: CallbackOptions) -> Iterable[Observation]:
            return (Observation(pipeline.load.bytes),)

        meter.create_observable_gauge("genai_meter.exporter.queue.size", [waiting], "By")

    def received(self, signal: str, size: int, records: int, rejected: int, started_ns: int) -> None:
        """A request that had usage in it has been committed."""
        ended_ns = time.time_ns()
        facts = {"genai_meter.signal": signal}
        self._requests.record((ended_ns - started_ns) / 1e9, facts)
        self._records.add(records, facts)
        span = self._tracer.start_span(
            f"receive {signal}",
            start_time=started_ns,
            attributes={
                **facts,
                "genai_meter.records": records,
                "genai_meter.records.quarantined": rejected,
                "genai_meter.request.size": size,
            },
        )
        span.end(ended_ns)

    def committed(self, requests: int, records: int, started_ns: int) -> None:
        """A transaction has ended, for this many requests."""
        ended_ns = time.time_ns()
        self._commits.record((ended_ns - started_ns) / 1e9)
        attributes = {"genai_meter.requests": requests, "genai_meter.records": records}
        self._tracer.start_span("commit", start_time=started_ns, attributes=attributes).end(ended_ns)

    def close(self) -> None:
        """Send what is left."""
        for end in self._ends:
            end()

    def _tracers(self, resource: Any) -> Any:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(_exporter("trace_exporter", "OTLPSpanExporter", "TRACES")))
        self._ends.append(provider.shutdown)
        return provider

    def _meters(self, resource: Any) -> Any:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        exporter = _exporter("metric_exporter", "OTLPMetricExporter", "METRICS")
        provider = MeterProvider([PeriodicExportingMetricReader(exporter)], resource, shutdown_on_exit=False)
        self._ends.append(provider.shutdown)
        return provider


def observer(settings: Telemetry, pipeline: Pipeline, own_ports: Collection[int]) -> Observer | None:
    """As the settings and the environment (`OTEL_EXPORTER_OTLP_*`) say; None when nothing is wanted."""
    signals = [name for name, wanted in (("TRACES", settings.traces), ("METRICS", settings.metrics)) if wanted]
    for name in signals:
        endpoint = _variable(name, "ENDPOINT") or ""
        parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
        if parts.port in own_ports and loopback(parts.hostname or ""):
            raise ConfigError(
                f"telemetry.{name.lower()}: the endpoint {endpoint} is this exporter's own; name a collector's"
            )
    return Observer(settings, pipeline) if signals else None


def _exporter(module: str, name: str, signal: str) -> Any:
    import importlib

    protocol = "grpc" if _variable(signal, "PROTOCOL") == "grpc" else "http"
    return getattr(importlib.import_module(f"opentelemetry.exporter.otlp.proto.{protocol}.{module}"), name)()


def _variable(signal: str, name: str) -> str | None:
    return os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_{name}") or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}")
