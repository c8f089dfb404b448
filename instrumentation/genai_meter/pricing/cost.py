"""What a call cost, line by line, with the source of every price."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, TypeAlias

from genai_meter.usage import Quantity

CostStatus: TypeAlias = Literal["exact", "estimated", "partial", "unpriced", "free"]
"""exact: every bucket by a dated rate. estimated: a reason makes it uncertain. partial: some buckets
have no price. unpriced: no price at all, the cost is null and never 0. free: the price is 0 by a source."""

PICO: Final = 10**12


def usd(pico: int) -> Decimal:
    """Pico-USD as exact decimal USD, twelve places."""
    return Decimal(pico).scaleb(-12)


@dataclass(frozen=True, slots=True)
class Line:
    """One bucket of one model times one rate."""

    model: str
    bucket: str
    quantity: Quantity
    rate: str
    """USD per `per` units at list price, as decimal text."""
    per: int
    list_pico: int
    """Pico-USD, rounded half-even once."""
    effective_pico: int
    """Pico-USD after multipliers and discounts, rounded half-even once."""
    entries: tuple[str, ...]
    """Ids of the book entries applied: the rate first, then multipliers in their order."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one call."""

    status: CostStatus
    lines: tuple[Line, ...] = ()
    list_pico: int | None = None
    """Pico-USD at list price; None when unpriced."""
    effective_pico: int | None = None
    """Pico-USD after discounts; None when unpriced."""
    book_id: str = ""
    reasons: tuple[str, ...] = ()
    """Why the status is not `exact`: `unknown_model`, `unpriced_bucket:<bucket>`, `tier_unknown` …"""


def add_costs(costs: Iterable[Cost]) -> Cost:
    """Cost of several models in one call: lines joined, the worst status wins."""
    raise NotImplementedError(costs)
