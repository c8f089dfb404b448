"""CPU of a call: bare, with the floor, with the meter, and with the meter's seam alone (see `workers`)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final

from benchmarks.figures import BLOCKS, Take, quiet
from benchmarks.workers import Case, Run, Worker, answer_all, compare, ended, silence, take_turns

VARIANTS: Final = ("bare", "floor", "ours", "seam")
SETS: Final = BLOCKS
"""Processes of each variant, one after another: where one lies in memory is worth some hundredths of a call."""
GOAL: Final = "chat"
"""The case that has a goal, and four times the rounds: what is added is a fifth of a call that swings by as much."""


def run(rounds: int) -> dict[str, Any]:
    """Every case by turns, in one set of processes after another."""
    figures: dict[str, dict[str, list[Take]]] = {}
    prices: list[dict[str, float]] = []
    told: dict[str, Any] = {}
    for _ in range(SETS):
        with ended({name: Worker("benchmarks.calls", "--serve", name) for name in VARIANTS}) as workers:
            told = workers["ours"].measure("about")
            for case in (*told["cases"], *told["chunks"]):
                kept = figures.setdefault(case, {name: [] for name in VARIANTS})
                turns = max(rounds // SETS, 1) * (4 if case == GOAL else 1)
                for name, takes in take_turns(workers, case, turns).items():
                    kept[name] += takes
            prices.append(workers["ours"].measure("price"))
    short, long = (figures[case] for case in told["chunks"])
    slopes = {name: (quiet(long[name]) - quiet(short[name])) / told["between"] for name in ("bare", "floor", "ours")}
    return {
        "semconv": told["semconv"],
        "cases": {case: compare(figures[case]) for case in told["cases"]},
        "chunk": {name: slopes[name] - slopes["bare"] for name in ("floor", "ours")},
        "price": {name: min(price[name] for price in prices) for name in prices[0]},
    }


# --- in the process of a variant ----------------------------------------------------------------------


@contextmanager
def installed(variant: str, generation: str) -> Generator[None]:
    """The variant, on both client packages."""
    import anthropic._base_client
    import openai._base_client
    from genai_meter.instrumentor import AnthropicInstrumentor, OpenAIInstrumentor

    from benchmarks.floor import Floor

    if variant == "floor":
        floor = Floor(generation)
        for module in (openai._base_client, anthropic._base_client):
            floor.install(module)
        yield
        floor.remove()
        return
    instrumentors = (OpenAIInstrumentor(), AnthropicInstrumentor()) if variant in ("ours", "seam") else ()
    if variant == "seam":
        silence()
    for instrumentor in instrumentors:
        instrumentor.instrument()
    yield
    for instrumentor in instrumentors:
        instrumentor.uninstrument()


def price_seconds(repeats: int = 2_000) -> dict[str, float]:
    """CPU of one warm price; the best of two hundred slices, short enough to lie between two interruptions."""
    from genai_meter import pricing
    from genai_meter.usage import Usage

    from benchmarks.wire import MODEL

    now = time.time_ns()
    usages = [Usage({"input": 1200, "cache_read": 800, "output_text": 150})]
    jobs: dict[str, Callable[[], object]] = {
        "price": lambda: pricing.price("openai", MODEL, usages, now, {}),
        "loop": lambda: None,
    }
    best: dict[str, float] = {}
    for name, job in jobs.items():
        takes: list[float] = []
        for _ in range(200):
            begun = time.process_time_ns()
            for _ in range(repeats):
                job()
            takes.append((time.process_time_ns() - begun) / repeats / 1e9)
        best[name] = min(takes)
    loop = best.pop("loop")
    return {name: seconds - loop for name, seconds in best.items()}


def parsed_stream(chunks: int) -> Run:
    """Streams whose chunks were parsed beforehand.

    Parsing costs a hundred times what is looked for, and is the same in every variant.
    """
    import openai

    from benchmarks import wire

    items, job = wire.parsed_chunks(chunks), wire.streamed(chunks)
    stream: Any = openai.Stream
    parse = stream.__stream__

    def give(_stream: Any) -> Iterator[Any]:
        yield from items

    def run_parsed(calls: int) -> None:
        stream.__stream__ = give
        try:
            job(calls)
        finally:
            stream.__stream__ = parse

    return run_parsed


def serve(variant: str) -> None:
    """Answer what is asked on standard input, one line each."""
    from genai_meter import environment

    from benchmarks import wire
    from benchmarks.telemetry import Telemetry

    telemetry = Telemetry()
    generation = environment.settings().semconv
    cases = wire.cases()
    chunks = [Case(f"{count} chunks", parsed_stream(count), 6) for count in (wire.CHUNKS, wire.LONG_STREAM)]
    about = {
        "semconv": generation,
        "cases": [case.name for case in cases],
        "chunks": [case.name for case in chunks],
        "between": wire.LONG_STREAM - wire.CHUNKS,
    }
    with installed(variant, generation):
        answer_all([*cases, *chunks], telemetry, {"price": price_seconds}, lambda: about)


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(sys.argv[2])
    else:
        print(json.dumps(run(int(sys.argv[1]))))
