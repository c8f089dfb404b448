"""An application under `opentelemetry-instrument` that calls Bedrock; tells what spans and events each call left.

opentelemetry-instrument python bedrock_child.py URL OUTPUT
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from opentelemetry import _logs, trace
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

URL, OUTPUT = sys.argv[1], Path(sys.argv[2])
MODEL = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
ASK: Any = {"modelId": MODEL, "messages": [{"role": "user", "content": [{"text": "Where to?"}]}]}
CLAUDE = json.dumps(
    {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "Where to?"}],
    }
)

spans, logs = InMemorySpanExporter(), InMemoryLogRecordExporter()
client: Any = importlib.import_module("boto3").client(
    service_name="bedrock-runtime",
    endpoint_url=URL,
    region_name="us-east-1",
    aws_access_key_id="AKIANONE",
    aws_secret_access_key="none",
)


def converse() -> None:
    client.converse(**ASK)


def converse_stream() -> None:
    list(client.converse_stream(**ASK)["stream"])


def invoke() -> None:
    assert json.loads(client.invoke_model(modelId=MODEL, body=CLAUDE)["body"].read())["role"] == "assistant"


def invoke_stream() -> None:
    list(client.invoke_model_with_response_stream(modelId=MODEL, body=CLAUDE)["body"])


def titan() -> None:
    body = json.dumps({"inputText": "Where to?"})
    client.invoke_model(modelId="amazon.titan-text-lite-v1", body=body)["body"].read()


def embeddings() -> None:
    body = json.dumps({"inputText": "Where to?"})
    client.invoke_model(modelId="amazon.titan-embed-text-v2:0", body=body)["body"].read()


SCENARIOS = (converse, converse_stream, invoke, invoke_stream, titan, embeddings)


def _told(record: Any, span_id: int) -> dict[str, Any]:
    attributes: dict[str, Any] = dict(record.attributes or {})
    simple = {name: value for name, value in attributes.items() if isinstance(value, str | int | float)}
    return {"span_id": f"{span_id:016x}", "attributes": simple}


def main() -> None:
    provider: Any = trace.get_tracer_provider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    logger_provider: Any = _logs.get_logger_provider()
    logger_provider.add_log_record_processor(SimpleLogRecordProcessor(logs))
    found: dict[str, Any] = {}
    for scenario in SCENARIOS:
        scenario()
        gc.collect()
        found[scenario.__name__] = {
            "spans": [
                {"scope": span.instrumentation_scope.name, **_told(span, span.context.span_id)}  # type: ignore[union-attr]  # pyright: ignore
                for span in spans.get_finished_spans()
            ],
            "events": [
                _told(log.log_record, log.log_record.span_id or 0)
                for log in logs.get_finished_logs()
                if log.log_record.event_name == "genai_meter.usage"
            ],
        }
        spans.clear()
        logs.clear()
    OUTPUT.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
