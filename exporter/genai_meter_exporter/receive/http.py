"""OTLP/HTTP as a plain ASGI application: protobuf and JSON, gzip and deflate, bounded before and after inflating."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final, TypeAlias

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

# Codes of google.rpc.Status.
_INVALID: Final = 3
_NOT_FOUND: Final = 5
_EXHAUSTED: Final = 8
_UNIMPLEMENTED: Final = 12
_UNAVAILABLE: Final = 14


class Refused(Exception):
    """The request is answered with an error status."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class OtlpHttp:
    """The application."""

    def __init__(self, pipeline: Pipeline, max_body: int, max_inflated: int) -> None:
        self._pipeline = pipeline
        self._max_body = max_body
        self._max_inflated = max_inflated

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers: Headers = dict(scope["headers"])
        as_json = _content_type(headers) == _JSON
        try:
            status, body = 200, await self._export(scope, headers, receive)
        except Refused as refused:
            self._pipeline.reject(refused.message)
            status = refused.status
            body = _error(as_json, refused.code, refused.message, retry=status in (429, 503))
        await answer(send, status, _JSON if as_json else _PROTOBUF, body, retry=status in (429, 503))

    async def _export(self, scope: Scope, headers: Headers, receive: Receive) -> bytes:
        signal = _PATHS.get(scope["path"])
        if signal is None:
            raise Refused(404, _NOT_FOUND, f"OTLP is received at {', '.join(_PATHS)}")
        if scope["method"] != "POST":
            raise Refused(405, _UNIMPLEMENTED, "OTLP is sent by POST")
        content_type = _content_type(headers)
        if content_type not in (_PROTOBUF, _JSON):
            raise Refused(415, _INVALID, "the content type must be application/x-protobuf or application/json")
        encoding = headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding not in (b"identity", b"", *_WINDOW_BITS):
            raise Refused(415, _INVALID, "the content encoding must be gzip, deflate or identity")
        body = await self._body(headers, receive)
        if encoding in _WINDOW_BITS:
            body = self._inflate(body, _WINDOW_BITS[encoding])
        is_json = content_type == _JSON
        try:
            result = await self._pipeline.accept(signal, body, json.parse if is_json else protobuf.parse)
        except Garbage as error:
            raise Refused(400, _INVALID, str(error)) from None
        except Busy:
            raise Refused(429, _EXHAUSTED, "the queue is full: send again later") from None
        except StoreError as error:
            raise Refused(503, _UNAVAILABLE, str(error)) from None
        return answers.accepted_json(signal, result) if is_json else answers.accepted(signal, result)

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit():
            raise Refused(400, _INVALID, "the content length is no number")
        if int(declared) > self._max_body:
            raise self._too_large()
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Refused(400, _INVALID, "the client has gone")
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > self._max_body:
                raise self._too_large()
            chunks.append(chunk)
            if not message.get("more_body"):
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


def _error(as_json: bool, code: int, message: str, *, retry: bool) -> bytes:
    return answers.status_json(code, message) if as_json else answers.status(code, message, retry=retry)


async def answer(send: Send, status: int, content_type: bytes, body: bytes, *, retry: bool = False) -> None:
    """Send one whole answer."""
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    if retry:
        headers.append((b"retry-after", str(answers.RETRY_SECONDS).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
