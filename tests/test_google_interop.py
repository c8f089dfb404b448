"""`google-genai` beside other instrumentations: one span with cost and call id, one event that names it, one charge."""

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
from tests.environments import GOOGLE_INSTRUMENTATIONS, ROOT

OURS: Final = "genai_meter"
OTEL: Final = "opentelemetry.instrumentation.google_genai"
OPENLLMETRY: Final = "opentelemetry.instrumentation.google_generativeai"
OPENINFERENCE: Final = "openinference.instrumentation.google_genai"

STREAMS: Final = ("stream", "async_stream")
WHOLE: Final = ("generate", "chat", "async_generate")
ENRICHED: Final = {
    # The innermost has the span. A stream is sent when it is read: OpenInference's span has ceased to be current.
    "all": dict.fromkeys((*WHOLE, *STREAMS, "embeddings"), OTEL) | {"interaction": OURS},
    "otel": dict.fromkeys((*WHOLE, *STREAMS, "embeddings"), OTEL) | {"interaction": OURS},
    # The spans of this one are never current.
    "openllmetry": dict.fromkeys((*WHOLE, *STREAMS, "embeddings", "interaction"), OURS),
    "openinference": dict.fromkeys((*WHOLE, "embeddings", "interaction"), OPENINFERENCE) | dict.fromkeys(STREAMS, OURS),
}
"""Environment → scenario → scope of the span that carries cost and call id."""
UNLINKED: Final = {"all": 1, "openinference": 2}
"""Charges too many: OpenInference's span of a stream has no response id and is no relative of ours."""
COST: Final = "genai_meter.cost.effective"


def run(name: str, url: str, served: Served, output: Path) -> dict[str, Any]:
    """What each scenario left."""
    python = GOOGLE_INSTRUMENTATIONS[name].python()
    environ = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "GENAI_METER_"))},
        "PYTHONPATH": str(ROOT),
        "OTEL_EXPORTER_OTLP_ENDPOINT": served.http,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_SERVICE_NAME": "interop",
    }
    child = ROOT / "tests" / "interop" / "google_child.py"
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
    with Served(directory / "exporter") as served:
        found = run(name, provider.url, served, directory / "found.json")
        assert found.keys() == ENRICHED[name].keys()
        events: dict[str, dict[str, Any]] = {}
        for scenario, scope in ENRICHED[name].items():
            spans = found[scenario]["spans"]
            (event,) = found[scenario]["events"]
            told = events[scenario] = event["attributes"]
            (span,) = (span for span in spans if "genai_meter.call.id" in span["attributes"])
            assert (span["scope"], span["span_id"]) == (scope, event["span_id"]), scenario
            assert span["attributes"]["genai_meter.call.id"] == told["genai_meter.call.id"]
            assert sum(span["scope"] == OURS for span in spans) == (scope == OURS), scenario
            assert told["genai_meter.usage.source"] == "provider", scenario
            if told.get("genai_meter.span.complete", True):
                assert span["attributes"]["gen_ai.usage.cost.amount"] == told[COST] / 10**12, scenario
        served.stop()
        with closing(sqlite3.connect(f"file:{served.ledger}?mode=ro", uri=True)) as ledger:
            query = "SELECT COUNT(*), SUM(cost) FROM usage WHERE source LIKE 'genai_meter%'"
            assert ledger.execute(query).fetchone() == (len(events), sum(told[COST] for told in events.values()))
            others = "SELECT source FROM usage WHERE source NOT LIKE 'genai_meter%'"
            assert ledger.execute(others).fetchall() == [(f"{OPENINFERENCE}/span",)] * UNLINKED.get(name, 0)


def test_beside_all_others(provider: Provider, tmp_path: Path) -> None:
    check("all", provider, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["otel", "openllmetry", "openinference"])
def test_beside_one_other(name: str, provider: Provider, tmp_path: Path) -> None:
    check(name, provider, tmp_path)
