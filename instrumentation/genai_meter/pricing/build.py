"""How a rate card is put together: base row, dated prices, context variants, facts, overlay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from genai_meter.pricing import context as contexts
from genai_meter.pricing import names, units
from genai_meter.pricing.book import Constraint, Row, locate
from genai_meter.pricing.card import RateCard, Rates
from genai_meter.pricing.cost import Cost
from genai_meter.pricing.overlay import FOREVER, Entry, Rate, instant
from genai_meter.pricing.windows import DAY, Span, Window, minutes_of_day
from genai_meter.usage import Usage

if TYPE_CHECKING:
    from genai_meter.pricing.engine import Resolver

STALE_AFTER_DAYS: Final = 45
"""A book older than this prices as `estimated`: prices change about weekly."""


class Unpriced:
    """The absence of a card, with its reason; cached and asked like one."""

    __slots__ = ("book_id", "reasons", "valid_from", "valid_until")

    def __init__(self, book_id: str, reasons: tuple[str, ...], valid: tuple[int, int]) -> None:
        self.book_id = book_id
        self.reasons = reasons
        self.valid_from, self.valid_until = valid

    def price(self, usage: Usage) -> Cost:
        """Unpriced: the cost is null, never 0."""
        rules = tuple(f"usage_inferred:{rule}" for rule in usage.inferred)
        return Cost("unpriced", (), None, None, self.book_id, self.reasons + rules)


def build_card(
    resolver: Resolver, provider: str, model: str, at_ns: int, context: Mapping[str, str]
) -> RateCard | Unpriced:
    """The card of a model at an instant in a context, valid until the next change of any part."""
    return _Builder(resolver, provider, model, at_ns, context).build()


class _Builder:
    def __init__(self, resolver: Resolver, provider: str, model: str, at_ns: int, context: Mapping[str, str]) -> None:
        self.resolver = resolver
        self.book = resolver.book
        self.profile, self.asked = names.profile_of(model)
        """The ARN that hides the profile by which Bedrock served the model, if any."""
        self.model = self.asked
        self.at_ns = at_ns
        self.since, self.until = -FOREVER, FOREVER
        self.provider = names.provider_id(provider)
        self.reasons: list[str] = list(resolver.notes)
        if self.provider == "litellm" and "/" in self.asked:
            prefix, _, self.model = self.asked.partition("/")
            self.provider = names.provider_id(prefix)
        if self.provider in names.UNNAMED:
            self.provider = self.book.provider_of(model.lower()) or self.provider
            self.reasons.append("provider_inferred")
        self.provider_name = provider.strip().lower()
        self.context = contexts.read(self.provider_name, self.provider, context)
        self.listed: dict[str, Rate] = {}
        self.row: Row | None = None

    def build(self) -> RateCard | Unpriced:
        self._alias()
        found = locate(self.book, self.provider, self.model)
        if found is not None:
            self.row, reason = found
            self.reasons += [reason] if reason else []
            self._base(self.row)
        entries = self._in_force()
        effective = self._price_entries(entries)
        if not effective:
            return self._unpriced()
        rates = Rates(
            self.listed,
            effective,
            _stacked([e for e in entries if e.kind in ("multiplier", "discount") and e.listed]),
            _stacked([e for e in entries if e.kind in ("multiplier", "discount", "commitment") and not e.listed]),
            _floors(entries),
        )
        self._uncertainties(entries)
        limits = self._catalogue()
        row = self.row
        return RateCard(
            provider=self.provider,
            model=self.asked,
            row=f"{row.provider}/{row.model}" if row else next(iter(effective.values())).entry.partition("#")[0],
            book_id=self.resolver.book_id,
            rates=rates,
            reasons=tuple(dict.fromkeys(self.reasons)),
            valid=(self.since, self.until),
            context_window=row.context_window if row else None,
            max_output_tokens=limits.get("max_output_tokens"),
            deprecated=bool(row and row.deprecated),
        )

    def _unpriced(self) -> Unpriced:
        known = self.provider in self.book.providers
        reason = "no_price" if self.row else "unknown_model" if known else "unknown_provider"
        reasons = (*self.resolver.notes, reason)
        return Unpriced(self.resolver.book_id, reasons, (self.since, self.until))

    # --- time

    def _during(self, span: Span) -> bool:
        """Whether a part holds now; the card is valid no longer than the answer."""
        self.since, self.until = max(self.since, span.start_ns), min(self.until, span.end_ns)
        return span.active

    def _holds(self, constraint: Constraint) -> bool:
        if constraint is None:
            return True
        if isinstance(constraint, str):
            return self._after(instant(constraint))
        start, end = constraint
        return self._during(Window(frozenset(), minutes_of_day(start), minutes_of_day(end), UTC).span(self.at_ns))

    def _after(self, start_ns: int) -> bool:
        after = self.at_ns >= start_ns
        return self._during(Span(after, start_ns, FOREVER) if after else Span(after, -FOREVER, start_ns))

    # --- layers

    def _base(self, row: Row) -> None:
        """The row's prices at this instant, then what the context changes."""
        held = [(c, i) for c, i in row.prices if self._holds(c)]
        constraint, index = held[-1] if held else row.prices[0]
        self.listed.update(self._rates(row, index, _suffix(constraint)))
        if not row.own:
            return
        chosen: dict[str, Rate] = {}
        for when, constraint, index in row.variants:
            if any(self.context.values.get(key) != value for key, value in when.items()):
                continue
            if not self._holds(constraint):
                self.reasons += [f"context_before_first_row:{key}={value}" for key, value in when.items()]
                self.context.settled.update(when)
                continue
            self.context.settled.update(when)
            query = "&".join(f"{key}={value}" for key, value in when.items())
            for unit, rate in self._rates(row, index, f"?{query}{_suffix(constraint)}").items():
                chosen.setdefault(unit, rate)
        self.listed.update(chosen)

    def _rates(self, row: Row, index: int, suffix: str) -> dict[str, Rate]:
        table = self.book.rates[index]
        prefix = f"genai:{row.provider}/{row.model}@"
        return {unit: _rate(unit, price, f"{prefix}{unit}{suffix}") for unit, price in table.items()}

    def _alias(self) -> None:
        """The user's name for a deployment stands for a model and its dimensions."""
        aliases = [e for e in self.resolver.entries if e.kind == "alias" and e.matches(self._facts())]
        active = [e for e in aliases if self._during(e.span(self.at_ns))]
        if active:
            self.profile = None
            alias = max(active, key=lambda e: e.rank)
            self.model = alias.model or self.model
            self.context.values.update(alias.set)

    def _in_force(self) -> list[Entry]:
        """Matching entries in force now, the lowest rank first."""
        facts = self._facts()
        matching = [e for e in self.resolver.entries if e.kind != "alias" and e.matches(facts)]
        active = [e for e in matching if self._during(e.span(self.at_ns))]
        for entry in active:
            self.context.settled.update(key for key in entry.patterns if key in contexts.STANDARD or key == "region")
        return sorted(active, key=lambda e: e.rank)

    def _facts(self) -> dict[str, tuple[str, ...]]:
        """What entries may match: every name the provider and the model go by, and the context."""
        models = [self.asked.lower(), self.model.lower()]
        models += [c.name for c in names.model_candidates(self.provider, self.model)]
        if self.row:
            models.append(self.row.model.lower())
        values = self.context.values
        # On Azure and Bedrock the model that is asked for may be the user's own name of a deployment.
        deployments = (values["deployment"],) if "deployment" in values else (self.profile or self.asked,)
        return {
            **{key: (value,) for key, value in values.items()},
            "deployment": deployments if self.provider in ("azure", "aws") else deployments[: "deployment" in values],
            "provider": (self.provider, self.provider_name),
            "model": tuple(dict.fromkeys(models)),
        }

    def _price_entries(self, entries: Iterable[Entry]) -> dict[str, Rate]:
        """Lay price entries over the base; returns the effective rates."""
        prices = [entry for entry in entries if entry.kind == "price"]
        for entry in prices:
            if entry.listed:
                self.listed.update(entry.rates)
        effective = dict(self.listed)
        for entry in prices:
            if not entry.listed:
                effective.update(entry.rates)
        for unit, rate in effective.items():
            # A price of one's own where nobody lists one (a self-hosted model) is the list price too.
            if not any(fallback in self.listed for fallback in units.FALLBACKS[unit]):
                self.listed[unit] = rate
        return effective

    # --- certainty

    def _uncertainties(self, entries: Iterable[Entry]) -> None:
        self.reasons += self.context.reasons
        self.reasons += self.context.unsettled()
        self.reasons += [f"free_allowance:{e.id}" for e in entries if e.kind == "free_allowance"]
        values = self.context.values
        if self.provider == "azure" and "sku" not in values and self.row:
            # The book has Azure's global deployments only.
            self.reasons.append("sku_unknown")
        if self.profile and self.row and not any("deployment" in entry.patterns for entry in entries):
            # Global and regional profiles have prices of their own; the answer names the model alone.
            self.reasons.append("geo_unknown")
        if self.provider == "aws" and self.row and self._abroad(self.row):
            self.reasons.append("geo_unknown")
        regional = values.get("region", "global") not in ("", "global")
        if regional and self.provider_name.endswith("vertex_ai") and "region" not in self.context.settled:
            self.reasons.append("geo_unknown")
        self._date_uncertainties()

    def _abroad(self, row: Row) -> bool:
        """True where Bedrock has a price of the region, and the book only that of the United States."""
        region = self.context.values.get("region", "")
        at_home = not region or (region.startswith("us-") and not region.startswith("us-gov-"))
        return not (at_home or "region" in self.context.settled or row.model.startswith(("global.", "regional.")))

    def _date_uncertainties(self) -> None:
        known_from = [self.book.history_from]
        snapshot = names.snapshot_date(self.asked)
        if snapshot is not None:
            known_from.append(snapshot)
        for date in known_from if self.row else ():
            try:
                start = instant(date)
            except ValueError:
                continue
            if not self._after(start):
                self.reasons.append("date_before_first_row")
        fresh_until = instant(self.book.data_date) + STALE_AFTER_DAYS * DAY
        if self.row and self._after(fresh_until):
            self.reasons.append("stale_book")

    def _catalogue(self) -> dict[str, Any]:
        row = self.row
        return self.book.catalogue.get(f"{row.provider}/{row.model}", {}) if row else {}


def _suffix(constraint: Constraint) -> str:
    if constraint is None:
        return ""
    return f"#{constraint}" if isinstance(constraint, str) else f"#{'-'.join(constraint)}Z"


def _rate(unit: str, price: Any, entry: str) -> Rate:
    if isinstance(price, str):
        return Rate(((-1, Fraction(price)),), units.PER[unit], entry)
    base, *tiers = price
    steps = ((-1, Fraction(base)), *((int(above), Fraction(step)) for above, step in tiers))
    return Rate(steps, units.PER[unit], entry)


def _stacked(entries: list[Entry]) -> list[Entry]:
    """Factors in their order; for the same context a higher layer replaces a lower one."""
    top: dict[tuple[object, ...], int] = {}
    for entry in entries:
        top[entry.slot] = max(top.get(entry.slot, 0), entry.layer)
    return [entry for entry in entries if entry.layer == top[entry.slot]]


def _floors(entries: Iterable[Entry]) -> dict[str, tuple[Fraction, str]]:
    floors: dict[str, tuple[Fraction, str]] = {}
    for entry in entries:
        floors.update({bucket: (floor, entry.label) for bucket, floor in entry.floors.items()})
    return floors
