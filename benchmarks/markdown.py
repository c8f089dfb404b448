"""How figures are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final


def micro(seconds: float, digits: int = 1) -> str:
    return f"{seconds * 1e6:.{digits}f} µs"


def milli(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, first column left, the others right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows])


NOISE: Final = 0.2
UNCLEAR: Final = "–"
"""In place of a figure whose spread exceeds `NOISE` of it."""


def clear(case: Mapping[str, Any], *names: str) -> bool:
    """What each of these variants adds stands out from how much it swings."""
    return all(case[f"{name}_spread"] <= NOISE * case[name] for name in names)


def ratio(case: Mapping[str, Any], name: str, base: str) -> str:
    """The ratio of the CPU time that two variants add."""
    return f"{case[name] / case[base]:.2f}" if clear(case, name, base) else UNCLEAR


def instructions(case: Mapping[str, Any], name: str, base: str) -> str:
    """The ratio of the instructions that two variants add."""
    mine, other = case[f"{name}_instructions"], case[f"{base}_instructions"]
    return f"{mine / other:.2f}" if mine is not None and other else "not told"
