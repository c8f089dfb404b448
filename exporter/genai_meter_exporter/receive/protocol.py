"""The HTTP protocol with bounds that neither uvicorn nor httptools has: size and time of a request's head."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD: Final = 65_536
"""Bytes of the request line and the headers."""

_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def bounded(seconds: float) -> type[asyncio.Protocol]:
    """The protocol, for heads that take this long at most."""

    class Bounded(HttpToolsProtocol):
        """Counts the bytes of a head, and waits for its end so long and no longer."""

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self._head = 0
            self._in_head = True
            self._timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            """The head of the first request is awaited."""
            super().connection_made(transport)  # pyright: ignore[reportArgumentType]
            self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            """Nothing is awaited any more."""
            self._stop_waiting()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            """Refuse a head that is too large; what one read brings is bounded by itself."""
            if self._in_head:
                self._head += len(data)
            super().data_received(data)
            if self._in_head and self._head > MAX_HEAD:
                self._refuse(_TOO_LARGE)

        def on_message_begin(self) -> None:
            """A head has begun; the one of a later request is awaited from its first byte."""
            if self._timer is None:
                self._await_head()
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            """The head is there."""
            self._in_head = False
            self._stop_waiting()
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            """What follows is a head again."""
            self._in_head, self._head = True, 0
            super().on_message_complete()

        def _await_head(self) -> None:
            self._timer = self.loop.call_later(seconds, self._refuse, _TOO_SLOW)

        def _stop_waiting(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _refuse(self, answer: bytes) -> None:
            self._stop_waiting()
            if not self.transport.is_closing():
                self.transport.write(answer)
                self.transport.close()

    return Bounded
