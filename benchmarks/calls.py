"""CPU of a call: bare, with the floor, with the meter, and with the meter's seam alone.

The variants take turns in short slices of one process, so that what else the machine does falls on
all of them alike; a figure is the median over the rounds of the difference to the bare slice beside it.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final

import anthropic._base_client
import openai._base_client
from genai_meter import emit, environment, pricing
from genai_meter.instrumentor import AnthropicInstrumentor, OpenAIInstrumentor
from genai_meter.usage import Usage

from benchmarks import wire
from benchmarks.floor import Floor
from benchmarks.telemetry import Telemetry

VARIANTS: Final = ("bare", "floor", "ours", "seam")
MODULES: Final = (openai._base_client, anthropic._base_client)
INSTRUMENTORS: Final = (OpenAIInstrumentor(), AnthropicInstrumentor())


@contextmanager
def floor_installed(floor: Floor) -> Generator[None]:
    for module in MODULES:
        floor.install(module)
    try:
        yield
    finally:
        floor.remove()


@contextmanager
def ours_installed() -> Generator[None]:
    for instrumentor in INSTRUMENTORS:
        instrumentor.instrument()
    try:
        yield
    finally:
        for instrumentor in INSTRUMENTORS:
            instrumentor.uninstrument()


def _nothing(*_arguments: Any, **_named: Any) -> None:
    return None


def _close(call: Any, *_arguments: Any, **_named: Any) -> None:
    call.open.clear()


@contextmanager
def seam_installed() -> Generator[None]:
    """The meter without emission: calls are seen, read and closed, and nothing is reported."""
    kept = emit.open_span, emit.activate, emit.finish
    emit.open_span, emit.activate, emit.finish = _nothing, _nothing, _close
    try:
        with ours_installed():
            yield
    finally:
        emit.open_span, emit.activate, emit.finish = kept


@contextmanager
def bare() -> Generator[None]:
    yield


def timed(run: wire.Run, calls: int) -> float:
    """CPU seconds of the process for one call."""
    begun = time.process_time_ns()
    run(calls)
    return (time.process_time_ns() - begun) / calls / 1e9


def measure(run: wire.Run, calls: int, rounds: int, floor: Floor) -> dict[str, list[float]]:
    """CPU of one call by variant, one figure a round."""
    installed: dict[str, Callable[[], Any]] = {
        "bare": bare,
        "floor": lambda: floor_installed(floor),
        "ours": ours_installed,
        "seam": seam_installed,
    }
    figures: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for number in range(-2, rounds):
        turn = number % len(VARIANTS)
        for name in VARIANTS[turn:] + VARIANTS[:turn]:
            with installed[name]():
                seconds = timed(run, calls)
            if number >= 0:
                figures[name].append(seconds)
    return figures


def added(figures: dict[str, list[float]], name: str) -> float:
    return statistics.median(mine - base for mine, base in zip(figures[name], figures["bare"], strict=True))


def spread(figures: dict[str, list[float]], name: str) -> float:
    """Half the distance between the quartiles of what was added."""
    differences = [mine - base for mine, base in zip(figures[name], figures["bare"], strict=True)]
    low, _, high = statistics.quantiles(differences, n=4)
    return (high - low) / 2


def price_seconds(repeats: int = 20_000) -> dict[str, float]:
    """CPU of one warm price and of one warm look-up of the rate card; the best of seven."""
    now = time.time_ns()
    usages = [Usage({"input": 1200, "cache_read": 800, "output_text": 150})]
    jobs: dict[str, Callable[[], object]] = {
        "price": lambda: pricing.price("openai", wire.MODEL, usages, now, {}),
        "rate_card": lambda: pricing.rate_card("openai", wire.MODEL, now, {}),
        "loop": lambda: None,
    }
    best: dict[str, float] = {}
    for name, job in jobs.items():
        takes: list[float] = []
        for _ in range(7):
            begun = time.process_time_ns()
            for _ in range(repeats):
                job()
            takes.append((time.process_time_ns() - begun) / repeats / 1e9)
        best[name] = min(takes)
    loop = best.pop("loop")
    return {name: seconds - loop for name, seconds in best.items()}


def _giver(items: list[Any]) -> Callable[[Any], Iterator[Any]]:
    def give(_stream: Any) -> Iterator[Any]:
        yield from items

    return give


def per_chunk(rounds: int, floor: Floor) -> dict[str, float]:
    """CPU that one more chunk of a stream costs: two lengths, one slope.

    The chunks are parsed beforehand: parsing costs a hundred times what is looked for, and is the same in
    every variant.
    """
    stream: Any = openai.Stream
    parse = stream.__stream__
    figures: list[dict[str, list[float]]] = []
    for chunks in (wire.CHUNKS, wire.LONG_STREAM):
        stream.__stream__ = _giver(wire.parsed_chunks(chunks))
        try:
            figures.append(measure(wire.streamed(chunks), 4, rounds, floor))
        finally:
            stream.__stream__ = parse
    short, long = figures
    between = wire.LONG_STREAM - wire.CHUNKS
    slopes = {name: (statistics.median(long[name]) - statistics.median(short[name])) / between for name in VARIANTS}
    return {name: slopes[name] - slopes["bare"] for name in ("floor", "ours")}


def main() -> None:
    rounds = int(sys.argv[1])
    telemetry = Telemetry()
    generation = environment.settings().semconv
    floor = Floor(generation)
    report: dict[str, Any] = {"semconv": generation, "cases": {}}
    cases = wire.cases()
    gc.collect()
    gc.freeze()
    for case in cases:
        figures = measure(case.run, case.calls, rounds, floor)
        report["cases"][case.name] = {
            "bare": statistics.median(figures["bare"]),
            **{name: added(figures, name) for name in VARIANTS[1:]},
            **{f"{name}_spread": spread(figures, name) for name in VARIANTS[1:]},
        }
        telemetry.flush()
    report["chunk"] = per_chunk(rounds, floor)
    report["price"] = price_seconds()
    print(json.dumps(report))


if __name__ == "__main__":
    main()
