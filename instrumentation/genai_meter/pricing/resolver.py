"""From (provider, model, instant, context) to a rate card, and from a rate card to a cost.

Importing this costs next to nothing: the book and what reads it are loaded at the first price.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from genai_meter.pricing.card import RateCard
from genai_meter.pricing.cost import Cost
from genai_meter.usage import Usage

if TYPE_CHECKING:
    from genai_meter.pricing.engine import Resolver

BOOK_VARIABLE: Final = "GENAI_METER_PRICE_BOOK"
"""A newer book than the one in the wheel (written by `genai-meter prices update`)."""
OVERLAY_VARIABLE: Final = "GENAI_METER_PRICE_OVERLAY"
"""A compiled overlay (written by `genai-meter prices compile`)."""

_current: Resolver | None = None


def resolver() -> Resolver:
    """The process's resolver, made at the first price: the shipped book unless the environment names another."""
    global _current
    if _current is None:
        from genai_meter.pricing.engine import open_resolver

        _current = open_resolver(os.environ.get(BOOK_VARIABLE), os.environ.get(OVERLAY_VARIABLE))
    return _current


def use(chosen: Resolver | None) -> None:
    """Price by another resolver from now on; None reads the environment again."""
    global _current
    _current = chosen


def rate_card(provider: str, model: str, at_ns: int, context: Mapping[str, str]) -> RateCard | None:
    """The card in force at `at_ns` (Unix nanoseconds, UTC); None when the model has no price."""
    card = resolver().card(provider, model, at_ns, context)
    return card if isinstance(card, RateCard) else None


def price(provider: str, model: str, usages: Sequence[Usage], at_ns: int, context: Mapping[str, str]) -> Cost:
    """Cost of a call: each usage by the card of its own model (the call's model when it names none)."""
    current = _current or resolver()
    try:
        (usage,) = usages
    except ValueError:
        return current.price(provider, model, usages, at_ns, context)
    # The common case, without a further call: the card last used for this model, in force, in this context.
    last = current.last.get((provider, usage.model or model))
    if last is not None:
        told, since, until, price_of = last
        if told == context and since <= at_ns < until:
            return price_of(usage)
    return current.price(provider, model, usages, at_ns, context)


def billed_model(provider: str, asked: str | None, served: str | None) -> str:
    """The name that decides the price: what was served, where the asked name does not say it more precisely.

    On Bedrock the price hangs on the inference profile (`global.anthropic.claude-…`), and the answer
    names the bare model (`claude-…`).
    """
    if asked and served and asked != served and (served in asked or asked.startswith("arn:")):
        from genai_meter.pricing.names import behind, provider_id

        if provider_id(provider) == "aws":
            return asked if served in asked else behind(asked, served)
    return served or asked or ""
