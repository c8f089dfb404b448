"""What the plugin emitted: usage events, spans, complaints."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any, Final

from opentelemetry import trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

CALL_ID: Final = "genai_meter.call.id"


class Watch:
    """OpenTelemetry in this process, with memory at its end; the plugin when asked for."""

    def __init__(self, *, plugin: bool) -> None:
        self._events = InMemoryLogRecordExporter()
        self._spans = _Spans()
        self._complaints = _Complaints()
        logging.getLogger("opentelemetry").addHandler(self._complaints)
        logging.getLogger("genai_meter").addHandler(self._complaints)
        logs = LoggerProvider()
        logs.add_log_record_processor(SimpleLogRecordProcessor(self._events))
        set_logger_provider(logs)
        tracing = TracerProvider()
        tracing.add_span_processor(self._spans)
        trace.set_tracer_provider(tracing)
        self._plugin = plugin
        if plugin:
            from genai_meter.instrumentor import LibraryInstrumentor

            for instrumentor in LibraryInstrumentor.__subclasses__():
                instrumentor().instrument()

    def take(self) -> dict[str, Any]:
        """Events and spans since the last time."""
        records = [data.log_record for data in self._events.get_finished_logs()]
        self._events.clear()
        events = [dict(r.attributes or {}) for r in records if r.event_name == "genai_meter.usage"]
        return {"events": events, "spans": self._spans.take()}

    def end(self) -> dict[str, Any]:
        """What is left when all is done: spans never ended, complaints of OpenTelemetry, errors of ours."""
        errors: dict[str, int] = {}
        if self._plugin:
            from genai_meter.safety import internal_errors

            errors = dict(internal_errors)
        return {"open_spans": self._spans.open, "complaints": self._complaints.texts, "internal_errors": errors}


class _Spans(SpanProcessor):
    """Counts the ends of each span that belongs to one of our calls."""

    def __init__(self) -> None:
        self.open = 0
        self._ended: Counter[str] = Counter()

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.open += 1

    def on_end(self, span: ReadableSpan) -> None:
        self.open -= 1
        call_id = (span.attributes or {}).get(CALL_ID)
        if call_id is not None:
            self._ended[str(call_id)] += 1

    def take(self) -> dict[str, int]:
        """Call id → spans ended."""
        taken, self._ended = dict(self._ended), Counter()
        return taken


class _Complaints(logging.Handler):
    """Warnings, such as that an ended span was ended again."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage()[:200])
