"""LLM and embedding spans of OpenInference (`llm.*`). Its chains, agents, tools and retrievers are not charged."""

from __future__ import annotations

from typing import Final

from genai_meter_exporter.normalise import foreign, read
from genai_meter_exporter.normalise.foreign import Counts
from genai_meter_exporter.normalise.record import RANK_SPAN, Unreadable, UsageRecord, fill_totals
from genai_meter_exporter.receive.raw import Attributes, Raw

_OPERATIONS: Final = {"LLM": "chat", "EMBEDDING": "embeddings"}
_PROVIDERS: Final = {"azure": "azure.ai.openai", "google": "gcp.gemini", "aws": "aws.bedrock", "xai": "x_ai"}


def span(raw: Raw) -> UsageRecord | None:
    """A span of kind LLM or EMBEDDING; None for every other."""
    attributes = raw.attributes
    operation = _OPERATIONS.get(str(attributes.get("openinference.span.kind")))
    if operation is None:
        return None
    values = read.fields({}, raw.resource)
    model = attributes.get("llm.model_name") or attributes.get("embedding.model_name")
    if model is not None:
        values["model"] = read.named_text("llm.model_name", model)
    provider = attributes.get("llm.provider") or attributes.get("llm.system")
    if provider is not None:
        values["provider"] = _PROVIDERS.get(str(provider), read.named_text("llm.provider", provider))
    values["operation"] = foreign.operation(operation, values)
    producer = (raw.scope or "unnamed") + "/span"
    values.update(
        source=producer,
        source_rank=RANK_SPAN,
        trace_id=raw.trace_id.hex(),
        span_id=raw.span_id.hex(),
        start=raw.start_ns,
        end=max(raw.end_ns, raw.start_ns),
        status="error" if raw.failed else "ok",
    )
    usage = foreign.usage(_counts(attributes), cached_beside=False)
    usages = [usage] if usage else []
    values["usage_source"] = "provider" if usage else "unknown"
    if usage:
        fill_totals(values, usages)
    return UsageRecord(
        key=foreign.key(raw, "/span"),
        values=values,
        usages=usages,
        producer=producer,
        rank=RANK_SPAN,
        trace_id=raw.trace_id,
        span_id=raw.span_id,
        parent_span_id=raw.parent_span_id,
    )


def _counts(attributes: Attributes) -> Counts:
    return Counts(
        input=_count(attributes, "llm.token_count.prompt"),
        output=_count(attributes, "llm.token_count.completion"),
        cache_read=_count(attributes, "llm.token_count.prompt_details.cache_read"),
        cache_write=_count(attributes, "llm.token_count.prompt_details.cache_write"),
        reasoning=_count(attributes, "llm.token_count.completion_details.reasoning"),
        total=_count(attributes, "llm.token_count.total"),
    )


def _count(attributes: Attributes, name: str) -> int | None:
    value = attributes.get(name)
    if value is None:
        return None
    try:
        return read.count(value)
    except ValueError as error:
        raise Unreadable(f"{name} {error}") from None
