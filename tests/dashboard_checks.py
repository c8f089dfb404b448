"""Sums of the ledger's rows in Python, and how figures of dashboards are compared with them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from sqlite3 import Row
from typing import Any, TypeAlias

import pytest
from dashboard_kit import (
    CREDIT_USD,
    OPENAI,
    RATE_S,
    TOLD_TOKENS,
    TRUE_TOKENS,
)

Figures: TypeAlias = dict[str, float]
"""Legend, or the labels' values in the order of their names → the figure. Prometheus has no empty values."""

Check: TypeAlias = Callable[[Figures], None]


@dataclass(frozen=True)
class Ledger:
    """The rows of the ledger, summed in Python."""

    rows: Iterable[Row]

    def sum(self, by: str, amount: Callable[[Row], float], keep: Callable[[Row], bool] = lambda _: True) -> Figures:
        """Sums by columns; the key has their values in the order of their names."""
        names = sorted(name for name in by.split(", ") if name)
        found: Figures = {}
        for row in self.rows:
            if keep(row):
                key = "/".join(filter(None, (_label(row, name) for name in names)))
                found[key] = found.get(key, 0) + amount(row)
        return found

    def cost(self, by: str = "", keep: Callable[[Row], bool] = lambda _: True) -> Figures:
        """USD, of what cost anything."""
        return {key: amount for key, amount in self.sum(by, _usd, keep).items() if amount}

    def calls(self, by: str = "", keep: Callable[[Row], bool] = lambda _: True) -> Figures:
        """Calls."""
        return self.sum(by, lambda _: 1, keep)

    def retries(self, by: str = "") -> Figures:
        """HTTP exchanges beyond the first."""
        return {key: n for key, n in self.sum(by, lambda row: row["attempt_count"] - 1).items() if n}

    def charges(self, by: str) -> Figures:
        """Cost before the one correction."""
        found = self.cost(by)
        corrected = {"feature": "chat", "provider": "openai", "team": "search", "model": OPENAI, "tenant": "acme"}
        key = "/".join(corrected[name] for name in sorted(by.split(", ")))
        return {**found, key: found[key] + CREDIT_USD}

    def tokens(self) -> Figures:
        """Exclusive classes; what only counts up keeps the tokens that were told first."""

        def of(name: str) -> float:
            return sum(row[name] or 0 for row in self.rows)

        read, written, reasoning = of("cache_read_tokens"), of("cache_write_tokens"), of("reasoning_tokens")
        found = {
            "input": of("input_tokens") - read - written + TOLD_TOKENS - TRUE_TOKENS,
            "output": of("output_tokens") - reasoning,
            "cache_read": read,
        }
        return {name: amount for name, amount in found.items() if amount}


def _label(row: Row, name: str) -> str:
    value = row[name] or ""
    if name == "tenant":
        # The bound of this label is three.
        return value if value in ("acme", "globex", "initech") else "other"
    return value or ("(none)" if name == "named" else "")


def _usd(row: Row) -> float:
    return (row["cost"] or 0) / 1e12


def unnamed(found: Figures) -> Figures:
    """As the dashboards name what has no name."""
    return {key or "(none)": amount for key, amount in found.items()}


def over(above: Figures, below: Figures) -> Figures:
    """Quotients, where there is a divisor."""
    return {key: above.get(key, 0) / amount for key, amount in below.items()}


# --- how figures are compared -------------------------------------------------------------------------
def exactly(expected: Figures) -> Check:
    """To a billionth: far below a cent."""

    def check(found: Figures) -> None:
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)

    return check


def near(expected: Figures, factor: float = 1.5) -> Check:
    """Of the same magnitude: `rate()` extrapolates to the ends of its window. Further series are at zero."""

    def check(found: Figures) -> None:
        assert set(expected) <= set(found)
        for key, amount in found.items():
            low, high = expected.get(key, 0) / factor, expected.get(key, 0) * factor
            assert low <= amount <= high, f"{key!r} is {amount}, not near {expected.get(key, 0)}"

    return check


def between(low: float, high: float, *keys: str) -> Check:
    """Every figure within bounds; exactly these keys, when any are given."""

    def check(found: Figures) -> None:
        assert found
        assert not keys or set(found) == set(keys)
        assert all(low <= amount <= high for amount in found.values()), found

    return check


def quantiles(share: float, amounts: Mapping[str, list[float]], edges: tuple[float, ...]) -> Check:
    """Within the bucket of the histogram that the true quantile lies in."""

    def check(found: Figures) -> None:
        assert set(found) == set(amounts)
        for key, told in amounts.items():
            rank = share * len(told)
            true = sorted(told)[max(0, -int(-rank // 1) - 1)]
            index = bisect_left(edges, true)
            low, high = (edges[index - 1] if index else 0), edges[min(index, len(edges) - 1)]
            assert low - 1e-6 <= found[key] <= high + 1e-6, f"{key!r}: p{share} is {found[key]}, not in {low} to {high}"

    return check


def lists(rows: Iterable[Row], by: str, amount: Callable[[Row], float | None]) -> dict[str, list[float]]:
    """The single amounts by columns."""
    names = sorted(name for name in by.split(", ") if name)
    found: dict[str, list[float]] = {}
    for row in rows:
        value = amount(row)
        if value is not None:
            found.setdefault("/".join(filter(None, (_label(row, name) for name in names))), []).append(value)
    return found


def renamed(found: Mapping[str, Any], pattern: str) -> dict[str, Any]:
    """Keys as a legend shows them."""
    return {pattern.format(key): value for key, value in found.items()}


# --- single amounts -------------------------------------------------------------------------------
def per(found: Figures, seconds: float) -> Figures:
    """What `rate()` over the interval tells of it in so many seconds."""
    return {key: amount * seconds / RATE_S for key, amount in found.items()}


def durations(ledger: Ledger, by: str) -> dict[str, list[float]]:
    return lists(ledger.rows, by, lambda row: (row["end"] - row["start"]) / 1e9)


def first_chunks(ledger: Ledger, by: str) -> dict[str, list[float]]:
    return lists(ledger.rows, by, lambda row: row["time_to_first_chunk"])


def sizes(ledger: Ledger, by: str) -> dict[str, list[float]]:
    """Gross tokens, as they were first told."""
    found: dict[str, list[float]] = {}
    for direction in ("input", "output"):
        column = f"{direction}_tokens"
        told = lists(ledger.rows, by, lambda row, column=column: _told(row[column]))
        # Label names in their order: direction comes before model and provider.
        found |= {f"{direction}/{key}" if key else direction: amounts for key, amounts in told.items()}
    return found


def _told(tokens: float | None) -> float | None:
    return TOLD_TOKENS if tokens == TRUE_TOKENS else tokens
