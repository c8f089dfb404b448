"""Watching a stream without changing it.

The SDK's stream object stays what it is. Only its iterator is replaced, by an observer that hands
every chunk on, and the byte stream below the HTTP response, by a proxy that notices `close`.
"""

from __future__ import annotations

from time import time_ns
from typing import Any

from genai_meter.call import Call
from genai_meter.clients import raw
from genai_meter.clients.endings import Ending
from genai_meter.clients.injection import hides
from genai_meter.clients.observers import AsyncObserver, SyncObserver
from genai_meter.safety import guarded, swallow


class Chunks(Ending):
    """The parsed chunks of one stream."""

    __slots__ = ("_chunk", "_hide", "_reading")

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._chunk = call.prepared.dialect.chunk
        self._reading = call.reading
        self._hide = call.injected_usage

    def take(self, item: Any) -> bool:
        hidden = False
        self.last_ns = now = time_ns()
        try:
            if self._hide and hides(item):
                hidden = True
            else:
                call = self.call
                call.chunk_count += 1
                if call.first_chunk_ns is None:
                    call.first_chunk_ns = now
            self._chunk(self._reading, item)
        except Exception as error:  # noqa: BLE001 - whatever happens here, the chunk is the caller's
            swallow("Chunks.take", error)
        return hidden


def observe(stream: Any, call: Call, before: Ending | None) -> None:
    """Watch a stream the SDK has made; `before` watched its response when the caller asked for the raw one."""
    chunks = Chunks(call)
    kind = AsyncObserver if hasattr(stream.__class__, "__anext__") else SyncObserver
    # First what hides the extra chunk: it must work whatever else fails.
    stream._iterator = kind(stream._iterator, chunks)
    guarded(_watch, stream, chunks, before)


def _watch(stream: Any, chunks: Chunks, before: Ending | None) -> None:
    chunks.watch(stream.response, stream)
    if before is None:
        raw.listen(stream.response, chunks)
    else:
        before.give_way(chunks)
