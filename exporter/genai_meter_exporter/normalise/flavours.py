"""Which flavour reads a record: by the producer's scope, else by what is on the record. One row a flavour."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

from genai_meter_exporter.normalise import (
    anthropic_sdk,
    azure_ai,
    botocore,
    langfuse,
    litellm,
    logfire,
    openinference,
    openlit,
    openllmetry,
    otel_genai,
    pydantic_ai,
    vercel,
)
from genai_meter_exporter.normalise.record import UsageRecord, Wrapper
from genai_meter_exporter.receive.raw import Raw

Read = Callable[[Raw], UsageRecord | Wrapper | None]


class Flavour(NamedTuple):
    """How one producer's records are read."""

    name: str
    scopes: tuple[str, ...]
    """Beginnings of the names of its instrumentation scopes."""
    span: Read
    event: Read
    attributes: frozenset[str]
    """What it reads."""
    exact: bool = False
    """The scopes are whole names."""


FLAVOURS: Final = (
    Flavour("anthropic_sdk", anthropic_sdk.SCOPES, anthropic_sdk.span, otel_genai.event, anthropic_sdk.ATTRIBUTES),
    Flavour("azure_ai", azure_ai.SCOPES, azure_ai.span, otel_genai.event, azure_ai.ATTRIBUTES),
    Flavour("botocore", botocore.SCOPES, botocore.span, botocore.event, botocore.ATTRIBUTES),
    Flavour("langfuse", langfuse.SCOPES, langfuse.span, otel_genai.event, langfuse.ATTRIBUTES),
    Flavour("litellm", litellm.SCOPES, litellm.span, otel_genai.event, litellm.ATTRIBUTES),
    Flavour("logfire", logfire.SCOPES, logfire.span, otel_genai.event, logfire.ATTRIBUTES),
    Flavour("openinference", openinference.SCOPES, openinference.span, otel_genai.event, openinference.ATTRIBUTES),
    Flavour("openlit", openlit.SCOPES, openlit.span, openlit.event, openlit.ATTRIBUTES),
    Flavour("openllmetry", openllmetry.SCOPES, openllmetry.span, otel_genai.event, openllmetry.ATTRIBUTES),
    Flavour("pydantic_ai", pydantic_ai.SCOPES, pydantic_ai.span, otel_genai.event, pydantic_ai.ATTRIBUTES),
    Flavour("vercel", vercel.SCOPES, vercel.span, otel_genai.event, vercel.ATTRIBUTES, exact=True),
    Flavour("otel_genai", otel_genai.SCOPES, otel_genai.span, otel_genai.event, otel_genai.ATTRIBUTES),
)

ATTRIBUTES: Final = frozenset[str]().union(*(flavour.attributes for flavour in FLAVOURS))
"""What any of them reads."""


def span(raw: Raw) -> UsageRecord | Wrapper | None:
    """The record of a span; None when no flavour knows anything of it."""
    flavour = _of(raw.scope)
    found = None if flavour is None else flavour.span(raw)
    return _unnamed(raw) if found is None else found


def event(raw: Raw) -> UsageRecord | Wrapper | None:
    """The record of an event of operation details."""
    flavour = _of(raw.scope)
    return otel_genai.event(raw) if flavour is None else flavour.event(raw)


@lru_cache(1_000)
def _of(scope: str) -> Flavour | None:
    """The flavour of a scope, where that tells; the first row that fits holds."""
    for flavour in FLAVOURS:
        if scope in flavour.scopes if flavour.exact else scope.startswith(flavour.scopes):
            return flavour
    return None


def _unnamed(raw: Raw) -> UsageRecord | Wrapper | None:
    """A tracer of the application's own may be given to libraries; wrappers of any kind come first."""
    attributes = raw.attributes
    if vercel.OPERATION in attributes:
        return vercel.span(raw)
    if langfuse.KIND in attributes:
        return langfuse.span(raw)
    return otel_genai.span(raw) or openinference.span(raw)
