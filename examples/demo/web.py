"""HTTP in front of `app.py`, started by `opentelemetry-instrument`.

It reads `traceparent` and `baggage` of each request, as OpenTelemetry's instrumentations of Flask, Django or FastAPI
do for an application by themselves. Whom a request is for comes in with the baggage.
"""

from __future__ import annotations

import argparse
import signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType

from opentelemetry import context, propagate, trace

from examples.demo.app import FEATURES


class Handler(BaseHTTPRequestHandler):
    """POST /feature with a question in the body."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        feature = FEATURES.get(self.path.strip("/"))
        question = self.rfile.read(int(self.headers["content-length"] or 0)).decode()
        if feature is None:
            return self._answer(404, "no such feature")
        token = context.attach(propagate.extract({name.lower(): value for name, value in self.headers.items()}))
        try:
            with trace.get_tracer("demo").start_as_current_span(f"POST {self.path}", kind=trace.SpanKind.SERVER):
                return self._answer(200, feature(question, self._forwarded()))
        finally:
            context.detach(token)

    def _forwarded(self) -> dict[str, str]:
        return {name: value for name, value in self.headers.items() if name.lower() == "x-scenario"}

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Silent: the demo prints what matters."""


def stop(_number: int, _frame: FrameType | None) -> None:
    """Leave `serve_forever`."""
    raise SystemExit(0)


def main() -> None:
    """Serve until told to stop; telemetry is flushed when the process ends by itself."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo.web")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; a free one when not given")
    server = ThreadingHTTPServer(("127.0.0.1", parser.parse_args().port), Handler)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    signal.signal(signal.SIGTERM, stop)
    try:
        server.serve_forever(0.05)
    except SystemExit:
        # Threads that still answer end first; the exit then flushes the telemetry.
        server.server_close()


if __name__ == "__main__":
    main()
