"""States and forecasts of the past: a file of JSON lines beside the ledger, and what the forecasts were worth."""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

logger: Final = logging.getLogger("genai_meter_exporter")

FILE: Final = "budgets.jsonl"
HORIZONS: Final = (5, 10, 15, 20)
"""Days of the period after which a forecast is judged."""
_KEPT_SECONDS: Final = 400 * 86400
_MOST_LINES: Final = 500_000


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
    """Appends; reads once, at the start. A line that cannot be written is logged, and nothing waits for it."""

    def __init__(self, directory: Path | None, *, read_only: bool = False) -> None:
        self._path = directory / FILE if directory is not None else None
        self._read_only = read_only
        self._failed = False

    def read(self, now: float) -> list[dict[str, Any]]:
        """What is kept, oldest first; older lines and broken ones are dropped from the file."""
        if self._path is None or not self._path.exists():
            return []
        lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        kept = [entry for entry in map(_parsed, lines) if entry is not None and entry["at"] > now - _KEPT_SECONDS]
        kept = kept[-_MOST_LINES:]
        if len(kept) < len(lines) and not self._read_only:
            self._rewrite(kept)
        return kept

    def write(self, at: float, kind: str, budget: str, **facts: Any) -> dict[str, Any]:
        """One line: `state`, `forecast`, `period` or `spend`."""
        entry = {"at": int(at), "kind": kind, "budget": budget, **facts}
        if self._path is not None and not self._read_only:
            try:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(entry, separators=(",", ":")) + "\n")
                self._failed = False
            except OSError as error:
                if not self._failed:
                    logger.warning("the history of budgets is not written: %s", error)
                self._failed = True
        return entry

    def _rewrite(self, entries: Iterable[Mapping[str, Any]]) -> None:
        assert self._path is not None
        fresh = self._path.with_suffix(".new")
        try:
            fresh.write_text(
                "".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in entries), encoding="utf-8"
            )
            fresh.replace(self._path)
        except OSError as error:
            logger.warning("the history of budgets is not shortened: %s", error)


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
        return entry if isinstance(entry["at"], int) and isinstance(entry["budget"], str) and entry["kind"] else None
    except (ValueError, KeyError, TypeError):
        return None


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
