"""The goals, and the table that says how far each one is away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import report_families as families
from benchmarks.markdown import UNCLEAR, clear, instructions, micro, milli, over, ratio, table, with_error

FLOOR_RATIO: Final = 1.25
CHUNK_SECONDS: Final = 2e-6
PRICE_SECONDS: Final = 1e-6
LOAD_SECONDS: Final = 10e-3
START_SECONDS: Final = 25e-3
LEFT_BLOCKS: Final = 2_000
"""Allocated blocks that tens of thousands of calls may leave behind: caches that fill, nothing per call."""
LEFT_BYTES: Final = 4_000_000
INGEST_RATIO: Final = 0.4
PAGE_SECONDS: Final = 0.25
STREAM_BYTES: Final = 1_024
"""How much more an open stream may hold near its end than after its first chunk."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of the goals."""

    what: str
    goal: str
    measured: str
    met: bool


def goals(results: Mapping[str, Any]) -> list[Goal]:
    """Every goal with what was measured."""
    return [
        *_call_goals(results["calls"]),
        *_other_goals(results),
        *_memory_goals(results["memory"]),
        *_ingest_goals(results["ingest"]),
    ]


def _call_goals(reports: list[Any]) -> Iterator[Goal]:
    for report in reports:
        value, error = over(report["cases"]["chat"], "ours", "floor")
        what = f"added CPU per chat call, `GENAI_METER_SEMCONV={report['semconv']}`"
        yield Goal(what, f"≤ {FLOOR_RATIO} × floor", f"{value:.2f} ± {error:.2f} ×", value <= FLOOR_RATIO)
    chunk = sorted(report["chunk"]["ours"] for report in reports)[len(reports) // 2]
    yield Goal("added CPU per streamed chunk", f"≤ {micro(CHUNK_SECONDS, 0)}", micro(chunk, 2), chunk <= CHUNK_SECONDS)
    price = min(report["price"]["price"] for report in reports)
    yield Goal("price of one call, warm", f"< {micro(PRICE_SECONDS, 0)}", micro(price, 2), price < PRICE_SECONDS)


def _other_goals(results: Mapping[str, Any]) -> Iterator[Goal]:
    load = results["book"]["load"]
    yield Goal("book load", f"< {milli(LOAD_SECONDS)}", milli(load), load < LOAD_SECONDS)
    added = results["startup"]["added"]
    yield Goal(
        "start-up added to `python -c pass`, no client library imported",
        f"< {milli(START_SECONDS)}",
        f"{milli(added)} of {milli(results['startup']['with'])}",
        added < START_SECONDS,
    )


def _memory_goals(memory: Mapping[str, Any]) -> Iterator[Goal]:
    many = memory["many"]
    met = many["blocks"] <= LEFT_BLOCKS and many["resident"] <= LEFT_BYTES
    yield Goal(
        f"memory left by {many['calls']:,} calls (after the first fifth)",
        f"≤ {LEFT_BLOCKS:,} blocks, ≤ {LEFT_BYTES / 1e6:.0f} MB",
        f"{many['blocks']:,} blocks, {many['resident'] / 1e6:.1f} MB",
        met,
    )
    ours, bare = (memory["near_end"][name] - memory["open"][name] for name in ("ours", "bare"))
    growth = ours - bare
    yield Goal("growth of an open stream", f"≤ {STREAM_BYTES:,} B", f"{growth:,} B", growth <= STREAM_BYTES)


def _ingest_goals(ingest: Mapping[str, Any]) -> Iterator[Goal]:
    told = f"{ingest['cpu']:.0%} of the CPU time, {ingest['wall']:.0%} of the time"
    if ingest["instructions"] is not None:
        told += f", {ingest['instructions']:.0%} of the instructions"
    yield Goal(
        "ingest, embedded store, one core, synced, roll-ups included: speed of parsing and walking the same bytes",
        f"≥ {INGEST_RATIO:.0%}",
        f"{told}; {ingest['per_second']:,.0f} events/s of {ingest['request_bytes'] / 512:,.0f} B",
        ingest["cpu"] >= INGEST_RATIO,
    )
    for name, seconds in ingest["page"].items():
        yield Goal(
            f"`/metrics` with 10,000 series, {name}", f"< {milli(PAGE_SECONDS)}", milli(seconds), seconds < PAGE_SECONDS
        )


def render(results: Mapping[str, Any], machine: str, command: str) -> str:
    """`RESULTS.md`, whole."""
    parts = [
        "# What metering costs",
        f"`{command}` on {machine}.",
        "CPU time of the process, real client libraries over a transport in the process, OpenTelemetry SDK with batch"
        " processors and exporters that drop. *Floor*: a wrapper that passes everything on, a span written by hand,"
        " the same instruments by their plain synchronous calls, one log record of 20 attributes. Each variant has"
        " processes of its own, eight one after another; they take turns in short slices, and what is added is the"
        " median of the differences from the bare slice beside. ± is the standard error, from how far the eight are"
        " apart. Times differ between machines and with what else runs; the ratios are what counts.",
        "## Goals",
        table(["what", "goal", "measured", ""], [[g.what, g.goal, g.measured, _mark(g)] for g in goals(results)]),
        "## Added CPU per call",
        _cases(results["calls"]),
        "*instructions*: ours ÷ floor by the instructions executed in user space, which other load hardly changes;"
        " *seam*: reading the request and the answer, retries and ways out; *price*: the price of the call;"
        " *emission*: span, metrics, usage event; – where the error is more than a fifth of the figure: what is added"
        " is lost in the noise of a call that takes longer by itself.",
        "## Every library",
        families.alone(results["families"]),
        families.ALONE,
        "## Beside others",
        families.beside(results["families"]),
        families.BESIDE,
        "## Added CPU per chunk",
        _chunks(results["calls"]),
        "## Memory",
        _memory(results["memory"]),
        "## Budgets",
        _budgets(results["budgets"]),
    ]
    return "\n\n".join(parts) + "\n"


def _mark(goal: Goal) -> str:
    return "met" if goal.met else "**missed**"


def _cases(reports: list[Any]) -> str:
    head = ["call", "semconv", "bare", "floor", "ours", "ours ÷ floor", "instructions", "seam", "price", "emission"]
    rows: list[list[str]] = []
    for report in reports:
        price = report["price"]["price"]
        for name, case in report["cases"].items():
            seam = case["seam"]
            emission, parted = case["ours"] - seam - price, clear(case, "ours", "seam")
            rows.append(
                [
                    name,
                    report["semconv"],
                    micro(case["bare"], 0),
                    with_error(case, "floor"),
                    with_error(case, "ours"),
                    ratio(case, "ours", "floor"),
                    instructions(case, "ours", "floor"),
                    micro(seam, 0) if parted else UNCLEAR,
                    micro(price),
                    micro(emission, 0) if parted else UNCLEAR,
                ]
            )
    return table(head, rows)


def _chunks(reports: list[Any]) -> str:
    rows = [[report["semconv"], *(micro(report["chunk"][name], 2) for name in ("floor", "ours"))] for report in reports]
    return table(["semconv", "floor", "ours"], rows)


def _memory(memory: Mapping[str, Any]) -> str:
    names = {
        "call": "most held by one chat call",
        "stream": "most held by one streamed call",
        "open": "held by an open stream, after its first chunk",
        "near_end": "held by an open stream, near its end",
    }
    rows = [
        [text, *(f"{memory[key][name]:,} B" for name in ("bare", "floor", "ours")), _ratio(memory[key])]
        for key, text in names.items()
    ]
    return table(["memory (tracemalloc)", "bare", "floor", "ours", "ours ÷ floor"], rows)


def _ratio(figures: Mapping[str, int]) -> str:
    return f"{figures['ours'] / figures['floor']:.2f}"


def _budgets(budgets: Mapping[str, Any]) -> str:
    names = {
        "apply": f"taking over a commit that changes {budgets['cells']:,} cells",
        "evaluate": "stepping every state, every ten seconds",
        "page": f"`/metrics` with {budgets['series']:,} series and the budgets",
        "page_without": f"`/metrics` with {budgets['series']:,} series alone",
    }
    rows = [[text, milli(budgets[key])] for key, text in names.items()]
    return table([f"{budgets['budgets']:,} budgets, two months of history", "CPU"], rows)
