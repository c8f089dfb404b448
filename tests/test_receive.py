"""OTLP in: each protocol and encoding, what is committed before the answer, and every refusal."""

from __future__ import annotations

import gzip
import json
import sqlite3
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest
from exporter_kit import NOW, Event, Served, SpanOf, fetch, logs, logs_json, traces, traces_json, usage_event
from genai_meter_exporter.normalise.wanted import WANTED
from genai_meter_exporter.receive import json as otlp_json
from genai_meter_exporter.receive import protobuf, wire
from genai_meter_exporter.receive.values import attributes_of
from genai_meter_exporter.store import open_readonly
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource

LIMITS = {"body_bytes": 100_000, "inflated_bytes": 200_000}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An exporter with small limits, shared: tests look at differences."""
    with Served(tmp_path_factory.mktemp("data"), {"limits": LIMITS, "store": {"busy_seconds": 0.2}}) as running:
        yield running


class Growth:
    """How much a counter has grown."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._before = served.scrape()

    def __call__(self, name: str, **labels: str) -> float:
        """Since this was made."""
        key = (f"genai_meter_{name}", frozenset(labels.items()))
        return self._served.scrape()[key] - self._before[key]


def stored(served: Served, event: Event) -> dict[str, Any] | None:
    """The ledger's row of an event."""
    reader = open_readonly(served.ledger)
    try:
        row = reader.get(event.call_id)
        return dict(row) if row else None
    finally:
        reader.close()


def with_sdk(exporter: HttpLogExporter | GrpcLogExporter, event: Event) -> None:
    """Send an event through the SDK's own exporter, as an application does."""
    provider = LoggerProvider(resource=Resource({"service.name": "shop"}))
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    provider.get_logger("genai_meter").emit(timestamp=event.time_ns, event_name=event.name, attributes=event.attributes)
    provider.shutdown()


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip, Compression.Deflate])
def test_the_sdks_http_exporter_is_understood(served: Served, compression: Compression) -> None:
    event = usage_event(tenant="acme")
    with_sdk(HttpLogExporter(endpoint=f"{served.http}/v1/logs", compression=compression), event)
    row = stored(served, event)
    assert row is not None
    assert (row["tenant"], row["service"], row["cost"]) == ("acme", "shop", 3_500_000_000)


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_the_sdks_grpc_exporter_is_understood(served: Served, compression: grpc.Compression) -> None:
    event = usage_event(tenant="acme")
    with_sdk(GrpcLogExporter(endpoint=served.grpc, insecure=True, compression=compression), event)
    row = stored(served, event)
    assert row is not None
    assert (row["tenant"], row["service"], row["cost"]) == ("acme", "shop", 3_500_000_000)


AWKWARD: dict[str, Any] = {
    "text": "ä\u2028\U0001f600",
    "gen_ai.request.stream": True,
    "genai_meter.cache_hit": False,
    "genai_meter.usage.audio_seconds_in": 1.25,
    "genai_meter.usage.input": 2**53 + 1,
    "genai_meter.request.tools": 0,
    "gen_ai.response.finish_reasons": ["stop", "length"],
    "genai_meter.tenant": "",
}


def test_protobuf_and_json_read_the_same() -> None:
    event = Event({**usage_event().attributes, **AWKWARD}, trace_id=b"\x0a" * 16, span_id=b"\x0b" * 8)
    other = Event({"message": "nothing of ours"}, name="http.request")
    read = protobuf.parse("logs", logs([event, other]).SerializeToString())
    for record in read.records:
        # The attributes of our own events are left for whoever needs them.
        assert record.encoded is not None
        record.attributes, record.encoded = attributes_of(wire.decoded(record.encoded), WANTED), None
    assert otlp_json.parse("logs", orjson.dumps(logs_json([event, other]))) == read
    spans = [
        SpanOf({"gen_ai.operation.name": "chat", **AWKWARD}, parent=b"\x07" * 8, failed=True),
        SpanOf({"http.method": "GET"}, span_id=b"\x09" * 8),
    ]
    assert otlp_json.parse("traces", orjson.dumps(traces_json(spans))) == protobuf.parse(
        "traces", traces(spans).SerializeToString()
    )


