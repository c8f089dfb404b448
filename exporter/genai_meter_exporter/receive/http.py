"""OTLP/HTTP as a plain ASGI application: protobuf and JSON, gzip and deflate, bounded before and after inflating."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

from genai_meter_exporter.access.gate import Caller, Closed, Forbidden, Gate, TooMany, Unauthenticated
from genai_meter_exporter.access.tokens import Scope as TokenScope
from genai_meter_exporter.config import Limits
from genai_meter_exporter.pipeline import Busy, Pipeline
from genai_meter_exporter.receive import answers, json, protobuf
from genai_meter_exporter.receive.raw import Garbage, Signal
from genai_meter_exporter.store.base import StoreError

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers: TypeAlias = Mapping[bytes, bytes]

_PATHS: Final[Mapping[str, Signal]] = {"/v1/logs": "logs", "/v1/traces": "traces", "/v1/metrics": "metrics"}
_PROTOBUF: Final = b"application/x-protobuf"
_JSON: Final = b"application/json"
_WINDOW_BITS: Final = {b"gzip": 31, b"deflate": 15}

_AWAITED_BYTES: Final = 65_536
"""Of a body that nobody wants: the answer waits for so much, then the connection lives on."""

_LENGTH_DIGITS: Final = 18
"""Of a content length that is looked at."""

_DISCARDED_BODIES: Final = 16
"""Times `limits.body_bytes`: so much of a body is read after its refusal."""

# Codes of google.rpc.Status.
_INVALID: Final = 3
_DEADLINE: Final = 4
_NOT_FOUND: Final = 5
_DENIED: Final = 7
_EXHAUSTED: Final = 8
_UNIMPLEMENTED: Final = 12
_UNAVAILABLE: Final = 14
_UNAUTHENTICATED: Final = 16


class Refused(Exception):
    """The request is answered with an error status."""

    def __init__(self, status: int, code: int, message: str, retry: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        """Of `google.rpc.Status`."""
        self.message = message
        self.retry = retry
        """Seconds to wait before it is sent again; 0: it would be refused again."""


class Body:
    """What a client sends after the head of its request, until the time for it is up."""

    def __init__(self, headers: Headers, receive: Receive, seconds: float) -> None:
        self._receive = receive
        self._deadline = asyncio.get_running_loop().time() + seconds
        self.declared = headers.get(b"content-length", b"0")
        self.expects = b"expect" in headers
        """The client waits for a word before it sends it."""
        self.ended = b"transfer-encoding" not in headers and self.declared == b"0"

    async def chunk(self) -> bytes | None:
        """What has come, None after its end; raises `TimeoutError`, and `ConnectionError` when the client has gone."""
        if self.ended:
            return None
        async with asyncio.timeout_at(self._deadline):
            message = await self._receive()
        self.ended = not message.get("more_body")
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError
        return message.get("body", b"")

    def declares(self, size: int) -> bool:
        """So much at most, or nothing."""
        return len(self.declared) <= _LENGTH_DIGITS and self.declared.isdigit() and int(self.declared) <= size

    async def discard(self, size: int) -> None:
        """Read its rest, so much of it at most: a client that still sends when the connection ends sees no answer."""
        with suppress(TimeoutError, ConnectionError):
            while size > 0 and (chunk := await self.chunk()) is not None:
                size -= len(chunk)


def admit(gate: Gate, scope: Scope, headers: Headers, wanted: TokenScope | None) -> Caller:
    """Who makes a request; raises `Refused`."""
    told = headers.get(b"authorization")
    client = scope.get("client")
    try:
        return gate.admit(None if told is None else told.decode("latin-1"), client[0] if client else "", wanted)
    except Unauthenticated as error:
        raise Refused(401, _UNAUTHENTICATED, str(error)) from None
    except Forbidden as error:
        raise Refused(403, _DENIED, str(error)) from None
    except TooMany as error:
        raise Refused(429, _EXHAUSTED, str(error), error.seconds) from None
    except Closed as error:
        raise Refused(503, _UNAVAILABLE, str(error), answers.RETRY_SECONDS) from None


class OtlpHttp:
    """The application."""

    def __init__(self, pipeline: Pipeline, gate: Gate, limits: Limits) -> None:
        self._pipeline = pipeline
        self._gate = gate
        self._max_body = limits.body_bytes
        self._max_inflated = limits.inflated_bytes
        self._seconds = limits.request_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers: Headers = dict(scope["headers"])
        as_json = _content_type(headers) == _JSON
        content_type = _JSON if as_json else _PROTOBUF
        body = Body(headers, receive, self._seconds)
        try:
            await answer(send, 200, content_type, await self._export(scope, headers, body))
        except Refused as refused:
            self._pipeline.reject(refused.message)
            told = _error(as_json, refused.code, refused.message, refused.retry)
            await self._refuse(send, refused, content_type, told, body)

    async def _refuse(self, send: Send, refused: Refused, content_type: bytes, told: bytes, body: Body) -> None:
        """Answer at once, then let the client finish: one that sends before it reads would see a reset."""
        headers = error_headers(refused.status, refused.retry)
        if body.declares(_AWAITED_BYTES) and not body.expects:
            await body.discard(_AWAITED_BYTES)
        if body.ended:
            await answer(send, refused.status, content_type, told, headers)
            return
        headers = (*headers, (b"connection", b"close"))
        await answer(send, refused.status, content_type, told, headers, last=False)
        await body.discard(_DISCARDED_BODIES * self._max_body)
        await send({"type": "http.response.body"})

    async def _export(self, scope: Scope, headers: Headers, received: Body) -> bytes:
        signal = _PATHS.get(scope["path"])
        if signal is None:
            raise Refused(404, _NOT_FOUND, f"OTLP is received at {', '.join(_PATHS)}")
        if scope["method"] != "POST":
            raise Refused(405, _UNIMPLEMENTED, "OTLP is sent by POST")
        caller = admit(self._gate, scope, headers, "ingest")
        content_type = _content_type(headers)
        if content_type not in (_PROTOBUF, _JSON):
            raise Refused(415, _INVALID, "the content type must be application/x-protobuf or application/json")
        encoding = headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding not in (b"identity", b"", *_WINDOW_BITS):
            raise Refused(415, _INVALID, "the content encoding must be gzip, deflate or identity")
        is_json = content_type == _JSON
        try:
            body = await self._body(received)
            if encoding in _WINDOW_BITS:
                body = self._inflate(body, _WINDOW_BITS[encoding])
            result = await self._pipeline.accept(
                signal, body, json.parse if is_json else protobuf.parse, caller.tenants
            )
        except Garbage as error:
            raise Refused(400, _INVALID, str(error)) from None
        except Busy:
            raise Refused(429, _EXHAUSTED, "the queue is full: send again later", answers.RETRY_SECONDS) from None
        except StoreError as error:
            raise Refused(503, _UNAVAILABLE, str(error), answers.RETRY_SECONDS) from None
        return answers.accepted_json(signal, result) if is_json else answers.accepted(signal, result)

    async def _body(self, body: Body) -> bytes:
        """All of it. What is being received has its room in the queue, so that slow senders cannot fill the memory."""
        if not body.declared.isdigit():
            raise Refused(400, _INVALID, "the content length is no number")
        if not body.declares(self._max_body):
            raise self._too_large()
        size = 0
        with self._pipeline.room() as room:
            room.take(int(body.declared))
            chunks: list[bytes] = []
            try:
                while (chunk := await body.chunk()) is not None:
                    size += len(chunk)
                    if size > self._max_body:
                        raise self._too_large()
                    room.take(size)
                    chunks.append(chunk)
            except TimeoutError:
                reason = f"the body took longer than {self._seconds} s (limits.request_seconds)"
                raise Refused(408, _DEADLINE, reason) from None
            except ConnectionError:
                raise Refused(400, _INVALID, "the client has gone") from None
        return b"".join(chunks)

    def _too_large(self) -> Refused:
        return Refused(
            413, _INVALID, f"the body exceeds {self._max_body} bytes (limits.body_bytes): send smaller batches"
        )

    def _inflate(self, body: bytes, window_bits: int) -> bytes:
        """Never more than the cap in memory, whatever the body promises."""
        try:
            inflater = zlib.decompressobj(window_bits)
            inflated = inflater.decompress(body, self._max_inflated + 1)
        except zlib.error:
            raise Refused(400, _INVALID, "the body is not compressed as its content encoding says") from None
        if len(inflated) > self._max_inflated:
            raise Refused(
                413, _INVALID, f"the body inflates to more than {self._max_inflated} bytes (limits.inflated_bytes)"
            )
        if not inflater.eof:
            raise Refused(400, _INVALID, "the compressed body ends too early")
        if inflater.unused_data:
            raise Refused(400, _INVALID, "the body goes on after its compressed part: send one gzip member")
        return inflated


def _content_type(headers: Headers) -> bytes:
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower()


def _error(as_json: bool, code: int, message: str, retry: int) -> bytes:
    return answers.status_json(code, message) if as_json else answers.status(code, message, retry=retry)


def error_headers(status: int, retry: int) -> Sequence[tuple[bytes, bytes]]:
    """What an error status says beside its body."""
    if retry:
        return ((b"retry-after", str(retry).encode()),)
    return ((b"www-authenticate", b"Bearer"),) if status == 401 else ()


async def answer(
    send: Send,
    status: int,
    content_type: bytes,
    body: bytes,
    headers: Sequence[tuple[bytes, bytes]] = (),
    *,
    last: bool = True,
) -> None:
    """Send one whole answer; unless it is the last of it, the connection is still the caller's."""
    told = [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body, "more_body": not last})
