# pyright: basic, reportMissingImports=false
"""The web front: says who a request is for, in OpenTelemetry's own words, and leaves the work to the worker."""

from __future__ import annotations

import signal
import sys

from flask import Flask, g, request
from opentelemetry import baggage, context
from werkzeug.serving import make_server

from examples.two_services.worker import summarise

app = Flask(__name__)


@app.before_request
def name_the_owner() -> None:
    owner = baggage.set_baggage("genai_meter.tenant", request.headers.get("x-tenant", "unknown"))
    g.token = context.attach(baggage.set_baggage("genai_meter.feature", "summaries", owner))


@app.teardown_request
def forget_the_owner(_error: BaseException | None) -> None:
    context.detach(g.token)


@app.post("/summaries")
def summaries() -> dict[str, str]:
    return {"summary": summarise.delay(request.get_data(as_text=True)).get(timeout=60)}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
