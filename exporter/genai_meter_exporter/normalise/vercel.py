"""Spans of the Vercel AI SDK: `ai.*` (up to version 6, and its legacy mode since) and the conventions (since 7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, cast

from genai_meter import semconv
from genai_meter.usage import Usage

from genai_meter_exporter.normalise import foreign, objects, otel_genai
from genai_meter_exporter.normalise.foreign import Counts, Names
from genai_meter_exporter.normalise.record import WRAPPER, UsageRecord, Wrapper
from genai_meter_exporter.receive.raw import Raw

SCOPES: Final = ("ai", "gen_ai")
"""Whole names, not beginnings."""

OPERATION: Final = "ai.operationId"
_PROVIDER: Final = "ai.model.provider"
_METADATA: Final = "ai.response.providerMetadata"
_REASONING: Final = "ai.usage.outputTokenDetails.reasoningTokens"

_NOT_CACHED: Final = "ai.usage.inputTokenDetails.noCacheTokens"
_TIER: Final = "serviceTier"
"""In the metadata of OpenAI, Azure and Anthropic."""

_DOTTED: Final = (
    "google.vertex",
    "google.generative-ai",
    "gcp.gemini",
    "gcp.vertex_ai",
    "aws.bedrock",
    "azure.ai.openai",
)

_OPERATIONS: Final = {"doGenerate": "chat", "doStream": "chat", "doEmbed": "embeddings"}
"""End of the operation's name; what has another end is the whole around its calls, or a tool."""

_NAMES: Final = Names(
    input=("ai.usage.inputTokens", "ai.usage.promptTokens", "ai.usage.tokens", *otel_genai.NAMES.input),
    output=("ai.usage.outputTokens", "ai.usage.completionTokens", *otel_genai.NAMES.output),
    cache_read=("ai.usage.inputTokenDetails.cacheReadTokens", "ai.usage.cachedInputTokens"),
    cache_write=("ai.usage.inputTokenDetails.cacheWriteTokens",),
    reasoning=(_REASONING, "ai.usage.reasoningTokens"),
    total=("ai.usage.totalTokens",),
    provider=(_PROVIDER, semconv.SYSTEM),
    model=(semconv.RESPONSE_MODEL, "ai.response.model"),
    request_model=(semconv.REQUEST_MODEL, "ai.model.id"),
    response_id=(semconv.RESPONSE_ID, "ai.response.id"),
    tier=(_TIER,),
)

_DETAILS: Final = {
    "promptTokensDetails": {"AUDIO": "audio_input", "IMAGE": "image_input", "VIDEO": "video_input"},
    "cacheTokensDetails": {"AUDIO": "audio_cached", "IMAGE": "image_cached", "VIDEO": "video_cached"},
    "candidatesTokensDetails": {"AUDIO": "audio_output", "IMAGE": "image_output"},
}

_CONVENTIONS: Final = otel_genai.NAMES._replace(
    reasoning=(*otel_genai.NAMES.reasoning, _REASONING), tier=(*otel_genai.NAMES.tier, _TIER)
)

ATTRIBUTES: Final = ((_NAMES.all() | _CONVENTIONS.all()) - {_TIER}) | {OPERATION, _METADATA, _NOT_CACHED}


def span(raw: Raw) -> UsageRecord | Wrapper | None:
    """One call of a model."""
    told = raw.attributes.get(OPERATION)
    if told is None:
        return _conventions(raw)
    operation = _OPERATIONS.get(str(told).rpartition(".")[2])
    if operation is None:
        return WRAPPER
    attributes = dict(raw.attributes)
    attributes[_PROVIDER] = _provider(str(foreign.first(attributes, _NAMES.provider) or ""))
    counts = foreign.read_counts(attributes, _NAMES)
    apart, more = _complete(counts, attributes)
    raw = replace(raw, attributes=attributes)
    return foreign.record(raw, operation, "/span", names=_NAMES, counts=counts, cached_beside=apart, beside=more)


def _conventions(raw: Raw) -> UsageRecord | Wrapper | None:
    operation = otel_genai.operation_of(raw.attributes)
    if not isinstance(operation, str):
        return operation
    attributes = dict(raw.attributes)
    if told := attributes.get(semconv.PROVIDER_NAME):
        attributes[semconv.PROVIDER_NAME] = _provider(str(told))
    counts = foreign.read_counts(attributes, _CONVENTIONS)
    apart, more = _complete(counts, attributes)
    raw = replace(raw, attributes=attributes)
    found = otel_genai.read_span(raw, names=_CONVENTIONS, counts=counts, cached_beside=apart, beside=more)
    if isinstance(found, UsageRecord) and found.values["operation"] == "embeddings" and not found.usages:
        # The outer of two; the inner one tells the usage.
        return WRAPPER
    return found


