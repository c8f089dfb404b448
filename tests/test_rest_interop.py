"""Mistral and Cohere beside other instrumentations: one span with cost and call id, one event, one charge."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from exporter_kit import Served

from examples.provider import Provider
from tests.environments import REST_INSTRUMENTATIONS, ROOT

OURS: Final = "genai_meter"
NATIVE: Final = "mistralai_sdk_tracer"
INFERENCE: Final = "openinference.instrumentation."
TRACELOOP: Final = "opentelemetry.instrumentation.cohere"
COST: Final = "genai_meter.cost.effective"

MISTRAL: Final = ("mistral_chat", "mistral_stream", "mistral_async")
TRACED: Final = ("mistral_traced", "mistral_stream_traced")
COHERE: Final = ("cohere_chat", "cohere_async", "cohere_embed")
BELOW: Final = ("mistral_conversation_traced", "mistral_embeddings", "cohere_stream")
"""A run of an agent is a wrapper, nobody else spans these embeddings, and a generator runs under no span."""

ENRICHED: Final = {
    "openinference": {
        **dict.fromkeys(MISTRAL, f"{INFERENCE}mistralai"),
        # The innermost has the span.
        **dict.fromkeys(TRACED, NATIVE),
        **dict.fromkeys(COHERE, f"{INFERENCE}cohere"),
        **dict.fromkeys(BELOW, OURS),
    },
    "openllmetry": {
        # Neither the library's first tracing nor OpenLLMetry's makes its span current, or ends it whatever happens.
        **dict.fromkeys((*MISTRAL, *TRACED, *BELOW), OURS),
        **dict.fromkeys(COHERE, TRACELOOP),
    },
}
"""Environment → scenario → scope of the span that carries cost and call id."""

UNLINKED: Final = {"openinference": 1}
"""Charges too many: OpenInference's span of Cohere's stream has no response id and tells other tokens."""


def run(name: str, url: str, served: Served, output: Path) -> dict[str, Any]:
    """What each scenario left."""
    python = REST_INSTRUMENTATIONS[name].python()
    environ = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "GENAI_METER_"))},
        "PYTHONPATH": str(ROOT),
        "OTEL_EXPORTER_OTLP_ENDPOINT": served.http,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_SERVICE_NAME": "interop",
        "TRACELOOP_METRICS_ENABLED": "false",
    }
    child = ROOT / "tests" / "interop" / "rest_child.py"
    done = subprocess.run(
        [python.parent / "opentelemetry-instrument", python, child, url, output],
        env=environ,
        capture_output=True,
        text=True,
        timeout=270,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "genai_meter:" not in done.stderr, done.stderr
    return json.loads(output.read_text())


def check(name: str, provider: Provider, directory: Path) -> None:
    """One span, one event, one charge for each call."""
    try:
        REST_INSTRUMENTATIONS[name].python()
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the environment {name} cannot be made here: {error}")
    with Served(directory / "exporter") as served:
        found = run(name, provider.url, served, directory / "found.json")
        assert found.keys() == ENRICHED[name].keys()
        events: dict[str, dict[str, Any]] = {}
        for scenario, scope in ENRICHED[name].items():
            (event,) = found[scenario]["events"]
            events[scenario] = event["attributes"]
            (span,) = (span for span in found[scenario]["spans"] if "genai_meter.call.id" in span["attributes"])
            assert (span["scope"], span["span_id"]) == (scope, event["span_id"]), scenario
            assert span["attributes"]["genai_meter.call.id"] == event["attributes"]["genai_meter.call.id"]
            assert sum(span["scope"] == OURS for span in found[scenario]["spans"]) == (scope == OURS), scenario
            assert span["attributes"]["gen_ai.usage.cost.amount"] == event["attributes"][COST] / 10**12, scenario
            assert event["attributes"]["genai_meter.usage.source"] == "provider", scenario
        served.stop()
        with closing(sqlite3.connect(f"file:{served.ledger}?mode=ro", uri=True)) as ledger:
            query = "SELECT COUNT(*), SUM(cost) FROM usage WHERE source LIKE 'genai_meter%'"
            assert ledger.execute(query).fetchone() == (len(events), sum(told[COST] for told in events.values()))
            others = "SELECT source FROM usage WHERE source NOT LIKE 'genai_meter%'"
            assert len(ledger.execute(others).fetchall()) == UNLINKED.get(name, 0)


def test_beside_openinference_and_the_librarys_own_tracing(provider: Provider, tmp_path: Path) -> None:
    check("openinference", provider, tmp_path)


@pytest.mark.slow
def test_beside_openllmetry_and_the_first_tracing_of_the_library(provider: Provider, tmp_path: Path) -> None:
    check("openllmetry", provider, tmp_path)
