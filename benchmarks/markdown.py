"""How figures are written."""

from __future__ import annotations

import math
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
"""In place of a figure whose error exceeds `NOISE` of it."""


def clear(case: Mapping[str, Any], *names: str) -> bool:
    """What each of these variants adds is known well enough."""
    return all(case[f"{name}_error"] <= NOISE * case[name] for name in names)


def with_error(case: Mapping[str, Any], name: str) -> str:
    """The CPU time that a variant adds, and its standard error."""
    return f"{micro(case[name], 0)} ± {case[f'{name}_error'] * 1e6:.0f}"


def over(case: Mapping[str, Any], name: str, base: str) -> tuple[float, float]:
    """The ratio of the CPU time that two variants add, and its standard error."""
    ratio = case[name] / case[base]
    return ratio, abs(ratio) * math.hypot(case[f"{name}_error"] / case[name], case[f"{base}_error"] / case[base])


def ratio(case: Mapping[str, Any], name: str, base: str) -> str:
    """`over`, written out where it is known well enough."""
    if not clear(case, name, base):
        return UNCLEAR
    value, error = over(case, name, base)
    return f"{value:.2f} ± {error:.2f}"


def instructions(case: Mapping[str, Any], name: str, base: str) -> str:
    """The ratio of the instructions that two variants add."""
    mine, other = case[f"{name}_instructions"], case[f"{base}_instructions"]
    return f"{mine / other:.2f}" if mine is not None and other else "not told"
