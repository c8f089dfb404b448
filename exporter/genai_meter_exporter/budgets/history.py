"""States and forecasts of the past: a file of JSON lines beside the ledger, and what the forecasts were worth."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from genai_meter_exporter.budgets.states import STATES
from genai_meter_exporter.lines import Lines

FILE: Final = "budgets.jsonl"
HORIZONS: Final = (5, 10, 15, 20)
"""Days of the period after which a forecast is judged."""

_NUMBERS: Final[Mapping[str, Sequence[str]]] = {
    "spend": ("charged",),
    "forecast": ("period", "day", "median", "upper"),
    "period": ("period", "spent"),
}
"""Kind → what its lines tell."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of the forecasts of one budget, so many days into its periods."""

    budget: str
    horizon: int
    periods: int
    mape: float
    """Mean of |forecast - actual| / actual."""
    bias: float
    """Mean of (forecast - actual) / actual: above 0 is too high."""
    coverage: float
    """Share of periods whose sum stayed below the upper line; 0.9 is right."""


class History:
    """Appends; reads at the start and once a day, which shortens the file."""

    def __init__(self, directory: Path | None, *, read_only: bool = False) -> None:
        self._lines = Lines(directory, FILE, {"budget": str}, replaces=_counter, read_only=read_only)

    def read(self, now: float) -> list[dict[str, Any]]:
        """What is kept, oldest first; lines that lack what their kind tells are left out."""
        return [entry for entry in self._lines.read(now) if _is_whole(entry)]

    def write(self, at: float, kind: str, budget: str, **facts: Any) -> dict[str, Any]:
        """One line: `state`, `forecast`, `period` or `spend`."""
        entry = {"at": int(at), "kind": kind, "budget": budget, **facts}
        self._lines.write(entry)
        return entry


def _counter(entry: Mapping[str, Any]) -> str | None:
    """A counter's later value takes the place of the one before, or they would crowd out all else."""
    return entry["budget"] if entry["kind"] == "spend" else None


def _is_whole(entry: Mapping[str, Any]) -> bool:
    numbers = _NUMBERS.get(entry["kind"], ())
    if entry["kind"] == "state":
        # Without a period the ledger did not answer.
        numbers = ("period", "limit") if "period" in entry else ()
        if entry.get("state") not in STATES:
            return False
    return all(type(entry.get(name)) is int for name in numbers)


def accuracy(entries: Iterable[Mapping[str, Any]]) -> list[Accuracy]:
    """What forecasts were worth, by budget and horizon: periods whose end is known."""
    actual: dict[tuple[str, int], int] = {}
    told: dict[tuple[str, int, int], Mapping[str, Any]] = {}
    for entry in entries:
        if entry["kind"] == "period":
            actual[entry["budget"], entry["period"]] = entry["spent"]
        elif entry["kind"] == "forecast":
            told[entry["budget"], entry["period"], entry["day"]] = entry
    found: dict[tuple[str, int], list[tuple[float, bool]]] = {}
    for (budget, period, day), entry in told.items():
        total = actual.get((budget, period))
        if day in HORIZONS and total:
            error = (entry["median"] - total) / total
            found.setdefault((budget, day), []).append((error, total <= entry["upper"]))
    return [
        Accuracy(
            budget,
            day,
            len(pairs),
            statistics.mean(abs(error) for error, _ in pairs),
            statistics.mean(error for error, _ in pairs),
            statistics.mean(float(below) for _, below in pairs),
        )
        for (budget, day), pairs in sorted(found.items())
    ]
