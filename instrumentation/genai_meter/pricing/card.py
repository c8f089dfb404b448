"""A rate card: the rates of one model in one context for one span of time, ready to multiply."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from genai_meter.pricing import units
from genai_meter.pricing.cost import PICO, Cost, CostStatus, Line, Unread
from genai_meter.usage import Quantity, Usage

if TYPE_CHECKING:
    from genai_meter.pricing.overlay import Entry, Rate

Buckets: TypeAlias = tuple[tuple[str, Quantity], ...]


class BucketRate(NamedTuple):
    """What one unit of a bucket costs."""

    listed: Fraction
    """Pico-USD at list price."""
    effective: Fraction
    """Pico-USD after discounts."""
    text: str
    """List price of `per` units, decimal USD."""
    per: int
    entries: tuple[str, ...]
    assumed: bool
    """The rate of a less specific unit where the modality usually has its own."""
    floor: Fraction
    """Least billed quantity of a call that has any."""


@dataclass(frozen=True, slots=True)
class Rates:
    """All that decides the price of a bucket, before it is worked out for one size of input."""

    listed: Mapping[str, Rate]
    effective: Mapping[str, Rate]
    list_factors: Sequence[Entry] = ()
    effective_factors: Sequence[Entry] = ()
    floors: Mapping[str, tuple[Fraction, str]] = field(default_factory=dict[str, tuple[Fraction, str]])
    """Bucket → (least billed quantity, entry)."""

    def thresholds(self) -> list[int]:
        """Sizes of input above which some rate changes."""
        rates = (*self.listed.values(), *self.effective.values())
        return sorted({step for rate in rates for step, _ in rate.steps[1:]})

    def table(self, input_tokens: int) -> dict[str, BucketRate]:
        """Bucket → rate when the whole input has this size; a bucket without a price is not in it."""
        made: dict[tuple[object, ...], BucketRate] = {}
        table: dict[str, BucketRate] = {}
        for bucket, fallbacks in units.FALLBACKS.items():
            listed = next((unit for unit in fallbacks if unit in self.listed), None)
            effective = next((unit for unit in fallbacks if unit in self.effective), None)
            if listed is None or effective is None:
                continue
            raised = tuple(entry for entry in self.list_factors if bucket in entry.units)
            lowered = tuple(entry for entry in self.effective_factors if bucket in entry.units)
            assumed = bucket in units.MODALITY_SENSITIVE and not units.has_modality(listed)
            key = (listed, effective, assumed, self.floors.get(bucket), *map(id, raised), None, *map(id, lowered))
            if key not in made:
                rates = (self.listed[listed], self.effective[effective])
                made[key] = _bucket_rate(rates, (raised, lowered), self.floors.get(bucket), assumed, input_tokens)
            table[bucket] = made[key]
        return table


def _bucket_rate(
    rates: tuple[Rate, Rate],
    factors: tuple[Sequence[Entry], Sequence[Entry]],
    floor: tuple[Fraction, str] | None,
    assumed: bool,
    input_tokens: int,
) -> BucketRate:
    (listed, effective), (raised, lowered) = rates, factors
    surcharge = _product(raised)
    list_price = listed.at(input_tokens) * surcharge
    # What a provider adds to its list price it adds to a negotiated one as well.
    price = effective.at(input_tokens) * surcharge * _product(lowered)
    own = () if effective is listed else (effective.step_id(input_tokens),)
    labels = (*(e.label for e in raised), *own, *(e.label for e in lowered), *((floor[1],) if floor else ()))
    return BucketRate(
        listed=list_price * PICO / listed.per,
        effective=price * PICO / effective.per,
        text=units.decimal_text(list_price),
        per=listed.per,
        entries=(listed.step_id(input_tokens), *labels),
        assumed=assumed,
        floor=floor[0] if floor else Fraction(0),
    )


def _product(factors: Sequence[Entry]) -> Fraction:
    product = Fraction(1)
    for entry in factors:
        product *= 0 if entry.kind == "commitment" else entry.multiplier
    return product


class _Table(NamedTuple):
    """The rates for one size of input."""

    above: int
    rates: dict[str, BucketRate]
    listed: dict[str, int]
    """Buckets that a plain integer multiplication prices exactly."""
    effective: dict[str, int] | None
    """None when equal to `listed`."""


class RateCard:
    """Rates of one model in one context for one span of time."""

    __slots__ = (
        "_fees",
        "_status",
        "_tables",
        "book_id",
        "context_window",
        "deprecated",
        "max_output_tokens",
        "model",
        "plain",
        "price",
        "provider",
        "reasons",
        "row",
        "valid_from",
        "valid_until",
    )

    def __init__(
        self,
        *,
        provider: str,
        model: str,
        row: str,
        book_id: str,
        rates: Rates,
        reasons: tuple[str, ...],
        valid: tuple[int, int],
        context_window: int | None = None,
        max_output_tokens: int | None = None,
        deprecated: bool = False,
    ) -> None:
        self.provider = provider
        self.model = model
        """As it was asked for."""
        self.row = row
        """`provider/model` of the book, or the overlay entry, that gave the base rates."""
        self.book_id = book_id
        self.context_window = context_window
        self.max_output_tokens = max_output_tokens
        self.deprecated = deprecated
        self.reasons = reasons
        """Why a price by this card is `estimated`; empty when it is exact."""
        self.valid_from, self.valid_until = valid
        """Unix ns; the end is exclusive."""
        self._status: CostStatus = "estimated" if reasons else "exact"
        self._tables: tuple[_Table, ...] = tuple(_table(rates, above) for above in (-1, *rates.thresholds()))
        self._fees = (("request", 1),) if "request" in self._tables[0].rates else ()
        table = self._tables[0]
        self.plain = None if len(self._tables) > 1 or self._fees or table.effective is not None else table.listed
        """Bucket → pico-USD a unit, when that is all there is to a price: one tier, no discount and no fee."""
        self.price = self._pricer()
        """The cost of the usage of one model; that usage must not change afterwards."""

    def _pricer(self) -> Callable[[Usage], Cost]:
        """The price of a usage by this card.

        Nearly every card is plain. Its prices are made by a closure: a method would look up in the card, call by call,
        what never changes.
        """
        rates, status, book_id, reasons, otherwise = self.plain, self._status, self.book_id, self.reasons, self._price
        if rates is None:
            return otherwise

        def price(usage: Usage) -> Cost:
            buckets, total = usage.buckets, 0
            try:
                for bucket, quantity in buckets.items():
                    total += quantity * rates[bucket]
            except (KeyError, ArithmeticError):
                return otherwise(usage)
            if type(total) is not int or not total or usage.inferred:
                return otherwise(usage)
            cost = Unread()
            cost.status = status
            cost.list_pico = total
            cost.effective_pico = total
            cost.book_id = book_id
            cost.reasons = reasons
            cost.card = self
            cost.buckets = buckets
            return cost

        return price

    def _price(self, usage: Usage) -> Cost:
        items = tuple(usage.buckets.items())
        table = self._table(items)
        rates, lowered = table.listed, table.effective
        total: Quantity = 0
        try:
            for bucket, quantity in items:
                total += quantity * rates[bucket]
            effective = total
            if lowered is not None:
                effective = 0
                for bucket, quantity in items:
                    effective += quantity * lowered[bucket]
        except (KeyError, ArithmeticError):
            return self._exactly(items, usage.inferred)
        if self._fees or usage.inferred or not total or type(total) is not int or type(effective) is not int:
            return self._exactly(items, usage.inferred)
        cost = Unread()
        cost.status, cost.book_id, cost.reasons = self._status, self.book_id, self.reasons
        cost.list_pico, cost.effective_pico = total, effective
        cost.card, cost.buckets = self, usage.buckets
        return cost

    def lines(self, buckets: Buckets) -> tuple[Line, ...]:
        """One line for each bucket that has a price, rounded half-even once."""
        table = self._table(buckets)
        rates, listed = table.rates, table.listed
        effective = listed if table.effective is None else table.effective
        lines: list[Line] = []
        for bucket, quantity in (*buckets, *self._fees):
            rate = rates.get(bucket)
            if rate is None or not quantity:
                continue
            if type(quantity) is int and quantity > 0 and bucket in listed:
                amounts = quantity * listed[bucket], quantity * effective[bucket]
                lines.append(Line(self.model, bucket, quantity, rate.text, rate.per, *amounts, rate.entries))
                continue
            billed = max(Fraction(quantity), rate.floor)
            lines.append(
                Line(
                    model=self.model,
                    bucket=bucket,
                    quantity=quantity if billed == quantity else _quantity(billed),
                    rate=rate.text,
                    per=rate.per,
                    list_pico=round(billed * rate.listed),
                    effective_pico=round(billed * rate.effective),
                    entries=rate.entries,
                )
            )
        return tuple(lines)

    def rates(self) -> list[tuple[int, dict[str, BucketRate]]]:
        """(above this many input tokens, bucket → rate), the base first; for people to read."""
        return [(max(table.above, 0), dict(table.rates)) for table in self._tables]

    def _table(self, buckets: Buckets) -> _Table:
        table = self._tables[0]
        if len(self._tables) > 1:
            inputs = units.INPUT
            total = sum(int(quantity) for bucket, quantity in buckets if bucket in inputs)
            for candidate in self._tables[1:]:
                if total > candidate.above:
                    table = candidate
        return table

    def _exactly(self, buckets: Buckets, inferred: tuple[str, ...]) -> Cost:
        """The long way: fractions, fees, floors, buckets without a price."""
        rates = self._table(buckets).rates
        lines = self.lines(buckets)
        reasons = list(self.reasons)
        reasons += [f"usage_inferred:{rule}" for rule in inferred]
        unpriced = [bucket for bucket, quantity in buckets if quantity and bucket not in rates]
        reasons += [f"unpriced_bucket:{bucket}" for bucket in unpriced]
        reasons += [f"rate_assumed:{line.bucket}" for line in lines if rates[line.bucket].assumed]
        reasons += ["negative_quantity" for _, quantity in buckets if quantity < 0][:1]
        if unpriced and not lines:
            return Cost("unpriced", (), None, None, self.book_id, tuple(reasons))
        status: CostStatus = "partial" if unpriced else "estimated" if reasons else "exact"
        if status == "exact" and self._costs_nothing(lines):
            status = "free"
        listed = sum(line.list_pico for line in lines)
        effective = sum(line.effective_pico for line in lines)
        return Cost(status, lines, listed, effective, self.book_id, tuple(reasons))

    def free(self) -> bool:
        """Whether everything this card prices costs nothing at list price."""
        return all(not rate.listed for table in self._tables for rate in table.rates.values())

    def _costs_nothing(self, lines: Sequence[Line]) -> bool:
        return all(line.rate == "0" for line in lines) if lines else self.free()


def _table(rates: Rates, above: int) -> _Table:
    priced = rates.table(above + 1)
    plain = {
        bucket: rate
        for bucket, rate in priced.items()
        if not rate.assumed and not rate.floor and rate.listed.denominator == 1 and rate.effective.denominator == 1
    }
    listed = {bucket: int(rate.listed) for bucket, rate in plain.items()}
    effective = {bucket: int(rate.effective) for bucket, rate in plain.items()}
    return _Table(above, priced, listed, None if effective == listed else effective)


def _quantity(value: Fraction) -> Quantity:
    return int(value) if value.denominator == 1 else Decimal(units.decimal_text(value))
