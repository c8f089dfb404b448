"""What a person is shown: names come from producers and are only ever text."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def printable(text: str) -> str:
    """On one line, and nothing in it that a terminal would obey: `\\x1b[2J` is shown as it is written here."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def console(width: int = 160) -> Console:
    """Standard output; as wide as the terminal, if it is one. A tenant may be called `[/b]` or `:bomb:`."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else width, highlight=False, markup=False, emoji=False)
