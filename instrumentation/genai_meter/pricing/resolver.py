"""From (provider, model, instant, context) to a rate card, and from a rate card to a cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from genai_meter.pricing.cost import Cost
from genai_meter.usage import Usage


class RateCard:
    """Rates of one model in one context for one span of time."""

    provider: str
    model: str
    book_id: str
    context_window: int | None
    max_output_tokens: int | None

    def price(self, usage: Usage) -> Cost:
        """Cost of the usage of one model."""
        raise NotImplementedError


def rate_card(provider: str, model: str, at_ns: int, context: Mapping[str, str]) -> RateCard | None:
    """The card in force at `at_ns` (Unix nanoseconds, UTC); None when the model has no price."""
    raise NotImplementedError


def price(provider: str, model: str, usages: Sequence[Usage], at_ns: int, context: Mapping[str, str]) -> Cost:
    """Cost of a call: each usage by the card of its own model (the call's model when it names none)."""
    raise NotImplementedError
