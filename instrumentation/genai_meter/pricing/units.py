"""What can have a price, and which price a usage bucket takes when it has none of its own.

A unit is a set of dimensions. A bucket takes the rate of the priced unit that shares most of its
dimensions and contradicts none: `cache_read_audio` falls back to `cache_read`, that to `input`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final, TypeAlias

from genai_meter.usage import BUCKETS, INPUT_BUCKETS, OUTPUT_BUCKETS

Dimensions: TypeAlias = frozenset[tuple[str, str]]

_SUFFIXES: Final = {
    "text": ("modality", "text"),
    "audio": ("modality", "audio"),
    "image": ("modality", "image"),
    "video": ("modality", "video"),
    "reasoning": ("token_type", "reasoning"),
    "citation": ("token_type", "citation"),
    "5m": ("cache_ttl", "5m"),
    "30m": ("cache_ttl", "30m"),
    "1h": ("cache_ttl", "1h"),
    "12h": ("cache_ttl", "12h"),
}

_OTHER: Final[dict[str, tuple[int, dict[str, str]]]] = {
    "web_search": (1000, {"family": "tool_calls", "tool_type": "web_search"}),
    "social_search": (1000, {"family": "tool_calls", "tool_type": "social_search"}),
    "maps_search": (1000, {"family": "tool_calls", "tool_type": "maps_search"}),
    "file_search": (1000, {"family": "tool_calls", "tool_type": "storage_search"}),
    "code_exec": (1000, {"family": "tool_calls", "tool_type": "code_execution"}),
    "rerank_search": (1000, {"family": "rerank"}),
    "request": (1000, {"family": "requests"}),
    "chars_in": (1_000_000, {"family": "characters", "direction": "input"}),
    "messages_in": (1000, {"family": "messages", "direction": "input", "modality": "text"}),
    "audio_seconds": (3600, {"family": "durations", "modality": "audio"}),
    "audio_seconds_in": (3600, {"family": "durations", "modality": "audio", "direction": "input"}),
    "audio_seconds_out": (3600, {"family": "durations", "modality": "audio", "direction": "output"}),
    "images": (1, {"family": "images"}),
    "pixels_in": (1_000_000_000, {"family": "pixels", "direction": "input"}),
    "pages": (1000, {"family": "document_pages", "direction": "input"}),
    "classifications": (1000, {"family": "classifications"}),
    "annotated_pages": (1000, {"family": "document_pages", "direction": "input", "page_type": "annotated"}),
}
"""Units that are no tokens: customary quantity of one price, dimensions."""


def _token_dimensions(bucket: str, direction: str) -> Dimensions:
    dimensions = {("family", "tokens"), ("direction", direction)}
    rest = bucket
    for prefix, token_type in (("cache_read", "cache_read"), ("cache_write", "cache_write"), ("tool_prompt", "tool")):
        if bucket.startswith(prefix):
            dimensions.add(("token_type", token_type))
            rest = bucket[len(prefix) :]
    dimensions.update(_SUFFIXES[part] for part in rest.split("_") if part in _SUFFIXES)
    return frozenset(dimensions)


DIMENSIONS: Final[dict[str, Dimensions]] = {
    **{bucket: _token_dimensions(bucket, "input") for bucket in INPUT_BUCKETS},
    **{bucket: _token_dimensions(bucket, "output") for bucket in OUTPUT_BUCKETS},
    **{unit: frozenset(dimensions.items()) for unit, (_, dimensions) in _OTHER.items()},
}
"""Every unit that a rate may name → its dimensions. All usage buckets are units."""

PER: Final[dict[str, int]] = {unit: _OTHER[unit][0] if unit in _OTHER else 1_000_000 for unit in DIMENSIONS}
"""Customary quantity of one price: a million tokens, a thousand searches, an hour of seconds."""

TOKENS: Final = frozenset(INPUT_BUCKETS + OUTPUT_BUCKETS)
TOOL_CALLS: Final = frozenset(
    {"web_search", "social_search", "maps_search", "file_search", "code_exec", "rerank_search"}
)
INPUT: Final = frozenset(INPUT_BUCKETS)


def _fallbacks(bucket: str) -> tuple[str, ...]:
    own = DIMENSIONS[bucket]
    candidates = [unit for unit, dimensions in DIMENSIONS.items() if dimensions <= own]
    # What a token is (cached, reasoning) decides its price before its modality does.
    return tuple(
        sorted(candidates, key=lambda u: (-len(DIMENSIONS[u]), all(k != "token_type" for k, _ in DIMENSIONS[u])))
    )


FALLBACKS: Final[dict[str, tuple[str, ...]]] = {bucket: _fallbacks(bucket) for bucket in DIMENSIONS}
"""Bucket → units whose rate it may take, the most specific first, itself included."""

MODALITY_SENSITIVE: Final = frozenset(
    {"input_audio", "cache_read_audio", "output_audio", "output_image", "output_video"}
)
"""Buckets whose rate differs from text almost everywhere: without an own rate the price is an assumption."""

assert frozenset(BUCKETS) <= frozenset(DIMENSIONS)


def has_modality(unit: str) -> bool:
    """Whether a unit is of one modality only."""
    return any(key == "modality" for key, _ in DIMENSIONS[unit])


def decimal_text(value: Fraction) -> str:
    """A terminating fraction as plain decimal text, without trailing zeros."""
    sign, numerator, denominator = ("-" if value < 0 else ""), abs(value.numerator), value.denominator
    places = 0
    while denominator != 1 and places < 40:
        places += 1
        value *= 10
        numerator, denominator = abs(value.numerator), value.denominator
    digits = str(numerator // denominator).rjust(places + 1, "0")
    return sign + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)
