"""Streams that are generators: the caller gets a generator as before, and what comes out of it is seen.

The generator of the library sends its request when the first item is asked for; so the call begins there.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Generator
from typing import Any, Final

from genai_meter.clients import lifecycle
from genai_meter.clients.observers import AsyncObserver, SyncObserver
from genai_meter.clients.rest import Exchange
from genai_meter.clients.streams import Chunks
from genai_meter.safety import guarded

UNKNOWN_STATUS: Final = -1
"""What an exception has for a `status_code` when the error came inside an answer (`ollama`)."""


class Items(Chunks):
    """The items of one generator."""

    __slots__ = ()

    def failed(self, error: BaseException) -> None:
        if getattr(error, "status_code", None) == UNKNOWN_STATUS:
            lifecycle.answered(self.call, 200, None)
        super().failed(error)


def follow(source: Generator[Any, Any, Any], exchange: Exchange) -> Generator[Any, Any, Any]:
    """A generator that gives what `source` gives."""
    items = Items(exchange.call)
    return _alike(source, _follow(source, exchange, items, SyncObserver(source, items)), items)


def follow_async(source: AsyncGenerator[Any, Any], exchange: Exchange) -> AsyncGenerator[Any, Any]:
    """As `follow`."""
    items = Items(exchange.call)
    return _alike(source, _follow_async(source, exchange, items, AsyncObserver(source, items)), items)


def _alike(source: Any, ours: Any, items: Items) -> Any:
    ours.__name__, ours.__qualname__ = source.__name__, source.__qualname__
    # One that is dropped is noticed before its frame is thrown away.
    guarded(items.watch, ours)
    return ours


def _follow(
    source: Generator[Any, Any, Any], exchange: Exchange, items: Items, observer: SyncObserver
) -> Generator[Any, Any, Any]:
    guarded(_begin, exchange)
    try:
        try:
            first = next(observer)
        except StopIteration:
            return
        finally:
            guarded(exchange.release)
        # The library lets only 2xx through.
        guarded(lifecycle.answered, exchange.call, 200, None)
        yield first
        yield from observer
    except GeneratorExit:
        guarded(items.closed)
        source.close()
        raise
    except BaseException as error:
        # Told already, unless the caller threw it in.
        guarded(items.failed, error)
        raise


async def _follow_async(
    source: AsyncGenerator[Any, Any], exchange: Exchange, items: Items, observer: AsyncObserver
) -> AsyncGenerator[Any, Any]:
    guarded(_begin, exchange)
    try:
        try:
            first = await anext(observer)
        except StopAsyncIteration:
            return
        finally:
            guarded(exchange.release)
        # The library lets only 2xx through.
        guarded(lifecycle.answered, exchange.call, 200, None)
        yield first
        async for item in observer:
            yield item
    except GeneratorExit:
        guarded(items.closed)
        await source.aclose()
        raise
    except BaseException as error:
        guarded(items.failed, error)
        raise


def _begin(exchange: Exchange) -> None:
    exchange.call.start_ns = time.time_ns()
    exchange.enter()
    exchange.begin()
    exchange.activate()
