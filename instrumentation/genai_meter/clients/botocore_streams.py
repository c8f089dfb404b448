"""Watching what botocore hands out: event streams, and bodies that the caller has yet to read.

The caller's objects stay what they are. In an event stream the generator of its frames, its parser and its
raw stream are replaced, in a body its raw stream: private attributes all, which nobody gets to see (`with
body as raw` and `raw_stream` give out the one that was there before). What stands there holds no reference
back, so that a dropped stream is gone at once, as it is without us.
"""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final, cast

import wrapt

from genai_meter.call import Call
from genai_meter.clients import lifecycle
from genai_meter.clients.endings import Ending
from genai_meter.clients.observers import AsyncObserver, SyncObserver
from genai_meter.safety import guarded, swallow

if TYPE_CHECKING:
    Proxy = wrapt.ObjectProxy[Any]
else:
    Proxy = wrapt.ObjectProxy

MOST_BYTES: Final = 8 * 1024 * 1024
"""Longest body kept until its end; of a longer one the headers tell the usage."""

SILENT_ENDS: Final = frozenset({"bedrock_agent"})
"""Dialects whose streams end without saying so."""

TRUNCATED: Final = "IncompleteReadError"
"""What botocore raises for a body that is shorter than announced."""


# --- event streams ----------------------------------------------------------------------------------
class Events(Ending):
    """The events of one stream."""

    __slots__ = ("_chunk", "_reading")

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._chunk = call.prepared.dialect.chunk
        self._reading = call.reading

    def take(self, item: Any) -> bool:
        """A frame, before it is parsed."""
        del item
        self.last_ns = time.time_ns()
        return False

    def see(self, event: Any, response: Any) -> None:
        """An event on its way to the caller, or the error that the caller gets instead."""
        try:
            if response["status_code"] != 200:
                self._end_by(event)
            elif event:
                self._read(event)
        except Exception as error:  # noqa: BLE001 - whatever happens here, the event is the caller's
            swallow("Events.see", error)

    def _read(self, event: dict[str, Any]) -> None:
        call = self.call
        call.chunk_count += 1
        if call.first_chunk_ns is None:
            call.first_chunk_ns = self.last_ns
        chunk = event.get("chunk")
        payload = None if chunk is None else chunk.get("bytes")
        if payload is None or call.prepared.dialect.name in SILENT_ENDS:
            self._chunk(self._reading, event)
        else:
            self._chunk(self._reading, json.loads(payload))

    def _end_by(self, told: Any) -> None:
        code = told.get("Error", {}).get("Code")
        self._reading.error_type = code[:64] if isinstance(code, str) and code else "_OTHER"
        self.leave()
        lifecycle.settle_read(self.call, self.last_ns)

    def exhausted(self) -> None:
        if self.call.prepared.dialect.name in SILENT_ENDS:
            self._reading.terminal = True
        super().exhausted()


def watch_events(stream: Any, call: Call) -> None:
    """Watch an event stream that botocore has made."""
    events = Events(call)
    frames, parser = stream._event_generator, stream._parser
    awaited = inspect.iscoroutinefunction(parser.parse)
    events.watch(stream)
    stream._parser = (AsyncParser if awaited else Parser)(parser, events)
    stream._raw_stream = Raw(stream._raw_stream, events)
    stream._event_generator = (AsyncObserver if hasattr(frames, "__anext__") else SyncObserver)(frames, events)


class Parser:
    """In the place of the parser of an event stream: shows every event it has parsed."""

    __slots__ = ("_events", "_parser")

    def __init__(self, parser: Any, events: Events) -> None:
        self._parser = parser
        self._events = events

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def parse(self, response: Any, shape: Any) -> Any:
        """Parse one frame."""
        event = self._parser.parse(response, shape)
        self._events.see(event, response)
        return event


class AsyncParser(Parser):
    """As `Parser`, where parsing is awaited."""

    __slots__ = ()

    async def parse(self, response: Any, shape: Any) -> Any:
        """Parse one frame."""
        event = await self._parser.parse(response, shape)
        self._events.see(event, response)
        return event


