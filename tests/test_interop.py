"""Beside other instrumentations: one inference span with cost and call id, one event that names it, one charge."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from exporter_kit import Served
from genai_meter_exporter.store.reader import SqliteReader
from interop_kit import OURS, run

from examples.provider import Provider
from tests.environments import OTHER_INSTRUMENTATIONS as ENVIRONMENTS

ANTHROPIC_SDK = "com.anthropic.sdk.python"
GENAI_OPENAI = "opentelemetry.instrumentation.genai.openai"
OPENLLMETRY_OPENAI = "opentelemetry.instrumentation.openai.v1"
OPENINFERENCE_OPENAI = "openinference.instrumentation.openai"

CHATS = (
    "chat",
    "chat_stream",
    "chat_stream_closed",
    "chat_retried",
    "chat_refused",
    "chat_without_id",
    "chat_with_one_id",
    "async_chat",
    "async_chat_stream",
)
RESPONSES = ("responses", "responses_stream")
MESSAGES = ("messages", "messages_stream", "messages_helper", "async_messages", "async_messages_stream")
TWICE = ("chat_without_id", "chat_with_one_id")


def _expected(openai: str, *, responses: str | None = None) -> dict[str, str]:
    """Scenario → scope of the span that is enriched. The Anthropic SDK's own span is always the innermost."""
    return {
        **dict.fromkeys((*CHATS, "embeddings"), openai),
        **dict.fromkeys(RESPONSES, responses or openai),
        **dict.fromkeys(MESSAGES, ANTHROPIC_SDK),
    }


ENRICHED = {
    "sdk": _expected(OURS),
    "genai": _expected(GENAI_OPENAI),
    # OpenLLMetry makes its span of a response after the answer, with nothing to enrich before.
    "openllmetry": _expected(OPENLLMETRY_OPENAI, responses=OURS),
    "openinference": _expected(OPENINFERENCE_OPENAI),
    "all": _expected(OPENINFERENCE_OPENAI),
}


UNLINKED = {"openinference": 1}
"""Charges too many: OpenInference's span of `messages.stream` has no response id and no relative."""


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_one_span_one_event_one_charge(name: str, provider: Provider, tmp_path: Path) -> None:
    with Served(tmp_path / "exporter") as served:
        found = run(ENVIRONMENTS[name], "child", provider.url, served, tmp_path / "found.json")
        events: list[dict[str, Any]] = []
        for scenario, scope in ENRICHED[name].items():
            left = found[scenario]
            events += left["events"]
            assert len(left["events"]) == (2 if scenario in TWICE else 1), scenario
            _one_span_for_each(left["spans"], left["events"], scope, scenario)
        assert found.keys() == ENRICHED[name].keys()
        assert len({event["attributes"]["genai_meter.call.id"] for event in events}) == len(events)
        served.stop()
        _one_charge_for_each(served, events, UNLINKED.get(name, 0))


def _one_span_for_each(spans: list[Any], events: list[Any], scope: str, scenario: str) -> None:
    metered = {
        span["attributes"]["genai_meter.call.id"]: span for span in spans if "genai_meter.call.id" in span["attributes"]
    }
    assert len([span for span in spans if "genai_meter.call.id" in span["attributes"]]) == len(metered), scenario
    assert metered.keys() == {event["attributes"]["genai_meter.call.id"] for event in events}, scenario
    assert len([span for span in spans if span["scope"] == OURS]) == (len(events) if scope == OURS else 0), scenario
    for event in events:
        told = event["attributes"]
        span = metered[told["genai_meter.call.id"]]
        assert (span["span_id"], span["scope"]) == (event["span_id"], scope), scenario
        assert told.get("genai_meter.span.scope", OURS) == scope
        assert told.get("genai_meter.span.complete") in (None, True), scenario
        for attribute in ("genai_meter.usage.source", "genai_meter.cost.status"):
            assert span["attributes"].get(attribute) == told.get(attribute), (scenario, attribute)
        pico = told.get("genai_meter.cost.effective")
        amount = None if pico is None else pico / 10**12
        assert span["attributes"].get("gen_ai.usage.cost.amount") == amount, scenario
        if told["genai_meter.usage.source"] == "provider":
            for attribute in ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"):
                assert span["attributes"].get(attribute) == told.get(attribute), (scenario, attribute)


def _one_charge_for_each(served: Served, events: list[dict[str, Any]], unlinked: int) -> None:
    reader = SqliteReader(served.ledger)
    charged = 0
    for event in events:
        told = event["attributes"]
        row = reader.get(bytes.fromhex(told["genai_meter.call.id"].replace("-", "")))
        assert row is not None
        assert (row["span_id"], row["status"]) == (event["span_id"], told["genai_meter.status"])
        assert row["cost"] == told.get("genai_meter.cost.effective")
        charged += row["cost"] or 0
    with closing(sqlite3.connect(f"file:{served.ledger}?mode=ro", uri=True)) as ledger:
        assert ledger.execute("SELECT reason, producer FROM quarantine").fetchall() == []
        others = "SELECT COUNT(*), COALESCE(SUM(cost), 0) FROM usage WHERE source NOT LIKE 'genai_meter%'"
        rows, cost = ledger.execute(others).fetchone()
        assert rows == unlinked
        total = ledger.execute("SELECT COUNT(*), SUM(cost) FROM usage").fetchone()
    assert total == (len(events) + rows, charged + cost)
