"""A real application, the real exporter, a real Prometheus: figures, alerts and exemplars."""

from __future__ import annotations

import json
import math
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from tools_kit import stack_needed

from examples.children import wait_for
from examples.demo.stage import Stage
from examples.prometheus import Prometheus

QUESTION = "Where is my parcel, and who pays for the way back? " * 8

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Everything running, with traffic of two tenants in the ledger and in Prometheus."""
    stack_needed()
    with Stage(tmp_path_factory.mktemp("stage")) as running:
        for tenant, feature in (("acme", "chat"), ("acme", "summary"), ("globex", "draft"), ("globex", "research")):
            running.request(tenant, feature, QUESTION)
        running.request("globex", "chat", QUESTION, {"x-scenario": "429x1"})
        running.request("acme", "preview", QUESTION)
        running.job("examples.demo.nightly")
        running.request("globex", "agent", QUESTION)
        yield settled(running)


@pytest.fixture
def stage(lasting: Stage) -> Stage:
    """The same, after a scrape that took less than a second: another one leaves nothing to ask for."""
    wait_for("a scrape", lambda: prometheus(lasting).query("up == 1"), 60)
    return lasting


def settled(stage: Stage) -> Stage:
    """Wait until every answer is in the ledger and Prometheus has scraped the last of them."""
    assert stage.provider is not None
    answered = len(stage.provider.served)
    ledger = "genai_meter_ledger_events_total"
    wait_for("every call is in the ledger", lambda: stage.metric(ledger) == answered or None, 60)
    # A new series is shown at zero for a second and then scraped: the last one to grow is the agent's.
    wait_for("Prometheus has the calls", lambda: prometheus(stage).query(f"{ledger} == {answered}"), 60)
    agent = 'sum(genai_meter_cost_usd_total{feature="agent"}) > 10'
    wait_for("Prometheus has the cost", lambda: prometheus(stage).query(agent), 60)
    return stage


def prometheus(stage: Stage) -> Prometheus:
    assert stage.prometheus is not None
    return stage.prometheus


def rows(stage: Stage, by: str, *where: str) -> list[dict[str, Any]]:
    """Rows of `genai-meter usage` over the whole ledger."""
    arguments = ["usage", "--by", by, "--since", "all", "--format", "json", "--data-dir", str(stage.directory)]
    for condition in where:
        arguments += ["--where", condition]
    return json.loads(stage.command(*arguments))["rows"]


def value(stage: Stage, expression: str) -> float:
    """The one value of an expression."""
    (sample,) = prometheus(stage).query(expression)
    return sample.value


# --- figures ----------------------------------------------------------------------------------------
def test_ledger_holds_each_answer_once_with_the_usage_that_the_provider_told(stage: Stage) -> None:
    assert stage.provider is not None
    told: Counter[str] = Counter()
    unknown = 0
    for answer in stage.provider.served:
        told["calls"] += 1
        usage = answer.usage
        if usage is None:
            unknown += 1
            continue
        told["input_tokens"] += usage.get("prompt_tokens", usage.get("input_tokens", 0))
        told["output_tokens"] += usage.get("completion_tokens", usage.get("output_tokens", 0))
    held = {name: sum(row[name] for row in rows(stage, "tenant")) for name in told}
    assert unknown == 0
    assert held == dict(told)


def test_calls_are_charged_to_the_tenant_of_the_request_and_of_the_one_line(stage: Stage) -> None:
    calls = {(row["tenant"], row["feature"]): row["calls"] for row in rows(stage, "tenant,feature")}
    assert calls == {
        ("acme", "chat"): 1,
        ("acme", "summary"): 1,
        ("acme", "preview"): 1,
        ("acme", "nightly-index"): 3,
        ("globex", "draft"): 1,
        ("globex", "research"): 3,
        ("globex", "chat"): 1,
        ("globex", "agent"): 30,
    }


def test_prometheus_shows_what_the_ledger_holds(stage: Stage) -> None:
    cost = sum(float(row["cost_usd"]) for row in rows(stage, "tenant"))
    for expression in ("genai_meter_ledger_cost_usd_total", "sum(genai_meter_cost_usd_total)"):
        assert math.isclose(value(stage, expression), cost, rel_tol=1e-9)
    by_tenant = {s.labels["tenant"]: s.value for s in prometheus(stage).query("genai_meter_tenant_cost_usd_total")}
    expected = {row["tenant"]: float(row["cost_usd"]) for row in rows(stage, "tenant")}
    assert by_tenant == pytest.approx(expected, rel=1e-9)
    assert value(stage, "sum(genai_meter_retries_total)") == 1
    assert value(stage, "sum(genai_meter_requests_total)") == sum(row["calls"] for row in rows(stage, "tenant"))


# --- alerts -----------------------------------------------------------------------------------------
def test_alerts_fire_for_what_happened_and_reach_alertmanager(stage: Stage) -> None:
    wanted = {"GenAIMeterHourlySpendSpike", "GenAIMeterUnpricedModel"}

    def firing() -> list[dict[str, Any]]:
        found = prometheus(stage).alerts()
        return found if wanted <= {alert["labels"]["alertname"] for alert in found} else []

    alerts = wait_for("both alerts fire", firing, 60)
    spike = next(a for a in alerts if a["labels"]["alertname"] == "GenAIMeterHourlySpendSpike")
    assert spike["labels"] == {
        "alertname": "GenAIMeterHourlySpendSpike",
        "severity": "critical",
        "category": "spend",
        "audience": "engineering",
        "team": "support",
        "environment": "demo",
        "service": "assistant",
    }
    assert spike["annotations"]["primarily_due_to"].startswith("feature agent on claude-opus-4-1: $")
    assert spike["annotations"]["owner"] == "team support"
    assert "time scale 60" in spike["annotations"]["time_scale"]
    unpriced = {a["labels"]["model"] for a in alerts if a["labels"]["alertname"] == "GenAIMeterUnpricedModel"}
    assert unpriced == {"acme-house-model-1"}

    def received() -> set[str]:
        names = {alert["labels"]["alertname"] for alert in prometheus(stage).alertmanager.alerts()}
        return names if wanted <= names else set()

    wait_for("Alertmanager has both", received, 60)


# --- exemplars --------------------------------------------------------------------------------------
@pytest.mark.parametrize("histogram", ["genai_meter_request_duration_seconds", "genai_meter_request_tokens"])
def test_exemplar_leads_to_the_call_it_was_taken_from(stage: Stage, histogram: str) -> None:
    expression = f'{histogram}_bucket{{service="assistant"}}'
    exemplars = wait_for("exemplars", lambda: prometheus(stage).exemplars(expression), 60)
    with closing(sqlite3.connect(f"file:{stage.ledger}?mode=ro", uri=True)) as ledger:
        ledger.row_factory = sqlite3.Row
        calls = {(row["trace_id"], row["span_id"]): row for row in ledger.execute("SELECT * FROM usage")}
    for exemplar in exemplars:
        call = calls[exemplar["labels"]["trace_id"], exemplar["labels"]["span_id"]]
        assert call["model"] == exemplar["series"]["model"]
        if histogram.endswith("_seconds"):
            # The span of the Anthropic SDK, whose clock starts a little later, may arrive before our event.
            later = 5 if call["provider"] == "anthropic" else 1e-6
            assert float(exemplar["value"]) == pytest.approx((call["end"] - call["start"]) / 1e9, abs=later)
        else:
            assert float(exemplar["value"]) == call[f"{exemplar['series']['direction']}_tokens"]
