"""Azure's SDKs (`azure-ai-inference`, agents and projects) through their own tracing: the conventions of 1.2x."""

from __future__ import annotations

from typing import Final

from genai_meter_exporter.normalise import otel_genai
from genai_meter_exporter.normalise.record import RANK_PARTIAL, UsageRecord, Wrapper
from genai_meter_exporter.receive.raw import Raw

SCOPES: Final = ("azure.core.tracing.", "azure.ai.")

ATTRIBUTES: Final = otel_genai.ATTRIBUTES


def span(raw: Raw) -> UsageRecord | Wrapper | None:
    """A completion; it does not tell which tokens came from the cache."""
    return otel_genai.read_span(raw, rank=RANK_PARTIAL)
