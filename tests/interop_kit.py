"""Applications under `opentelemetry-instrument` beside other instrumentations, judged on what they left."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Mapping, Sequence, Set
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from exporter_kit import Served

from tests.environments import ROOT, Environment

OURS: Final = "genai_meter"
COST: Final = "genai_meter.cost.effective"


def run(environment: Environment, child: str, url: str, served: Served, output: Path) -> Any:
    """What `tests/interop/<child>.py`, called with the provider's URL, wrote."""
    python = environment.python()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "GENAI_METER_", "LANG"))}
    done = subprocess.run(
        [python.parent / "opentelemetry-instrument", python, ROOT / "tests" / "interop" / f"{child}.py", url, output],
        env={
            **kept,
            "PYTHONPATH": str(ROOT),
            "OTEL_EXPORTER_OTLP_ENDPOINT": served.http,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_SERVICE_NAME": "interop",
            # OpenLLMetry of Bedrock raises without.
            "TRACELOOP_METRICS_ENABLED": "true",
        },
        capture_output=True,
        text=True,
        timeout=270,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "genai_meter:" not in done.stderr, done.stderr
    return json.loads(output.read_text())


def check(
    found: Mapping[str, Any],
    enriched: Mapping[Any, str],
    served: Served,
    *,
    named: Mapping[str, Set[str]] = {},
    unlinked: Sequence[str] = (),
) -> None:
    """Of each scenario one span, of the scope that `enriched` names, one event, one charge.

    `named`: the scopes of more spans that name the call. `unlinked`: the sources of rows of other producers that
    stand beside ours.
    """
    assert found.keys() == enriched.keys()
    costs: list[int] = []
    for scenario, scope in enriched.items():
        spans = found[scenario]["spans"]
        (event,) = found[scenario]["events"]
        told = event["attributes"]
        costs.append(told[COST])
        of_call = [span for span in spans if "genai_meter.call.id" in span["attributes"]]
        assert {span["attributes"]["genai_meter.call.id"] for span in of_call} == {told["genai_meter.call.id"]}
        (span,) = (span for span in of_call if span["span_id"] == event["span_id"])
        others = {other["scope"] for other in of_call if other is not span}
        assert (span["scope"], others, len(of_call)) == (scope, named.get(scenario, set()), 1 + len(others)), scenario
        assert sum(span["scope"] == OURS for span in spans) == (scope == OURS), scenario
        assert told["genai_meter.usage.source"] == "provider", scenario
        if told.get("genai_meter.span.complete", True):
            assert span["attributes"]["gen_ai.usage.cost.amount"] == told[COST] / 10**12, scenario
    served.stop()
    with closing(sqlite3.connect(f"file:{served.ledger}?mode=ro", uri=True)) as ledger:
        ours = "SELECT COUNT(*), SUM(cost) FROM usage WHERE source LIKE 'genai_meter%'"
        assert ledger.execute(ours).fetchone() == (len(costs), sum(costs))
        others = "SELECT source FROM usage WHERE source NOT LIKE 'genai_meter%'"
        assert ledger.execute(others).fetchall() == [(source,) for source in unlinked]
