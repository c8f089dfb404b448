"""Running it: its log, its own telemetry, readiness, back-pressure, shutdown, clocks that are wrong."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from exporter_kit import Served, SpanOf, fetch, logs, new_id, traces, usage_event
from fuzz_kit import resident
from genai_meter_exporter.bounds import Bounds
from genai_meter_exporter.counters import Counters
from genai_meter_exporter.metrics import LiveFacts
from genai_meter_exporter.normalise import Batch
from genai_meter_exporter.pipeline import Busy, Pipeline
from genai_meter_exporter.receive import protobuf
from genai_meter_exporter.series import SeriesKey
from genai_meter_exporter.store.base import Written
from genai_meter_exporter.store.reader import SqliteReader
from genai_meter_exporter.store.sqlite import SqliteStore
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from examples.children import free_port

MIB = 1024 * 1024


# --- back-pressure -----------------------------------------------------------------------------------
class Slow(SqliteStore):
    """A disk that takes its time."""

    def write(self, batches: Sequence[Batch], shown: Sequence[SeriesKey], now_ns: int) -> Written:
        """After a while."""
        time.sleep(0.1)
        return super().write(batches, shown, now_ns)


@pytest.mark.parametrize("seconds", [2, pytest.param(120, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
async def test_a_slow_store_refuses_and_does_not_grow(
    tmp_path: Path, seconds: float, record_property: Callable[[str, object], None]
) -> None:
    """Much more is sent than the store takes: memory stays, what was acknowledged is there."""
    bounds = Bounds({}, 100, 1000)
    store = Slow(tmp_path / "ledger.db", bounds, synchronous="NORMAL", window_ns=1_000_000_000)
    pipeline = Pipeline(
        store, Counters(15), bounds, LiveFacts(), queue_requests=50, queue_bytes=4 * MIB, group_records=400
    )
    pipeline.start()
    filler = [SpanOf({"http.method": "GET", "x": "y" * 500}, span_id=bytes((n, 1) * 4)) for n in range(200)]
    padding = traces(filler).SerializeToString()
    acknowledged: list[bytes] = []
    refused = 0

    async def send() -> None:
        nonlocal refused
        event = usage_event(call_id=new_id(time.time_ns()))
        try:
            await pipeline.accept("logs", logs([event]).SerializeToString(), protobuf.parse)
        except Busy:
            refused += 1
        else:
            acknowledged.append(event.call_id)

    async def heavy() -> None:
        nonlocal refused
        try:
            await pipeline.accept("traces", padding, protobuf.parse)
        except Busy:
            refused += 1

    ends, warm, waiting = time.monotonic() + seconds, 0, set[asyncio.Task[None]]()
    halfway = time.monotonic() + seconds / 2
    while time.monotonic() < ends:
        for made in (send(), send(), heavy(), heavy()):
            task = asyncio.ensure_future(made)
            waiting.add(task)
            task.add_done_callback(waiting.discard)
        await asyncio.sleep(0.0005)
        if not warm and time.monotonic() > halfway:
            warm = resident()
        assert pipeline.load.requests <= 50
        assert pipeline.load.bytes <= 4 * MIB
    grown = resident() - warm
    await asyncio.gather(*waiting)
    assert pipeline.load[:2] == (0, 0)
    await asyncio.to_thread(pipeline.stop)
    reader = SqliteReader(tmp_path / "ledger.db")
    missing = [call_id for call_id in acknowledged if reader.get(call_id) is None]
    kept = reader.totals()[0]
    reader.close()
    record_property(
        "table",
        f"{seconds:.0f} s: {len(acknowledged):,} acknowledged, {kept:,} in the ledger, {refused:,} refused, "
        f"memory grown by {grown / MIB:.1f} MiB in the second half",
    )
    assert missing == []
    assert kept == len(acknowledged)
    assert min(refused, len(acknowledged)) > 10
    assert grown < 32 * MIB


def test_requests_that_are_being_received_have_their_room(tmp_path: Path) -> None:
    """Bodies that come slowly count: their senders are told to come again before memory is full of them."""
    limits = {"queue_bytes": 100_000, "body_bytes": 80_000, "inflated_bytes": 100_000, "request_seconds": 5.0}
    with Served(tmp_path / "data", {"limits": limits}) as served:
        host, _, port = served.http.removeprefix("http://").rpartition(":")
        head = b"POST /v1/logs HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n"
        with socket.create_connection((host, int(port)), timeout=60) as slow:
            slow.sendall(head + b"content-length: 80000\r\n\r\n" + b"x" * 10)
            deadline = time.monotonic() + 60
            while served.value("queue_bytes") != 80_000:
                assert time.monotonic() < deadline
            refused = served.post("logs", b"x" * 30_000)
            assert (refused.status, refused.headers["retry-after"]) == (429, "5")
            assert served.post("logs", b"").status == 200
            assert slow.recv(100).startswith(b"HTTP/1.1 408")
        assert served.value("queue_bytes") == 0
        served.send(usage_event())


# --- readiness and shutdown --------------------------------------------------------------------------
def test_a_full_queue_and_a_shutdown_are_not_ready(tmp_path: Path) -> None:
    config = {"limits": {"queue_requests": 1}, "store": {"busy_seconds": 60.0}}
    served = Served(tmp_path / "data", config).start()
    blocker = sqlite3.connect(served.ledger, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(served.post, "logs", logs([usage_event()]).SerializeToString())
        wait_for(lambda: served.value("queue_requests") == 1)
        ready = fetch(f"{served.status_url}/readyz")
        assert (ready.status, ready.body) == (503, b"the queue is full\n")
        served.process.send_signal(signal.SIGTERM)
        wait_for(lambda: fetch(f"{served.status_url}/readyz").body == b"shutting down\n")
        assert fetch(f"{served.status_url}/healthz").status == 200
        blocker.execute("ROLLBACK")
        blocker.close()
        assert waiting.result().status == 200
    assert served.ended() == 0


def test_told_twice_it_ends_without_what_is_under_way(tmp_path: Path) -> None:
    served = Served(tmp_path / "data", {"store": {"busy_seconds": 6.0}}).start()
    event = usage_event()
    blocker = sqlite3.connect(served.ledger, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(served.post, "logs", logs([event]).SerializeToString())
        wait_for(lambda: served.value("queue_requests") == 1)
        served.process.send_signal(signal.SIGTERM)
        wait_for(lambda: fetch(f"{served.status_url}/readyz").body == b"shutting down\n")
        began = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        assert served.ended() == 1
        assert time.monotonic() - began < 40
        # Not acknowledged: the producer sends again.
        assert waiting.exception() is not None or waiting.result().status != 200
    blocker.execute("ROLLBACK")
    blocker.close()
    with served:
        assert served.post("logs", logs([event]).SerializeToString()).status == 200
        assert served.value("ledger_events_total") == 1


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it holds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- what it tells of itself -------------------------------------------------------------------------
def test_the_log_may_be_json(tmp_path: Path) -> None:
    with Served(tmp_path / "data", {"telemetry": {"log_format": "json"}}) as served:
        served.post("logs", b"\xff")
    lines = [json.loads(line) for line in (served.data / "stderr.log").read_text(encoding="utf-8").splitlines()]
    assert [(line["level"], line["logger"]) for line in lines] == [("WARNING", "genai_meter_exporter")]
    assert lines[0]["message"].startswith("a request was refused: not an OTLP logs request in protobuf")
    assert set(lines[0]) == {"time", "level", "logger", "message"}


def test_wrong_clocks_are_counted_and_named_once_and_their_calls_kept(tmp_path: Path) -> None:
    year = 365 * 86_400_000_000_000
    now = time.time_ns()
    with Served(tmp_path / "data") as served:
        served.send(*(usage_event(start_ns=now + year + n, team="search") for n in range(3)))
        served.send(*(usage_event(start_ns=now - year - n, team="search") for n in range(2)))
        served.send(usage_event(start_ns=now - 86_400_000_000_000, team="search"))
        who = {"team": "search", "environment": "prod", "service": "shop"}
        served.settled("clock_ahead_requests_total", 3, **who)
        served.settled("late_requests_total", 2, **who)
        assert served.value("ledger_events_total") == 6
        found = json.loads(fetch(f"{served.status_url}/v1/usage?grain=day&since=all").body)
    days = [time.strftime("%Y-%m-%d", time.gmtime((now + offset) / 1e9)) for offset in (-year, -year // 365, year)]
    assert [(row["period"], row["calls"]) for row in found["rows"]] == list(zip(days, (2, 1, 3), strict=True))
    told = (served.data / "stderr.log").read_text(encoding="utf-8")
    assert [line.partition("WARNING ")[2] for line in told.splitlines()] == [
        "a clock is ahead, calls count into a day that has not come: service shop, environment prod, team search "
        "(logged once)",
        "calls are more than a week old, or a clock is behind: service shop, environment prod, team search "
        "(logged once)",
    ]


class Sink:
    """A collector that keeps what it is sent."""

    def __init__(self) -> None:
        self.bodies: list[tuple[str, bytes]] = []
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                sink.bodies.append((self.path, body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def spans(self) -> list[tuple[str, dict[str, Any]]]:
        """Names and attributes."""
        requests = [ExportTraceServiceRequest.FromString(body) for path, body in self.bodies if path == "/v1/traces"]
        return [
            (span.name, {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes})
            for request in requests
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


def test_its_own_spans_and_metrics_go_to_a_collector_and_beget_no_others(tmp_path: Path) -> None:
    sink = Sink()
    config = {"telemetry": {"traces": True, "metrics": True}}
    with Served(tmp_path / "data", config, {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}) as served:
        body = logs([usage_event(), usage_event(input_tokens=-1)]).SerializeToString()
        assert served.post("logs", body).status == 200
        # What comes back through a collector that sends everything here.
        own = SpanOf({"genai_meter.signal": "logs", "genai_meter.records": 2}, name="receive logs", scope="x")
        for _ in range(3):
            assert served.post("traces", traces([own]).SerializeToString()).status == 200
        served.stop()
    sink.close()
    spans = sink.spans()
    assert sorted(name for name, _ in spans) == ["commit", "receive logs"]
    assert dict(spans)["receive logs"] == {
        "genai_meter.signal": "logs",
        "genai_meter.records": 2,
        "genai_meter.records.quarantined": 1,
        "genai_meter.request.size": len(body),
    }
    assert dict(spans)["commit"] == {"genai_meter.requests": 1, "genai_meter.records": 2}
    metrics = [ExportMetricsServiceRequest.FromString(body) for path, body in sink.bodies if path == "/v1/metrics"]
    groups = [group for one in metrics for group in one.resource_metrics]
    names = {metric.name for group in groups for scope in group.scope_metrics for metric in scope.metrics}
    assert names == {
        "genai_meter.exporter.request.duration",
        "genai_meter.exporter.commit.duration",
        "genai_meter.exporter.records",
        "genai_meter.exporter.queue.size",
    }
    resource = {pair.key: pair.value.string_value for pair in groups[0].resource.attributes}
    assert resource["service.name"] == "genai-meter-exporter"


def test_nothing_is_sent_unless_asked_for_and_never_to_itself(tmp_path: Path) -> None:
    sink = Sink()
    with Served(tmp_path / "quiet", env={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}) as served:
        served.send(usage_event())
    sink.close()
    assert sink.bodies == []
    port = free_port()
    config = {"listen": {"http_port": port, "grpc_port": 0, "metrics_port": 0}, "telemetry": {"traces": True}}
    itself = Served(tmp_path / "loop", config, {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://localhost:{port}"})
    with pytest.raises(AssertionError, match=r"telemetry.traces: the endpoint .* is this exporter's own"):
        itself.start(keep_ports=True)
    assert itself.ended() == 2
