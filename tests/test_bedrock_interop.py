"""Bedrock beside other instrumentations: one span with cost and call id, one event that names it, one charge."""

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
from tests.environments import BEDROCK_INSTRUMENTATIONS, ROOT

OURS: Final = "genai_meter"
BOTOCORE: Final = "opentelemetry.instrumentation.botocore.bedrock-runtime"
OPENLLMETRY: Final = "opentelemetry.instrumentation.bedrock"
OPENINFERENCE: Final = "openinference.instrumentation.bedrock"

ALL: Final = ("converse", "converse_stream", "invoke", "invoke_stream", "titan", "embeddings")
ENRICHED: Final = {
    # The innermost has the span.
    "botocore-openinference": dict.fromkeys(ALL, BOTOCORE),
    # The span of this stream knows nothing of the model before the answer.
    "openinference": {**dict.fromkeys(ALL, OPENINFERENCE), "invoke_stream": OURS},
    # The spans of streams are never current.
    "openllmetry": {**dict.fromkeys(ALL, OPENLLMETRY), "converse_stream": OURS, "invoke_stream": OURS},
}
"""Environment → scenario → scope of the span that carries cost and call id."""
UNLINKED: Final = {"openllmetry": 1}
"""Charges too many: OpenLLMetry's span of `converse_stream` has no response id and is no relative of ours."""


def run(name: str, url: str, served: Served, output: Path) -> dict[str, Any]:
    """What each scenario left."""
    python = BEDROCK_INSTRUMENTATIONS[name].python()
    environ = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "GENAI_METER_"))},
        "PYTHONPATH": str(ROOT),
        "OTEL_EXPORTER_OTLP_ENDPOINT": served.http,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_SERVICE_NAME": "interop",
    }
    child = ROOT / "tests" / "interop" / "bedrock_child.py"
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
            events[scenario] = event["attributes"]
            (span,) = (span for span in spans if "genai_meter.call.id" in span["attributes"])
            assert (span["scope"], span["span_id"]) == (scope, event["span_id"]), scenario
            assert span["attributes"]["genai_meter.call.id"] == event["attributes"]["genai_meter.call.id"]
            assert sum(span["scope"] == OURS for span in spans) == (scope == OURS), scenario
            assert span["attributes"]["gen_ai.usage.cost.amount"] == event["attributes"][COST] / 10**12, scenario
            assert event["attributes"]["genai_meter.usage.source"] == "provider", scenario
        served.stop()
        with closing(sqlite3.connect(f"file:{served.ledger}?mode=ro", uri=True)) as ledger:
            query = "SELECT COUNT(*), SUM(cost) FROM usage WHERE source LIKE 'genai_meter%'"
            assert ledger.execute(query).fetchone() == (len(events), sum(told[COST] for told in events.values()))
            others = "SELECT COUNT(*) FROM usage WHERE source NOT LIKE 'genai_meter%'"
            assert ledger.execute(others).fetchone() == (UNLINKED.get(name, 0),)


COST: Final = "genai_meter.cost.effective"


def test_beside_botocores_and_openinference(provider: Provider, tmp_path: Path) -> None:
    check("botocore-openinference", provider, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["openinference", "openllmetry"])
def test_beside_one_other(name: str, provider: Provider, tmp_path: Path) -> None:
    check(name, provider, tmp_path)
