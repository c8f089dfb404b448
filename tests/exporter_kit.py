"""What the exporter's tests share: a served exporter as a process, and OTLP requests written by hand."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from genai_meter import identity
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from prometheus_client.parser import text_string_to_metric_families

NOW = 1_795_338_000_000_000_000
"""2026-11-22T09:00:00Z: the start of a quarter of an hour."""

_RELOADED = re.compile(rb"the configuration (was read again|is kept as it was).*\n")

PRICED = "gpt-4o-2024-08-06"
"""2.50 USD a million input tokens, 10 USD a million output tokens, 1.25 USD cached."""


@dataclass
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class Served:
    """A running `genai-meter serve`."""

    def __init__(
        self, data: Path, config: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self.data = data
        self.configure(config or {})
        self._env = env or {}
        self.ledger = data / "ledger.db"
        self.wrapper: Sequence[str] = ()

    def configure(self, config: Mapping[str, Any]) -> None:
        """At the next start, or the next reload."""
        self._config = {"metrics": {"scrape_interval_seconds": 0.05}, **config}

    def start(self, *, keep_ports: bool = False) -> Served:
        """Start it, on free ports unless told otherwise, and learn where it listens."""
        self.data.mkdir(parents=True, exist_ok=True)
        file = self.data / "config.yaml"
        file.write_text(yaml.safe_dump(self._config), encoding="utf-8")
        self.errors = (self.data / "stderr.log").open("ab")
        self.process = subprocess.Popen(
            [*self.wrapper, sys.executable, "-c", "from genai_meter_exporter.cli import main; raise SystemExit(main())"]
            + ["serve", "--config", str(file), "--data-dir", str(self.data)]
            + ([] if keep_ports else ["--grpc-port", "0", "--http-port", "0", "--metrics-port", "0"]),
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, **self._env},
        )
        assert self.process.stdout
        printed: dict[str, str] = {}
        while "ledger" not in printed:
            line = self.process.stdout.readline()
            assert line, f"the exporter did not start: {(self.data / 'stderr.log').read_text(encoding='utf-8')}"
            name, _, value = line.strip().partition("  ")
            printed[name] = value.strip()
        self.grpc = printed["OTLP/gRPC"]
        self.http = printed["OTLP/HTTP"]
        self.metrics_url = printed["metrics"]
        self.status_url = self.metrics_url.removesuffix("/metrics")
        return self

    def reload(self, config: Mapping[str, Any] | None = None) -> str:
        """SIGHUP, with another configuration if one is given; what the log says of it."""
        if config is not None:
            self.configure(config)
        (self.data / "config.yaml").write_text(yaml.safe_dump(self._config), encoding="utf-8")
        log = self.data / "stderr.log"
        known = log.stat().st_size
        self.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 60
        while not re.search(
            r"the configuration (was read again|is kept as it was).*\n", log.read_bytes()[known:].decode()
        ):
            assert time.monotonic() < deadline, "nothing was said of the configuration"
            time.sleep(0.02)
        return log.read_bytes()[known:].decode()

    def memory(self) -> int:
        """Bytes resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) * 1024

    def stop(self) -> int:
        """SIGTERM, and wait."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def kill(self) -> int:
        """SIGKILL, and wait."""
        self.process.kill()
        return self.ended()

    def ended(self) -> int:
        """Wait for its end; the exit code."""
        code = self.process.wait(60)
        assert self.process.stdout
        self.process.stdout.close()
        self.errors.close()
        return code

    def __enter__(self) -> Served:
        return self.start()

    def __exit__(self, *raised: object) -> None:
        if self.process.poll() is None:
            self.stop()

    def post(self, signal_name: str, body: bytes, **headers: str) -> Answer:
        """Send one OTLP/HTTP request; protobuf unless another content type is given."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named.setdefault("content-type", "application/x-protobuf")
        return fetch(f"{self.http}/v1/{signal_name}", body, named)

    def send(self, *events: Event) -> Answer:
        """Send usage events, expecting success."""
        answer = self.post("logs", logs(events).SerializeToString())
        assert answer.status == 200, answer
        return answer

    def scrape(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample of `/metrics` by name and labels."""
        body = fetch(self.metrics_url).body.decode()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(body)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        """One sample of `/metrics`; None when it is not there."""
        return self.scrape().get((f"genai_meter_{name}", frozenset(labels.items())))

    def settled(self, name: str, expected: float, **labels: str) -> None:
        """Scrape until a held series shows its value."""
        deadline = time.monotonic() + 60
        while (found := self.value(name, **labels)) != expected:
            assert time.monotonic() < deadline, f"{name}{labels} is {found}, not {expected}"
            time.sleep(0.03)


@dataclass
class Event:
    """One usage event."""

    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    name: str = "genai_meter.usage"
    time_ns: int = NOW
    trace_id: bytes = b""
    span_id: bytes = b""
    scope: str = "genai_meter"

    @property
    def call_id(self) -> bytes:
        """The id of the call."""
        return bytes.fromhex(self.attributes["genai_meter.call.id"].replace("-", ""))


@dataclass
class SpanOf:
    """One span."""

    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    name: str = "chat gpt-4o"
    start_ns: int = NOW
    end_ns: int = NOW + 2_000_000_000
    trace_id: bytes = b"\x01" * 16
    span_id: bytes = b"\x02" * 8
    parent: bytes = b""
    scope: str = "some.producer"
    failed: bool = False


def usage_event(
    *,
    start_ns: int = NOW,
    input_tokens: int = 1000,
    output_tokens: int = 100,
    call_id: bytes | None = None,
    **more: Any,
) -> Event:
    """An event as the application sends it; further keywords are fields of the schema or buckets."""
    from genai_meter.schema import BY_NAME
    from genai_meter.usage import BUCKETS

    attributes: dict[str, Any] = {
        "genai_meter.call.id": identity.text(call_id or new_id(start_ns)),
        "genai_meter.schema_version": "1",
        "genai_meter.start": start_ns,
        "genai_meter.end": start_ns + 2_000_000_000,
        "genai_meter.id_family": "openai.chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": PRICED,
        "genai_meter.status": "ok",
        "genai_meter.usage.source": "provider",
        "genai_meter.attempts.count": 1,
    }
    if input_tokens:
        attributes["genai_meter.usage.input"] = input_tokens
    if output_tokens:
        attributes["genai_meter.usage.output"] = output_tokens
    event = Event(attributes, time_ns=start_ns + 2_000_000_000)
    for name, value in more.items():
        if name in ("trace_id", "span_id"):
            setattr(event, name, value)
        elif name in BUCKETS:
            attributes[f"genai_meter.usage.{name}"] = value
        elif value is None:
            attributes.pop(BY_NAME[name].attribute, None)
        else:
            attributes[BY_NAME[name].attribute] = value
    return event


def new_id(start_ns: int = NOW) -> bytes:
    """A call id of the given time."""
    return (start_ns // 1_000_000).to_bytes(6, "big") + identity.new_call_id()[6:]


RESOURCE = {"service.name": "shop", "deployment.environment.name": "prod", "service.version": "7"}


def logs(events: Sequence[Event], resource: Mapping[str, Any] = RESOURCE) -> ExportLogsServiceRequest:
    """An export request of log records."""
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    group.resource.attributes.extend(_pairs(resource))
    for event in events:
        scope = group.scope_logs.add()
        scope.scope.name = event.scope
        record = scope.log_records.add()
        record.event_name = event.name
        record.time_unix_nano = event.time_ns
        record.trace_id, record.span_id = event.trace_id, event.span_id
        record.attributes.extend(_pairs(event.attributes))
    return request


def traces(spans: Sequence[SpanOf], resource: Mapping[str, Any] = RESOURCE) -> ExportTraceServiceRequest:
    """An export request of spans."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.extend(_pairs(resource))
    for span in spans:
        scope = group.scope_spans.add()
        scope.scope.name = span.scope
        made = scope.spans.add()
        made.name, made.trace_id, made.span_id, made.parent_span_id = (
            span.name,
            span.trace_id,
            span.span_id,
            span.parent,
        )
        made.start_time_unix_nano, made.end_time_unix_nano = span.start_ns, span.end_ns
        if span.failed:
            made.status.code = Status.STATUS_CODE_ERROR
        made.attributes.extend(_pairs(span.attributes))
    return request


def logs_json(events: Sequence[Event], resource: Mapping[str, Any] = RESOURCE) -> dict[str, Any]:
    """The same as JSON: hex ids, 64-bit integers as text."""
    return {
        "resourceLogs": [
            {
                "resource": {"attributes": _json_pairs(resource)},
                "scopeLogs": [
                    {
                        "scope": {"name": event.scope},
                        "logRecords": [
                            {
                                "eventName": event.name,
                                "timeUnixNano": str(event.time_ns),
                                "traceId": event.trace_id.hex(),
                                "spanId": event.span_id.hex(),
                                "attributes": _json_pairs(event.attributes),
                            }
                        ],
                    }
                    for event in events
                ],
            }
        ]
    }


def traces_json(spans: Sequence[SpanOf], resource: Mapping[str, Any] = RESOURCE) -> dict[str, Any]:
    """Spans as JSON."""
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _json_pairs(resource)},
                "scopeSpans": [
                    {
                        "scope": {"name": span.scope},
                        "spans": [
                            {
                                "name": span.name,
                                "traceId": span.trace_id.hex(),
                                "spanId": span.span_id.hex(),
                                "parentSpanId": span.parent.hex(),
                                "startTimeUnixNano": str(span.start_ns),
                                "endTimeUnixNano": str(span.end_ns),
                                "status": {"code": 2} if span.failed else {},
                                "attributes": _json_pairs(span.attributes),
                            }
                        ],
                    }
                    for span in spans
                ],
            }
        ]
    }


def _pairs(attributes: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_any(value)) for key, value in attributes.items()]


def _any(value: Any) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, bytes):
        return AnyValue(bytes_value=value)
    if isinstance(value, list):
        made = AnyValue()
        made.array_value.values.extend(_any(item) for item in value)  # pyright: ignore[reportUnknownVariableType]
        return made
    return AnyValue(string_value=value)


def _json_pairs(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _json_any(value)} for key, value in attributes.items()]


def _json_any(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_json_any(item) for item in value]}}  # pyright: ignore[reportUnknownVariableType]
    return {"stringValue": value}


def fetch(url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
    """One HTTP exchange, whatever its status."""
    request = urllib.request.Request(url, body, dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return Answer(response.status, response.read(), dict(response.headers.items()))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read(), dict(error.headers.items()))
