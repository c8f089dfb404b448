"""Price dimensions of one call: what producers say, in the book's words, and what it leaves uncertain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from genai_meter.pricing.overlay import GLOB_KEYS, SYNONYMS

STANDARD: Final[dict[str, frozenset[str]]] = {
    "service_tier": frozenset({"", "default", "standard", "auto", "standard_only", "on_demand", "ON_DEMAND"}),
    "processing": frozenset({"", "sync", "online", "realtime"}),
    "speed": frozenset({"", "standard", "normal"}),
    "geo": frozenset({"", "global", "not_available"}),
    "search_type": frozenset({""}),
    "route": frozenset({""}),
    "sku": frozenset({"", "Global", "GlobalStandard", "Standard"}),
}
"""Price dimension → values that mean the provider's standard price."""

INFORMATIVE: Final = (frozenset(GLOB_KEYS) - frozenset(STANDARD)) | {"overlay", "requested_service_tier"}
"""Context that has no price of its own: only an overlay entry or a fact makes something of it."""

_TRAFFIC_TYPES: Final = {
    "ON_DEMAND_FLEX": ("service_tier", "flex"),
    "ON_DEMAND_PRIORITY": ("service_tier", "priority"),
    "FLEX": ("service_tier", "flex"),
    "PRIORITY": ("service_tier", "priority"),
    "BATCH": ("processing", "batch"),
}
"""Vertex AI's `trafficType`, where it comes as the service tier."""


@dataclass(slots=True)
class Context:
    """The dimensions of a call, and which of them have found a price."""

    values: dict[str, str]
    provider_name: str
    """As the producer spells it."""
    reasons: list[str] = field(default_factory=list[str])
    settled: set[str] = field(default_factory=set[str])
    """Dimensions that some rate or entry was chosen by."""

    def unsettled(self) -> list[str]:
        """A reason for each dimension that is not standard and that nothing was chosen by."""
        reasons: list[str] = []
        for key, value in self.values.items():
            if key in self.settled or key in INFORMATIVE:
                continue
            if key not in STANDARD:
                reasons.append(f"context_unmatched:{key[:40]}")
            elif value not in STANDARD[key]:
                reasons.append("geo_unknown" if key == "geo" else f"context_unmatched:{key}={value[:40]}")
        return reasons


def read(provider_name: str, provider: str, given: Mapping[str, str]) -> Context:
    """The context of a call in the book's words; served values win over requested ones."""
    values = {SYNONYMS.get(key, key): str(value) for key, value in given.items() if value is not None}  # pyright: ignore[reportUnnecessaryComparison]
    context = Context(values, provider_name)
    requested = values.get("requested_service_tier", "")
    if "service_tier" not in values and requested not in STANDARD["service_tier"]:
        values["service_tier"] = requested
        context.reasons.append("tier_unknown")
    tier = values.get("service_tier", "")
    if provider == "anthropic" and tier == "batch":
        # Anthropic reports its batch API as a service tier.
        values.pop("service_tier")
        values.setdefault("processing", "batch")
    elif provider == "google" and tier in _TRAFFIC_TYPES:
        values.pop("service_tier")
        key, value = _TRAFFIC_TYPES[tier]
        values.setdefault(key, value)
    return context
