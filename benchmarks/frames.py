"""Streamed bodies for the transports in the process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any


def frames_of(http: Any) -> Any:
    """The class of streamed bodies of `httpx` or `httpx2` in which every event arrives by itself."""

    class Frames(http.SyncByteStream, http.AsyncByteStream):
        """Made of these events."""

        def __init__(self, frames: list[bytes]) -> None:
            self._frames = frames

        def __iter__(self) -> Iterator[bytes]:
            return iter(self._frames)

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for frame in self._frames:
                yield frame

    return Frames
