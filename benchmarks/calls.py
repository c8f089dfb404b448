"""CPU of a call: bare, with the floor, with the meter, and with the meter's seam alone.

Each variant lives in a process of its own, as it would in an application: patching classes back and forth in
one process makes the interpreter forget what it has specialised, and the more a variant patches the more of that
it would pay for. The processes take turns in short slices, so that what else the machine does falls on
all alike; a figure is the median over the rounds of the difference to the bare slice beside it.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final

from benchmarks.figures import added, spread

VARIANTS: Final = ("bare", "floor", "ours", "seam")
WARM_UP: Final = 60
"""Calls of each case before the first slice."""


class Worker:
    """A process with one variant installed; it measures a slice whenever asked."""

    def __init__(self, variant: str) -> None:
        # Equal hashes, so that dictionaries have the same layout in every process.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.calls", "--serve", variant],
            env={**os.environ, "PYTHONHASHSEED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def measure(self, what: str) -> Any:
        """A case's name → CPU seconds of one call; or another question, see `serve`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(what, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"the process that measures has ended with {self._process.wait()}")
        return json.loads(answer)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Its input ends, and so does the process.
        self._process.communicate()


def take_turns(workers: dict[str, Worker], case: str, rounds: int) -> dict[str, list[float]]:
    """CPU of one call by variant, one figure a round."""
    figures: dict[str, list[float]] = {name: [] for name in workers}
    names = list(workers)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            figures[name].append(workers[name].measure(case))
    return figures


def run(rounds: int) -> dict[str, Any]:
    """Every case by turns."""
    workers = {name: Worker(name) for name in VARIANTS}
    try:
        told = workers["ours"].measure("about")
        report: dict[str, Any] = {"semconv": told["semconv"], "cases": {}}
        for case in told["cases"]:
            figures = take_turns(workers, case, rounds)
            report["cases"][case] = {
                "bare": statistics.median(figures["bare"]),
                **{name: added(figures, name) for name in VARIANTS[1:]},
                **{f"{name}_spread": spread(figures, name) for name in VARIANTS[1:]},
            }
        short, long = (take_turns(workers, case, rounds) for case in told["chunks"])
        slopes = {
            name: (statistics.median(long[name]) - statistics.median(short[name])) / told["between"]
            for name in ("bare", "floor", "ours")
        }
        report["chunk"] = {name: slopes[name] - slopes["bare"] for name in ("floor", "ours")}
        report["price"] = workers["ours"].measure("price")
        return report
    finally:
        for worker in workers.values():
            with worker:
                pass


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
        _silence()
    for instrumentor in instrumentors:
        instrumentor.instrument()
    yield
    for instrumentor in instrumentors:
        instrumentor.uninstrument()


def _silence() -> None:
    """The meter without emission: calls are seen, read and closed, and nothing is reported."""
    from genai_meter import emit

    def nothing(*_arguments: Any, **_named: Any) -> None:
        return None

    def close(call: Any, *_arguments: Any, **_named: Any) -> None:
        call.open.clear()

    emit.open_span, emit.activate, emit.finish = nothing, nothing, close


def timed(job: Callable[[int], None], calls: int) -> float:
    """CPU seconds of the process for one call."""
    begun = time.process_time_ns()
    job(calls)
    return (time.process_time_ns() - begun) / calls / 1e9


def price_seconds(repeats: int = 20_000) -> dict[str, float]:
    """CPU of one warm price and of one warm look-up of the rate card; the best of nine."""
    from genai_meter import pricing
    from genai_meter.usage import Usage

    from benchmarks.wire import MODEL

    now = time.time_ns()
    usages = [Usage({"input": 1200, "cache_read": 800, "output_text": 150})]
    jobs: dict[str, Callable[[], object]] = {
        "price": lambda: pricing.price("openai", MODEL, usages, now, {}),
        "rate_card": lambda: pricing.rate_card("openai", MODEL, now, {}),
        "loop": lambda: None,
    }
    best: dict[str, float] = {}
    for name, job in jobs.items():
        takes: list[float] = []
        for _ in range(9):
            begun = time.process_time_ns()
            for _ in range(repeats):
                job()
            takes.append((time.process_time_ns() - begun) / repeats / 1e9)
        best[name] = min(takes)
    loop = best.pop("loop")
    return {name: seconds - loop for name, seconds in best.items()}


def parsed_stream(chunks: int) -> Callable[[int], None]:
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
    cases = {case.name: case for case in wire.cases()}
    chunks = {
        f"{count} chunks": wire.Case(f"{count} chunks", parsed_stream(count), 6)
        for count in (wire.CHUNKS, wire.LONG_STREAM)
    }
    about = {
        "semconv": generation,
        "cases": list(cases),
        "chunks": list(chunks),
        "between": wire.LONG_STREAM - wire.CHUNKS,
    }
    with installed(variant, generation):
        warm: set[str] = set()
        for line in sys.stdin:
            what = line.strip()
            case = cases.get(what) or chunks.get(what)
            if case is not None and what not in warm:
                warm.add(what)
                case.run(WARM_UP if case.calls > 3 else WARM_UP // 4)
                telemetry.flush()
                gc.collect()
                gc.freeze()
            answer: Any = about
            if case is not None:
                answer = timed(case.run, case.calls)
            elif what == "price":
                answer = price_seconds()
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(sys.argv[2])
    else:
        print(json.dumps(run(int(sys.argv[1]))))
