"""The HTTP server: finds the API of a path, plays the scenario, and writes the answer."""

from __future__ import annotations

import re
import socket
import threading
import time
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final

from . import (
    anthropic_messages,
    batches,
    bedrock,
    cohere,
    gemini,
    mistral,
    ollama,
    openai_chat,
    openai_media,
    openai_responses,
)
from .wire import JSON, Memory, Reply, Request, Served, dump

OPENAI: Final = {
    "chat/completions": openai_chat.chat,
    "completions": openai_chat.completions,
    "responses": openai_responses.responses,
    "embeddings": openai_media.embeddings,
    "moderations": openai_media.moderations,
    "images/generations": openai_media.images,
    "images/edits": openai_media.images,
    "audio/speech": openai_media.speech,
    "audio/transcriptions": openai_media.transcriptions,
    "audio/translations": openai_media.translations,
    "files": batches.upload,
    "batches": batches.create,
}
"""Path after the version (or after the Azure deployment) → what answers it."""

ANTHROPIC: Final = {
    "/v1/messages": anthropic_messages.messages,
    "/v1/messages/count_tokens": anthropic_messages.count_tokens,
    "/v1/messages/batches": batches.create_messages,
}

OLLAMA: Final = {"/api/chat": ollama.chat, "/api/generate": ollama.generate, "/api/embed": ollama.embed}

AZURE_DEPLOYMENT: Final = re.compile(r"/openai/deployments/([^/]+)/(.+)")
VERTEX: Final = re.compile(r"/v1/projects/.+/publishers/anthropic/models/([^/:]+):(rawPredict|streamRawPredict)")
STATUS: Final = re.compile(r"(\d{3})(?:x(\d+))?")
DEPLOYED: Final = "gpt-4.1-mini"
"""The model behind an Azure deployment whose name is no model."""

SLOW: Final = 0.05


@dataclass(slots=True)
class Attempt:
    """One HTTP request, answered or not."""

    method: str
    path: str
    status: int
    """0 when the connection was closed instead of an answer."""


