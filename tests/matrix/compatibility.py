"""The table in `docs/compatibility.md`: library × oldest and newest supported version × feature."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from tests.environments import ROOT

from .families import FAMILIES
from .runner import Outcome
from .table import Column

PAGE: Final = ROOT / "docs" / "compatibility.md"
BEGIN: Final = "<!-- begin: written by make matrix -->"
END: Final = "<!-- end -->"

FEATURES: Final = {
    "async": r"async|at a time|at once|^aio",
    "streams": r"stream|helper",
    "left or broken": r"clos|drop|break|left|leaves|never (read|iterated)|cancel|dies|\bcut\b|error (event|line)|throw",
    "errors": r"error|[45]\d\d\b|throttled|no connection|refuse",
    "retries": r"retr",
    "raw": r"^raw|: raw|raw,|raw response|streaming response|client\.post|invoke: (read|iter|json|Buffered|with|body)",
    "structured, tools": r"parse|schema|tool|function call|structured",
    "embeddings, rerank": r"embed|rerank",
    "media": r"image|picture|speech|transcription|ocr|video|moderation",
    "clouds": r"azure|vertex",
}
"""Feature → what the names of its scenarios contain. What is in none of them is a plain call."""
PLAIN: Final = "calls"
MARKS: Final = {"FAIL": "**no**", "ok": "yes", "n/a": "–"}
"""Verdict → mark; the first one that occurs stands for all."""


def features(family: str, scenario: str) -> list[str]:
    """The features that a scenario is about."""
    name = f"aio {scenario}" if family.startswith("aio") else scenario
    found = [feature for feature, pattern in FEATURES.items() if re.search(pattern, name, re.IGNORECASE)]
    return found or [PLAIN]


def marks(family: str, column: Column) -> dict[str, str]:
    """Feature → mark: no when one scenario fails, yes when all pass that this version has."""
    found: dict[str, set[str]] = {}
    for scenario, (verdict, _) in column.items():
        for feature in features(family, scenario):
            found.setdefault(feature, set()).add(verdict)
    return {
        feature: next(MARKS[v] for v in ("FAIL", "ok", "n/a") if v in found.get(feature, {"n/a"})) for feature in HEAD
    }


HEAD: Final = (PLAIN, *FEATURES)


def rows(columns: Mapping[str, Mapping[str, Column]]) -> dict[str, list[str]]:
    """Family → a line for its oldest and one for its newest supported version."""
    lines: dict[str, list[str]] = {}
    for family, by_version in columns.items():
        ends = [row.version_of(FAMILIES[family].package) for row in FAMILIES[family].environments]
        for version in dict.fromkeys((ends[0], ends[-1])):
            cells = marks(family, by_version[version]).values()
            lines.setdefault(family, []).append(f"{start(family)} {version} | {' | '.join(cells)} |")
    return lines


def start(family: str) -> str:
    """How the lines of a family begin."""
    return f"| `{FAMILIES[family].package}` |"


def drift(outcome: Outcome) -> list[str]:
    """Lines that the page does not have."""
    page = PAGE.read_text().splitlines()
    return [line for lines in rows(outcome.columns).values() for line in lines if line not in page]


def write(outcome: Outcome) -> None:
    """Put the lines of a run into the page; those of families that were not run stay."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    table, _, after = rest.partition(END)
    found = rows(outcome.columns)
    lines = [f"| library | version | {' | '.join(HEAD)} |", f"|---|---|{'---|' * len(HEAD)}"]
    for family in FAMILIES:
        lines += found.get(family) or [line for line in table.splitlines() if line.startswith(start(family))]
    PAGE.write_text("\n".join([before + BEGIN, "", *lines, "", END]) + after)
