"""Answers from the application's own caches: no provider call, no cost, and what they did not cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from genai_meter import api, attribution, environment, estimator, pricing, runs, schema, semconv
from genai_meter.dialects import by_name
from genai_meter.dialects.base import Reading, RequestView, read
from genai_meter.safety import guarded
from genai_meter.usage import Quantity, Usage, UsageSource

_ATTRIBUTE: Final = {f.name: f.attribute for f in schema.FIELDS}

_OBJECTS: Final = {
    "chat.completion": "openai_chat",
    "response": "openai_responses",
    "text_completion": "openai_completions",
    "list": "openai_embeddings",
    "message": "anthropic_messages",
}
"""`object` or `type` of an answer → its dialect."""
_PROVIDERS: Final = {
    "openai_chat": "openai",
    "openai_responses": "openai",
    "openai_completions": "openai",
    "openai_embeddings": "openai",
    "anthropic_messages": "anthropic",
    "gemini": "gcp.gemini",
    "bedrock_converse": "aws.bedrock",
}
"""Dialect → who is asked for such an answer, unless the caller says otherwise."""


@dataclass(slots=True)
class Hit:
    """One answer from a cache, as far as it is known what it had cost."""

    cache: str
    """Whose cache: `application`, `langchain`, `litellm`."""
    provider: str | None = None
    model: str | None = None
    operation: str = "chat"
    usages: list[Usage] = field(default_factory=list[Usage])
    """Of the original answer."""
    context: Mapping[str, str] = field(default_factory=dict[str, str])
    """Its price dimensions."""
    avoided_pico: int | None = None
    """What it did not cost, when the caller knows; otherwise it is priced."""
    input_chars: int | None = None
    output_chars: int | None = None


def cache_hit(
    answer: object = None,
    *,
    provider: str | None = None,
    model: str | None = None,
    operation: str | None = None,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    input_chars: int | None = None,
    output_chars: int | None = None,
    cost_avoided_usd: Decimal | str | int | None = None,
    **owner: object,
) -> None:
    """Record that an answer came from a cache of the application: an event of no cost, and no provider call.

    What it did not cost is priced from the usage of the original `answer` (an object of a client
    library or its JSON, which is read and not kept), or from token counts; from numbers of
    characters it is estimated; or it is given. Further keywords are fields of attribution.
    """
    fields = attribution.cleaned(owner)
    avoided = None if cost_avoided_usd is None else api.pico("cost_avoided_usd", cost_avoided_usd)
    hit = Hit("application", avoided_pico=avoided, input_chars=input_chars, output_chars=output_chars)
    if answer is not None:
        guarded(read_answer, hit, answer)
    hit.provider, hit.model = provider or hit.provider, model or hit.model
    hit.operation = operation or hit.operation
    for name, count in (("input_tokens", input_tokens), ("output_tokens", output_tokens)):
        if count is not None and count < 0:
            raise ValueError(f"{name} must not be negative")
    if input_tokens is not None or output_tokens is not None:
        counts: dict[str, Quantity] = {"input": input_tokens or 0, "output": output_tokens or 0}
        hit.usages = [Usage({bucket: count for bucket, count in counts.items() if count})]
    record(hit, fields)


def record(hit: Hit, fields: dict[str, str] | None = None) -> None:
    """Emit the event of one hit. Never raises."""
    guarded(_record, hit, fields or {})


def read_answer(hit: Hit, answer: object) -> None:
    """Model, usage and price dimensions of an original answer."""
    name = _dialect_of(answer)
    if name is None:
        return
    dialect, reading = by_name(name), Reading()
    dialect.response(reading, answer)
    hit.provider, hit.model, hit.operation = _PROVIDERS[name], reading.model, dialect.operation
    hit.usages = dialect.usages(reading, RequestView(model=reading.model))
    hit.context = reading.context


def _dialect_of(answer: object) -> str | None:
    for key in ("object", "type"):
        kind = read(answer, key)
        if isinstance(kind, str) and kind in _OBJECTS:
            return _OBJECTS[kind]
    if read(answer, "usageMetadata") is not None or read(answer, "usage_metadata") is not None:
        return "gemini"
    if read(read(answer, "usage"), "inputTokens") is not None:
        return "bedrock_converse"
    return None


def _record(hit: Hit, fields: dict[str, str]) -> None:
    attributes = api.identified()
    avoided, source, reasons = _avoided(hit, attributes[_ATTRIBUTE["start"]])
    told = {
        "status": "ok",
        "cache_hit": True,
        "cost_avoided": avoided,
        "cost": 0,
        "list_cost": 0,
        "cost_status": "free",
        "provider": hit.provider,
        "operation": hit.operation,
        "request_model": hit.model,
        "sdk": hit.cache,
        "usage_source": source,
        "cost_reasons": reasons,
    }
    attributes.update(
        (_ATTRIBUTE[name], environment.clean(value) if isinstance(value, str) else value)
        for name, value in told.items()
        if value is not None
    )
    owner = api.put_owner(attributes, fields)
    api.send(semconv.EVENT_USAGE, attributes, attributes[_ATTRIBUTE["end"]])
    runs.add_cache_hit(owner, avoided or 0)


def _avoided(hit: Hit, now: int) -> tuple[int | None, UsageSource, str | None]:
    """What the answer did not cost, how its usage is known, and why that is no exact figure."""
    usages, source = hit.usages, "provider"
    if not usages and (hit.input_chars or hit.output_chars):
        usages, source = [_estimated(hit)], "estimated"
    if not usages:
        source = "unknown"
    if hit.avoided_pico is not None:
        return hit.avoided_pico, source, None
    if not usages or hit.provider is None:
        return None, source, '["usage_unknown"]'
    model = pricing.billed_model(hit.provider, hit.model, hit.model)
    cost = pricing.price(hit.provider, model, usages, now, hit.context)
    return cost.effective_pico, source, None if source == "provider" else '["usage_estimated"]'


def _estimated(hit: Hit) -> Usage:
    provider = hit.provider or ""
    return Usage(
        {
            "input": estimator.tokens(provider, hit.model, hit.input_chars or 0, "chars"),
            "output": estimator.tokens(provider, hit.model, hit.output_chars or 0, "output"),
        }
    )
