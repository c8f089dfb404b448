"""Spans of OpenLLMetry (Traceloop): the conventions, from its first names on (`gen_ai.usage.prompt_tokens`)."""

from __future__ import annotations

from typing import Any, Final

from genai_meter_exporter.normalise import foreign, otel_genai
from genai_meter_exporter.normalise.foreign import Counts
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

_BEDROCK: Final = "opentelemetry.instrumentation.bedrock"
"""Hands on what the API says: cached tokens are beside the input, and in no sum."""
_GOOGLE: Final = "opentelemetry.instrumentation.google_generativeai"
"""Tells thoughts in the sum alone."""

_OPENROUTER: Final = (
    ("claude", "anthropic/"),
    (("gpt", "o1", "o3", "o4", "chatgpt", "codex", "text-embedding-"), "openai/"),
    (("gemini", "gemma"), "google/"),
    (("mistral", "mixtral", "ministral", "magistral", "codestral", "devstral", "pixtral", "voxtral"), "mistralai/"),
    ("llama", "meta-llama/"),
    ("deepseek", "deepseek/"),
    ("grok", "x-ai/"),
    (("qwen", "qwq"), "qwen/"),
    ("command", "cohere/"),
    ("kimi", "moonshotai/"),
    ("glm", "z-ai/"),
    ("minimax", "minimax/"),
    ("nova", "amazon/"),
    ("sonar", "perplexity/"),
)
_BEDROCK_MODELS: Final = (
    ("claude", "anthropic."),
    (("titan", "nova"), "amazon."),
    ("llama", "meta."),
    (("mistral", "mixtral", "ministral", "magistral", "pixtral", "voxtral"), "mistral."),
    (("command", "embed", "rerank"), "cohere."),
    (("jamba", "j2"), "ai21."),
    ("deepseek", "deepseek."),
    ("qwen", "qwen."),
    ("gpt-oss", "openai."),
)
_MAKERS: Final = {"openrouter": ("/", _OPENROUTER), "aws.bedrock": (".", _BEDROCK_MODELS)}
"""Provider → what follows a model's maker in its names, and who makes the models that begin so."""


def span(raw: Raw) -> UsageRecord | Wrapper | None:
    """An inference span; workflows, tasks, agents and tools are wrappers."""
    rank = RANK_PARTIAL if raw.scope == _ANTHROPIC else RANK_SPAN
    beside = False if raw.scope.startswith(_OPENAI) else True if raw.scope == _BEDROCK else None
    counts: Counts | None = None
    if raw.scope in (_BEDROCK, _GOOGLE):
        counts = foreign.read_counts(raw.attributes, otel_genai.NAMES)
        thoughts = (counts.total or 0) - (counts.input or 0) - (counts.output or 0)
        if raw.scope == _GOOGLE and thoughts > 0:
            counts.output, counts.reasoning = (counts.output or 0) + thoughts, thoughts
        counts.total = None
    found = otel_genai.read_span(raw, rank=rank, counts=counts, cached_beside=beside)
    if isinstance(found, UsageRecord) and _restore_models(found.values):
        found.rank = found.values["source_rank"] = max(found.rank, RANK_PARTIAL)
    return found


def _restore_models(values: dict[str, Any]) -> bool:
    """It cuts `meta-llama/Llama-3.3-70B` down to what follows the slash; no price list has that. True: by a guess."""
    guessed = False
    served, asked = values.get("model"), values.get("request_model")
    if served and asked and asked.endswith(f"/{served}"):
        values["model"] = asked
    elif (provider := values.get("provider")) in _MAKERS:
        # Here it cuts the request, too.
        mark, makers = _MAKERS[provider]
        for column in ("model", "request_model"):
            name = values.get(column)
            if name and mark not in name.partition("-")[0]:
                maker = next((maker for start, maker in makers if name.startswith(start)), "")
                values[column] = maker + name
                guessed = True
    return guessed
