"""What two records of one call agree in: model and usage."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from genai_meter.semconv import INFERENCE_OPERATIONS

Facts = tuple[str | None, str | None, int | None, int | None]
"""Served model, requested model, gross input, gross output."""

UNTOLD: Final = (None, None)

_MAKERS: Final = re.compile(r"(?:[a-z0-9-]+\.)+(?=[a-z])")
"""What Bedrock's names begin with: `us.anthropic.`; a version (`gpt-4.1`) is none."""


def kind_of(operation: str | None) -> str | None:
    """What producers agree on: some call a prompt chat, some a completion."""
    return "chat" if operation in INFERENCE_OPERATIONS else operation


def facts_of(values: Mapping[str, Any]) -> Facts:
    """Of a record's columns."""
    get = values.get
    return get("model"), get("request_model"), get("input_tokens"), get("output_tokens")


def family_of(values: Mapping[str, Any]) -> str | None:
    """The first part of the id family: producers tell the vendor's format apart, not always the API."""
    family: str | None = values.get("id_family")
    return family.partition(".")[0] if family else None


def same_model(one: Facts, other: Facts) -> bool:
    """Equal served models; where one of them is not told, the requested one stands for it.

    A name that is told alone may be the requested one: OpenInference has one attribute for both.
    """
    if one[0] and other[0]:
        return (
            _alike(one[0], other[0])
            or (not one[1] and _alike(one[0], other[1]))
            or (not other[1] and _alike(one[1], other[0]))
        )
    asked, also = one[1] or one[0], other[1] or other[0]
    return asked == also or one[0] == other[1] or one[1] == other[0] or _alike(asked, also)


def _alike(one: str | None, other: str | None) -> bool:
    return bool(one and other) and (one == other or _bare(one) == _bare(other))


def agree(one: Facts, other: Facts) -> bool:
    """Equal model and usage, where both tell."""
    if not same_model(one, other):
        return False
    if one[2:] == UNTOLD or other[2:] == UNTOLD:
        return True
    return (one[2] or 0, one[3] or 0) == (other[2] or 0, other[3] or 0)


def same_input(one: Facts, other: Facts) -> bool:
    """Equal model and input, where the output cannot be relied on."""
    return same_model(one, other) and one[2] is not None and one[2] == other[2]


def equal(one: Facts, other: Facts) -> bool:
    """Equal model and usage; not told is a value of its own."""
    return same_model(one, other) and one[2:] == other[2:]


@lru_cache(10_000)
def _bare(model: str) -> str:
    """Without the maker and the inference profile, which some leave out."""
    name = model.rpartition("/")[2]
    found = _MAKERS.match(name)
    return name[found.end() :] if found else name
