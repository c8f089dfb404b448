"""Spans of OpenLLMetry (Traceloop): the conventions, from its first names on (`gen_ai.usage.prompt_tokens`)."""

from __future__ import annotations

from typing import Final

from genai_meter_exporter.normalise import otel_genai
from genai_meter_exporter.normalise.record import RANK_PARTIAL, RANK_SPAN, UsageRecord, Wrapper
from genai_meter_exporter.receive.raw import Raw

SCOPES: Final = tuple(
    f"opentelemetry.instrumentation.{name}"
    for name in (
        "openai.v0",
        "openai.v1",
        "anthropic",
        "bedrock",
        "cohere",
        "google_generativeai",
        "groq",
        "mistralai",
        "ollama",
        "together",
        "replicate",
        "watsonx",
        "alephalpha",
        "sagemaker",
        "langchain",
        "llamaindex",
        "haystack",
        "crewai",
    )
)
"""OpenTelemetry's own packages begin with `…genai.`, or end with `_v2`."""

ATTRIBUTES: Final = otel_genai.ATTRIBUTES

_ANTHROPIC: Final = "opentelemetry.instrumentation.anthropic"
"""Adds the placeholder that a stream begins with to the output."""


def span(raw: Raw) -> UsageRecord | Wrapper | None:
    """An inference span; workflows, tasks, agents and tools are wrappers."""
    return otel_genai.read_span(raw, rank=RANK_PARTIAL if raw.scope == _ANTHROPIC else RANK_SPAN)