def test_json_over_http(served: Served) -> None:
    event = usage_event(tenant="acme")
    answer = served.post("logs", orjson.dumps(logs_json([event])), content_type="application/json")
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"{}", "application/json")
    row = stored(served, event)
    assert row is not None
    assert row["cost"] == 3_500_000_000


def test_metrics_are_accepted_counted_and_dropped(served: Served) -> None:
    grown = Growth(served)
    request = ExportMetricsServiceRequest()
    request.resource_metrics.add().scope_metrics.add().metrics.add().name = "some.metric"
    assert served.post("metrics", request.SerializeToString()).status == 200
    assert grown("ingest_ignored_total", signal="metrics") == 1
    assert grown("ledger_events_total") == 0


def test_other_logs_and_spans_are_ignored(served: Served) -> None:
    grown = Growth(served)
    assert served.post("logs", logs([Event({"a": 1}, name="other")]).SerializeToString()).status == 200
    assert served.post("traces", traces([SpanOf({"http.method": "GET"})]).SerializeToString()).status == 200
    assert grown("ingest_ignored_total", signal="logs") == 1
    assert grown("ingest_ignored_total", signal="traces") == 1
    assert grown("ledger_events_total") == 0


def test_what_cannot_be_read_is_a_partial_success_with_count_and_first_reason(served: Served) -> None:
    grown = Growth(served)
    good = usage_event()
    negative = usage_event(input_tokens=-1)
    nameless = Event({"genai_meter.usage.input": 1})
    batch = [good, negative, nameless]
    answer = served.post("logs", logs(batch).SerializeToString())
    assert answer.status == 200
    response = ExportLogsServiceResponse.FromString(answer.body)
    assert response.partial_success.rejected_log_records == 2
    assert response.partial_success.error_message == "genai_meter.usage.input is negative"
    as_json = served.post("logs", orjson.dumps(logs_json(batch)), content_type="application/json")
    assert json.loads(as_json.body) == {
        "partialSuccess": {"rejectedLogRecords": "2", "errorMessage": "genai_meter.usage.input is negative"}
    }
    assert stored(served, good) is not None
    assert stored(served, negative) is None
    assert grown("ingest_events_total", status="quarantined") == 4
    assert grown("ingest_events_total", status="accepted") == 1
    assert grown("ingest_events_total", status="duplicate") == 1
    with sqlite3.connect(served.ledger) as database:
        rows = database.execute("SELECT reason, producer, times FROM quarantine ORDER BY reason").fetchall()
    database.close()
    assert rows == [
        ("genai_meter.call.id is missing", "genai_meter", 2),
        ("genai_meter.usage.input is negative", "genai_meter", 2),
    ]


