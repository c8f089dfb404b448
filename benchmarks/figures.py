"""What is made of the figures of many rounds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence


def _differences(figures: Mapping[str, Sequence[float]], name: str) -> list[float]:
    return [mine - base for mine, base in zip(figures[name], figures["bare"], strict=True)]


def added(figures: Mapping[str, Sequence[float]], name: str) -> float:
    """What a variant adds to the bare call beside it; the median of the rounds."""
    return statistics.median(_differences(figures, name))


def spread(figures: Mapping[str, Sequence[float]], name: str) -> float:
    """Half the distance between the quartiles of what was added."""
    low, _, high = statistics.quantiles(_differences(figures, name), n=4)
    return (high - low) / 2
