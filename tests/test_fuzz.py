"""The receivers under payloads that nobody should send: no crash, no hang, no growth, nothing half-written.

`make fuzz` runs the long form: more than a million payloads, a part of them guided by coverage (atheris).
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import socket
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest
from environments import Environment
from exporter_kit import Served, fetch, logs, logs_json, usage_event
from fuzz_kit import Ledger, ask, handler, payloads, resident, wrapped

MIB = 1024 * 1024
ROOT = Path(__file__).resolve().parents[1]

COVERAGE_GUIDED = Environment(
    "atheris",
    ("atheris==3.0.0",),
    (
        *("opentelemetry-sdk", "opentelemetry-instrumentation", "opentelemetry-exporter-otlp", "opentelemetry-proto"),
        *("grpcio", "protobuf", "uvicorn", "httptools", "orjson", "prometheus-client", "pydantic", "pyyaml", "rich"),
    ),
    editable=True,
)


@pytest.mark.parametrize("count", [12_000, pytest.param(700_000, marks=[pytest.mark.slow, pytest.mark.timeout(5400)])])
def test_changed_requests(tmp_path: Path, count: int, record_property: Callable[[str, object], None]) -> None:
    random = Random(f"requests {count}")
    ledger = Ledger(tmp_path / "ledger.db")
    warm, longest = 0, 0.0
    for number, (signal, encoding, body) in enumerate(payloads(random, count)):
        if number == count // 2:
            warm = resident()
        before = time.process_time()
        ledger.put(signal, encoding, body)
        longest = max(longest, time.process_time() - before)
    grown = resident() - warm
    ledger.close()
    seen = ledger.seen
    told = f"{count:,} requests: {dict(seen)}; longest {longest:.3f} s, grown {grown / MIB:.1f} MiB"
    record_property("table", told)
    assert seen["refused"] + seen["read"] == count
    assert min(seen["refused"], seen["read"], seen["quarantined"], seen["records"]) > count / 50
    assert longest < 5
    assert grown < 64 * MIB


@pytest.mark.parametrize("count", [4_000, pytest.param(200_000, marks=[pytest.mark.slow, pytest.mark.timeout(5400)])])
async def test_changed_requests_over_http(
    tmp_path: Path, count: int, record_property: Callable[[str, object], None]
) -> None:
    random = Random(f"http {count}")
    statuses: Counter[int] = Counter()
    warm = 0
    async with handler(tmp_path / "ledger.db") as application:
        stream = payloads(random, count)
        for done in range(0, count, 100):
            if done >= count // 2 and not warm:
                warm = resident()
            asked: list[Any] = []
            for signal, encoding, body in (next(stream) for _ in range(100)):
                headers, chunks = wrapped(random, encoding, body)
                path = f"/v1/{signal}" if random.random() < 0.99 else random.choice(("/", "/v1/logs/", "/v1/%00"))
                asked.append(ask(application, path, headers, chunks))
            statuses.update(await asyncio.wait_for(asyncio.gather(*asked), 60))
        grown = resident() - warm
    record_property("table", f"{count:,} HTTP requests: {dict(sorted(statuses.items()))}; grown {grown / MIB:.1f} MiB")
    assert statuses.keys() == {200, 400, 404, 413, 415}
    assert grown < 64 * MIB


def test_what_coverage_guided_imports_needs_no_pytest() -> None:
    """Its environment has none."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['pytest'] = None; import fuzz_kit"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_coverage_guided(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    runs = int(os.environ.get("FUZZ_RUNS", "200000"))
    done = subprocess.run(
        [
            *(COVERAGE_GUIDED.python(), ROOT / "tests" / "fuzz_guided.py", f"-runs={runs}"),
            *("-max_len=4096", "-timeout=20", "-rss_limit_mb=1024", f"-artifact_prefix={tmp_path}/", tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    record_property("table", "\n".join(done.stderr.splitlines()[-3:]))
    assert f"Done {runs}" in done.stderr


# --- a status for each -------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """With small limits and short patience."""
    limits = {"body_bytes": 100_000, "inflated_bytes": 200_000, "request_seconds": 1.5}
    with Served(tmp_path_factory.mktemp("data"), {"limits": limits}) as running:
        yield running


GOOD = logs([usage_event()]).SerializeToString()
JSON = {"content-type": "application/json"}


def nested(levels: int) -> bytes:
    """A JSON request with a value that deep."""
    event = usage_event()
    document = logs_json([event])
    value: Any = {"stringValue": "x"}
    for _ in range(levels):
        value = {"arrayValue": {"values": [value]}}
    record = document["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    record["attributes"].append({"key": "gen_ai.response.finish_reasons", "value": value})
    return json.dumps(document).encode()


def nested_protobuf(levels: int, *, body: bool = False) -> bytes:
    """The same in protobuf, made from the inside: each level is an AnyValue with an ArrayValue. `body`: as the body."""

    def field(number: int, content: bytes) -> bytes:
        size, length = len(content), b""
        while size > 127:
            length, size = length + bytes((size & 127 | 128,)), size >> 7
        return bytes((number << 3 | 2,)) + length + bytes((size,)) + content

    value = field(1, b"x")
    for _ in range(levels):
        value = field(5, field(1, value))
    pair = field(1, b"gen_ai.response.finish_reasons") + field(2, value)
    content = field(5, value) if body else field(6, pair)
    return field(1, field(2, field(2, content + field(12, b"genai_meter.usage"))))


OVER_HTTP: list[tuple[str, bytes, dict[str, str], int]] = [
    ("good", GOOD, {}, 200),
    ("empty", b"", {}, 200),
    ("random bytes", b"\xff" * 50, {}, 400),
    ("truncated protobuf", GOOD[:-3], {}, 400),
    ("protobuf called JSON", GOOD, JSON, 400),
    ("JSON called protobuf", json.dumps(logs_json([usage_event()])).encode(), {}, 400),
    ("truncated JSON", b'{"resourceLogs": [', JSON, 400),
    ("JSON, 20,000 brackets", b"[" * 20_000, JSON, 400),
    ("JSON, an integer of 50,000 digits", b'{"resourceLogs":' + b"9" * 50_000 + b"}", JSON, 400),
    ("JSON, no UTF-8", b'{"resourceLogs": "\xff"}', JSON, 400),
    ("JSON value, 20 levels", nested(20), JSON, 200),
    ("JSON value, 300 levels", nested(300), JSON, 400),
    ("protobuf body, 300 levels", nested_protobuf(300, body=True), {}, 400),
    ("protobuf attribute, 300 levels", nested_protobuf(300), {}, 200),
    ("no gzip", GOOD, {"content-encoding": "gzip"}, 400),
    ("truncated gzip", gzip.compress(GOOD, mtime=0)[:-5], {"content-encoding": "gzip"}, 400),
    ("gzip bomb, 50 MB", gzip.compress(b"\0" * 50_000_000, mtime=0), {"content-encoding": "gzip"}, 413),
    ("deflate bomb, 50 MB", zlib.compress(b"\0" * 50_000_000), {"content-encoding": "deflate"}, 413),
    ("gzip in gzip", gzip.compress(gzip.compress(GOOD, mtime=0), mtime=0), {"content-encoding": "gzip"}, 400),
    ("brotli", GOOD, {"content-encoding": "br"}, 415),
    ("text", GOOD, {"content-type": "text/plain"}, 415),
    ("too large", b"\0" * 100_001, {}, 413),
    ("a length that is none", GOOD, {"content-length": "x"}, 400),
]


def test_a_clear_status_for_each_over_http(served: Served, record_property: Callable[[str, object], None]) -> None:
    lines: list[str] = []
    for name, body, headers, expected in OVER_HTTP:
        answer = fetch(f"{served.http}/v1/logs", body, {"content-type": "application/x-protobuf", **headers})
        lines.append(f"{name:<36} {answer.status}  {answer.body[:90]!r}")
        assert answer.status == expected, lines[-1]
        # What one record is to blame for is refused with that record.
        assert (b"an attribute is no OTLP KeyValue" in answer.body) == name.startswith("protobuf attribute")
    record_property("table", "\n".join(lines))
    assert fetch(f"{served.status_url}/readyz").status == 200


def over_socket(address: str, data: bytes, *, wait: float = 5) -> bytes:
    """What a listener answers to bytes, until it closes or is silent."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=wait) as connection:
        told = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            connection.sendall(data)
            while chunk := connection.recv(65536):
                told += chunk
        return told


HEAD = b"POST /v1/logs HTTP/1.1\r\nhost: x\r\n"
OVER_SOCKETS: list[tuple[str, bytes, bytes]] = [
    ("no HTTP", b"\x16\x03\x01\x02\x00" * 20 + b"\r\n\r\n", b"400"),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
    ("a header of 300 kB", HEAD + b"x: " + b"y" * 300_000 + b"\r\n\r\n", b"431"),
    ("20,000 headers", HEAD + b"".join(b"h%d: v\r\n" % number for number in range(20_000)) + b"\r\n", b"431"),
    ("a path of 300 kB", b"POST /" + b"y" * 300_000 + b" HTTP/1.1\r\n\r\n", b"431"),
    ("a path that is no UTF-8", b"POST /v1/%ff%fe HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", b"404"),
    ("a path of raw bytes", b"POST /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n", b"400"),
    ("two lengths", HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab", b"400"),
    ("length and chunks", HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
    ("a chunk that has no size", HEAD + b"transfer-encoding: chunked\r\n\r\nxyz\r\n", b"400"),
    ("a head that never ends", HEAD, b"408"),
    (
        "a body that never ends",
        HEAD + b"content-type: application/x-protobuf\r\ncontent-length: 10\r\n\r\nabc",
        b"408",
    ),
    ("an upgrade", HEAD + b"connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 0\r\n\r\n", b"415"),
]


def test_a_clear_status_for_each_over_a_socket(served: Served, record_property: Callable[[str, object], None]) -> None:
    lines: list[str] = []
    for name, data, expected in OVER_SOCKETS:
        told = over_socket(served.http, data).partition(b"\r\n")[0]
        lines.append(f"{name:<36} {told.decode()}")
        assert told.startswith(b"HTTP/1.1 " + expected), lines[-1]
    record_property("table", "\n".join(lines))
    assert fetch(f"{served.status_url}/readyz").status == 200


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One of HTTP/2."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
OVER_GRPC: list[tuple[str, bytes]] = [
    ("random bytes", b"\xff" * 1000),
    ("HTTP/1.1", HEAD + b"\r\n"),
    ("hpack: an index that is not there", PREFACE + frame(1, 5, 1, b"\xff\xff\xff\xff\x7f" * 20)),
    ("hpack: a table of 4 GB", PREFACE + frame(1, 5, 1, b"\x3f\xe1\xff\xff\xff\x0f" * 10)),
    ("hpack: a name without end", PREFACE + frame(1, 5, 1, b"\x00\x7f\xff\xff\xff\xff\x7f")),
    ("headers of 1 MB in 60 frames", PREFACE + frame(1, 0, 1, b"\x00" * 16_000) + frame(9, 0, 1, b"\0" * 16_000) * 60),
    ("data without headers", PREFACE + frame(0, 1, 1, b"x" * 100)),
    ("a frame of 16 MB", PREFACE + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01"),
    ("10,000 resets", PREFACE + b"".join(frame(3, 0, 2 * n + 1, b"\0" * 4) for n in range(10_000))),
    ("10,000 settings", PREFACE + frame(4, 0, 0, b"\x00\x03\x00\x00\x00\x64") * 10_000),
    ("10,000 pings", PREFACE + frame(6, 0, 0, b"12345678") * 10_000),
]


def test_grpc_survives_garbage(served: Served, record_property: Callable[[str, object], None]) -> None:
    lines: list[str] = []
    for name, data in OVER_GRPC:
        told = over_socket(served.grpc, data, wait=1)
        kinds = Counter(_FRAMES.get(told[at + 3], "?") for at in frames(told))
        lines.append(f"{name:<36} {', '.join(f'{count} {kind}' for kind, count in kinds.items())}")
        assert "?" not in kinds
    untyped: Any = grpc
    with untyped.insecure_channel(served.grpc) as channel:
        for method, body, code in (
            ("/opentelemetry.proto.collector.logs.v1.LogsService/Export", b"\xff", "INVALID_ARGUMENT"),
            (
                "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
                nested_protobuf(300, body=True),
                "INVALID_ARGUMENT",
            ),
            ("/opentelemetry.proto.collector.logs.v1.LogsService/Export", b"x" * 100_001, "RESOURCE_EXHAUSTED"),
            ("/opentelemetry.proto.collector.logs.v1.LogsService/Import", b"", "UNIMPLEMENTED"),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(method)(body, timeout=60)
            refusal: Any = caught.value
            lines.append(f"{method.rpartition('.')[2]}, {len(body)} bytes: {refusal.code().name}")
            assert refusal.code().name == code, lines[-1]
        assert channel.unary_unary("/opentelemetry.proto.collector.logs.v1.LogsService/Export")(GOOD, timeout=60) == b""
    record_property("table", "\n".join(lines))
    assert fetch(f"{served.status_url}/readyz").status == 200


_FRAMES = {
    **dict(enumerate(("DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY"))),
    8: "WINDOW_UPDATE",
}


def frames(told: bytes) -> Iterator[int]:
    """Where each frame of HTTP/2 starts."""
    at = 0
    while at + 9 <= len(told):
        yield at
        at += 9 + int.from_bytes(told[at : at + 3], "big")


@pytest.mark.parametrize("count", [150, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_random_bytes_on_all_listeners(served: Served, count: int) -> None:
    random = Random(f"sockets {count}")
    before = served.memory()
    for number in range(count):
        address = (served.http, served.grpc, served.status_url)[number % 3]
        start = random.choice((b"", HEAD, PREFACE, HEAD + b"content-length: 5\r\n\r\n"))
        host, _, port = address.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(start + random.randbytes(random.randrange(400)))
        if number % 500 == 499:
            # No flood: what came is worked off before more comes.
            is_ready(served)
    is_ready(served)
    assert served.post("logs", GOOD).status == 200
    assert served.memory() - before < 64 * MIB


def is_ready(served: Served) -> None:
    """It answers, and calls can be taken; at once, or when the connections before have been looked at."""
    deadline = time.monotonic() + 60
    while fetch(f"{served.status_url}/readyz").status != 200:
        assert time.monotonic() < deadline
