"""LLM and embedding spans of OpenInference (`llm.*`). Its chains, agents, tools and retrievers are not charged."""

from __future__ import annotations

from typing import Final

from genai_meter_exporter.normalise import foreign
from genai_meter_exporter.normalise.foreign import Names
from genai_meter_exporter.normalise.record import WRAPPER, UsageRecord, Wrapper
from genai_meter_exporter.receive.raw import Raw

SCOPES: Final = ("openinference.",)

KIND: Final = "openinference.span.kind"
_OPERATIONS: Final = {"LLM": "chat", "EMBEDDING": "embeddings"}

_NAMES: Final = Names(
    input=("llm.token_count.prompt",),
    output=("llm.token_count.completion",),
    cache_read=("llm.token_count.prompt_details.cache_read",),
    cache_write=("llm.token_count.prompt_details.cache_write",),
    reasoning=("llm.token_count.completion_details.reasoning",),
    audio_input=("llm.token_count.prompt_details.audio",),
    audio_output=("llm.token_count.completion_details.audio",),
    total=("llm.token_count.total",),
    provider=("llm.provider", "llm.system"),
    model=("llm.response.model_name", "llm.model_name", "embedding.model_name"),
    request_model=("llm.request.model_name",),
    response_id=(),
    tier=(),
)

ATTRIBUTES: Final = _NAMES.all() | {KIND}

_OPENAI: Final = "openinference.instrumentation.openai"
"""Hands on what the API says: cached tokens are part of the input."""


def span(raw: Raw) -> UsageRecord | Wrapper | None:
    """A span of kind LLM or EMBEDDING; all other kinds are wrappers."""
    kind = raw.attributes.get(KIND)
    if kind is None:
        return None
    operation = _OPERATIONS.get(str(kind))
    if operation is None:
        return WRAPPER
    beside = False if raw.scope == _OPENAI else None
    return foreign.record(raw, operation, "/span", names=_NAMES, conventions=False, cached_beside=beside)
