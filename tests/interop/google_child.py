"""An application under `opentelemetry-instrument` that calls Gemini; tells what spans and events each call left.

opentelemetry-instrument python google_child.py URL OUTPUT
"""

# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportMissingTypeStubs=false, reportAttributeAccessIssue=false

from __future__ import annotations

import asyncio
import gc
import json
import sys
import warnings
from pathlib import Path
from typing import Any

from google import genai
from opentelemetry import _logs, trace
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

warnings.simplefilter("ignore")  # of the library: what it would rather have called

URL, OUTPUT = sys.argv[1], Path(sys.argv[2])
MODEL, ASK = "gemini-2.5-flash", "Where to?"

spans, logs = InMemorySpanExporter(), InMemoryLogRecordExporter()


def connected() -> Any:
    return genai.Client(api_key="k", http_options=genai.types.HttpOptions(base_url=URL))


client = connected()


def generate() -> None:
    client.models.generate_content(model=MODEL, contents=ASK)


def stream() -> None:
    list(client.models.generate_content_stream(model=MODEL, contents=ASK))


def chat() -> None:
    client.chats.create(model=MODEL).send_message(ASK)


def embeddings() -> None:
    client.models.embed_content(model="gemini-embedding-001", contents=ASK)


def interaction() -> None:
    client.interactions.create(model=MODEL, input=ASK)


def async_generate() -> None:
    other = connected()
    asyncio.run(other.aio.models.generate_content(model=MODEL, contents=ASK))


def async_stream() -> None:
    other = connected()

    async def read() -> None:
        async for _chunk in await other.aio.models.generate_content_stream(model=MODEL, contents=ASK):
            pass

    asyncio.run(read())


SCENARIOS = (generate, stream, chat, embeddings, interaction, async_generate, async_stream)


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
