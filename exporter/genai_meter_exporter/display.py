"""Names and amounts as they are shown: names come from producers and are only ever text."""

from __future__ import annotations

import sys
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final

from genai_meter.pricing.cost import usd

if TYPE_CHECKING:
    from rich.console import Console

_ANY_SIZE: Final = Context(prec=60)
"""Rounds no sum of money, whatever the context of the program."""


def printable(text: str) -> str:
    """On one line, and nothing in it that a terminal would obey: `\\x1b[2J` is shown as it is written here."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def dollars(pico: int) -> str:
    """Pico-USD to the cent, half even; what is less than half a cent is still not nothing."""
    cents = usd(pico).quantize(Decimal("0.01"), context=_ANY_SIZE)
    if pico and not cents:
        return "<$0.01"
    return f"${cents:,}"


def amount(unit: str, quantity: int) -> str:
    """An amount of a budget (USD: pico-USD) for people."""
    return dollars(quantity) if unit == "usd" else f"{quantity:,} {unit}"


def exact(unit: str, quantity: int) -> str:
    """An amount of a budget (USD: pico-USD) for programs: decimal text, USD with twelve places."""
    return f"{usd(quantity):f}" if unit == "usd" else str(quantity)


def console(width: int = 160) -> Console:
    """Standard output; as wide as the terminal, if it is one. A tenant may be called `[/b]` or `:bomb:`."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else width, highlight=False, markup=False, emoji=False)
