"""What stands in the place of an iterator that is watched."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from genai_meter.clients.endings import Ending
from genai_meter.safety import guarded


class _Generator(type):
    """Class of classes that print as what they stand in for.

    Others who wrap the same stream ask for that text: older versions of the Sentry SDK tell by nothing else that a
    stream is asynchronous, and make a synchronous one of it.
    """

    def __repr__(cls) -> str:
        return "<class 'generator'>"


class _AsyncGenerator(type):
    """As `_Generator`."""

    def __repr__(cls) -> str:
        return "<class 'async_generator'>"


class Observer:
    """Stands in the place of an iterator: sees every item, hands on all but the hidden one.

    A class and no generator: a generator that was never started runs no code when it is closed.
    """

    __slots__ = ("_ending", "_next", "_source", "_take")

    def __init__(self, source: Any, ending: Ending) -> None:
        self._source = source
        self._next = source.__anext__ if hasattr(source, "__anext__") else source.__next__
        self._ending = ending
        self._take = ending.take

    @property
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        # For `isinstance` and `inspect.isasyncgen`.
        return self._source.__class__

    def __getattr__(self, name: str) -> Any:
        # What stands here otherwise is a generator: `close`, `aclose` and the like are its own.
        return getattr(self._source, name)


class SyncObserver(Observer, metaclass=_Generator):
    """In the place of an iterator."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        ending = self._ending
        while True:
            ending.busy = True
            try:
                item = self._next()
            except StopIteration:
                guarded(ending.exhausted)
                raise
            except BaseException as error:
                guarded(ending.failed, error)
                raise
            finally:
                ending.busy = False
            if not self._take(item):
                return item


class AsyncObserver(Observer, metaclass=_AsyncGenerator):
    """In the place of an asynchronous iterator."""

    __slots__ = ()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        ending = self._ending
        while True:
            ending.busy = True
            try:
                item = await self._next()
            except StopAsyncIteration:
                guarded(ending.exhausted)
                raise
            except BaseException as error:
                guarded(ending.failed, error)
                raise
            finally:
                ending.busy = False
            if not self._take(item):
                return item
