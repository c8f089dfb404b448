"""Meter every LLM call of an application: usage, price, owner. One call, one event, one price, one owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genai_meter.api import outcome, record_cost
    from genai_meter.attribution import attribute
    from genai_meter.attribution import current as current_attribution
    from genai_meter.caches import cache_hit
    from genai_meter.guard import Blocked
    from genai_meter.leaving import flush
    from genai_meter.runs import Spend, current_conversation, current_run

__version__ = "0.1.0"

__all__ = [
    "Blocked",
    "Spend",
    "__version__",
    "attribute",
    "cache_hit",
    "current_attribution",
    "current_conversation",
    "current_run",
    "flush",
    "outcome",
    "record_cost",
]

_HOMES = {
    "Blocked": ("genai_meter.guard", "Blocked"),
    "Spend": ("genai_meter.runs", "Spend"),
    "attribute": ("genai_meter.attribution", "attribute"),
    "cache_hit": ("genai_meter.caches", "cache_hit"),
    "current_conversation": ("genai_meter.runs", "current_conversation"),
    "current_run": ("genai_meter.runs", "current_run"),
    "flush": ("genai_meter.leaving", "flush"),
    "outcome": ("genai_meter.api", "outcome"),
    "current_attribution": ("genai_meter.attribution", "current"),
    "record_cost": ("genai_meter.api", "record_cost"),
}


def __getattr__(name: str) -> Any:
    """Public names are imported on first use: what is not used costs no start-up."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home[0]), home[1])
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
