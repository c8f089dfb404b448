"""Every function of the application half made to raise, one after the other: the caller must not notice.

`python -m tests.chaos PLACE [--each N] [--most N]` drives N recorded exchanges of each kind through the real clients:
without the plug-in, then with it while it is noted which of our functions run, then once for each of those, its code
exchanged for one that raises. Prints a table; exit code 1 when a caller got anything else.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import gc
import importlib
import inspect
import io
import json
import logging
import pkgutil
import sys
import types
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import genai_meter
from genai_meter import safety
from genai_meter.instrumentor import LibraryInstrumentor

from tests.traffic import driver
from tests.traffic.recordings import Exchange, files, load
from tests.traffic.server import Replay
from tests.traffic.watch import Watch

HOME: Final = str(Path(genai_meter.__file__).parent)
PROVIDERS: Final = frozenset({"openai", "anthropic", "azure"})
"""Whose clients the test suite's own environment has."""
NET: Final = frozenset({"guarded", "swallow", "decide", "decide_async", "take"})
"""What catches everything else: hardly more than a `try`."""
STAND_INS: Final = frozenset({"__call__", "__iter__", "__next__", "__aiter__", "__anext__", "close", "aclose"})
"""What the client library or the caller calls on an object of ours: it hands on, with a net inside."""
SPARED: Final = NET | STAND_INS
HIDING: Final = frozenset({"Ending.__init__", "Observer.__init__", "Exchange._see", "hides", "observe"})
"""Once a stream was asked for its usage these hide the extra chunk: without them the caller sees it."""


def _raise(*_args: Any, **_kwargs: Any) -> Any:
    raise RuntimeError("chaos")


async def _raise_async(*_args: Any, **_kwargs: Any) -> Any:
    raise RuntimeError("chaos")


def _raise_later(*_args: Any, **_kwargs: Any) -> Iterator[Any]:
    raise RuntimeError("chaos")
    yield


def sample(place: Path, each: int) -> list[Exchange]:
    """So many exchanges of every kind: provider, operation, streamed or not."""
    taken: Counter[tuple[str, ...]] = Counter()
    found: list[Exchange] = []
    for exchange in load(files(place)):
        kind = (exchange.provider, exchange.path, str(exchange.streaming))
        if exchange.provider in PROVIDERS and taken[kind] < each:
            taken[kind] += 1
            found.append(exchange)
    return found


class Drill:
    """One process, one replay server, the same exchanges again and again."""

    def __init__(self, exchanges: list[Exchange], url: str) -> None:
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        self._exchanges = exchanges
        self._url = url
        self._watch = Watch(plugin=False)
        self._loop = asyncio.Runner()
        # The clients, too, are the same again and again.
        driver.Clients = functools.cache(driver.Clients)

    def run(self) -> dict[tuple[str, str], Any]:
        """Drive every exchange, sync and async; what each caller got."""
        out = io.StringIO()
        run = driver.Run(self._url, self._watch, out, whole=False)
        run.synchronously(self._exchanges, "sync")
        run.synchronously(self._exchanges, "hidden")
        self._loop.run(run.asynchronously(self._exchanges))
        gc.collect(1)
        lines = [json.loads(line) for line in out.getvalue().splitlines()]
        return {(line["id"], line["form"]): line.get("items", line.get("skip")) for line in lines}

    def functions(self) -> list[types.FunctionType]:
        """Our functions that run when everything is driven, in an order that does not change."""
        seen: set[types.CodeType] = set()

        def note(frame: types.FrameType, event: str, _argument: Any) -> None:
            if event == "call" and frame.f_code.co_filename.startswith(HOME):
                seen.add(frame.f_code)

        sys.setprofile(note)
        try:
            self.run()
        finally:
            sys.setprofile(None)
        found = {function.__code__: function for function in _ours()}
        chosen = [found[code] for code in seen if code in found]
        return sorted(chosen, key=lambda function: (function.__module__, function.__qualname__))


def _ours() -> Iterator[types.FunctionType]:
    """Functions and methods of the application half that can be exchanged: not the closures that are the patches."""
    for module in pkgutil.walk_packages(genai_meter.__path__, "genai_meter."):
        for value in vars(importlib.import_module(module.name)).values():
            if not str(getattr(value, "__module__", "")).startswith("genai_meter"):
                continue
            members = list(vars(value).values()) if isinstance(value, type) else [value]
            for member in members:
                raw = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
                if isinstance(raw, types.FunctionType) and not raw.__code__.co_freevars and raw.__name__ not in SPARED:
                    yield raw


def breaks(function: types.FunctionType, drill: Drill, expected: dict[tuple[str, str], Any]) -> tuple[list[Any], int]:
    """Exchanges whose caller noticed, and the errors counted, with `function` raising."""
    kind = _raise
    if inspect.iscoroutinefunction(function):
        kind = _raise_async
    elif inspect.isgeneratorfunction(function):
        kind = _raise_later
    code = function.__code__
    safety.internal_errors.clear()
    function.__code__ = kind.__code__
    try:
        found = drill.run()
    finally:
        function.__code__ = code
    spared = "hidden" if function.__qualname__ in HIDING else ""
    wrong = [key for key, items in expected.items() if key[1] != spared and found.get(key) != items]
    return wrong, sum(safety.internal_errors.values())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("place", type=Path)
    parser.add_argument("--each", type=int, default=1)
    parser.add_argument("--most", type=int, help="so many exchanges at most")
    options = parser.parse_args()
    exchanges = sample(options.place, options.each)[: options.most]
    with Replay(exchanges) as server:
        drill = Drill(exchanges, server.url)
        expected = drill.run()
        for instrumentor in LibraryInstrumentor.__subclasses__():
            instrumentor().instrument()
        if drill.run() != expected:
            raise SystemExit("the plug-in changes what callers get; see python -m tests.traffic")
        noticed = uncounted = 0
        functions = drill.functions()
        for function in functions:
            wrong, counted = breaks(function, drill, expected)
            noticed += bool(wrong)
            uncounted += not counted
            if wrong or not counted:
                name = f"{function.__module__}.{function.__qualname__}"
                print(f"{name:<70} {f'NOTICED by {wrong[:3]}' if wrong else 'not counted'}")
    print(f"{len(functions)} functions x {len(expected)} calls: {noticed} noticed, {uncounted} not counted")
    return 1 if noticed else 0


if __name__ == "__main__":
    sys.exit(main())