def _provider(told: str) -> str:
    """`openai.chat`, `togetherai.chat`; but the conventions' names, and Google's, have a dot of their own."""
    if told == "azure.ai.inference":
        return "azure.ai.openai"  # of the two, the SDK has a package for this one only
    return next((name for name in _DOTTED if told.startswith(name)), told.partition(".")[0])


def _complete(counts: Counts, attributes: dict[str, Any]) -> tuple[bool, list[Usage]]:
    """What the provider's own words tell, in its metadata: whether cached tokens are beside the input, and what is
    billed beside the counts.

    Anthropic's words are whole since version 5. Bedrock's input, and Anthropic's before, is without cached tokens
    before version 6, where the details of the input came.
    """
    metadata = objects.mapping(attributes.get(_METADATA))
    openai, google = _under(metadata, "openai", "azure", "deepseek"), _under(metadata, "google", "vertex")
    anthropic = _under(metadata, "anthropic")
    tier = openai.get(_TIER) or anthropic.get(_TIER)
    if isinstance(tier, str):
        attributes[_TIER] = tier
    if counts.cache_read is None:
        counts.cache_read = _number(openai, "cachedPromptTokens", "promptCacheHitTokens")
    if counts.cache_write is None:
        counts.cache_write = _number(_under(openai, "usage"), "cacheWriteTokens")
    if counts.reasoning is None:
        counts.reasoning = _number(openai, "reasoningTokens")
    _google(counts, _under(google, "usageMetadata"))
    told = _under(anthropic or _under(metadata, "bedrock"), "usage")
    usage, _ = objects.counts_of(told, _METADATA)
    counts.cache_write_5m, counts.cache_write_1h = usage.cache_write_5m, usage.cache_write_1h
    counts.web_search = usage.web_search or _searches(google, foreign.first(attributes, _NAMES.model))
    counts.reasoning = min(counts.reasoning or usage.reasoning or 0, counts.output or 0)  # is part of the output
    if usage.input is not None:
        counts.input, counts.output, counts.total = usage.input, usage.output, None
        counts.cache_read, counts.cache_write = usage.cache_read, usage.cache_write
        return True, objects.beside_of(told, _METADATA)
    apart = bool(anthropic) or attributes.get(_PROVIDER) == "amazon-bedrock"
    if not apart or _NOT_CACHED in attributes or OPERATION not in attributes:
        return False, []
    counts.cache_read = _number(anthropic, "cacheReadInputTokens") or usage.cache_read or counts.cache_read
    counts.cache_write = _number(anthropic, "cacheCreationInputTokens") or usage.cache_write
    counts.total = None
    return True, []


def _google(counts: Counts, usage: Mapping[str, Any]) -> None:
    """Google's own words: before version 6 the output is without thoughts; until 7 the input is without what its
    tools have read, which is in the sum."""
    asked, answered = _number(usage, "promptTokenCount"), _number(usage, "candidatesTokenCount")
    if asked is None:
        return
    for name, kinds in _DETAILS.items():
        parts = usage.get(name)
        for part in cast("list[Any]", parts) if isinstance(parts, list) else ():
            told = cast("dict[str, Any]", part) if isinstance(part, dict) else {}
            if column := kinds.get(str(told.get("modality"))):
                setattr(counts, column, _number(told, "tokenCount"))
    counts.cache_read = _number(usage, "cachedContentTokenCount")
    if answered is not None:
        counts.reasoning = _number(usage, "thoughtsTokenCount") or 0
        counts.output = answered + counts.reasoning
        counts.total = _number(usage, "totalTokenCount") or 0
        counts.input = max(counts.total - counts.output, asked)


def _searches(google: Mapping[str, Any], model: Any) -> int:
    """Gemini 3 bills each distinct query, the generations before it each grounded prompt."""
    told = _under(google, "groundingMetadata").get("webSearchQueries")
    queries = {str(query) for query in cast("list[Any]", told)} if isinstance(told, list) else ()
    return min(len(queries), 1) if str(model).startswith(("gemini-1", "gemini-2")) else len(queries)


def _under(of: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    found = foreign.first(of, names)
    return cast("Mapping[str, Any]", found) if isinstance(found, dict) else {}


def _number(of: Mapping[str, Any], *names: str) -> int | None:
    counts, _ = objects.counts_of({"input": foreign.first(of, names)}, _METADATA)
    return counts.input
