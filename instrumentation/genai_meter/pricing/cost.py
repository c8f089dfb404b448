"""What a call cost, line by line, with the source of every price."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from genai_meter.usage import Quantity

if TYPE_CHECKING:
    from genai_meter.pricing.card import RateCard

CostStatus: TypeAlias = Literal["exact", "estimated", "partial", "unpriced", "free"]
"""exact: every bucket by a dated rate. estimated: a reason makes it uncertain. partial: some buckets
have no price. unpriced: no price at all, the cost is null and never 0. free: the price is 0 by a source."""

PICO: Final = 10**12


def usd(pico: int) -> Decimal:
    """Pico-USD as exact decimal USD, twelve places."""
    # Built from digits, so that the caller's decimal context cannot round it.
    return Decimal((pico < 0, tuple(map(int, str(abs(pico)))), -12))


class Line(NamedTuple):
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


class Cost:
    """Cost of one call; not to be changed once made.

    `list_pico`: pico-USD at list price; None when unpriced. `effective_pico`: after discounts; None
    when unpriced. `reasons`: why the status is not `exact`: `unknown_model`, `unpriced_bucket:<bucket>`,
    `usage_inferred` … (docs/pricing.md has them all).
    """

    __slots__ = ("_lines", "book_id", "effective_pico", "list_pico", "reasons", "status")

    def __init__(
        self,
        status: CostStatus,
        lines: tuple[Line, ...] = (),
        list_pico: int | None = None,
        effective_pico: int | None = None,
        book_id: str = "",
        reasons: tuple[str, ...] = (),
    ) -> None:
        self.status: CostStatus = status
        self._lines = lines
        self.list_pico = list_pico
        self.effective_pico = effective_pico
        self.book_id = book_id
        self.reasons = reasons

    @property
    def lines(self) -> tuple[Line, ...]:
        """One line a bucket and model."""
        return self._lines

    def _values(self) -> tuple[Any, ...]:
        return (self.status, self.lines, self.list_pico, self.effective_pico, self.book_id, self.reasons)

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, Cost) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        names = ("status", "lines", "list_pico", "effective_pico", "book_id", "reasons")
        return f"Cost({', '.join(f'{n}={v!r}' for n, v in zip(names, self._values(), strict=True))})"


class Unread(Cost):
    """A cost whose lines nobody has asked for yet. Made without arguments and filled in: twice as fast as a call."""

    __slots__ = ("buckets", "card")

    card: RateCard
    buckets: dict[str, Quantity]
    """What the card priced."""

    if TYPE_CHECKING:

        def __init__(self) -> None: ...

    else:
        __init__ = object.__init__

    @property
    def lines(self) -> tuple[Line, ...]:
        """One line a bucket and model, made when they are read."""
        return self.card.lines(tuple(self.buckets.items()))


_WORST_FIRST: Final[tuple[CostStatus, ...]] = ("partial", "estimated", "exact", "free")


def add_costs(costs: Iterable[Cost]) -> Cost:
    """Cost of several models in one call: lines joined, the worst status wins.

    A part without a price beside parts with one makes the whole `partial`.
    """
    parts = list(costs)
    if len(parts) == 1:
        return parts[0]
    lines = tuple(line for part in parts for line in part.lines)
    reasons = tuple(dict.fromkeys(reason for part in parts for reason in part.reasons))
    book_id = next((part.book_id for part in parts if part.book_id), "")
    priced = [part for part in parts if part.status != "unpriced"]
    if not priced:
        return Cost("unpriced", lines, None, None, book_id, reasons)
    statuses = {part.status for part in priced}
    status: CostStatus = "partial" if len(priced) < len(parts) else next(s for s in _WORST_FIRST if s in statuses)
    listed = sum(part.list_pico or 0 for part in priced)
    effective = sum(part.effective_pico or 0 for part in priced)
    return Cost(status, lines, listed, effective, book_id, reasons)
