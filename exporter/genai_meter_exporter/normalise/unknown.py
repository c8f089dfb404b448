"""Records that tell tokens in words that no flavour knows: kept aside, so that a later version may read them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from genai_meter_exporter.normalise import flavours
from genai_meter_exporter.normalise.record import Unreadable
from genai_meter_exporter.receive.raw import Attributes

_TOKENS: Final = re.compile(
    r"(?:prompt|completion|input|output|total|reasoning|cached?)[._]?tokens?(?:[._]?count)?$"
    r"|tokens?[._]?(?:count[._]?)?(?:prompt|completion|input|output|total)$",
    re.IGNORECASE,
)
"""What counts of tokens are called."""

_WORDS: Final = re.compile(r"(?:model|provider|system|operation|kind|tier|[._]id|[._]name|[._]type)$", re.IGNORECASE)
"""Texts that are kept beside: names, no content."""

_MAX_WORD: Final = 128
_MAX_ATTRIBUTES: Final = 64
_KNOWN_KEPT: Final = 10_000
_verdicts: dict[str, bool] = {}


def tells_tokens(names: Iterable[str]) -> bool:
    """One of these attributes is called as counts of tokens are, and no flavour reads it."""
    return any(map(is_unread_count, names))


def metadata(pairs: Iterable[tuple[str, Any]]) -> Attributes:
    """What may be kept of a record that nobody can read: numbers, and names; never content."""
    kept: Attributes = {}
    for name, value in pairs:
        if _is_number(value) or (isinstance(value, str) and len(value) <= _MAX_WORD and _WORDS.search(name)):
            kept[name] = value
        if len(kept) >= _MAX_ATTRIBUTES:
            break
    return kept


def refuse(attributes: Attributes) -> None:
    """Raises `Unreadable` when a record that no flavour claims tells tokens."""
    for name, value in attributes.items():
        if _is_number(value) and value not in (0, "0", False) and _TOKENS.search(name):
            raise Unreadable(f"no flavour reads this producer's {name[:_MAX_WORD]}")


def is_unread_count(name: str) -> bool:
    """The name is one of a count of tokens that no flavour reads. As cheap as can be: asked of every attribute."""
    verdict = _verdicts.get(name)
    if verdict is None:
        if len(_verdicts) >= _KNOWN_KEPT:
            _verdicts.clear()
        verdict = name not in flavours.ATTRIBUTES and isinstance(name, str) and bool(_TOKENS.search(name))  # pyright: ignore[reportUnnecessaryIsInstance] - of JSON
        _verdicts[name] = verdict
    return verdict


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, str) and value.isascii() and value.isdigit())
