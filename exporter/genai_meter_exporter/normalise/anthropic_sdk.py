"""The Anthropic SDK's own spans: the conventions, and how long what was written to the cache is kept."""

from __future__ import annotations

from typing import Final

from genai_meter_exporter.normalise import otel_genai
from genai_meter_exporter.normalise.record import RANK_EVENT, UsageRecord, Wrapper
from genai_meter_exporter.receive.raw import Raw

SCOPES: Final = ("com.anthropic.sdk.",)

_NAMES: Final = otel_genai.NAMES._replace(
    cache_write_5m=("anthropic.usage.cache_creation.ephemeral_5m_input_tokens",),
    cache_write_1h=("anthropic.usage.cache_creation.ephemeral_1h_input_tokens",),
    tier=("anthropic.response.service_tier",),
)

ATTRIBUTES: Final = _NAMES.all()


def span(raw: Raw) -> UsageRecord | Wrapper | None:
    """One request; nobody else but the plug-in tells as much of it."""
    return otel_genai.read_span(raw, names=_NAMES, rank=RANK_EVENT, cached_beside=False)
