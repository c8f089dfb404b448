"""A loopback server that answers each request with its recording, named by the header `x-exchange`
or, for clients that send no headers of the caller's, by the start of the path: `/~id/…`.
It is a proxy, too: a client that is told of `http_proxy` calls any host, and is answered here.

A stream recorded with `stream_options.include_usage` is answered as the provider would answer a
request without it, when the client does not send it: no usage chunk, no `usage` key.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import unquote

from tests.traffic.recordings import Exchange, fields

PIN: Final = "x-exchange"
_DROPPED: Final = frozenset({"content-length", "transfer-encoding", "content-encoding", "connection"})


class Replay:
    """Runs in a thread of its own; use as a context manager."""

    def __init__(self, exchanges: Iterable[Exchange]) -> None:
        self.exchanges = {exchange.id: exchange for exchange in exchanges}
        self.port = 0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Replay:
        self._thread.start()
        self._ready.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self.port}"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**24))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                method, path, headers = _head(await reader.readuntil(b"\r\n\r\n"))
                body = await _body(reader, headers)
                writer.write(self._answer(method, path, headers, body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client is done, or the server is
        finally:
            writer.close()

    def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
        path = path[path.index("/", 7) :] if path.startswith("http://") else path
        name, path = _unpinned(path) if path.startswith("/~") else (headers.get(PIN, ""), path)
        exchange = self.exchanges.get(name)
        if exchange is None or (method, _plain(path)) != (exchange.method, _plain(exchange.path)):
            return _response(418, {"content-type": "text/plain"}, [f"replay: {method} {path}".encode()], False)
        whole = exchange.body
        if exchange.streaming and asked_for_usage(exchange.request) and not asked_for_usage(_json(body)):
            whole = without_usage(whole)
        return _response(exchange.status, exchange.headers, list(_pieces(exchange, whole)), exchange.streaming)


def asked_for_usage(request: Any) -> bool:
    """The request asks for the usage chunk of a chat stream."""
    options: Any = fields(request).get("stream_options")
    return fields(options).get("include_usage") is True


def without_usage(body: bytes) -> bytes:
    """A chat stream as it would have been without `include_usage`."""
    kept: list[bytes] = []
    for block in re.split(rb"\r?\n\r?\n", body):
        data = block.strip()
        if data.startswith(b"data: {"):
            event = json.loads(data[6:])
            if event.get("usage") is not None and not event.get("choices"):
                continue
            if "usage" in event and event["usage"] is None:
                del event["usage"]
            data = b"data: " + json.dumps(event).encode()
        if data:
            kept.append(data)
    return b"".join(data + b"\n\n" for data in kept)


def _unpinned(path: str) -> tuple[str, str]:
    name, _, rest = path[2:].partition("/")
    return unquote(name), f"/{rest}"


def _plain(path: str) -> str:
    return re.sub("/+", "/", unquote(path.partition("?")[0])).rstrip("/")


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _head(raw: bytes) -> tuple[str, str, dict[str, str]]:
    lines = raw.decode("latin-1").split("\r\n")
    method, path, _ = lines[0].split(" ", 2)
    pairs = (line.partition(":") for line in lines[1:] if line)
    return method, path, {name.strip().lower(): value.strip() for name, _, value in pairs}


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if "chunked" not in headers.get("transfer-encoding", ""):
        return await reader.readexactly(int(headers.get("content-length", 0)))
    whole = b""
    while length := int(await reader.readline(), 16):
        whole += (await reader.readexactly(length + 2))[:-2]
    await reader.readline()
    return whole


def _pieces(exchange: Exchange, body: bytes) -> Iterator[bytes]:
    """The body, cut where the provider would have flushed."""
    if exchange.framing != "sse":
        yield body
        return
    start = 0
    for end in re.finditer(rb"\r?\n\r?\n", body):
        yield body[start : end.end()]
        start = end.end()
    yield body[start:]


def _response(status: int, headers: Any, pieces: list[bytes], chunked: bool) -> bytes:
    lines = [f"HTTP/1.1 {status} Replayed"]
    for name, value in headers.items():
        if name.lower() not in _DROPPED:
            lines.append(f"{name}: {' '.join(str(value).splitlines())}")
    body = b"".join(pieces)
    if chunked:
        lines.append("transfer-encoding: chunked")
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"
    else:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body
