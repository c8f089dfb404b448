"""Inference spans and events that follow the GenAI conventions, old or new names, of any producer.

Reads OpenTelemetry's own packages, OpenLLMetry, the Anthropic SDK's tracing and everybody who
speaks `gen_ai.*`. Spans of agents, tools and workflows repeat the tokens of the calls inside
them: they are never charged.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import orjson
from genai_meter import semconv

from genai_meter_exporter.normalise import foreign, read
from genai_meter_exporter.normalise.foreign import Counts
from genai_meter_exporter.normalise.record import (
    RANK_EVENT,
    RANK_SPAN,
    Unreadable,
    UsageRecord,
    fill_totals,
    price_context,
)
from genai_meter_exporter.receive.raw import Attributes, Raw

CHARGED: Final = semconv.INFERENCE_OPERATIONS | {"embeddings"}
"""Operations of the conventions that call a model. All others are wrappers, tools or memory."""

_OLD_REQUEST_TYPES: Final = {
    "chat": "chat",
    "completion": "text_completion",
    "embedding": "embeddings",
}
"""`llm.request.type` of producers from before `gen_ai.operation.name`."""

_PROVIDERS: Final = {
    "gemini": "gcp.gemini",
    "vertex_ai": "gcp.vertex_ai",
    "azure": "azure.ai.openai",
    "aws": "aws.bedrock",
}
"""Provider names that producers use beside the conventions' own."""

_CACHED_BESIDE: Final = ("opentelemetry.instrumentation.botocore", "opentelemetry.instrumentation.genai.bedrock")
"""Scopes known to report input tokens without the cached ones."""

_MISTRAL: Final = "mistralai_sdk_tracer"
"""Scope of the Mistral library's own spans: of requests, and of the messages inside a conversation's answer."""

_INPUT: Final = (semconv.USAGE_INPUT_TOKENS, "gen_ai.usage.prompt_tokens")
_OUTPUT: Final = (semconv.USAGE_OUTPUT_TOKENS, "gen_ai.usage.completion_tokens")
_CACHE_READ: Final = (
    semconv.USAGE_CACHE_READ_INPUT_TOKENS,
    "gen_ai.usage.cache_read_input_tokens",
    "llm.usage.cache_read_input_tokens",
)
_CACHE_WRITE: Final = (
    semconv.USAGE_CACHE_WRITE_INPUT_TOKENS,
    semconv.USAGE_CACHE_CREATION_INPUT_TOKENS,
    "gen_ai.usage.cache_creation_input_tokens",
    "llm.usage.cache_creation_input_tokens",
)
_REASONING: Final = (
    semconv.USAGE_REASONING_OUTPUT_TOKENS,
    "gen_ai.usage.reasoning_tokens",
    "llm.usage.reasoning_tokens",
)
_TOTAL: Final = ("gen_ai.usage.total_tokens", "llm.usage.total_tokens")
_TIER: Final = (semconv.OPENAI_RESPONSE_SERVICE_TIER, "gen_ai.openai.response.service_tier")


def event(raw: Raw) -> UsageRecord | None:
    """`gen_ai.client.inference.operation.details`; None when it is about no model call."""
    operation = _operation(raw.attributes)
    return _record(raw, operation, "/event", RANK_EVENT) if operation else None


def span(raw: Raw) -> UsageRecord | None:
    """An inference span; None when the span is none."""
    operation = _operation(raw.attributes)
    if raw.scope == _MISTRAL and semconv.SERVER_ADDRESS not in raw.attributes:
        # A message: what it cost is told by the request.
        return None
    return _record(raw, operation, "/span", RANK_SPAN) if operation else None


def _operation(attributes: Attributes) -> str | None:
    operation = read.named_text(semconv.OPERATION_NAME, attributes.get(semconv.OPERATION_NAME))
    if operation is None:
        if "traceloop.span.kind" in attributes:
            return None
        operation = _OLD_REQUEST_TYPES.get(str(attributes.get("llm.request.type")))
        if operation is None and any(name in attributes for name in _INPUT) and semconv.REQUEST_MODEL in attributes:
            operation = "chat"
    return operation if operation in CHARGED else None


def _record(raw: Raw, operation: str, kind: str, rank: int) -> UsageRecord:
    attributes = raw.attributes
    values = read.fields(attributes, raw.resource)
    provider = values.get("provider") or read.named_text(semconv.SYSTEM, attributes.get(semconv.SYSTEM))
    if provider is not None:
        values["provider"] = _PROVIDERS.get(provider, provider)
    values["operation"] = foreign.operation(operation, values)
    producer = (raw.scope or "unnamed") + kind
    values["source"] = producer
    values["source_rank"] = rank
    values["trace_id"], values["span_id"] = raw.trace_id.hex(), raw.span_id.hex()
    values["start"] = raw.start_ns
    values["end"] = max(raw.end_ns, raw.start_ns)
    values["status"] = "error" if raw.failed or "error_type" in values else "ok"
    values["id_family"] = foreign.id_family(values.get("response_id"))
    tier = _first(attributes, _TIER)
    if tier is not None:
        values["tier"] = read.named_text(_TIER[0], tier)
    _reported_cost(attributes, values)
    usage = foreign.usage(_counts(attributes), cached_beside=raw.scope.startswith(_CACHED_BESIDE))
    usages = [usage] if usage else []
    if usage:
        values["usage_source"] = "provider"
        fill_totals(values, usages)
    else:
        values["usage_source"] = "unknown"
    return UsageRecord(
        key=foreign.key(raw, kind),
        values=values,
        usages=usages,
        producer=producer,
        rank=rank,
        trace_id=raw.trace_id,
        span_id=raw.span_id,
        parent_span_id=raw.parent_span_id,
        context=price_context(values),
    )


def _counts(attributes: Attributes) -> Counts:
    return Counts(
        input=_count(attributes, _INPUT),
        output=_count(attributes, _OUTPUT),
        cache_read=_count(attributes, _CACHE_READ),
        cache_write=_count(attributes, _CACHE_WRITE),
        reasoning=_count(attributes, _REASONING),
        total=_count(attributes, _TOTAL),
    )


def _first(attributes: Attributes, names: Sequence[str]) -> Any:
    return next((attributes[name] for name in names if attributes.get(name) is not None), None)


def _count(attributes: Attributes, names: Sequence[str]) -> int | None:
    value = _first(attributes, names)
    if value is None:
        return None
    try:
        return read.count(value)
    except ValueError as error:
        raise Unreadable(f"{next(n for n in names if n in attributes)} {error}") from None


def _reported_cost(attributes: Attributes, values: dict[str, Any]) -> None:
    """A cost that the provider itself reported (open proposal semantic-conventions-genai#443), in USD only."""
    amount = attributes.get(semconv.USAGE_COST_AMOUNT)
    if amount is None or attributes.get(semconv.USAGE_COST_SOURCE) != "provider":
        return
    if attributes.get(semconv.USAGE_COST_CURRENCY, "USD") != "USD":
        return
    try:
        values["reported_cost"] = read.integer(int(Decimal(orjson.dumps(amount).decode()).scaleb(12)))
    except (ValueError, ArithmeticError):
        raise Unreadable(f"{semconv.USAGE_COST_AMOUNT} is no amount") from None
