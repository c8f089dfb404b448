"""What a spool adds to a call: instructions in user space and CPU time, kernel included, of one chat call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from benchmarks.counter import Instructions

CALLS: Final = 4000
VARIANTS: Final = {
    "queued": "the SDK's logger and its queue; nothing is sent",
    "written": "the spool; nothing is shipped",
    "sent": "the SDK's logger, sent as OTLP/HTTP protobuf",
    "shipped": "the spool, shipped",
}


def main() -> int:
    """Each variant in a process of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    found: dict[str, dict[str, float | None]] = {}
    for name in VARIANTS:
        with tempfile.TemporaryDirectory() as directory:
            more = {"GENAI_METER_SPOOL_DIR": directory} if name in ("written", "shipped") else {}
            variables = {**os.environ, "PYTHONHASHSEED": "0", "GENAI_METER_SPOOL_ENDPOINT": url, **more}
            arguments = [sys.executable, "-m", "benchmarks.spool", name, url]
            done = subprocess.run(arguments, env=variables, stdout=subprocess.PIPE, text=True, check=True)
            found[name] = json.loads(done.stdout)
    _print(found)
    return 0


def _print(found: dict[str, dict[str, float | None]]) -> None:
    base = found["queued"]
    print(f"{'':<10}{'instructions':>14}{'more':>10}{'CPU µs':>9}{'more':>8}")
    for name, text in VARIANTS.items():
        counted, micros = found[name]["instructions"], found[name]["micros"]
        more = counted - base["instructions"] if counted is not None and base["instructions"] is not None else None
        told = f"{counted:>14,.0f}{more:>10,.0f}" if counted is not None and more is not None else f"{'?':>14}{'?':>10}"
        print(f"{name:<10}{told}{micros or 0:>9.1f}{(micros or 0) - (base['micros'] or 0):>8.1f}   {text}")


def serve(variant: str, url: str) -> None:
    """In the process of a variant: what one call took, all threads together."""
    from genai_meter import spool
    from genai_meter.instrumentor import OpenAIInstrumentor
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    from benchmarks import wire
    from benchmarks.telemetry import Telemetry

    counter = Instructions()
    telemetry = Telemetry()
    logs = telemetry.logs
    if variant == "sent":
        logs = LoggerProvider(resource=logs.resource)
        logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(f"{url}/v1/logs")))
    if variant == "written":
        spool._TICK = 3600.0  # pyright: ignore[reportPrivateUsage, reportConstantRedefinition]
    OpenAIInstrumentor().instrument(logger_provider=logs)
    run = wire.chat()
    run(300)
    time.sleep(2.5)
    counted, begun = counter.read(), time.process_time_ns()
    for _ in range(CALLS // 200):
        run(200)
    time.sleep(2.5)
    now, micros = counter.read(), (time.process_time_ns() - begun) / CALLS / 1e3
    print(
        json.dumps(
            {"instructions": None if counted is None or now is None else (now - counted) / CALLS, "micros": micros}
        )
    )
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(*sys.argv[1:])
    else:
        raise SystemExit(main())
