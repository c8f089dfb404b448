"""Spans of Pydantic AI: the conventions; the run of an agent repeats its requests (`gen_ai.aggregated_usage.*`, once
`gen_ai.usage.*`)."""

from __future__ import annotations

from typing import Final

from genai_meter_exporter.normalise import otel_genai
from genai_meter_exporter.normalise.record import WRAPPER, UsageRecord, Wrapper
from genai_meter_exporter.receive.raw import Raw

SCOPES: Final = ("pydantic-ai",)

_NAMES: Final = otel_genai.NAMES._replace(
    reasoning=(*otel_genai.NAMES.reasoning, "gen_ai.usage.details.reasoning_tokens"),
    cache_read=(*otel_genai.NAMES.cache_read, "gen_ai.usage.details.cache_read_tokens"),
    cache_write=(*otel_genai.NAMES.cache_write, "gen_ai.usage.details.cache_write_tokens"),
)

ATTRIBUTES: Final = _NAMES.all() | {"model_name", "agent_name"}


def span(raw: Raw) -> UsageRecord | Wrapper | None:
    """A request to a model."""
    if "model_name" in raw.attributes:
        return WRAPPER
    return otel_genai.read_span(raw, names=_NAMES, cached_beside=False)
