"""Inference spans and events that follow the GenAI conventions, old or new names, of any producer.

OpenTelemetry's own packages, and everybody who speaks `gen_ai.*` and has no flavour of their own. Spans of agents,
tools and workflows repeat the tokens of the calls inside them: they are never charged.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import orjson
from genai_meter import semconv
from genai_meter.usage import Usage

from genai_meter_exporter.normalise import foreign, read
from genai_meter_exporter.normalise.foreign import CHARGED, Counts, Names
from genai_meter_exporter.normalise.record import (
    RANK_EVENT,
    RANK_SPAN,
    WRAPPER,
    Unreadable,
    UsageRecord,
    Wrapper,
)
from genai_meter_exporter.receive.raw import Attributes, Raw

SCOPES: Final = ("opentelemetry.instrumentation.genai.", "opentelemetry.instrumentation.google_genai")

NAMES: Final = Names()

ATTRIBUTES: Final = NAMES.all() | {
    semconv.OPENAI_REQUEST_SERVICE_TIER,
    semconv.USAGE_COST_AMOUNT,
    semconv.USAGE_COST_CURRENCY,
    semconv.USAGE_COST_SOURCE,
    "gen_ai.openai.request.service_tier",
    "llm.request.type",
    "traceloop.span.kind",
    "deployment.environment",
}

_OPERATIONS: Final = {
    **dict.fromkeys(("response", "responses", "aresponses", "acompletion"), "chat"),
    **dict.fromkeys(("completion", "atext_completion"), "text_completion"),
    **dict.fromkeys(("embedding", "aembedding"), "embeddings"),
}
"""Names of operations beside the conventions' own."""

_OLD_REQUEST_TYPES: Final = {"chat": "chat", "completion": "text_completion", "embedding": "embeddings"}
"""`llm.request.type` of producers from before `gen_ai.operation.name`."""

_MISTRAL: Final = "mistralai_sdk_tracer"
"""Scope of the Mistral library's own spans: of requests, and of the messages inside a conversation's answer."""

_ANTHROPIC: Final = "opentelemetry.instrumentation.genai.anthropic"
"""Does not tell how long what was written to the cache is kept; the SDK's own span does."""


def event(raw: Raw) -> UsageRecord | Wrapper | None:
    """`gen_ai.client.inference.operation.details`; a wrapper when it is about no model call."""
    rank = RANK_SPAN if raw.scope == _ANTHROPIC else RANK_EVENT
    return read_event(raw, rank=rank, cached_beside=_beside(raw)) or WRAPPER


def span(raw: Raw) -> UsageRecord | Wrapper | None:
    """An inference span; None when the span speaks of something else."""
    if raw.scope == _MISTRAL and semconv.SERVER_ADDRESS not in raw.attributes:
        # A message: what it cost is told by the request.
        return WRAPPER
    return read_span(raw, cached_beside=_beside(raw))


def _beside(raw: Raw) -> bool | None:
    """OpenTelemetry's own packages keep to the conventions; of others, nothing is known."""
    return False if raw.scope.startswith(SCOPES) else None


def read_event(raw: Raw, *, rank: int, cached_beside: bool | None = None) -> UsageRecord | Wrapper | None:
    """The same for the flavours that speak the conventions."""
    operation = operation_of(raw.attributes)
    if operation is None or isinstance(operation, Wrapper):
        return operation
    return finish(raw, foreign.record(raw, operation, "/event", names=NAMES, rank=rank, cached_beside=cached_beside))


def read_span(
    raw: Raw,
    *,
    names: Names = NAMES,
    rank: int = RANK_SPAN,
    counts: Counts | None = None,
    cached_beside: bool | None = None,
    beside: Sequence[Usage] = (),
) -> UsageRecord | Wrapper | None:
    """The same for the flavours that speak the conventions."""
    operation = operation_of(raw.attributes)
    if operation is None or isinstance(operation, Wrapper):
        return operation
    made = foreign.record(
        raw,
        operation,
        "/span",
        names=names,
        rank=rank,
        counts=counts,
        cached_beside=cached_beside,
        beside=beside,
    )
    return finish(raw, made)


def finish(raw: Raw, record: UsageRecord) -> UsageRecord:
    """What the conventions tell beside usage."""
    _reported_cost(raw.attributes, record.values)
    return record


def operation_of(attributes: Attributes) -> str | Wrapper | None:
    """What a span is about: a charged operation, a wrapper, or nothing of the kind."""
    told = read.named_text(semconv.OPERATION_NAME, attributes.get(semconv.OPERATION_NAME))
    if told is not None:
        told = _OPERATIONS.get(told, told)
        return told if told in CHARGED else WRAPPER
    if "traceloop.span.kind" in attributes:
        return WRAPPER
    old = _OLD_REQUEST_TYPES.get(str(attributes.get("llm.request.type")))
    if old is None and any(name in attributes for name in NAMES.input) and semconv.REQUEST_MODEL in attributes:
        return "chat"
    return old


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
