"""Runs it all: stand-in provider, exporter, worker, front; asks as two tenants; prints who was charged.

python -m examples.two_services --python INTERPRETER

The interpreter has Flask, Celery, openai, the meter, and OpenTelemetry's instrumentations of the first two.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Final

from examples.provider import Provider

ROOT: Final = Path(__file__).resolve().parents[2]
TENANTS: Final = ("acme", "acme", "globex")
STOP_SECONDS: Final = 30


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.two_services")
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    options = parser.parse_args()
    with Provider() as provider, tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        run(options.python, provider.url, place)
        command = [_beside(sys.executable, "genai-meter"), "usage", "--data-dir", place]
        subprocess.run([*map(str, command), "--by", "service,tenant,feature"], check=True)
    return 0


def run(python: Path, provider: str, place: Path) -> list[str]:
    """Serve, ask once for each of `TENANTS`, stop everything; the ledger is in `place`. Gives the answers."""
    with _exporter(place) as endpoint:
        environment = _environment(provider, endpoint, place)
        celery = ["-m", "celery", "-A", "examples.two_services.worker", "worker", "--pool", "prefork", "-c", "2"]
        with _instrumented(python, [*celery, "--loglevel", "WARNING"], "worker", environment):
            front = ["-m", "examples.two_services.front"]
            with _instrumented(python, front, "front", environment) as process:
                assert process.stdout is not None
                address = process.stdout.readline().strip()
                return [_ask(address, tenant) for tenant in TENANTS]


def _ask(address: str, tenant: str) -> str:
    request = urllib.request.Request(f"{address}/summaries", b"A long text.", {"x-tenant": tenant})
    with urllib.request.urlopen(request, timeout=90) as answer:
        return answer.read().decode()


def _environment(provider: str, endpoint: str, place: Path) -> dict[str, str]:
    for name in ("tasks", "results"):
        (place / name).mkdir(exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "GENAI_METER_", "OPENAI_"))}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "TWO_SERVICES_QUEUE": str(place),
        "OPENAI_API_KEY": "sk-none",
        "OPENAI_BASE_URL": f"{provider}/v1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none",
        # The worker trusts whoever can reach its queue: it takes these fields from what comes with a task.
        "GENAI_METER_BAGGAGE_IN": "tenant,feature",
    }


@contextlib.contextmanager
def _instrumented(
    python: Path, arguments: Sequence[str], service: str, environment: dict[str, str]
) -> Generator[subprocess.Popen[str]]:
    command = [_beside(python, "opentelemetry-instrument"), str(python), *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, env={**environment, "OTEL_SERVICE_NAME": service}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


@contextlib.contextmanager
def _exporter(place: Path) -> Generator[str]:
    ports = ["--grpc-port", "0", "--http-port", "0", "--metrics-port", "0"]
    command = [_beside(sys.executable, "genai-meter"), "serve", "--data-dir", str(place), *ports]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        printed: dict[str, str] = {}
        while "ledger" not in printed:
            name, _, value = process.stdout.readline().strip().partition("  ")
            printed[name] = value.strip()
        try:
            yield printed["OTLP/HTTP"]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_SECONDS)


def _beside(python: str | Path, command: str) -> str:
    """A command of the environment an interpreter belongs to."""
    return str(Path(python).parent / command)


if __name__ == "__main__":
    sys.exit(main())
