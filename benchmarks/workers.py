"""Processes that measure: each has one variant installed, and they take turns.

Each variant lives in a process of its own, as it would in an application: patching classes back and forth in
one process makes the interpreter forget what it has specialised, and the more a variant patches the more of that
it would pay for. The processes take turns in short slices, so that what else the machine does falls on
all alike; what a variant adds is the median of its differences from the bare slice of the same round.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Protocol, TypeAlias

from benchmarks.counter import Instructions
from benchmarks.figures import Take, added, added_instructions, error, quiet

WARM_UP: Final = 60
"""Calls of each case before the first slice."""

Run: TypeAlias = Callable[[int], None]
"""Makes that many calls."""


@dataclass(slots=True)
class Case:
    """One kind of call."""

    name: str
    run: Run
    calls: int
    """In one slice of a measurement."""


class Worker:
    """A process with one variant installed; it measures a slice whenever asked."""

    def __init__(self, *arguments: str, python: str = sys.executable, **variables: str) -> None:
        # Equal hashes, so that dictionaries have the same layout in every process.
        self._process = subprocess.Popen(
            [python, "-m", *arguments],
            env={**os.environ, "PYTHONHASHSEED": "0", **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def measure(self, what: str) -> Any:
        """A case's name → what one call took; or another question, see `answer_all`."""
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


@contextmanager
def ended(workers: dict[str, Worker]) -> Generator[dict[str, Worker]]:
    """The workers, and their end."""
    try:
        yield workers
    finally:
        for worker in workers.values():
            with worker:
                pass


def take_turns(workers: Mapping[str, Worker], case: str, rounds: int) -> dict[str, list[Take]]:
    """What one call took, by variant, one figure a round."""
    figures: dict[str, list[Take]] = {name: [] for name in workers}
    names = list(workers)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            figures[name].append(Take(*workers[name].measure(case)))
    return figures


def compare(figures: Mapping[str, list[Take]]) -> dict[str, Any]:
    """What each variant adds to the bare call."""
    names = [name for name in figures if name != "bare"]
    counted = [take.instructions for take in figures["bare"] if take.instructions is not None]
    return {
        "bare": quiet(figures["bare"]),
        "bare_instructions": statistics.median(counted) if counted else None,
        **{name: added(figures, name) for name in names},
        **{f"{name}_error": error(figures, name) for name in names},
        **{f"{name}_instructions": added_instructions(figures, name) for name in names},
    }


# --- in the process of a variant ----------------------------------------------------------------------


class Flushes(Protocol):
    """Telemetry that has something to export before a measurement begins."""

    def flush(self) -> None:
        """Export it."""


def answer_all(
    cases: Collection[Case], telemetry: Flushes, others: Mapping[str, Callable[[], Any]], about: Callable[[], Any]
) -> None:
    """Answer what is asked on standard input, one line each: a case, one of the others, or else `about`."""
    counter = Instructions()
    named = {case.name: case for case in cases}
    warm: set[str] = set()
    for line in sys.stdin:
        what = line.strip()
        case = named.get(what)
        if case is None:
            print(json.dumps(others.get(what, about)()), flush=True)
            continue
        if what not in warm:
            warm.add(what)
            case.run(WARM_UP if case.calls > 3 else WARM_UP // 4)
            telemetry.flush()
            gc.collect()
            gc.freeze()
        print(json.dumps(timed(case.run, case.calls, counter)), flush=True)


def timed(job: Run, calls: int, counter: Instructions) -> Take:
    """CPU seconds of the process for one call, and its instructions."""
    counted, begun = counter.read(), time.process_time_ns()
    job(calls)
    seconds, now = (time.process_time_ns() - begun) / calls / 1e9, counter.read()
    return Take(seconds, None if counted is None or now is None else (now - counted) / calls)


def silence() -> None:
    """The meter without emission: calls are seen, read and closed, and nothing is reported."""
    from genai_meter import emit

    def nothing(*_arguments: Any, **_named: Any) -> None:
        return None

    def close(call: Any, *_arguments: Any, **_named: Any) -> None:
        call.open.clear()

    emit.open_span, emit.activate, emit.finish = nothing, nothing, close
