"""From a provider's counts to exclusive buckets: the arithmetic that all dialects share.

Providers report a total and parts of it; what the parts leave over keeps the bucket without a
suffix. Parts that contradict their total are cut so that the total holds, and the rule that did it
is named: `Usage.inferred`.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from genai_meter.dialects.base import Json
from genai_meter.usage import Quantity, Usage

TEXT: Final = "text"
AUDIO: Final = "audio"
IMAGE: Final = "image"
VIDEO: Final = "video"
NONE: Final[Mapping[str, int]] = {}

MAX_COUNT: Final = 2**53
"""A larger count is no count (and would not survive JSON)."""
MAX_DIGITS: Final = 16


def count(value: Json) -> int:
    """A reported count, also one in digits; 0 for what is none (None, text, negative, not finite)."""
    kind = value.__class__
    if kind is int:
        return value if 0 < value <= MAX_COUNT else 0
    if kind is str and len(value) <= MAX_DIGITS and value.isdecimal():
        value, kind = int(value), float
    if kind is float and 0 < value <= MAX_COUNT:
        return int(value)
    return 0


def quantity(value: Json) -> Quantity:
    """A reported quantity that may have a fraction (seconds), exact; 0 for what is none."""
    if type(value) is str and value.replace(".", "", 1).isdecimal() and len(value) <= 32:
        value = float(value)
    if type(value) is float and 0 < value <= MAX_COUNT and not value.is_integer():
        return Decimal(repr(value))
    return count(value)


def decimal_text(value: Json) -> str | None:
    """A reported amount of money as plain decimal text; None for what is none."""
    if type(value) not in (int, float) or not 0 <= value <= MAX_COUNT:
        return None
    return format(Decimal(repr(value)), "f")


class Tally:
    """Collects the buckets of one `Usage`."""

    __slots__ = ("buckets", "inferred")

    def __init__(self) -> None:
        self.buckets: dict[str, Quantity] = {}
        self.inferred: tuple[str, ...] = ()

    def add(self, bucket: str, amount: Quantity) -> None:
        """Add to a bucket; nothing for zero."""
        if amount > 0:
            self.buckets[bucket] = self.buckets.get(bucket, 0) + amount

    def rule(self, name: str) -> None:
        """Name a rule that repaired contradictory counts."""
        if name not in self.inferred:
            self.inferred = (*self.inferred, name)

    def usage(self, model: str | None = None) -> Usage:
        """What has been collected."""
        return Usage(self.buckets, model, self.inferred)

    def input(
        self,
        total: int,
        *,
        cached: int = 0,
        writes: Mapping[str, int] = NONE,
        modalities: Mapping[str, int] = NONE,
        cached_modalities: Mapping[str, int] = NONE,
    ) -> None:
        """Split `total` gross input tokens.

        `cached` and `writes` (bucket → tokens) are parts of the total, and so are `modalities`
        (cached ones included); `cached_modalities` are parts of `cached`.
        """
        rest = _parts(total, modalities)
        if rest is None:
            self.rule("input_modalities_over_total")
            rest = {"": total}
        if cached > total:
            self.rule("cached_over_input")
            cached = total
        split = _parts(cached, cached_modalities)
        if split is None:
            self.rule("cached_modalities_over_cached")
            split = {"": cached}
        for modality, amount in split.items():
            self._take("cache_read", modality, amount, rest)
        left = total - cached
        for bucket, amount in writes.items():
            if amount > left:
                self.rule("cache_write_over_input")
                amount = left
            left -= amount
            self._draw(amount, rest, "")
            self.add(bucket, amount)
        for modality, amount in rest.items():
            self.add(f"input_{modality}" if modality else "input", amount)

    def output(self, total: int, *, reasoning: int = 0, modalities: Mapping[str, int] = NONE) -> None:
        """Split `total` gross output tokens; `reasoning` and `modalities` are parts of it."""
        if reasoning > total:
            self.rule("reasoning_over_output")
            reasoning = total
        self.add("output_reasoning", reasoning)
        left = total - reasoning
        for modality in (AUDIO, IMAGE, VIDEO):
            amount = modalities.get(modality, 0)
            if amount > left:
                self.rule("output_modalities_over_total")
                amount = left
            left -= amount
            self.add(f"output_{modality}", amount)
        # Text as told may or may not have the reasoning in it: never more than what is left.
        text = min(modalities.get(TEXT, 0), left)
        self.add("output_text", text)
        self.add("output", left - text)

    def _take(self, prefix: str, modality: str, amount: int, rest: dict[str, int]) -> None:
        """Move `amount` cached tokens out of `rest`, from their own modality where it has them."""
        # Cached tokens of no told modality are text's as far as that goes.
        if amount > rest.get("", 0) + rest.get(modality or TEXT, 0):
            self.rule("cached_modality_assumed")
        self._draw(amount, rest, modality)
        self.add(f"{prefix}_{modality}" if modality else prefix, amount)

    def _draw(self, amount: int, rest: dict[str, int], first: str) -> None:
        """Take `amount` from `rest`: from `first`, then from unnamed, text and all others."""
        for modality in (first, "", TEXT, *rest):
            here = min(amount, rest.get(modality, 0))
            if here:
                rest[modality] -= here
                amount -= here
            if not amount:
                return


def _parts(total: int, modalities: Mapping[str, int]) -> dict[str, int] | None:
    """The modalities and what they leave unnamed, summing to `total`; None when they are more."""
    if not modalities:
        return {"": total}
    left = total - sum(modalities.values())
    if left < 0:
        return None
    return {**modalities, "": left}
