"""The time of a process is what a file says: so a month passes in a minute. Loaded by Python at its start."""

from __future__ import annotations

import os
import time

_ticks = time.monotonic


def _now() -> int:
    with open(os.environ["CLOCK_FILE"], encoding="ascii") as file:
        return int(file.read())


_start = _now()


def _seconds() -> float:
    return _now() / 1e9


def _monotonic() -> float:
    """Goes on by itself, and jumps with the file."""
    return _ticks() + (_now() - _start) / 1e9


time.time_ns = _now
time.time = _seconds
time.monotonic = _monotonic
