"""Answers that the caller reads by itself: raw and streaming responses.

A body that is already there is read once, when the call returns. A body that is still on the wire is
seen as the caller reads it, in whichever of the many ways: all end in the byte stream of the response.
So does a second stream that is made over the response of the first one (`anthropic` before 0.49).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Final

import wrapt

from genai_meter.call import Call, Status
from genai_meter.clients import lifecycle
from genai_meter.clients.endings import Ending
from genai_meter.clients.observers import AsyncObserver, SyncObserver
from genai_meter.safety import guarded, swallow

if TYPE_CHECKING:
    Proxy = wrapt.ObjectProxy[Any]
else:
    Proxy = wrapt.ObjectProxy

MOST_BYTES: Final = 8 * 1024 * 1024
"""Longest body kept until its end; the usage of a longer one stays unknown."""


JSON_LINES: Final = ("stream+json", "ndjson", "jsonl", "json-lines")
"""Parts of content types of streams that have one JSON object a line."""


VECTORS: Final = re.compile(rb"\[[-+0-9.eE, \r\n\t]{256,}\]")
"""Long lists of numbers: nearly all of an answer with embeddings, slow to parse and of no interest."""


_decode: Final = json.JSONDecoder().raw_decode


def parse(line: str) -> Any:
    """`json.loads` without its searches before and after: a line is one object."""
    return _decode(line)[0]


def http_response_of(result: Any) -> Any:
    """The HTTP response inside a raw response, or itself; None for anything else."""
    response = getattr(result, "http_response", result)
    return response if hasattr(response, "status_code") and hasattr(response, "is_closed") else None


def is_json(content_type: str) -> bool:
    """True for `application/json` and its relatives."""
    return "json" in content_type


def read_buffered(call: Call, response: Any) -> None:
    """Read the usage from a body that has arrived."""
    if is_json(response.headers.get("content-type", "")):
        _read_json(call, response.content)


def _read_json(call: Call, data: bytes) -> None:
    dialect = call.prepared.dialect
    if dialect.operation == "embeddings":
        data = VECTORS.sub(b"[]", data)
    try:
        told = json.loads(data)
    except ValueError:
        # No error of ours: the body is not what its headers say, or was cut off. Its usage stays unknown.
        return
    dialect.response(call.reading, told)


def observe(response: Any, call: Call) -> Ending:
    """Watch a body that the caller has yet to read."""
    body = Bytes(call, response.headers, response.__class__)
    body.watch(response)
    listen(response, body)
    return body


def listen(response: Any, ending: Ending) -> None:
    """Notice when `response` is closed, and what is read from it past the observed stream."""
    response.stream = Body(response.stream, ending, response.headers, response.__class__)


def ending_of(response: Any) -> Ending | None:
    """What watches the body of `response`; None for a response of which nothing is known."""
    body = response.stream
    return body.ending() if type(body) is Body else None


class Bytes(Ending):
    """The bytes of one body, as they came over the wire."""

    __slots__ = (
        "_bare",
        "_chunk",
        "_encoding",
        "_events",
        "_json",
        "_kept",
        "_kept_size",
        "_part",
        "_piece",
        "_plain",
        "_reading",
        "_response_class",
    )

    def __init__(self, call: Call, headers: Any, response_class: Any) -> None:
        super().__init__(call)
        dialect = call.prepared.dialect
        self._chunk = dialect.chunk
        self._piece = dialect.piece
        self._reading = call.reading
        content_type = headers.get("content-type", "")
        self._bare = any(part in content_type for part in JSON_LINES)
        self._events = self._bare or "event-stream" in content_type
        self._json = not self._events and is_json(content_type)
        self._encoding: str = headers.get("content-encoding", "identity")
        self._plain = self._events and self._encoding == "identity"
        """Events can be read as they come."""
        self._response_class = response_class
        self._kept: list[bytes] = []
        self._kept_size = 0
        self._part = b""
        """The lines so far of an event that has several."""

    def read_lines(self) -> None:
        """Expect one JSON object a line, whatever the headers say."""
        self._bare = self._events = self._plain = True
        self._json, self._encoding = False, "identity"

    def take(self, item: bytes) -> bool:
        try:
            self.last_ns = now = time.time_ns()
            call = self.call
            if call.first_chunk_ns is None and call.prepared.request.stream:
                call.first_chunk_ns = now
            if self._plain:
                self._take_events(item)
            elif self._json or self._events:
                self._keep(item)
        except Exception as error:  # noqa: BLE001 - whatever happens here, the bytes are the caller's
            swallow("Bytes.take", error)
        return False

    def exhausted(self) -> None:
        # What cannot be read is no reason to leave the call open.
        guarded(self._read_kept)
        if self._events:
            super().exhausted()
        else:
            self.leave()
            lifecycle.settle_read(self.call, self.last_ns)

    def _early(self, status: Status, end_ns: int | None = None, *, in_finalizer: bool = False) -> None:
        if self._encoding != "identity" and not in_finalizer:
            # The library stops at the last event, which is still compressed here.
            guarded(self._read_kept)
        super()._early(status, end_ns, in_finalizer=in_finalizer)

    def _keep(self, data: bytes) -> None:
        self._kept_size += len(data)
        if self._kept_size <= MOST_BYTES:
            self._kept.append(data)
        else:
            self._kept.clear()

    def _take_events(self, data: bytes) -> None:
        """Read all whole lines; keep the rest for the next time."""
        kept = self._kept
        if kept:
            if b"\n" not in data:
                return self._keep(data)
            data = b"".join((*kept, data))
            kept.clear()
            self._kept_size = 0
        lines = data.split(b"\n")
        rest = lines.pop()
        if rest:
            self._keep(rest)
        for line in lines:
            if line or self._part:
                self._take_line(line)
        return None

    def _take_line(self, line: bytes) -> None:
        if not self._bare:
            if not line.startswith(b"data:"):
                if not line.strip():
                    self._part = b""
                return
            line = line[5:]
        data = line.lstrip()
        if self._part:
            data, self._part = self._part + b"\n" + data, b""
        elif data.startswith(b"{"):
            self.call.chunk_count += 1
        else:
            return
        reading = self._reading
        # The first event tells the model; most of the others are a piece of text.
        if self._piece is not None and reading.response_id is not None and (said := self._piece.fullmatch(data)):
            reading.output_chars += len(said[1].decode())
            return
        try:
            told = parse(data.decode())
        except ValueError:
            # The rest is on the next lines of the event, or it is none; it spoils no other one.
            if not self._bare and len(data) <= MOST_BYTES:
                self._part = data
            return
        self._chunk(reading, told)

    def _read_kept(self) -> None:
        data = b"".join(self._kept)
        if self._encoding != "identity" and data:
            # The response class knows how to decode; the caller's own response must not be touched.
            data = self._response_class(200, headers={"content-encoding": self._encoding}, content=data).content
        if self._json and data:
            _read_json(self.call, data)
        elif self._events:
            for line in data.split(b"\n"):
                self._take_line(line)


class Body(Proxy):
    """The byte stream below an HTTP response, with an ear at `close` and at the bytes.

    The response itself is left alone: wrapped methods on it would make it a cycle, and unpicklable.
    """

    def __init__(self, wrapped: Any, ending: Ending, headers: Any, response_class: Any) -> None:
        super().__init__(wrapped)
        self._self_ending = ending
        self._self_headers = headers
        self._self_response_class = response_class

    def ending(self) -> Ending:
        """What watches now."""
        return self._self_ending.latest()

    def _self_reader(self) -> Ending | None:
        """Who reads the bytes that are asked for now; None when the parsed chunks are watched already."""
        ending = self._self_ending.latest()
        if isinstance(ending, Bytes):
            return ending
        if ending.busy:
            return None
        # Past the stream we watch: by another stream over the same response, or by the caller.
        reader = Bytes(ending.call, self._self_headers, self._self_response_class)
        ending.give_way(reader)
        return reader

    def __iter__(self) -> Iterator[bytes]:
        source = iter(self.__wrapped__)
        reader = guarded(self._self_reader)
        return source if reader is None else guarded(SyncObserver, source, reader) or source

    def __aiter__(self) -> AsyncIterator[bytes]:
        source = aiter(self.__wrapped__)
        reader = guarded(self._self_reader)
        return source if reader is None else guarded(AsyncObserver, source, reader) or source

    def close(self) -> Any:
        guarded(self._self_ending.closed)
        return self.__wrapped__.close()

    async def aclose(self) -> Any:
        guarded(self._self_ending.closed)
        return await self.__wrapped__.aclose()
