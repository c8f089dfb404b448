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

from benchmarks.counter import Instructions
from benchmarks.figures import Take, added, spread

VARIANTS: Final = ("bare", "floor", "ours", "seam")
WARM_UP: Final = 60
"""Calls of each case before the first slice."""


class Worker:
    """A process with one variant installed; it measures a slice whenever asked."""

    def __init__(self, variant: str, python: str = sys.executable, **variables: str) -> None:
        # Equal hashes, so that dictionaries have the same layout in every process.
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.calls", "--serve", variant],
            env={**os.environ, "PYTHONHASHSEED": "0", **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def measure(self, what: str) -> Any:
        """A case's name → what one call took; or another question, see `serve`."""
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


def take_turns(workers: dict[str, Worker], case: str, rounds: int) -> dict[str, list[Take]]:
    """What one call took, by variant, one figure a round."""
    figures: dict[str, list[Take]] = {name: [] for name in workers}
    names = list(workers)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            figures[name].append(Take(*workers[name].measure(case)))
    return figures


def compare(workers: dict[str, Worker], case: str, rounds: int) -> dict[str, Any]:
    """What each variant adds to the bare call."""
    figures = take_turns(workers, case, rounds)
    names = [name for name in workers if name != "bare"]
    return {
        "bare": statistics.median(take.seconds for take in figures["bare"]),
        **{name: added(figures, name) for name in names},
        **{f"{name}_spread": spread(figures, name) for name in names},
        **{f"{name}_instructions": added(figures, name, "instructions") for name in names},
    }


def run(rounds: int) -> dict[str, Any]:
    """Every case by turns."""
    workers = {name: Worker(name) for name in VARIANTS}
    try:
        told = workers["ours"].measure("about")
        report: dict[str, Any] = {"semconv": told["semconv"], "cases": {}}
        for case in told["cases"]:
            report["cases"][case] = compare(workers, case, rounds)
        short, long = (take_turns(workers, case, rounds) for case in told["chunks"])
        slopes = {
            name: (_median(long[name]) - _median(short[name])) / told["between"] for name in ("bare", "floor", "ours")
        }
        report["chunk"] = {name: slopes[name] - slopes["bare"] for name in ("floor", "ours")}
        report["price"] = workers["ours"].measure("price")
        return report
    finally:
        for worker in workers.values():
            with worker:
                pass


def _median(takes: list[Take]) -> float:
    return statistics.median(take.seconds for take in takes)


# --- in the process of a variant ----------------------------------------------------------------------


@contextmanager
def installed(variant: str, generation: str) -> Generator[None]:
    """The variant, on both client packages."""
    import anthropic._base_client
    import openai._base_client
    from genai_meter.instrumentor import AnthropicInstrumentor, OpenAIInstrumentor

    from benchmarks import peers
    from benchmarks.floor import Floor

    if variant == "floor":
        floor = Floor(generation)
        for module in (openai._base_client, anthropic._base_client):
            floor.install(module)
        yield
        floor.remove()
        return
    if variant in peers.PEERS:
        with peers.installed(variant):
            yield
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


def timed(job: Callable[[int], None], calls: int, counter: Instructions) -> Take:
    """CPU seconds of the process for one call, and its instructions."""
    counted, begun = counter.read(), time.process_time_ns()
    job(calls)
    seconds, now = (time.process_time_ns() - begun) / calls / 1e9, counter.read()
    return Take(seconds, None if counted is None or now is None else (now - counted) / calls)


def price_seconds(repeats: int = 20_000) -> dict[str, float]:
    """CPU of one warm price; the best of nine."""
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

    counter = Instructions()
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
                answer = timed(case.run, case.calls, counter)
            elif what == "price":
                answer = price_seconds()
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(sys.argv[2])
    else:
        print(json.dumps(run(int(sys.argv[1]))))
