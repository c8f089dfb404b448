"""The resolver: one book, one overlay, and the cards made from them so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from genai_meter.pricing.book import Book, BookError, read_book
from genai_meter.pricing.build import Unpriced, build_card
from genai_meter.pricing.card import RateCard
from genai_meter.pricing.cost import Cost, add_costs
from genai_meter.pricing.overlay import Entry, Overlay, OverlayError, read_entries, read_overlay
from genai_meter.safety import internal_errors, logger
from genai_meter.usage import Usage

MAX_CARDS: Final = 2048
"""Cards kept; models and contexts come from outside, so the cache is emptied when it is full."""

OVERLAY_ONLY: Final = frozenset({"deployment", "account", "project", "api_key"})
"""Dimensions that only entries look at. A program may have thousands of accounts and keys."""

_Last: TypeAlias = tuple[Mapping[str, str], int, int, Callable[[Usage], Cost]]
"""Context, valid from, valid until, the price of a usage."""
_Key: TypeAlias = tuple[str, str, tuple[tuple[str, str], ...]]


class Resolver:
    """Prices by one book and one overlay. Safe to share between threads."""

    def __init__(
        self, book: Book, overlay: Overlay | None = None, *, facts: bool = True, notes: tuple[str, ...] = ()
    ) -> None:
        self.book = book
        self.overlay = overlay
        self.notes = notes
        """Reasons that make every price of this resolver `estimated`: an overlay that could not be read."""
        entries: tuple[Entry, ...] = read_entries(book.facts, 0) if facts else ()
        self.entries = entries + (overlay.entries if overlay else ())
        self.unused = OVERLAY_ONLY.difference(*(entry.patterns for entry in self.entries))
        """Dimensions that no entry looks at: they choose no card."""
        self.book_id = book.book_id + (f"+ov:{overlay.sha256[:8]}" if overlay else "")
        self.cards: dict[_Key, RateCard | Unpriced] = {}
        """(provider, model, context) → the card last in force; bounded by `MAX_CARDS`."""
        self.last: dict[tuple[str, str], _Last] = {}
        """(provider, model) → the card last used, whatever its context: found without hashing the context."""

    def card(self, provider: str, model: str, at_ns: int, context: Mapping[str, str]) -> RateCard | Unpriced:
        """The card in force at an instant, or why there is none."""
        telling = context
        if not self.unused.isdisjoint(context):
            telling = {name: value for name, value in context.items() if name not in self.unused}
        key = (provider, model, tuple(telling.items()) if telling else ())
        card = self.cards.get(key)
        if card is None or not card.valid_from <= at_ns < card.valid_until:
            card = build_card(self, provider, model, at_ns, telling)
            if len(self.cards) >= MAX_CARDS:
                self.cards.clear()
                self.last.clear()
            self.cards[key] = card
        self.last[provider, model] = (dict(context), card.valid_from, card.valid_until, card.price)
        return card

    def price(self, provider: str, model: str, usages: Sequence[Usage], at_ns: int, context: Mapping[str, str]) -> Cost:
        """Cost of a call: each usage by the card of its own model."""
        if len(usages) == 1:
            usage = usages[0]
            return self.card(provider, usage.model or model, at_ns, context).price(usage)
        if usages:
            return add_costs(self.card(provider, usage.model or model, at_ns, context).price(usage) for usage in usages)
        card = self.card(provider, model, at_ns, context)
        if isinstance(card, RateCard) and card.free():
            return Cost("free", (), 0, 0, self.book_id)
        reasons = card.reasons if isinstance(card, Unpriced) else ()
        return Cost("unpriced", (), None, None, self.book_id, (*reasons, "no_usage"))


def open_resolver(book_path: str | None = None, overlay_path: str | None = None) -> Resolver:
    """A resolver by these files; one that cannot be used is logged once, noted on every price, and left out."""
    notes: list[str] = []
    book: Book | None = None
    overlay: Overlay | None = None
    if book_path:
        try:
            book = read_book(Path(book_path))
        except BookError as error:
            _left_out("book", error)
            notes.append("book_unreadable")
    if overlay_path:
        try:
            overlay = read_overlay(Path(overlay_path))
        except OverlayError as error:
            _left_out("overlay", error)
            notes.append("overlay_unreadable")
    return Resolver(book or read_book(), overlay, notes=tuple(notes))


def _left_out(what: str, error: Exception) -> None:
    """Count it, and say why: the file is the operator's own, and nothing of a call is in it."""
    place = f"pricing.{what}"
    internal_errors[place] += 1
    if internal_errors[place] == 1:
        logger.warning("genai_meter: the price %s is left out, costs are estimated: %s (logged once)", what, error)
