"""The roll-up's grain: a call's cell (15 minutes × who × what) and what the call adds to it."""

from __future__ import annotations

from collections.abc import Mapping
from operator import add as plus
from typing import Any, Final, TypeAlias

GRAIN_SECONDS: Final = 900
"""Quarters of an hour in UTC: every time zone's day is a sum of them."""

GRAIN_NS: Final = GRAIN_SECONDS * 1_000_000_000

DIMENSIONS: Final = (
    "tenant",
    "team",
    "project",
    "feature",
    "workflow",
    "environment",
    "service",
    "provider",
    "account",
    "model",
    "operation",
    "tier",
    "status",
)

COUNTS: Final = (
    "calls",
    "retries",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "unpriced_calls",
    "unknown_usage_calls",
)
MONEY: Final = ("list_cost", "cost")
MEASURES: Final = COUNTS + MONEY

Cell: TypeAlias = tuple[int, tuple[str, ...]]
"""Start of the quarter (Unix seconds) and the dimensions; a dimension that is unknown is the empty text."""

Measures: TypeAlias = tuple[int, ...]
"""In the order of `MEASURES`; money in pico-USD."""

_MODEL: Final = DIMENSIONS.index("model")
COST: Final = MEASURES.index("cost")


def cell(values: Mapping[str, Any]) -> Cell:
    """The cell of one call, from its ledger columns."""
    get = values.get
    return values["start"] // GRAIN_NS * GRAIN_SECONDS, (
        get("tenant") or "",
        get("team") or "",
        get("project") or "",
        get("feature") or "",
        get("workflow") or "",
        get("environment") or "",
        get("service") or "",
        get("provider") or "",
        get("account") or "",
        get("model") or get("request_model") or "",
        get("operation") or "",
        get("tier") or "",
        get("status") or "",
    )


def measures(values: Mapping[str, Any]) -> Measures:
    """What one call adds to its cell."""
    get = values.get
    input_tokens = get("input_tokens")
    unpriced = get("cost_status") == "unpriced"
    unknown = unpriced and input_tokens is None and get("output_tokens") is None
    return (
        1,
        max((get("attempt_count") or 1) - 1, 0),
        input_tokens or 0,
        get("output_tokens") or 0,
        get("cache_read_tokens") or 0,
        get("cache_write_tokens") or 0,
        get("reasoning_tokens") or 0,
        1 if unpriced and not unknown else 0,
        1 if unknown else 0,
        get("list_cost") or 0,
        get("cost") or 0,
    )


def add(total: dict[Cell, Measures], where: Cell, what: Measures) -> None:
    """Add to a cell."""
    before = total.get(where)
    total[where] = what if before is None else tuple(map(plus, before, what))


def negative(what: Measures) -> Measures:
    """What takes `what` away again."""
    return tuple(-amount for amount in what)
