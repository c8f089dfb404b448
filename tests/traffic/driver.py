"""One process of a run: sends every exchange with the real clients and writes down what the caller got.

`python -m tests.traffic.driver --url URL --out FILE [--plugin] [--forms sync,async] [--only FILE] FILES…`
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TextIO

from tests.traffic.calls import Call, NotReplayable
from tests.traffic.describe import describe, digest
from tests.traffic.families import plan
from tests.traffic.recordings import Exchange, load
from tests.traffic.server import asked_for_usage
from tests.traffic.watch import Watch

FORMS: Final = ("sync", "async", "hidden")
"""`hidden`: as sync, but the request does not ask for the usage chunk that the recorded one asked for."""


class Clients:
    """Clients of one kind (sync or async), one per kind and root, as an application keeps them."""

    def __init__(self, url: str, asynchronous: bool) -> None:
        self._url = url
        self._asynchronous = asynchronous
        self._made: dict[tuple[str, str, str, str | None], Any] = {}

    def get(self, family: ModuleType, call: Call) -> Any:
        """The client for a call."""
        key = (family.__name__, call.client, call.root, call.deployment)
        if key not in self._made:
            self._made[key] = family.client(call, self._url, self._asynchronous)
        return self._made[key]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plugin", action="store_true")
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--providers", help="comma separated; all when absent")
    parser.add_argument("--only", type=Path, help="ids, one a line; whole descriptions instead of digests")
    parser.add_argument("files", nargs="+", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    watch = Watch(plugin=options.plugin)
    exchanges = load(options.files)
    if options.providers:
        wanted = set(options.providers.split(","))
        exchanges = [exchange for exchange in exchanges if exchange.provider in wanted]
    if options.only:
        chosen = set(options.only.read_text().split())
        exchanges = [exchange for exchange in exchanges if exchange.id in chosen]
    with options.out.open("w") as out:
        run = Run(options.url, watch, out, whole=options.only is not None)
        for form in options.forms.split(","):
            if form == "async":
                asyncio.run(run.asynchronously(exchanges))
            else:
                run.synchronously(exchanges, form)
        out.write(json.dumps({"end": watch.end()}) + "\n")
    return 0


class Run:
    """Drives exchanges one after the other, so that what was emitted belongs to the one just driven."""

    def __init__(self, url: str, watch: Watch, out: TextIO, *, whole: bool) -> None:
        self._url = url
        self._watch = watch
        self._out = out
        self._whole = whole

    def synchronously(self, exchanges: list[Exchange], form: str) -> None:
        """Drive with the synchronous clients."""
        clients = Clients(self._url, False)
        for exchange, family, call in self._plans(exchanges, form):
            items: list[Any] = []
            try:
                result = getattr(family, "invoke", invoke)(clients.get(family, call), call)
                items.extend(map(self._note, getattr(family, "unfold", unfold)(result)))
            except Exception as error:  # noqa: BLE001 - whatever the caller gets is what is compared
                items.append(self._note(error))
            self._write(exchange, form, items)

    async def asynchronously(self, exchanges: list[Exchange]) -> None:
        """Drive with the asynchronous clients, all in one loop."""
        clients = Clients(self._url, True)
        for exchange, family, call in self._plans(exchanges, "async"):
            items: list[Any] = []
            try:
                result = getattr(family, "invoke", invoke)(clients.get(family, call), call)
                unfolded = getattr(family, "unfold_async", unfold_async)(result)
                items.extend([self._note(item) async for item in unfolded])
            except Exception as error:  # noqa: BLE001 - as above
                items.append(self._note(error))
            self._write(exchange, "async", items)

    def _plans(self, exchanges: list[Exchange], form: str) -> Iterator[tuple[Exchange, ModuleType, Call]]:
        for exchange in exchanges:
            if form == "hidden" and not (exchange.streaming and asked_for_usage(exchange.request)):
                continue
            try:
                family, call = plan(exchange)
            except NotReplayable as reason:
                self._out.write(json.dumps({"id": exchange.id, "form": form, "skip": str(reason)}) + "\n")
                continue
            if form == "hidden":
                call.arguments.pop("stream_options", None)
            yield exchange, family, call

    def _note(self, item: Any) -> Any:
        described = describe(item)
        kind = f"{type(item).__module__}.{type(item).__qualname__}"
        raised = isinstance(item, Exception)
        return [kind, described if self._whole else digest(described), raised]

    def _write(self, exchange: Exchange, form: str, items: list[Any]) -> None:
        line = {"id": exchange.id, "form": form, "items": items, **self._watch.take()}
        self._out.write(json.dumps(line) + "\n")


def invoke(client: Any, call: Call) -> Any:
    """Call the client's method."""
    verb, colon, path = call.method.partition(":")
    if colon:
        return getattr(client, verb)(path, **call.arguments)
    where = client
    for name in call.method.split("."):
        where = getattr(where, name)
    return where(**call.arguments)


def unfold(result: Any) -> Iterator[Any]:
    """The result; for a stream its class and status, then its items."""
    if type(result).__name__ != "Stream":
        yield result
        return
    yield ["stream", f"{type(result).__module__}.{type(result).__qualname__}", result.response.status_code]
    yield from result


async def unfold_async(result: Any) -> AsyncIterator[Any]:
    """As `unfold`."""
    result = await result
    if type(result).__name__ != "AsyncStream":
        if hasattr(result, "aread"):
            result = await result.aread()
        yield result
        return
    yield ["stream", f"{type(result).__module__}.{type(result).__qualname__}", result.response.status_code]
    async for item in result:
        yield item


if __name__ == "__main__":
    sys.exit(main())