class Provider:
    """A provider on a free port of 127.0.0.1, for as long as the `with` block lasts."""

    def __init__(self, port: int = 0) -> None:
        self.memory = Memory()
        self.over = threading.Event()
        """Nobody waits any more: pauses of the scenario `slow` end."""
        self._lock = threading.Lock()
        self._served: list[Served] = []
        self._attempts: list[Attempt] = []
        self._failures: Counter[str] = Counter()
        self._server = _Server(port, self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Base address: the Anthropic API is here, the OpenAI API under `/v1`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def served(self) -> list[Served]:
        """Every answer with status 200 that a provider would charge for, oldest first."""
        with self._lock:
            return list(self._served)

    @property
    def attempts(self) -> list[Attempt]:
        """Every request that arrived, refused ones and lists of models included."""
        with self._lock:
            return list(self._attempts)

    def reset(self) -> None:
        """Forget what was served, the prompt cache and the stored responses."""
        self.memory.clear()
        with self._lock:
            self._served.clear()
            self._attempts.clear()
            self._failures.clear()

    def record(self, request: Request, status: int, reply: Reply | None = None) -> Served | None:
        with self._lock:
            self._attempts.append(Attempt(request.method, request.path, status))
            if reply is None or not reply.metered:
                return None
            usage = None if request.scenario == "no_usage" else reply.usage
            stream = reply.frames is not None
            entry = Served(reply.api, request.path, reply.model, reply.response_id, stream, usage, request.body)
            self._served.append(entry)
            return entry

    def refused_before(self, request: Request, key: str) -> int:
        """How many attempts of this call were refused so far: the client says so, or we count."""
        told = request.headers.get("x-stainless-retry-count")
        if told is not None:
            return int(told)
        with self._lock:
            self._failures[key] += 1
            return self._failures[key] - 1

    def __enter__(self) -> Provider:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.drop_connections()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = False
    block_on_close = True

    def __init__(self, port: int, provider: Provider) -> None:
        self.provider = provider
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def drop_connections(self) -> None:
        with self._open_lock:
            for connection in self._open:
                _hang_up(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error of ours, and there is nobody to tell."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Silent: the demo prints what matters."""

    def do_GET(self) -> None:
        request = self._request()
        if request.path.endswith("/models"):
            reply = openai_media.models()
        else:
            stored = re.fullmatch(r".*/responses/([^/]+)", request.path)
            reply = (
                openai_responses.retrieve(request, stored[1])
                if stored
                else batches.get(request) or gemini.retrieve(request)
            )
        self._answer(request, reply)

    def do_POST(self) -> None:
        request = self._request()
        try:
            request.parse()
        except ValueError:
            return self._refuse(request, 400, "The body is not valid JSON.")
        provider, scenario = self.server.provider, request.scenario
        if scenario == "die_before":
            provider.record(request, 0)
            return self._hang_up()
        if trouble := STATUS.fullmatch(scenario):
            told = request.headers.get("x-client-request-id") or request.headers.get("amz-sdk-invocation-id")
            key = told or request.raw.decode(errors="replace")
            if trouble[2] is None or provider.refused_before(request, key) < int(trouble[2]):
                return self._refuse(request, int(trouble[1]), f"The scenario asks for {trouble[1]}.")
        if scenario == "reject_stream_options" and "stream_options" in request.body:
            return self._refuse(request, 400, "Unrecognized request argument supplied: stream_options")
        return self._answer(request, reply_to(request))

    def _request(self) -> Request:
        headers = {name.lower(): value for name, value in self.headers.items()}
        raw = self._read_chunks() if "transfer-encoding" in headers else self._read_length(headers)
        # A client that takes us for its proxy names the host it wants.
        path, _, query = re.sub(r"^http://[^/]+", "", self.path).partition("?")
        return Request(self.command, path, headers, raw, self.server.provider.memory, query=query)

    def _read_length(self, headers: dict[str, str]) -> bytes:
        return self.rfile.read(int(headers.get("content-length") or 0))

    def _read_chunks(self) -> bytes:
        data = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _answer(self, request: Request, reply: Reply | None) -> None:
        if reply is None:
            return self._refuse(request, 404, f"There is no {request.path} here.")
        entry = self.server.provider.record(request, 200, reply)
        try:
            if reply.frames is None:
                self._write_body(request, reply, entry)
            else:
                self._write_stream(request, reply, reply.frames, entry)
        except OSError:
            if entry is not None:
                entry.completed = False
            self.close_connection = True

    def _write_body(self, request: Request, reply: Reply, entry: Served | None) -> None:
        self._rest(_pause(request))
        self._head(200, reply.content_type, f"{len(reply.content)}", reply.headers)
        if request.scenario == "die":
            self.wfile.write(reply.content[: len(reply.content) // 2])
            return self._hang_up()
        if entry is not None:
            entry.completed = True
        self.wfile.write(reply.content)
        return None

    def _write_stream(self, request: Request, reply: Reply, frames: list[bytes], entry: Served | None) -> None:
        kind = "text/event-stream; charset=utf-8" if reply.content_type == "application/json" else reply.content_type
        gzip = zlib.compressobj(wbits=31) if request.scenario == "gzip" else None
        self._head(200, kind, None, reply.headers | ({"content-encoding": "gzip"} if gzip else {}))
        half, pause = len(frames) // 2, _pause(request)
        for place, frame in enumerate(frames):
            if place == half and request.scenario == "die":
                return self._hang_up()
            if place == half and request.scenario == "error_event":
                self._chunk(reply.error_frame)
                break
            if place == len(frames) - 1 and entry is not None:
                entry.completed = True
            self._chunk(frame if gzip is None else gzip.compress(frame) + gzip.flush(zlib.Z_SYNC_FLUSH))
            self._rest(pause)
        self.wfile.write(b"0\r\n\r\n")
        return None

    def _rest(self, seconds: float) -> None:
        if seconds:
            self.server.provider.over.wait(seconds)

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _head(
        self, status: int, content_type: str, length: str | None, headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("x-amzn-requestid", f"{time.monotonic_ns():x}")
        self.send_header("x-request-id", f"req_{time.monotonic_ns():x}")
        self.send_header("request-id", f"req_{time.monotonic_ns():x}")
        if length is None:
            self.send_header("transfer-encoding", "chunked")
        else:
            self.send_header("content-length", length)
        if status >= 400:
            self.send_header("retry-after-ms", "1")
        self.end_headers()

    def _refuse(self, request: Request, status: int, message: str) -> None:
        self.server.provider.record(request, status)
        headers: dict[str, str] = {}
        if request.path in ANTHROPIC or VERTEX.fullmatch(request.path):
            body = anthropic_messages.error(status, message)
        elif cohere.speaks(request.path):
            body = cohere.error(status, message)
        elif mistral.speaks(request.path):
            body = mistral.error(status, message)
        elif gemini.speaks(request.path):
            body = gemini.error(status, message)
        elif bedrock.speaks(request.path):
            body, headers = bedrock.error(status, message)
        else:
            kind = "invalid_request_error" if status < 429 else "rate_limit" if status == 429 else "server_error"
            body: JSON = {"error": {"message": message, "type": kind, "param": None, "code": None}}
        content = dump(body)
        try:
            self._head(status, "application/json", f"{len(content)}", headers)
            self.wfile.write(content)
        except OSError:
            self.close_connection = True

    def _hang_up(self) -> None:
        self.close_connection = True
        _hang_up(self.connection)


def reply_to(request: Request) -> Reply | None:
    """The answer of the API that lives at this path."""
    path, model = request.path.removeprefix("/anthropic"), str(request.body.get("model") or "")
    if path in ANTHROPIC:
        return ANTHROPIC[path](request, model)
    if vertex := VERTEX.fullmatch(path):
        request.body["stream"] = vertex[2] == "streamRawPredict"
        return anthropic_messages.messages(request, vertex[1].replace("@", "-"))
    if path in OLLAMA:
        return OLLAMA[path](request, model)
    for api in (mistral, cohere, gemini, bedrock):
        if api.speaks(path):
            return api.answer(request)
    if azure := AZURE_DEPLOYMENT.fullmatch(path):
        deployed = azure[1] if azure[1].startswith(("gpt-", "o1", "o3", "o4", "text-")) else DEPLOYED
        if azure[2] == "chat/completions":
            return openai_chat.chat(request, deployed, azure=True)
        return OPENAI[azure[2]](request, deployed) if azure[2] in OPENAI else None
    if stored := re.fullmatch(r".*/responses/([^/]+)/cancel", path):
        return openai_responses.cancel(request, stored[1])
    found = re.fullmatch(r"/(?:openai/)?v1/(.+)", path)
    return OPENAI[found[1]](request, model) if found and found[1] in OPENAI else None


def _pause(request: Request) -> float:
    name, _, seconds = request.scenario.partition(":")
    return float(seconds or SLOW) if name == "slow" else 0.0


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
