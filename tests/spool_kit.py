"""A receiver that answers as it is told, and what is in a spool directory."""

from __future__ import annotations

import gzip
import json
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from emission_kit import Telemetry, call, telemetry
from genai_meter import emit, identity, spool_files
from opentelemetry.sdk.metrics.export import AggregationTemporality

NOWHERE = "http://127.0.0.1:9"
"""Nobody listens there."""


@dataclass
class Answer:
    """What a request is told."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})


@dataclass
class Request:
    """What was received."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    status: int

    @property
    def records(self) -> list[dict[str, Any]]:
        """Its log records, as OTLP in JSON."""
        groups = json.loads(self.body)["resourceLogs"]
        return [record for group in groups for scoped in group["scopeLogs"] for record in scoped["logRecords"]]


class Receiver:
    """An OTLP/HTTP receiver on a free port; `answers` are given in turn, then success."""

    def __init__(
        self, *answers: Answer, judge: Callable[[Request], Answer] | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                encoding = self.headers.get("content-encoding")
                body = gzip.decompress(body) if encoding == "gzip" else zlib.decompress(body) if encoding else body
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.path, headers, body, time.monotonic(), 0)
                answer = receiver.answers.pop(0) if receiver.answers else judge(request) if judge else Answer()
                request.status = answer.status
                receiver.requests.append(request)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            do_GET = do_POST

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._scheme = "http" if tls is None else "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """Its base address."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    @property
    def taken(self) -> list[dict[str, Any]]:
        """Log records of the requests that were answered with success."""
        return [record for request in self.requests if request.status == 200 for record in request.records]

    def wait_for(self, count: int, seconds: float = 60.0) -> list[dict[str, Any]]:
        """Until it has taken so many."""
        deadline = time.monotonic() + seconds
        while len(self.taken) < count:
            assert time.monotonic() < deadline, f"{len(self.taken)} of {count} have come"
            time.sleep(0.02)
        return self.taken

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def spooling(directory: Path, endpoint: str = NOWHERE, **settings: str) -> AbstractContextManager[Telemetry]:
    """A pipeline whose events go through a spool."""
    return telemetry(AggregationTemporality.CUMULATIVE, SPOOL_DIR=str(directory), SPOOL_ENDPOINT=endpoint, **settings)


def states(pipeline: Telemetry) -> dict[str, int]:
    """`genai_meter.spool.events`, without what is zero."""
    points = pipeline.points()["genai_meter.spool.events"]
    return {point.attributes["genai_meter.spool.state"]: int(point.value) for point in points if point.value}


def on_disk(directory: Path, suffix: str = spool_files.EVENTS) -> list[Any]:
    """Events of all files, oldest first."""
    events: list[Any] = []
    for name in spool_files.names(str(directory), suffix):
        # It may be shipped at this moment.
        with suppress(FileNotFoundError):
            events += spool_files.parse((directory / name).read_bytes()).events
    return events


def wait_until(what: Callable[[], bool], seconds: float = 60.0) -> None:
    """Until it is so."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def write_file(directory: Path, events: Sequence[Any], *, tail: bytes = b"", resource: str = "shop") -> Path:
    """A file that a process has left behind, with bytes after its last whole line."""
    directory.mkdir(exist_ok=True)
    head = spool_files.Head({"service.name": resource}, "genai_meter", "0.1.0")
    segment = spool_files.Segment(str(directory), head, spool_files.new_writer())
    for event in events:
        segment.append(spool_files.encode(event).encode())
    segment.close()
    path = Path(segment.path)
    with path.open("ab") as file:
        file.write(tail)
    return path


def an_event(number: int, **attributes: Any) -> list[Any]:
    """A record as it stands in a file."""
    told = {"genai_meter.outcome.name": "resolved", "genai_meter.outcome.id": str(number), **attributes}
    return ["genai_meter.outcome", 10**18 + number, 10**18, "", "", 0, told]


# --- calls ------------------------------------------------------------------------------------------
BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Grüße, \ud83d\ude00"}], "max_tokens": 64}
ANSWER = {
    "object": "chat.completion",
    "id": "chatcmpl-Grüße-☃",
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
    "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
}


def make(number: int = 1) -> str:
    """One call, metered; its response id."""
    return finished(f"chatcmpl-{number}")


def finished(response_id: str) -> str:
    """A call as a client library hands it over, with its answer; metered when this returns."""
    made = call("openai_chat", BODY, answer={**ANSWER, "id": response_id}, call_id=identity.new_call_id())
    emit.finish(made, "ok")
    return response_id


def response_ids(records: list[dict[str, Any]]) -> list[str]:
    """Of log records in OTLP's JSON."""
    pairs = ({pair["key"]: pair["value"] for pair in record["attributes"]} for record in records)
    return [attributes["gen_ai.response.id"]["stringValue"] for attributes in pairs]
