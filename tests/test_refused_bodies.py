"""A body that is refused: whoever sends it sees why, whether it reads before it has sent all or not."""

from __future__ import annotations

import http.client
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import httpx2
import pytest
import requests
from exporter_kit import NOW, Served, fetch
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.resources import Resource

MIB = 1024 * 1024
LARGE = 12 * MIB
TYPE = {"content-type": "application/x-protobuf"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    """Takes 1 MiB at a time."""
    limits = {"body_bytes": MIB, "inflated_bytes": MIB}
    with Served(tmp_path_factory.mktemp("exporter"), {"limits": limits}) as running:
        yield running


# --- real clients ---------------------------------------------------------------------------------------
def pieces() -> Iterator[bytes]:
    """A large body of unknown length."""
    for _ in range(LARGE // 65_536):
        yield b"\0" * 65_536


def by_urllib(url: str, _place: Path) -> int:
    return fetch(url, b"\0" * LARGE, TYPE).status


def by_http_client(url: str, _place: Path) -> int:
    connection = http.client.HTTPConnection(url.split("/")[2], timeout=60)
    connection.request("POST", "/v1/logs", b"\0" * LARGE, TYPE)
    with connection.getresponse() as response:
        return response.status


def by_requests(url: str, _place: Path) -> int:
    return requests.post(url, b"\0" * LARGE, headers=TYPE, timeout=60).status_code


def by_requests_that_close(url: str, _place: Path) -> int:
    return requests.post(url, b"\0" * LARGE, headers={**TYPE, "connection": "close"}, timeout=60).status_code


def by_requests_in_pieces(url: str, _place: Path) -> int:
    return requests.post(url, pieces(), headers={**TYPE, "connection": "close"}, timeout=60).status_code


def by_httpx2(url: str, _place: Path) -> int:
    return httpx2.post(url, content=b"\0" * LARGE, headers=TYPE, timeout=60).status_code


def by_httpx2_in_pieces(url: str, _place: Path) -> int:
    return httpx2.post(url, content=pieces(), headers={**TYPE, "connection": "close"}, timeout=60).status_code


def by_curl(url: str, place: Path) -> int:
    return curl(url, place, "Connection: close")


def by_curl_that_does_not_ask(url: str, place: Path) -> int:
    return curl(url, place, "Expect:")


def curl(url: str, place: Path, header: str) -> int:
    """The status that it prints."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not here")
    (place / "body").write_bytes(b"\0" * LARGE)
    command = ["curl", "-sS", "-w", "%{http_code}", "-o", place / "answer", "-H", header, "--data-binary"]
    command += [f"@{place / 'body'}", "-H", "content-type: application/x-protobuf", url]
    return int(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)


CLIENTS: tuple[Callable[[str, Path], int], ...] = (
    by_urllib,
    by_http_client,
    by_requests,
    by_requests_that_close,
    by_requests_in_pieces,
    by_httpx2,
    by_httpx2_in_pieces,
    by_curl,
    by_curl_that_does_not_ask,
)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
def test_a_client_sees_that_its_body_is_too_large(
    served: Served, client: Callable[[str, Path], int], tmp_path: Path
) -> None:
    assert [client(f"{served.http}/v1/logs", tmp_path) for _ in range(3)] == [413] * 3


def test_the_exporter_of_the_sdk_sees_it(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """It gives up at once: what is too large now is too large later."""
    exporter = OTLPLogExporter(f"{served.http}/v1/logs", headers={"connection": "close"}, timeout=60)
    record = LogRecord(timestamp=NOW, body="x" * LARGE)
    batch = [ReadableLogRecord(log_record=record, resource=Resource({}))]
    started = time.monotonic()
    assert exporter.export(batch) is LogRecordExportResult.FAILURE
    assert time.monotonic() - started < 25
    assert "413" in caplog.text
    exporter.shutdown()


# --- over a socket --------------------------------------------------------------------------------------
def connect(served: Served) -> socket.socket:
    """To its port for OTLP/HTTP."""
    host, _, port = served.http.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def head(length: int, *more: str, path: str = "/v1/logs") -> bytes:
    """Of a request with a body."""
    lines = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/x-protobuf", f"content-length: {length}"]
    return "\r\n".join([*lines, *more, "", ""]).encode()


def rest(connection: socket.socket) -> bytes:
    """All that comes until the server ends the connection; a reset is an error."""
    parts: list[bytes] = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def test_the_answer_does_not_wait_for_a_large_body(served: Served) -> None:
    with connect(served) as connection:
        connection.sendall(head(LARGE))
        first = connection.recv(65_536)
        # Head and body may come apart.
        while b"send smaller batches" not in first and (part := connection.recv(65_536)):
            first += part
        assert first.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close\r\n" in first
        assert b"the body exceeds 1048576 bytes (limits.body_bytes): send smaller batches" in first
        connection.sendall(b"\0" * LARGE)
        assert rest(connection) == b""


@pytest.mark.parametrize("header", ["connection: close", "connection: keep-alive"])
def test_who_sends_all_before_it_reads_sees_the_answer_and_an_orderly_end(served: Served, header: str) -> None:
    with connect(served) as connection:
        connection.sendall(head(LARGE, header))
        connection.sendall(b"\0" * LARGE)
        time.sleep(0.2)
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.count(b"connection: close") == 1


def test_who_asks_first_is_not_told_to_go_on(served: Served) -> None:
    with connect(served) as connection:
        connection.sendall(head(LARGE, "expect: 100-continue"))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("path", ["/v1/logs", "/v1/profiles"])
def test_a_body_without_end_is_not_read_for_ever(served: Served, path: str) -> None:
    """Sixteen times the limit, then the connection is cut."""
    sent = 0
    with connect(served) as connection:
        connection.sendall(head(10**12, path=path))
        with pytest.raises(ConnectionError):  # noqa: PT012
            while sent < 200 * MIB:
                connection.sendall(b"\0" * MIB)
                sent += 1 * MIB
    assert 15 * MIB < sent < 60 * MIB


def test_a_client_that_falls_silent_is_not_waited_for_longer_than_others(tmp_path: Path) -> None:
    limits = {"body_bytes": MIB, "inflated_bytes": MIB, "request_seconds": 2.0}
    with Served(tmp_path, {"limits": limits}) as served, connect(served) as connection:
        started = time.monotonic()
        connection.sendall(head(LARGE) + b"\0" * 1000)
        assert rest(connection).startswith(b"HTTP/1.1 413 ")
        assert 1.9 < time.monotonic() - started < 25


def test_after_a_small_body_that_is_refused_the_connection_lives_on(served: Served) -> None:
    connection = http.client.HTTPConnection(served.http.removeprefix("http://"), timeout=60)
    connection.connect()
    first = connection.sock
    for path, status in (("/v1/profiles", 404), ("/v1/logs", 400), ("/v1/profiles", 404)):
        connection.request("POST", path, b"\xff" * 20_000, TYPE)
        with connection.getresponse() as response:
            assert (response.status, response.headers["connection"]) == (status, None)
            response.read()
        assert connection.sock is first
    connection.close()
