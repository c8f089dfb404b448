"""How figures are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def micro(seconds: float, digits: int = 1) -> str:
    return f"{seconds * 1e6:.{digits}f} µs"


def milli(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, first column left, the others right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows])


def instructions(case: Mapping[str, Any], name: str, base: str) -> str:
    """The ratio of the instructions that two variants add."""
    mine, other = case[f"{name}_instructions"], case[f"{base}_instructions"]
    return f"{mine / other:.2f}" if mine is not None and other else "not told"
