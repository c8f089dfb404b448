"""Spans and events of OpenLIT: the conventions; counts as each provider's SDK says them."""

from __future__ import annotations

from typing import Final

from genai_meter_exporter.normalise import otel_genai
from genai_meter_exporter.normalise.record import RANK_PARTIAL, WRAPPER, UsageRecord, Wrapper
from genai_meter_exporter.receive.raw import Raw

SCOPES: Final = ("openlit",)

ATTRIBUTES: Final = otel_genai.ATTRIBUTES

_CACHED_BESIDE: Final = ("openlit.instrumentation.anthropic", "openlit.instrumentation.bedrock")
_CACHED_INSIDE: Final = ("openlit.instrumentation.openai",)


def event(raw: Raw) -> UsageRecord | Wrapper | None:
    """Operation details: without provider, tier and reasoning, and of a stream without trace. The span knows more."""
    return otel_genai.read_event(raw, rank=RANK_PARTIAL, cached_beside=_beside(raw)) or WRAPPER


def span(raw: Raw) -> UsageRecord | Wrapper | None:
    """A call; of vector stores, frameworks and agents it makes spans with operations of their own."""
    return otel_genai.read_span(raw, cached_beside=_beside(raw))


def _beside(raw: Raw) -> bool | None:
    return True if raw.scope.startswith(_CACHED_BESIDE) else False if raw.scope.startswith(_CACHED_INSIDE) else None