BAD_ID = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"xyz"}]}]}]}'


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("logs", b"\xff\xff\xff", {}, 400),
        ("logs", b"{", {"content-type": "application/json"}, 400),
        ("logs", b"[]", {"content-type": "application/json"}, 400),
        ("logs", b'{"resourceLogs": 3}', {"content-type": "application/json"}, 400),
        ("traces", BAD_ID, {"content-type": "application/json"}, 400),
        ("logs", b"", {"content-type": "text/plain"}, 415),
        ("logs", b"", {"content-encoding": "zstd"}, 415),
        ("logs", b"not gzip", {"content-encoding": "gzip"}, 400),
        ("logs", gzip.compress(b"x" * 1000, mtime=0)[:-12], {"content-encoding": "gzip"}, 400),
        ("logs", b"x" * 100_001, {}, 413),
        ("logs", gzip.compress(b"", mtime=0) + gzip.compress(b"", mtime=0), {"content-encoding": "gzip"}, 400),
        ("logs", gzip.compress(b"x" * 50_000_000, mtime=0), {"content-encoding": "gzip"}, 413),
        ("logs", zlib.compress(b"x" * 50_000_000), {"content-encoding": "deflate"}, 413),
        ("profiles", b"", {}, 404),
    ],
)  # fmt: skip
def test_refusals(served: Served, path: str, body: bytes, headers: dict[str, str], status: int) -> None:
    grown = Growth(served)
    headers = {"content-type": "application/x-protobuf", **headers}
    answer = fetch(f"{served.http}/v1/{path}", body, headers)
    assert answer.status == status
    if headers["content-type"] == "application/json":
        message = json.loads(answer.body)["message"]
    else:
        message = Status.FromString(answer.body).message
    assert message
    assert "Retry-After" not in answer.headers
    assert grown("ingest_events_total", status="rejected") == 1
    assert fetch(f"{served.status_url}/readyz").status == 200


def test_a_get_is_refused(served: Served) -> None:
    assert fetch(f"{served.http}/v1/logs").status == 405


def export(served: Served, body: bytes, **options: Any) -> bytes:
    """One raw OTLP/gRPC export of logs."""
    untyped: Any = grpc
    with untyped.insecure_channel(served.grpc) as channel:
        call = channel.unary_unary("/opentelemetry.proto.collector.logs.v1.LogsService/Export")
        return call(body, timeout=60, **options)


