"""Takes OTLP over HTTP, keeps a copy of every request, and hands it on."""

from __future__ import annotations

import gzip
import json
import threading
import urllib.error
import urllib.request
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, cast

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

JSON = dict[str, Any]

_REQUESTS = {"traces": ExportTraceServiceRequest, "logs": ExportLogsServiceRequest}
_IDS = ("traceId", "spanId", "parentSpanId")


class Relay:
    """Between producers and an exporter (or nobody), for as long as the `with` block lasts."""

    def __init__(self, target: str | None) -> None:
        self.target = target
        self.requests: list[tuple[str, JSON]] = []
        """Signal and body, as OTLP in JSON."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """The endpoint that a producer is given."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(relay: Relay) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Silent."""

        def _body(self) -> bytes:
            if "transfer-encoding" not in self.headers:
                return self.rfile.read(int(self.headers.get("content-length") or 0))
            parts: list[bytes] = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def do_POST(self) -> None:
            body = self._body()
            signal = self.path.removeprefix("/v1/")
            kind = self.headers.get("content-type") or ""
            encoding = self.headers.get("content-encoding") or "identity"
            if signal in _REQUESTS:
                relay.requests.append(
                    (signal, _as_json(signal, kind, gzip.decompress(body) if encoding == "gzip" else body))
                )
            status, answer, answered = 200, b"", kind
            if relay.target is not None:
                status, answer, answered = _send(f"{relay.target}/v1/{signal}", body, kind, encoding)
            self.send_response(status)
            self.send_header("content-type", answered)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    return Handler


def _send(url: str, body: bytes, kind: str, encoding: str) -> tuple[int, bytes, str]:
    request = urllib.request.Request(url, body, {"content-type": kind, "content-encoding": encoding})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read(), response.headers.get("content-type") or kind
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers.get("content-type") or kind


def _as_json(signal: str, kind: str, body: bytes) -> JSON:
    if kind.startswith("application/json"):
        return json.loads(body)
    return _with_hex_ids(MessageToDict(_REQUESTS[signal].FromString(body), use_integers_for_enums=True))


def _with_hex_ids(value: Any) -> Any:
    """OTLP in JSON has ids in hex where the protobuf mapping has base64."""
    if isinstance(value, list):
        return [_with_hex_ids(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        fields = cast("JSON", value)
        return {key: b64decode(item).hex() if key in _IDS else _with_hex_ids(item) for key, item in fields.items()}
    return value
