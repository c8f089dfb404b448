"""Runs the cases of one framework in one process: `python -m tests.frameworks.child FRAMEWORK on|off URL OUTPUT`."""

from __future__ import annotations

import importlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any, Final

from opentelemetry import _logs, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

TOLD: Final = {
    "workflow": "gen_ai.workflow.name",
    "run_id": "genai_meter.run.id",
    "step": "genai_meter.step",
    "agent": "gen_ai.agent.name",
    "tool": "genai_meter.tool",
    "conversation_id": "gen_ai.conversation.id",
    "session_id": "session.id",
    "documents": "genai_meter.retrieval.documents",
    "tenant": "genai_meter.tenant",
}


def main() -> None:
    framework, mode, url, output = sys.argv[1:]
    warnings.simplefilter("ignore")
    os.environ.update(OPENAI_API_KEY="k", OPENAI_BASE_URL=f"{url}/v1", STAND_IN=url)
    os.environ.update(LANGSMITH_TRACING="false", CREWAI_DISABLE_TELEMETRY="true", CREWAI_TRACING_ENABLED="false")
    spans, logs = InMemorySpanExporter(), InMemoryLogRecordExporter()
    tracers, loggers = TracerProvider(), LoggerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    loggers.add_log_record_processor(SimpleLogRecordProcessor(logs))
    trace.set_tracer_provider(tracers)
    _logs.set_logger_provider(loggers)
    if mode == "on":
        from genai_meter import instrumentor

        for found in instrumentor.LibraryInstrumentor.__subclasses__():
            found().instrument(skip_dep_check=True)
    cases: dict[str, Any] = importlib.import_module(f"tests.frameworks.{framework}_cases").CASES
    results: dict[str, Any] = {}
    for name, case in cases.items():
        result = case()
        results[name] = {
            "result": result,
            "events": [_told(item.log_record.attributes) for item in logs.get_finished_logs()],
            "spans": [span.name for span in spans.get_finished_spans() if _ours(span)],
        }
        spans.clear()
        logs.clear()
    errors: dict[str, int] = {}
    if mode == "on":
        from genai_meter.safety import internal_errors

        errors = dict(internal_errors)
    Path(output).write_text(json.dumps({"cases": results, "errors": errors}))


def _ours(span: Any) -> bool:
    return span.instrumentation_scope.name == "genai_meter"


def _told(attributes: Any) -> dict[str, Any]:
    found = {name: attributes[attribute] for name, attribute in TOLD.items() if attribute in attributes}
    return {"operation": attributes["gen_ai.operation.name"], **found}


if __name__ == "__main__":
    main()