@pytest.mark.parametrize(
    ("body", "options", "code"),
    [
        (b"\xff\xff\xff", {}, grpc.StatusCode.INVALID_ARGUMENT),
        (b"x" * 100_001, {}, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (b"x" * 50_000_000, {"compression": grpc.Compression.Gzip}, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
def test_refusals_over_grpc(served: Served, body: bytes, options: dict[str, Any], code: grpc.StatusCode) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        export(served, body, **options)
    refusal: Any = caught.value
    assert refusal.code() is code
    assert export(served, logs([usage_event()]).SerializeToString()) == b""


def test_refusals_over_grpc_leave_nothing_in_memory(served: Served) -> None:
    def refuse(times: int) -> int:
        """Bytes resident after so many refusals, of 90 kB each."""
        untyped: Any = grpc
        with untyped.insecure_channel(served.grpc) as channel:
            call = channel.unary_unary("/opentelemetry.proto.collector.logs.v1.LogsService/Export")
            for _ in range(times):
                with pytest.raises(grpc.RpcError):
                    call(b"\xff" * 90_000, timeout=60)
        return served.memory()

    before = refuse(20)
    assert refuse(300) - before < 10_000_000


def test_partial_success_over_grpc(served: Served) -> None:
    response = ExportLogsServiceResponse.FromString(
        export(served, logs([usage_event(), usage_event(output_tokens=-5)]).SerializeToString())
    )
    assert response.partial_success.rejected_log_records == 1
    assert response.partial_success.error_message == "genai_meter.usage.output is negative"


def test_a_store_that_cannot_commit_is_a_retryable_status_and_not_ready(served: Served) -> None:
    grown = Growth(served)
    event = usage_event()
    body = logs([event]).SerializeToString()
    blocker = sqlite3.connect(served.ledger, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    try:
        answer = served.post("logs", body)
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert Status.FromString(answer.body).message == "the store cannot be written: database is locked"
        with pytest.raises(grpc.RpcError) as caught:
            export(served, body)
        refusal: Any = caught.value
        assert refusal.code() is grpc.StatusCode.UNAVAILABLE
        assert b"RetryInfo" in dict(refusal.trailing_metadata())["grpc-status-details-bin"]
        ready = fetch(f"{served.status_url}/readyz")
        assert (ready.status, ready.body) == (503, b"the store cannot be written: database is locked\n")
        assert fetch(f"{served.status_url}/healthz").status == 200
        assert grown("ledger_events_total") == 0
    finally:
        blocker.execute("ROLLBACK")
        blocker.close()
    assert fetch(f"{served.status_url}/readyz").status == 200
    assert served.post("logs", body).status == 200
    assert stored(served, event) is not None
    assert grown("ledger_events_total") == 1
    assert grown("ingest_events_total", status="rejected") == 2


def test_a_full_disk_is_a_retryable_status_and_heals(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    with Served(tmp_path / "data") as served:
        served.send(usage_event())
        size = max(file.stat().st_size for file in served.data.glob("ledger.db*"))
        unlimited = resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, (size, unlimited[1]))
        events = [usage_event(start_ns=NOW + number) for number in range(200)]
        body = logs(events).SerializeToString()
        assert served.post("logs", body).status == 503
        assert fetch(f"{served.status_url}/readyz").status == 503
        resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, unlimited)
        assert served.post("logs", body).status == 200
        assert fetch(f"{served.status_url}/readyz").status == 200
        assert served.value("ledger_events_total") == 201


def test_each_reason_is_logged_once(tmp_path: Path) -> None:
    with Served(tmp_path / "data") as served:
        for _ in range(2):
            served.send(usage_event(attempt_count=-1), usage_event(attempt_count=-1))
            served.post("logs", b"garbage", **{"content-encoding": "zstd"})
    lines = (served.data / "stderr.log").read_text(encoding="utf-8").splitlines()
    assert [line.partition("WARNING ")[2] for line in lines] == [
        "a record was quarantined: genai_meter.attempts.count is negative (logged once)",
        "a request was refused: the content encoding must be gzip, deflate or identity (logged once)",
    ]


def test_a_full_queue_is_told_to_come_again(tmp_path: Path) -> None:
    config = {"limits": {"queue_requests": 2}, "store": {"busy_seconds": 60.0}}
    with Served(tmp_path / "data", config) as served:
        blocker = sqlite3.connect(served.ledger, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        bodies = [logs([usage_event()]).SerializeToString() for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(served.post, "logs", body) for body in bodies]
            refused = [answer.result() for _, answer in zip(range(6), as_completed(answers), strict=False)]
            blocker.execute("ROLLBACK")
            blocker.close()
            statuses = sorted(answer.result().status for answer in answers)
        assert [(answer.status, answer.headers["retry-after"]) for answer in refused] == [(429, "5")] * 6
        assert statuses == [200, 200] + [429] * 6


def test_sigterm_finishes_what_is_under_way(tmp_path: Path) -> None:
    served = Served(tmp_path / "data", {"store": {"busy_seconds": 60.0}}).start()
    event = usage_event()
    blocker = sqlite3.connect(served.ledger, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(served.post, "logs", logs([event]).SerializeToString())
        with pytest.raises(TimeoutError):
            under_way.result(3)
        served.process.terminate()
        with pytest.raises(TimeoutError):
            under_way.result(0.5)
        blocker.execute("ROLLBACK")
        blocker.close()
        assert under_way.result(10).status == 200
    assert served.ended() == 0
    assert not served.ledger.with_name("ledger.db-wal").exists()
    assert stored(served, event) is not None


def test_a_second_exporter_on_one_store_is_refused(served: Served) -> None:
    second = Served(served.data)
    with pytest.raises(AssertionError, match="is in use by another `genai-meter serve`"):
        second.start()
    assert second.ended() == 2


def test_a_port_in_use_is_named(served: Served, tmp_path: Path) -> None:
    port = int(served.http.rpartition(":")[2])
    second = Served(tmp_path / "other", {"listen": {"http_port": port}})
    with pytest.raises(AssertionError, match=r"cannot listen on 127\.0\.0\.1:\d+ \(listen.http_port\)"):
        second.start(keep_ports=True)
    assert second.ended() == 2
