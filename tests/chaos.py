"""Every function of the application half made to raise, one after the other: the caller must not notice.

`python -m tests.chaos PLACE [--most N]` drives two recorded exchanges of each kind (provider, operation, streamed or
not, refused or not) through the real clients: sync, async, and streams that did not ask for their usage. First without
the plug-in; then with it, while it is noted which of our functions run for which call; then every function in turn has
its code exchanged for one that raises, and a call of every kind and form in which it runs is made again. What does not
run cannot raise. Prints a table; exit code 1 when a caller got anything else than without the plug-in.

In the environment of the test suite these are the clients of OpenAI and Anthropic; in `tests.environments.CLIENTS`
all the others, too.
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
import os
import pkgutil
import sys
import threading
import types
import warnings
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import genai_meter
from genai_meter import emit, safety
from genai_meter.instrumentor import LibraryInstrumentor

from tests.traffic import driver, known
from tests.traffic.calls import NotReplayable
from tests.traffic.families import plan
from tests.traffic.recordings import Exchange, files, load
from tests.traffic.server import Replay, asked_for_usage
from tests.traffic.watch import Watch

HOME: Final = str(Path(genai_meter.__file__).parent)
NET: Final = frozenset({"guarded", "swallow", "decide", "decide_async", "take"})
"""What catches everything else: hardly more than a `try`."""
STAND_INS: Final = frozenset(
    {"__call__", "__iter__", "__next__", "__aiter__", "__anext__", "__enter__", "__exit__", "__aenter__", "__aexit__"}
    | {"__getattr__", "close", "aclose", "_follow", "_follow_async"}
    # Of a stream or a body of botocore.
    | {"parse", "see", "read", "readinto", "readlines", "_self_reading"}
    # Opens what the library would have opened.
    | {"_open"}
)
"""What the client library or the caller calls on an object of ours: it hands on, with a net inside."""
SPARED: Final = NET | STAND_INS
NO_STAND_INS: Final = frozenset({"read", "parse", "Exchange.read", "Body.read"})
"""Functions of ours that have such a name."""
HIDING: Final = frozenset({"Ending.__init__", "Observer.__init__", "_is_stream", "hides", "observe"})
"""Once a stream was asked for its usage these hide the extra chunk: without them the caller sees it."""


LONG: Final = 6_000
"""Bytes of an answer: a longer one has more of the same."""

Kind: TypeAlias = tuple[str, str, bool, bool]
"""Provider, operation, streamed or not, answered or refused."""


class Point(NamedTuple):
    """One call: an exchange, and the form in which it is made."""

    exchange: str
    form: str
    """`sync`, `async`, or `hidden`: a stream that does not ask for its usage."""


@dataclass
class Finding:
    """What one function did."""

    name: str
    points: int
    noticed: list[Point] = field(default_factory=list[Point])
    counted: int = 0


def _raise(*_args: Any, **_kwargs: Any) -> Any:
    raise RuntimeError("chaos")


async def _raise_async(*_args: Any, **_kwargs: Any) -> Any:
    raise RuntimeError("chaos")


def _raise_later(*_args: Any, **_kwargs: Any) -> Iterator[Any]:
    raise RuntimeError("chaos")
    yield


def kind_of(exchange: Exchange) -> Kind:
    """Exchanges that are alike take the same ways through the client and through us."""
    return (exchange.provider, exchange.operation, exchange.streaming, exchange.status < 400)


def sample(place: Path) -> list[Exchange]:
    """Of every kind that there is a client for here the shortest exchange, and the longest that is not long."""
    kinds: dict[Kind, list[Exchange]] = {}
    for exchange in sorted(load(files(place)), key=lambda exchange: (len(exchange.body), exchange.id)):
        if known.values(exchange) is None and _replayable(exchange):
            kinds.setdefault(kind_of(exchange), []).append(exchange)
    found: list[Exchange] = []
    for alike in kinds.values():
        short = [exchange for exchange in alike if len(exchange.body) <= LONG] or alike[:1]
        found += short[:1] if len(short) == 1 else [short[0], short[-1]]
    return found


def _replayable(exchange: Exchange) -> bool:
    try:
        plan(exchange)
    except (NotReplayable, ImportError):
        return False
    return True


class Drill:
    """One process, one replay server, the same exchanges again and again."""

    def __init__(self, exchanges: list[Exchange], url: str) -> None:
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        self.exchanges = {exchange.id: exchange for exchange in exchanges}
        self._url = url
        self._watch = Watch(plugin=False)
        self._loop = asyncio.Runner()
        # The clients, too, are the same again and again.
        driver.Clients = functools.cache(driver.Clients)

    def points(self) -> list[Point]:
        """Every call there is to make."""
        return [
            Point(exchange.id, form)
            for exchange in self.exchanges.values()
            for form in driver.FORMS
            if form != "hidden" or (exchange.streaming and asked_for_usage(exchange.request))
        ]

    def shortest(self, points: list[Point]) -> list[Point]:
        """One call of each kind and form; exchanges are in the order of their length."""
        chosen: dict[tuple[Kind, str], Point] = {}
        for point in points:
            chosen.setdefault((kind_of(self.exchanges[point.exchange]), point.form), point)
        return list(chosen.values())

    def make(self, point: Point) -> Any:
        """Make one call; what its caller got."""
        out = io.StringIO()
        run = driver.Run(self._url, self._watch, out, whole=False)
        exchange = self.exchanges[point.exchange]
        if point.form == "async":
            self._loop.run(run.asynchronously([exchange]))
        else:
            run.synchronously([exchange], point.form)
        line = json.loads(out.getvalue())
        return line.get("items", line.get("skip"))

    def seen(self, point: Point) -> set[types.CodeType]:
        """The code of ours that runs when a call is made."""
        codes: set[types.CodeType] = set()

        def note(frame: types.FrameType, event: str, _argument: Any) -> None:
            if event == "call" and frame.f_code.co_filename.startswith(HOME):
                codes.add(frame.f_code)

        with _profiled(note):
            self.make(point)
            _settle()
        return codes


def _settle() -> None:
    """Let what was dropped end, and be emitted by its thread."""
    gc.collect(1)
    with suppress(RuntimeError):  # this is ours as well
        emit.flush()


@contextmanager
def _profiled(note: Any) -> Generator[None]:
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def functions() -> dict[types.CodeType, Any]:
    """Functions and methods of the application half that can be exchanged: not the closures that are the patches."""
    found: dict[types.CodeType, Any] = {}
    for module in pkgutil.walk_packages(genai_meter.__path__, "genai_meter."):
        for value in vars(importlib.import_module(module.name)).values():
            if not str(getattr(value, "__module__", "")).startswith("genai_meter"):
                continue
            for member in list(vars(value).values()) if isinstance(value, type) else [value]:
                raw = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
                # What is remembered of calls before does not raise.
                plain = getattr(raw, "__wrapped__", raw) if hasattr(raw, "cache_clear") else raw
                if not isinstance(plain, types.FunctionType) or plain.__code__.co_freevars:
                    continue
                if plain.__name__ not in SPARED or plain.__qualname__ in NO_STAND_INS:
                    found[plain.__code__] = raw
    return found


@contextmanager
def broken(raw: Any) -> Generator[None]:
    """A function that raises, and forgets what it knew."""
    forget = getattr(raw, "cache_clear", None)
    function: types.FunctionType = raw if forget is None else raw.__wrapped__
    kind: Any = _raise
    if inspect.iscoroutinefunction(function):
        kind = _raise_async
    elif inspect.isgeneratorfunction(function):
        kind = _raise_later
    code = function.__code__
    if forget is not None:
        forget()
    function.__code__ = kind.__code__
    try:
        yield
    finally:
        function.__code__ = code


def breaks(raw: Any, points: list[Point], drill: Drill, expected: dict[Point, Any]) -> Finding:
    """Make every call in which a function runs while it raises."""
    function = getattr(raw, "__wrapped__", raw) if hasattr(raw, "cache_clear") else raw
    finding = Finding(f"{function.__module__}.{function.__qualname__}".removeprefix("genai_meter."), len(points))
    safety.internal_errors.clear()
    spared = "hidden" if function.__qualname__ in HIDING else ""
    with broken(raw):
        for point in points:
            if drill.make(point) != expected[point] and point.form != spared:
                finding.noticed.append(point)
        _settle()
    finding.counted = sum(safety.internal_errors.values())
    return finding


def told(findings: list[Finding], drill: Drill) -> str:
    """The table: functions by module, then what is wrong."""
    lines = [f"{'module':<34}{'functions':>10}{'calls':>8}{'noticed':>9}{'not counted':>13}"]
    modules: dict[str, list[Finding]] = {}
    for finding in findings:
        parts = [part for part in finding.name.split(".")[:-1] if not part.lstrip("_")[:1].isupper()]
        modules.setdefault(".".join(parts), []).append(finding)
    for name, own in sorted(modules.items()):
        noticed, uncounted = sum(bool(f.noticed) for f in own), sum(not f.counted for f in own)
        lines.append(f"{name:<34}{len(own):>10}{sum(f.points for f in own):>8}{noticed:>9}{uncounted:>13}")
    providers = Counter(exchange.provider for exchange in drill.exchanges.values())
    lines += ["", "exchanges: " + ", ".join(f"{name} {count}" for name, count in sorted(providers.items())), ""]
    for finding in findings:
        if finding.noticed:
            lines.append(f"NOTICED  {finding.name}: {len(finding.noticed)} calls, such as {finding.noticed[:3]}")
        elif not finding.counted:
            lines.append(f"silent   {finding.name}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("place", type=Path)
    parser.add_argument("--most", type=int, help="so many exchanges at most")
    parser.add_argument("--only", default="", help="functions with this in their name")
    options = parser.parse_args()
    exchanges = sample(options.place)[: options.most]
    with Replay(exchanges) as server:
        # Requests for any host go there.
        os.environ["http_proxy"] = server.url
        drill = Drill(exchanges, server.url)
        expected = {point: drill.make(point) for point in drill.points()}
        for instrumentor in LibraryInstrumentor.__subclasses__():
            instrumentor().instrument()
        changed = [point for point, items in expected.items() if drill.make(point) != items]
        if changed:
            raise SystemExit(f"the plug-in changes what callers get, see python -m tests.traffic: {changed[:5]}")
        ours, runs = functions(), dict[types.CodeType, list[Point]]()
        for point in expected:
            for code in drill.seen(point):
                runs.setdefault(code, []).append(point)
        wanted = (code for code in runs if code in ours and options.only in f"{code.co_filename}:{code.co_qualname}")
        chosen = sorted(wanted, key=lambda code: (code.co_filename, code.co_qualname))
        findings: list[Finding] = []
        for code in chosen:
            findings.append(breaks(ours[code], drill.shortest(runs[code]), drill, expected))
            noticed = " NOTICED" if findings[-1].noticed else ""
            print(f"{len(findings)} of {len(chosen)}: {findings[-1].name}{noticed}", file=sys.stderr, flush=True)
    print(told(findings, drill))
    noticed, uncounted = sum(bool(f.noticed) for f in findings), sum(not f.counted for f in findings)
    calls = sum(finding.points for finding in findings)
    print(
        f"{len(findings)} functions, {len(expected)} calls, {calls} broken: {noticed} noticed, {uncounted} not counted"
    )
    return 1 if noticed else 0


if __name__ == "__main__":
    sys.exit(main())
