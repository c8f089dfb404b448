"""Spans of the Vercel AI SDK: `ai.*` (up to version 6, and its legacy mode since) and the conventions (since 7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, cast

from genai_meter import semconv

from genai_meter_exporter.normalise import foreign, objects, otel_genai
from genai_meter_exporter.normalise.foreign import Counts, Names
from genai_meter_exporter.normalise.record import WRAPPER, UsageRecord, Wrapper
from genai_meter_exporter.receive.raw import Raw

SCOPES: Final = ("ai", "gen_ai")
"""Whole names, not beginnings."""

OPERATION: Final = "ai.operationId"
_PROVIDER: Final = "ai.model.provider"
_METADATA: Final = "ai.response.providerMetadata"

_OPERATIONS: Final = {"doGenerate": "chat", "doStream": "chat", "doEmbed": "embeddings"}
"""End of the operation's name; what has another end is the whole around its calls, or a tool."""

_NAMES: Final = Names(
    input=("ai.usage.inputTokens", "ai.usage.promptTokens", "ai.usage.tokens", *otel_genai.NAMES.input),
    output=("ai.usage.outputTokens", "ai.usage.completionTokens", *otel_genai.NAMES.output),
    cache_read=("ai.usage.inputTokenDetails.cacheReadTokens", "ai.usage.cachedInputTokens"),
    cache_write=("ai.usage.inputTokenDetails.cacheWriteTokens",),
    reasoning=("ai.usage.outputTokenDetails.reasoningTokens", "ai.usage.reasoningTokens"),
    total=("ai.usage.totalTokens",),
    provider=(_PROVIDER, semconv.SYSTEM),
    model=(semconv.RESPONSE_MODEL, "ai.response.model"),
    request_model=(semconv.REQUEST_MODEL, "ai.model.id"),
    response_id=(semconv.RESPONSE_ID, "ai.response.id"),
    tier=("serviceTier",),
)

ATTRIBUTES: Final = (_NAMES.all() - {"serviceTier"}) | {
    OPERATION,
    _METADATA,
    "ai.usage.inputTokenDetails.noCacheTokens",
}


def span(raw: Raw) -> UsageRecord | Wrapper | None:
    """One call of a model."""
    told = raw.attributes.get(OPERATION)
    if told is None:
        return _conventions(raw)
    operation = _OPERATIONS.get(str(told).rpartition(".")[2])
    if operation is None:
        return WRAPPER
    attributes = dict(raw.attributes)
    provider = str(foreign.first(attributes, _NAMES.provider) or "")
    # "openai.chat", "anthropic.messages"; but Google's names have a dot of their own.
    attributes[_PROVIDER] = provider if provider.startswith("google.") else provider.partition(".")[0]
    counts = foreign.read_counts(attributes, _NAMES)
    metadata = objects.mapping(attributes.get(_METADATA))
    beside = _complete(counts, attributes, metadata)
    tier = _under(metadata, "openai").get("serviceTier")
    if isinstance(tier, str):
        attributes["serviceTier"] = tier
    raw = replace(raw, attributes=attributes)
    return foreign.record(raw, operation, "/span", names=_NAMES, counts=counts, cached_beside=beside)


def _conventions(raw: Raw) -> UsageRecord | Wrapper | None:
    found = otel_genai.read_span(raw)
    if isinstance(found, UsageRecord) and found.values["operation"] == "embeddings" and not found.usages:
        # The outer of two; the inner one tells the usage.
        return WRAPPER
    return found


def _complete(counts: Counts, attributes: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
    """Cached tokens that versions before 6 tell with the provider's own words; whether they are beside the input.

    Anthropic's input is without them before version 6, where the details of the input came.
    """
    openai, anthropic = _under(metadata, "openai"), _under(metadata, "anthropic")
    if counts.cache_read is None and openai:
        counts.cache_read = _number(openai, "cachedPromptTokens")
        counts.reasoning = counts.reasoning if counts.reasoning is not None else _number(openai, "reasoningTokens")
    if not anthropic or "ai.usage.inputTokenDetails.noCacheTokens" in attributes:
        return False
    usage, _ = objects.counts_of(_under(anthropic, "usage"), _METADATA)
    counts.cache_read = _number(anthropic, "cacheReadInputTokens") or usage.cache_read or counts.cache_read
    counts.cache_write = _number(anthropic, "cacheCreationInputTokens") or usage.cache_write
    counts.cache_write_5m, counts.cache_write_1h = usage.cache_write_5m, usage.cache_write_1h
    counts.total = None
    return True


def _under(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = of.get(name)
    return cast("Mapping[str, Any]", found) if isinstance(found, dict) else {}


def _number(of: Mapping[str, Any], name: str) -> int | None:
    counts, _ = objects.counts_of({"input": of.get(name)}, _METADATA)
    return counts.input
