"""How many requests one token or address may make."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

_KEPT: Final = 10_000
"""Tokens and addresses that are told apart; the one that was silent longest is forgotten first, with a full bucket."""


class Rates:
    """Token buckets. One thread."""

    def __init__(self, per_second: float | None, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Whose → what is left, and when that was."""

    def wait(self, whose: str) -> int:
        """Take one request; 0 when it may be made, else the seconds until the next one may."""
        if self._per_second is None:
            return 0
        now = self._clock()
        left, at = self._buckets.get(whose, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_second)
        allowed = left >= 1
        self._buckets[whose] = (left - 1 if allowed else left), now
        self._buckets.move_to_end(whose)
        if len(self._buckets) > _KEPT:
            self._buckets.popitem(last=False)
        return 0 if allowed else math.ceil((1 - left) / self._per_second)
