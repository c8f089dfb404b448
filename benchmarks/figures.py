"""What is made of the figures of many rounds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple


class Take(NamedTuple):
    """What one call took."""

    seconds: float
    """CPU time."""
    instructions: float | None
    """In user space; None where the machine does not count them."""


Quantity = Literal["seconds", "instructions"]


def _differences(figures: Mapping[str, Sequence[Take]], name: str, what: Quantity = "seconds") -> list[float]:
    pairs = [
        (getattr(mine, what), getattr(base, what)) for mine, base in zip(figures[name], figures["bare"], strict=True)
    ]
    return [mine - base for mine, base in pairs if mine is not None and base is not None]


def quiet(takes: Sequence[Take]) -> float:
    """CPU seconds of a call when the machine did least else: the mean of the least tenth. Other load only ever adds."""
    least = sorted(take.seconds for take in takes)[: max(len(takes) // 10, 1)]
    return statistics.mean(least)


BLOCKS: Final = 8
"""Parts of a measurement that are compared for its error; `benchmarks.calls` has new processes for each."""


def added(figures: Mapping[str, Sequence[Take]], name: str) -> float:
    """CPU seconds that a variant adds to the bare call beside it; the median of the rounds."""
    return statistics.median(_differences(figures, name))


def added_instructions(figures: Mapping[str, Sequence[Take]], name: str) -> float | None:
    """Instructions that a variant adds to the bare call beside it; the median of the rounds."""
    differences = _differences(figures, name, "instructions")
    return statistics.median(differences) if differences else None


def error(figures: Mapping[str, Sequence[Take]], name: str) -> float:
    """Standard error of `added`: how far the medians of the blocks are apart, over the root of their number."""
    differences = _differences(figures, name)
    size = -(-len(differences) // BLOCKS)
    medians = [statistics.median(differences[at : at + size]) for at in range(0, len(differences), size)]
    return statistics.stdev(medians) / math.sqrt(len(medians))
