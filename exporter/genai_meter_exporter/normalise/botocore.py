"""Bedrock as OpenTelemetry's two packages tell it: what the API says, cached tokens beside the input."""

from __future__ import annotations

from typing import Final

from genai_meter_exporter.normalise import otel_genai
from genai_meter_exporter.normalise.record import RANK_EVENT, WRAPPER, UsageRecord, Wrapper
from genai_meter_exporter.receive.raw import Raw

SCOPES: Final = ("opentelemetry.instrumentation.botocore", "opentelemetry.instrumentation.genai.bedrock")

ATTRIBUTES: Final = otel_genai.ATTRIBUTES


def event(raw: Raw) -> UsageRecord | Wrapper | None:
    """An event of operation details."""
    return otel_genai.read_event(raw, rank=RANK_EVENT, cached_beside=True) or WRAPPER


def span(raw: Raw) -> UsageRecord | Wrapper | None:
    """A call of `bedrock-runtime`."""
    return otel_genai.read_span(raw, cached_beside=True)
