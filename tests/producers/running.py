"""Applications with other people's instrumentation, run as processes against a stand-in provider and an endpoint."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from examples.provider import Provider
from tests.environments import PRODUCERS, ROOT
from tests.producers import node

HERE: Final = ROOT / "tests" / "producers"

CALLS: Final = {
    **dict.fromkeys(("otel", "openllmetry", "traceloop", "openinference", "openlit", "logfire"), "openai,anthropic"),
    **dict.fromkeys(("otel_old", "langfuse"), "openai"),
    **dict.fromkeys(("otel_bedrock", "botocore", "openinference_bedrock"), "bedrock"),
    "openllmetry_old": "openai,anthropic",
    "anthropic_sdk": "anthropic",
    "litellm": "litellm",
    "pydantic_ai": "pydantic_ai",
    "azure_ai": "azure_ai",
}
"""Producer of Python → the kinds of calls it is made to see."""

VERCEL: Final = {"vercel_7": "7", "vercel_7_legacy": "7-legacy", "vercel_6": "6", "vercel_5": "5", "vercel_4": "4"}
"""Producer of Node → version and mode of the Vercel AI SDK."""

NAMES: Final = (*CALLS, *VERCEL)


def run(producer: str, endpoint: str, provider: Provider) -> None:
    """Make the calls that a producer sees, in its environment."""
    if producer in VERCEL:
        _run(["node", place(producer) / "vercel.mjs", provider.url, VERCEL[producer]], endpoint, producer)
    else:
        run_python(PRODUCERS[producer].python(), endpoint, provider, producer, CALLS[producer])


def place(producer: str) -> Path:
    """The directory with the packages of a producer of Node, and with the applications."""
    version = VERCEL[producer].partition("-")[0]
    found = node.modules(f"vercel-{version}", node.VERCEL[version])
    for file in HERE.glob("*.mjs"):
        shutil.copy(file, found)
    return found


def run_python(python: str | Path, endpoint: str, provider: Provider, producers: str, calls: str) -> None:
    """Make calls under one or more producers."""
    _run([python, HERE / "child.py", provider.url, producers, calls], endpoint, producers)


def _run(command: Sequence[str | Path], endpoint: str, service: str) -> None:
    done = subprocess.run(
        command, env=environ(endpoint, service), capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-5000:]


def lines(command: Sequence[str | Path], environ: Mapping[str, str], out: Path) -> list[dict[str, Any]]:
    """What a process has written: one JSON object a line."""
    done = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def environ(endpoint: str, service: str) -> dict[str, str]:
    """What an application that sends to this endpoint has set, as the producers' own pages say."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "GENAI_METER_", "LANG"))}
    return {
        **kept,
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_SERVICE_NAME": service,
        "OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT": "true",
        "TRACELOOP_METRICS_ENABLED": "false",
        # LiteLLM has names of its own.
        "OTEL_EXPORTER": "otlp_http",
        "OTEL_ENDPOINT": endpoint,
        "USE_OTEL_LITELLM_REQUEST_SPAN": "true",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }


def served_by(provider: Provider) -> list[dict[str, Any]]:
    """What the provider served, without the requests."""
    return [{name: value for name, value in asdict(answer).items() if name != "request"} for answer in provider.served]
