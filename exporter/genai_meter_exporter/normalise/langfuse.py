"""Observations of Langfuse's SDKs: generations and embeddings, whose usage is one JSON object."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from genai_meter_exporter.normalise import foreign, objects
from genai_meter_exporter.normalise.foreign import Names
from genai_meter_exporter.normalise.record import RANK_PARTIAL, RANK_SPAN, WRAPPER, UsageRecord, Wrapper
from genai_meter_exporter.receive.raw import Raw

SCOPES: Final = ("langfuse-sdk",)

KIND: Final = "langfuse.observation.type"
_USAGE: Final = "langfuse.observation.usage_details"
_MODEL: Final = "langfuse.observation.model.name"
_PARAMETERS: Final = "langfuse.observation.model.parameters"
_ID: Final = "langfuse.observation.metadata.id"
"""JSON text; only some streams have it."""

_NAMES: Final = Names(model=(_MODEL,), response_id=(_ID,), tier=("service_tier",), provider=("provider",))
_OPERATIONS: Final = {"generation": "chat", "embedding": "embeddings"}

ATTRIBUTES: Final = frozenset({KIND, _USAGE, _MODEL, _PARAMETERS, _ID, "user.id", "session.id"})


def span(raw: Raw) -> UsageRecord | Wrapper | None:
    """A generation or an embedding; all other observations are wrappers."""
    kind = raw.attributes.get(KIND)
    if kind is None:
        return None
    operation = _OPERATIONS.get(str(kind))
    if operation is None:
        return WRAPPER
    counts, beside = objects.counts_of(objects.mapping(raw.attributes.get(_USAGE)), _USAGE)
    told: dict[str, Any] = {
        name: raw.attributes[name] for name in (_MODEL, "user.id", "session.id") if name in raw.attributes
    }
    response_id = raw.attributes.get(_ID)
    if isinstance(response_id, str):
        told[_ID] = response_id.strip('"')
    tier = objects.mapping(raw.attributes.get(_PARAMETERS)).get("service_tier")
    if isinstance(tier, str):
        told["service_tier"] = tier
    scope, rank = raw.scope, RANK_SPAN
    if raw.name.startswith("OpenAI-"):
        # The wrapper of OpenAI's client names its observations so; who is behind it, nothing tells.
        told["provider"] = "openai"
        scope, rank = scope + ".openai", RANK_PARTIAL
    return foreign.record(
        replace(raw, attributes=told, scope=scope),
        operation,
        "/span",
        names=_NAMES,
        rank=rank,
        counts=counts,
        cached_beside=beside,
    )
