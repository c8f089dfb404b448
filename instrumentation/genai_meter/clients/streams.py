"""Watching a stream without changing it.

The SDK's stream object stays what it is. Only its iterator is replaced, by an observer that hands
every chunk on, and the byte stream below the HTTP response, by a proxy that notices `close`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import wrapt

from genai_meter.call import Call
from genai_meter.clients.endings import Ending
from genai_meter.clients.injection import hides
from genai_meter.safety import guarded, swallow

if TYPE_CHECKING:
    Proxy = wrapt.ObjectProxy[Any]
else:
    Proxy = wrapt.ObjectProxy


class Chunks(Ending):
    """The parsed chunks of one stream."""

    __slots__ = ("_chunk", "_hide", "_reading")

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._chunk = call.prepared.dialect.chunk
        self._reading = call.reading
        self._hide = call.injected_usage

    def take(self, item: Any) -> bool:
        hidden = self._hide and hides(item)
        try:
            self.last_ns = now = time.time_ns()
            call = self.call
            if call.first_chunk_ns is None:
                call.first_chunk_ns = now
            if not hidden:
                call.chunk_count += 1
            self._chunk(self._reading, item)
        except Exception as error:  # noqa: BLE001 - whatever happens here, the chunk is the caller's
            swallow("Chunks.take", error)
        return hidden


class Observer:
    """Stands in the place of an iterator: sees every item, hands on all but the hidden one.

    A class and no generator: a generator that was never started runs no code when it is closed.
    """

    __slots__ = ("_ending", "_source")

    def __init__(self, source: Any, ending: Ending) -> None:
        self._source = source
        self._ending = ending

    def __getattr__(self, name: str) -> Any:
        # What stands here otherwise is a generator: `close`, `aclose` and the like are its own.
        return getattr(self._source, name)


class SyncObserver(Observer):
    """In the place of an iterator."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        ending = self._ending
        while True:
            ending.busy = True
            try:
                item = self._source.__next__()
            except StopIteration:
                guarded(ending.exhausted)
                raise
            except BaseException as error:
                guarded(ending.failed, error)
                raise
            finally:
                ending.busy = False
            if not ending.take(item):
                return item


class AsyncObserver(Observer):
    """In the place of an asynchronous iterator."""

    __slots__ = ()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        ending = self._ending
        while True:
            ending.busy = True
            try:
                item = await self._source.__anext__()
            except StopAsyncIteration:
                guarded(ending.exhausted)
                raise
            except BaseException as error:
                guarded(ending.failed, error)
                raise
            finally:
                ending.busy = False
            if not ending.take(item):
                return item


class Body(Proxy):
    """The byte stream below an HTTP response: with an ear at `close` and, for raw readers, at the bytes.

    The response itself is left alone: wrapped methods on it would make it a cycle, and unpicklable.
    """

    def __init__(self, wrapped: Any, ending: Ending, *, reads: bool) -> None:
        super().__init__(wrapped)
        self._self_ending = ending
        self._self_reads = reads

    def _reads(self) -> bool:
        return self._self_reads and self._self_ending.successor is None

    def __iter__(self) -> Iterator[bytes]:
        source = iter(self.__wrapped__)
        return SyncObserver(source, self._self_ending) if self._reads() else source

    def __aiter__(self) -> AsyncIterator[bytes]:
        source = aiter(self.__wrapped__)
        return AsyncObserver(source, self._self_ending) if self._reads() else source

    def close(self) -> Any:
        guarded(self._self_ending.closed)
        return self.__wrapped__.close()

    async def aclose(self) -> Any:
        guarded(self._self_ending.closed)
        return await self.__wrapped__.aclose()


def observe(stream: Any, call: Call, raw: Ending | None) -> None:
    """Watch a stream the SDK has made; `raw` watched its response when the caller asked for the raw one."""
    chunks = Chunks(call)
    kind = AsyncObserver if hasattr(stream.__class__, "__anext__") else SyncObserver
    # First what hides the extra chunk: it must work whatever else fails.
    stream._iterator = kind(stream._iterator, chunks)
    guarded(_watch, stream, chunks, raw)


def _watch(stream: Any, chunks: Chunks, raw: Ending | None) -> None:
    chunks.watch(stream)
    if raw is None:
        listen(stream.response, chunks)
    else:
        raw.leave()
        raw.successor = chunks


def listen(response: Any, ending: Ending, *, reads: bool = False) -> None:
    """Notice when `response` is closed and, with `reads`, what is read from it."""
    response.stream = Body(response.stream, ending, reads=reads)
