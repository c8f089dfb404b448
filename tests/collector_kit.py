"""Real collectors between applications and the exporter, with the files of examples/collector."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Self

import grpc
import yaml
from environments import ROOT, ROTEL
from exporter_kit import Answer, fetch
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from examples.children import Running, free_port, wait_for

EXAMPLE: Final = ROOT / "examples" / "collector"
OTELCOL: Final = ROOT / ".tools" / "collector" / "otelcol"
"""Built by `make collector`."""
_EXPORT: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class Collector:
    """A collector that can be killed and comes back on the same ports."""

    def __init__(self, place: Path, grpc_port: int, http_port: int) -> None:
        self.place = place
        self.grpc = f"127.0.0.1:{grpc_port}"
        self.http = f"http://127.0.0.1:{http_port}"

    def command(self) -> list[str | Path]:
        """What starts it."""
        raise NotImplementedError

    def variables(self) -> Mapping[str, str]:
        """Its environment."""
        return {}

    def start(self) -> None:
        """Start it and wait until it takes requests."""
        with (self.place / "collector.log").open("ab") as log:
            environment = {**os.environ, **self.variables()}
            self._process = subprocess.Popen(self.command(), stdout=log, stderr=log, env=environment)
        wait_for("the collector listens", self._listens, 60)

    def _listens(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError(f"the collector ended: {(self.place / 'collector.log').read_text()[-2000:]}")
        return self.post("logs", b"").status == 200

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self._process.kill()
        self._process.wait(60)

    def stop(self) -> None:
        """SIGTERM, and wait."""
        self._process.terminate()
        self._process.wait(60)

    def post(self, signal: str, body: bytes) -> Answer:
        """One OTLP/HTTP request, as an application sends it."""
        return fetch(f"{self.http}/v1/{signal}", body, {"content-type": "application/x-protobuf"})

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._process.poll() is None:
            self.kill()


class Rotel(Collector):
    """Rotel by examples/collector/rotel.env."""

    def __init__(self, place: Path, exporter: str) -> None:
        self._exporter = exporter
        super().__init__(place, free_port(), free_port())

    def command(self) -> list[str | Path]:
        """The binary of the wheel."""
        python = ROTEL.python()
        (agent,) = python.parent.parent.glob("lib/python*/site-packages/rotel/rotel-agent")
        return [agent, "start"]

    def variables(self) -> Mapping[str, str]:
        """The file, with the addresses of the test."""
        lines = (EXAMPLE / "rotel.env").read_text(encoding="utf-8").splitlines()
        shipped = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
        return {
            **shipped,
            "ROTEL_OTLP_GRPC_ENDPOINT": self.grpc,
            "ROTEL_OTLP_HTTP_ENDPOINT": self.http.removeprefix("http://"),
            "ROTEL_OTLP_EXPORTER_ENDPOINT": f"http://{self._exporter}",
        }


class Otelcol(Collector):
    """The OpenTelemetry Collector by examples/collector/otelcol.yaml."""

    def __init__(self, place: Path, exporter: str, tempo: str, *, batch_first: bool = False) -> None:
        super().__init__(place, free_port(), free_port())
        config = shipped()
        config["extensions"]["file_storage"]["directory"] = str(place / "queue")
        protocols = config["receivers"]["otlp"]["protocols"]
        protocols["grpc"]["endpoint"] = self.grpc
        protocols["http"]["endpoint"] = self.http.removeprefix("http://")
        config["processors"]["tail_sampling"]["decision_wait"] = "1s"
        config["exporters"]["otlp/genai-meter"]["endpoint"] = exporter
        config["exporters"]["otlp/tempo"]["endpoint"] = tempo
        self.prometheus = f"127.0.0.1:{free_port()}"
        config["exporters"]["prometheus"]["endpoint"] = self.prometheus
        if batch_first:
            # What the example warns of.
            config["processors"]["batch"]["timeout"] = "10s"
            config["service"]["pipelines"]["logs"]["processors"] = ["batch"]
        # Its own metrics would want a port of their own.
        config["service"]["telemetry"] = {"metrics": {"level": "none"}}
        self._file = place / "otelcol.yaml"
        self._file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")

    def command(self) -> list[str | Path]:
        """What `make collector` has built."""
        return [OTELCOL, "--config", self._file]


class Balancing(Collector):
    """The OpenTelemetry Collector by examples/collector/otelcol-loadbalancing.yaml."""

    def __init__(self, place: Path, exporters: Sequence[str], *, by_trace_id: bool = False) -> None:
        super().__init__(place, free_port(), free_port())
        config = shipped("otelcol-loadbalancing.yaml")
        config["extensions"]["file_storage"]["directory"] = str(place / "queue")
        receivers, sending = config["receivers"], config["exporters"]
        receivers["otlp"]["protocols"]["grpc"]["endpoint"] = self.grpc
        receivers["otlp"]["protocols"]["http"]["endpoint"] = self.http.removeprefix("http://")
        inside = [f"127.0.0.1:{free_port()}" for _ in exporters]
        sending["load_balancing"]["resolver"]["static"]["hostnames"] = inside
        for number, exporter in enumerate(exporters):
            receivers[f"otlp/{number}"]["protocols"]["grpc"]["endpoint"] = inside[number]
            sending[f"otlp/exporter-{number}"]["endpoint"] = exporter
        if by_trace_id:
            # What the example warns of.
            sending["load_balancing"]["routing_key"] = "traceID"
            del sending["load_balancing"]["routing_attributes"]
        config["service"]["telemetry"] = {"metrics": {"level": "none"}}
        self._file = place / "otelcol-loadbalancing.yaml"
        self._file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")

    def command(self) -> list[str | Path]:
        """What `make collector` has built."""
        return [OTELCOL, "--config", self._file]


def shipped(name: str = "otelcol.yaml") -> dict[str, Any]:
    """A configuration of the OpenTelemetry Collector as it is in the examples."""
    return yaml.safe_load((EXAMPLE / name).read_text(encoding="utf-8"))


def validated(name: str) -> tuple[int, str]:
    """Exit code and words of `otelcol validate` about a file of the examples."""
    command = [OTELCOL, "validate", "--config", EXAMPLE / name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


class Tempo(Running):
    """What stands where Tempo would: takes spans by OTLP/gRPC and keeps their trace ids."""

    def _start(self) -> None:
        self.traces: list[bytes] = []
        self._lock = threading.Lock()
        untyped: Any = grpc
        server = untyped.server(ThreadPoolExecutor(2))
        handler = untyped.unary_unary_rpc_method_handler(self._export)
        service, _, method = _EXPORT[1:].partition("/")
        server.add_generic_rpc_handlers((untyped.method_handlers_generic_handler(service, {method: handler}),))
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        self._stack.callback(lambda: server.stop(0).wait(5))

    def _export(self, body: bytes, _context: object) -> bytes:
        request = ExportTraceServiceRequest.FromString(body)
        with self._lock:
            self.traces += [
                span.trace_id for group in request.resource_spans for scope in group.scope_spans for span in scope.spans
            ]
        return b""