# --- bodies -----------------------------------------------------------------------------------------
class Body(Ending):
    """The bytes of one answer. Its headers have told the usage; the body tells it better, and the model."""

    __slots__ = ("_kept", "_length", "_size")

    def __init__(self, call: Call, length: str | None) -> None:
        super().__init__(call)
        self._length = int(length) if length is not None and length.isdecimal() else None
        # Embeddings are long, and their headers tell all that is wanted.
        known = call.reading.fidelity == "final" and call.prepared.dialect.operation == "embeddings"
        self._kept: list[bytes] | None = None if known else []
        self._size = 0

    def take(self, item: bytes) -> bool:
        self.last_ns = time.time_ns()
        self._size += len(item)
        if self._size > MOST_BYTES:
            self._kept = None
        elif self._kept is not None:
            self._kept.append(item)
        return False

    def read(self, data: bytes, amount: int | None) -> None:
        """The caller has read `data`, having asked for so many bytes, or for all there is."""
        if not self.call.open:
            return
        self.take(data)
        whole = amount is None or amount < 0 or (amount > 0 and not data)
        if whole or (self._length is not None and self._size >= self._length):
            self.exhausted()

    def read_into(self, buffer: Any, count: int) -> None:
        """The caller has had `count` bytes put into a buffer."""
        self.read(bytes(memoryview(buffer)[:count]), len(buffer))

    def read_lines(self, lines: list[bytes], amount: int | None) -> None:
        """The caller has read lines: about so many bytes, or all there are."""
        self.read(b"".join(lines), amount)

    def exhausted(self) -> None:
        self.leave()
        if self._length is not None and self._size < self._length:
            lifecycle.settle(self.call, "error", TRUNCATED, self.last_ns)
            return
        # What cannot be read is no reason to leave the call open.
        guarded(self._read_kept)
        lifecycle.settle_read(self.call, self.last_ns)

    def _read_kept(self) -> None:
        kept, self._kept = self._kept, None
        if kept:
            self.call.prepared.dialect.response(self.call.reading, json.loads(b"".join(kept)))

    def closing(self, raw: Any) -> None:
        """The raw stream is being closed; it may have been read past us."""
        if self.call.open and _is_read(raw, self._length):
            self.leave()
            lifecycle.settle_read(self.call, self.last_ns)
        else:
            self.closed()


def watch_body(body: Any, call: Call, length: str | None) -> None:
    """Watch a body that the caller has yet to read."""
    ending = Body(call, length)
    place = "_raw_stream" if hasattr(body, "_raw_stream") else "__wrapped__"
    raw = getattr(body, place)
    kind = cast(type[Any], type(body))
    asynchronous = inspect.iscoroutinefunction(kind.read)
    watched = (AsyncRawBody if asynchronous else RawBody)(raw, ending)
    # Others put a body of their own around the raw stream, and drop this one.
    ending.watch(watched)
    setattr(body, place, watched)


def _is_read(raw: Any, length: int | None) -> bool:
    """True for a raw stream that was read to its end: httpx's, aiohttp's, urllib3's."""
    consumed = getattr(raw, "is_stream_consumed", None)
    if consumed is not None:
        return bool(consumed)
    at_eof = getattr(getattr(raw, "content", None), "at_eof", None)
    if at_eof is not None:
        return bool(at_eof())
    tell = getattr(raw, "tell", None)
    if length is not None and tell is not None:
        return tell() >= length
    return bool(getattr(raw, "closed", False))


class Raw(Proxy):
    """The raw stream below an event stream, with an ear at `close`."""

    genai_meter_proxy = True

    def __init__(self, wrapped: Any, ending: Ending) -> None:
        super().__init__(wrapped)
        self._self_ending = ending

    def close(self) -> Any:
        guarded(self._self_closing)
        return self.__wrapped__.close()

    def aclose(self) -> Awaitable[Any]:
        guarded(self._self_closing)
        return self.__wrapped__.aclose()

    def _self_closing(self) -> None:
        self._self_ending.closed()


class RawBody(Raw):
    """The raw stream below a body: sees what is read."""

    _self_ending: Body

    def read(self, *args: Any, **kwargs: Any) -> Any:
        data = self._self_reading(self.__wrapped__.read, args, kwargs)
        guarded(self._self_ending.read, data, args[0] if args else kwargs.get("amt"))
        return data

    def readinto(self, buffer: Any) -> Any:
        count = self._self_reading(self.__wrapped__.readinto, (buffer,), {})
        guarded(self._self_ending.read_into, buffer, count)
        return count

    def readlines(self, *args: Any) -> Any:
        lines = self._self_reading(self.__wrapped__.readlines, args, {})
        guarded(self._self_ending.read_lines, lines, args[0] if args else None)
        return lines

    def _self_reading(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        ending = self._self_ending
        ending.busy = True
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            guarded(ending.failed, error)
            raise
        finally:
            ending.busy = False

    def _self_closing(self) -> None:
        self._self_ending.closing(self.__wrapped__)


class AsyncRawBody(Raw):
    """The HTTP response below an asynchronous body: sees what is read of its content."""

    _self_ending: Body

    @property
    def content(self) -> Any:
        """aiohttp's reader."""
        return Content(self.__wrapped__.content, self._self_ending)

    def aiter_raw(self, *args: Any, **kwargs: Any) -> Any:
        """httpx's bytes."""
        return AsyncObserver(aiter(self.__wrapped__.aiter_raw(*args, **kwargs)), self._self_ending)

    def __aenter__(self) -> Any:
        return self.__wrapped__.__aenter__()

    def __aexit__(self, *exc_info: Any) -> Any:
        guarded(self._self_closing)
        return self.__wrapped__.__aexit__(*exc_info)

    def _self_closing(self) -> None:
        self._self_ending.closing(self.__wrapped__)


class Content(Proxy):
    """aiohttp's reader of a body."""

    def __init__(self, wrapped: Any, ending: Body) -> None:
        super().__init__(wrapped)
        self._self_ending = ending

    async def read(self, n: int = -1) -> bytes:
        ending = self._self_ending
        ending.busy = True
        try:
            data = await self.__wrapped__.read(n)
        except BaseException as error:
            guarded(ending.failed, error)
            raise
        finally:
            ending.busy = False
        guarded(ending.read, data, n)
        return data
