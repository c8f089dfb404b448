"""Spans of OpenLLMetry (Traceloop): the conventions, from its first names on (`gen_ai.usage.prompt_tokens`)."""

from __future__ import annotations

from typing import Any, Final

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
_OPENAI: Final = "opentelemetry.instrumentation.openai."
"""Hands on what the API says: cached tokens are part of the input."""

_MAKERS: Final = (
    ("claude", "anthropic"),
    (("gpt", "o1", "o3", "o4", "chatgpt", "codex", "text-embedding-"), "openai"),
    (("gemini", "gemma"), "google"),
    (("mistral", "mixtral", "ministral", "magistral", "codestral", "devstral", "pixtral", "voxtral"), "mistralai"),
    ("llama", "meta-llama"),
    ("deepseek", "deepseek"),
    ("grok", "x-ai"),
    (("qwen", "qwq"), "qwen"),
    ("command", "cohere"),
    ("kimi", "moonshotai"),
    ("glm", "z-ai"),
    ("minimax", "minimax"),
    ("nova", "amazon"),
    ("sonar", "perplexity"),
)
"""Beginnings of models' names → what OpenRouter puts before them."""


def span(raw: Raw) -> UsageRecord | Wrapper | None:
    """An inference span; workflows, tasks, agents and tools are wrappers."""
    rank = RANK_PARTIAL if raw.scope == _ANTHROPIC else RANK_SPAN
    beside = False if raw.scope.startswith(_OPENAI) else None
    found = otel_genai.read_span(raw, rank=rank, cached_beside=beside)
    if isinstance(found, UsageRecord):
        _restore_model(found.values)
    return found


def _restore_model(values: dict[str, Any]) -> None:
    """It cuts `meta-llama/Llama-3.3-70B` down to what follows the slash; no price list has that."""
    served, asked = values.get("model"), values.get("request_model")
    if served and asked and asked.endswith(f"/{served}"):
        values["model"] = asked
    elif values.get("provider") == "openrouter":
        # Of the request, too, it tells the end alone.
        for column in ("model", "request_model"):
            name = values.get(column)
            if name and "/" not in name:
                maker = next((maker for start, maker in _MAKERS if name.startswith(start)), None)
                values[column] = f"{maker}/{name}" if maker else name
