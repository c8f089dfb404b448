"""What each call of an application left: its spans and its usage events, written as JSON."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from opentelemetry import _logs, trace
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


def record(scenarios: Iterable[Callable[[], None]], output: Path) -> None:
    """Run each scenario, and write what it left: scenario → `spans` and `events`."""
    spans, logs = InMemorySpanExporter(), InMemoryLogRecordExporter()
    tracers: Any = trace.get_tracer_provider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    loggers: Any = _logs.get_logger_provider()
    loggers.add_log_record_processor(SimpleLogRecordProcessor(logs))
    found: dict[str, Any] = {}
    for scenario in scenarios:
        scenario()
        gc.collect()
        finished: list[Any] = list(spans.get_finished_spans())
        written: list[Any] = [item.log_record for item in logs.get_finished_logs()]
        found[scenario.__name__] = {
            "spans": [
                {"scope": span.instrumentation_scope.name, **_told(span, span.context.span_id)} for span in finished
            ],
            "events": [
                _told(event, event.span_id or 0) for event in written if event.event_name == "genai_meter.usage"
            ],
        }
        spans.clear()
        logs.clear()
    output.write_text(json.dumps(found))


def _told(signal: Any, span_id: int) -> dict[str, Any]:
    attributes: dict[str, Any] = dict(signal.attributes or {})
    simple = {name: value for name, value in attributes.items() if isinstance(value, str | int | float)}
    return {"span_id": f"{span_id:016x}", "attributes": simple}
