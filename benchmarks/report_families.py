"""What the meter adds to a call of each library, and what others add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks.markdown import UNCLEAR, clear, instructions, micro, ratio, table, with_error

ALONE: Final = (
    "`GENAI_METER_SEMCONV=latest`. *seam*: reading the request and the answer, retries and ways out; the rest is"
    " span, metrics and usage event, the same for every library. Thousands of instructions in user space."
)
BESIDE: Final = (
    "Each in an environment of its own, ours beside it; *ours ÷ it* by instructions, by CPU time in brackets (which"
    " swings with what else the machine does; – where its error is more than a fifth). *Emits*: spans, log records and"
    " their attributes for each call, and the metrics there are. **Bold** where the other one adds less: there it emits"
    " less. None of them prices a call, writes a usage event, or counts attempts."
)


def alone(reports: Sequence[Mapping[str, Any]]) -> str:
    """Each library by itself."""
    head = ["library", "call", "bare", "ours adds", "bare, instructions", "ours adds", "of it the seam"]
    rows: list[list[str]] = []
    for report in reports:
        if report["peer"]:
            continue
        for name, case in report["cases"].items():
            rows.append(
                [
                    f"{report['family']} {report['version']}",
                    name,
                    micro(case["bare"], 0),
                    with_error(case, "ours") if clear(case, "ours") else UNCLEAR,
                    *(_thousands(case[f"{what}_instructions"]) for what in ("bare", "ours", "seam")),
                ]
            )
    return table(head, rows)


def beside(reports: Sequence[Mapping[str, Any]]) -> str:
    """Each other instrumentation, in the order of the libraries."""
    head = ["library", "call", "other", "it adds", "ours adds", "ours ÷ it", "it emits", "ours emits"]
    rows: list[list[str]] = []
    for report in reports:
        peer = report["peer"]
        for name, case in report["cases"].items() if peer else ():
            rows.append(
                [
                    f"{report['family']} {report['version']}",
                    name,
                    peer,
                    *(micro(case[name], 0) if clear(case, name) else UNCLEAR for name in (peer, "ours")),
                    f"{_marked(case, peer)} ({ratio(case, 'ours', peer)})",
                    emitted(report["emits"][peer][name]),
                    emitted(report["emits"]["ours"][name]),
                ]
            )
    return table(head, rows)


def emitted(counted: Mapping[str, float]) -> str:
    """What one call leaves, in words."""
    parts: list[str] = []
    for what in ("span", "record"):
        number = counted[f"{what}s"]
        if number:
            attributes = counted[f"{what} attributes"] / number
            parts.append(f"{number:g} {what}{'s' if number > 1 else ''} of {attributes:.0f}")
    parts.append(f"{counted['metrics']} metrics" if counted["metrics"] else "no metrics")
    return ", ".join(parts)


def _marked(case: Mapping[str, Any], peer: str) -> str:
    told = instructions(case, "ours", peer)
    mine, other = case["ours_instructions"], case[f"{peer}_instructions"]
    return f"**{told}**" if mine is not None and other and mine > other else told


def _thousands(count: float | None) -> str:
    return "not told" if count is None else f"{count / 1e3:,.0f} k"
