"""Outcomes and other costs: from the public API through a served exporter to counters, ledger and reports."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from emission_kit import telemetry
from exporter_kit import NOW, Event, Served, logs, usage_event
from genai_meter import attribute, outcome, record_cost
from genai_meter_exporter.cli import main
from genai_meter_exporter.normalise import normalise
from genai_meter_exporter.receive import protobuf
from genai_meter_exporter.store.migrations import MIGRATIONS
from ledger_kit import Ledger


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as running:
        yield running


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "ledger.db")
    yield made
    made.store.close()


def told(**more: Any) -> Event:
    """An outcome event as the application sends it; keywords replace attributes of `genai_meter.outcome.*`."""
    attributes: dict[str, Any] = {
        "genai_meter.schema_version": "1",
        "genai_meter.outcome.id": "T-1",
        "genai_meter.outcome.name": "ticket_resolved",
        "genai_meter.outcome.success": True,
        "genai_meter.team": "support",
        "genai_meter.feature": "bot",
        **{f"genai_meter.outcome.{name}": value for name, value in more.items()},
    }
    return Event({name: value for name, value in attributes.items() if value is not None}, name="genai_meter.outcome")


# --- in the application ---------------------------------------------------------------------------------
def test_an_outcome_belongs_to_run_trace_owner_and_experiment() -> None:
    with telemetry() as pipeline, attribute(tenant="acme", run_id="r-1", experiment="prompt", variant="b"):
        with pipeline.tracer_provider.get_tracer("test").start_as_current_span("work") as span:
            outcome("ticket_resolved", success=True, value_usd="2.50", outcome_id="T-1", feature="bot")
        where = span.get_span_context()
    (event,) = pipeline.events
    assert (event.name, event.trace_id, event.span_id) == ("genai_meter.outcome", where.trace_id, where.span_id)
    assert event.attributes == {
        "genai_meter.schema_version": "1",
        "genai_meter.outcome.id": "T-1",
        "genai_meter.outcome.name": "ticket_resolved",
        "genai_meter.outcome.success": True,
        "genai_meter.outcome.value": 2_500_000_000_000,
        "genai_meter.tenant": "acme",
        "genai_meter.run.id": "r-1",
        "genai_meter.experiment": "prompt",
        "genai_meter.experiment.variant": "b",
        "genai_meter.feature": "bot",
    }


def test_without_an_id_each_outcome_is_another() -> None:
    with telemetry() as pipeline:
        outcome("lead")
        outcome("lead", success=False)
    first, second = (event.attributes for event in pipeline.events)
    assert first["genai_meter.outcome.id"] != second["genai_meter.outcome.id"]
    assert (first["genai_meter.outcome.success"], second["genai_meter.outcome.success"]) == (True, False)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"name": ""}, TypeError, "name must be text"),
        ({"name": None}, TypeError, "name must be text"),
        ({"name": "a", "value_usd": 0.1}, TypeError, "value_usd must be a Decimal, decimal text or an int, not float"),
        ({"name": "a", "value_usd": "-1"}, ValueError, "value_usd must be between 0"),
        ({"name": "a", "tenent": "x"}, TypeError, "did you mean 'tenant'"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with telemetry() as pipeline, pytest.raises(error, match=text):
        outcome(**arguments)
    assert pipeline.events == []


# --- in the ledger --------------------------------------------------------------------------------------
def test_an_outcome_is_counted_once_by_its_id(ledger: Ledger) -> None:
    for event in (told(), told(success=False), told(id="T-2"), told(name="escalated")):
        ledger.put(normalise(protobuf.parse("logs", logs([event, event]).SerializeToString())))
    ledger.reopen()
    assert {key: n for key, n in ledger.counters.items() if key[0] == "outcomes"} == {
        ("outcomes", ("support", "bot", "ticket_resolved", "true")): 2,
        ("outcomes", ("support", "bot", "escalated", "true")): 1,
    }
    assert ledger.rows() == {}
    ledger.check()


def test_ticket_numbers_of_two_tenants_are_two_outcomes(ledger: Ledger) -> None:
    events = [told(), told(), told()]
    for event, tenant in zip(events, ("acme", "globex", "acme"), strict=True):
        event.attributes["genai_meter.tenant"] = tenant
    ledger.put(normalise(protobuf.parse("logs", logs(events).SerializeToString())))
    assert ledger.counters["outcomes", ("support", "bot", "ticket_resolved", "true")] == 2


def test_without_an_id_the_content_is_the_id(ledger: Ledger) -> None:
    for event in (told(id=None), told(id=None), told(id=None, value=5)):
        ledger.put(normalise(protobuf.parse("logs", logs([event]).SerializeToString())))
    assert ledger.counters["outcomes", ("support", "bot", "ticket_resolved", "true")] == 2


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"name": None}, "genai_meter.outcome.name is missing"),
        ({"success": "maybe"}, "genai_meter.outcome.success is no boolean"),
        ({"value": -1}, "genai_meter.outcome.value is negative"),
        ({"value": 0.5}, "genai_meter.outcome.value is no integer"),
    ],
)
def test_what_cannot_be_read_is_quarantined(changed: dict[str, Any], reason: str) -> None:
    batch = normalise(protobuf.parse("logs", logs([told(**changed)]).SerializeToString()))
    assert ([found.reason for found in batch.quarantined], batch.beside) == ([reason], [])


def test_outcomes_of_the_first_schema_are_kept(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "ledger.db") as old:
        old.execute("CREATE TABLE schema_version (version INTEGER PRIMARY KEY, applied_at INTEGER NOT NULL)")
        for statement in MIGRATIONS[0]:
            old.execute(statement)
        old.execute("INSERT INTO schema_version VALUES (1, 0)")
        attributes = '{"genai_meter.run.id":"r1","genai_meter.tenant":"acme"}'
        old.execute("INSERT INTO outcome VALUES (?, ?, ?)", (b"k" * 16, NOW, attributes))
    old.close()
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.store.close()
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        found = database.execute("SELECT time_ns, outcome, success, run_id, tenant, team FROM outcome").fetchall()
    database.close()
    assert found == [(NOW, "unnamed", 1, "r1", "acme", None)]


def test_a_field_that_the_schema_has_gained_becomes_a_column(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.store.close()
    with sqlite3.connect(tmp_path / "ledger.db") as older:
        older.execute("ALTER TABLE outcome DROP COLUMN variant")
        older.execute("ALTER TABLE cache_hit DROP COLUMN cost_avoided")
    older.close()
    ledger.open()
    event = told()
    event.attributes["genai_meter.experiment.variant"] = "b"
    ledger.put(normalise(protobuf.parse("logs", logs([event]).SerializeToString())))
    ledger.store.close()
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        found = database.execute("SELECT outcome, variant, team FROM outcome").fetchall()
    database.close()
    assert found == [("ticket_resolved", "b", "support")]


# --- end to end -----------------------------------------------------------------------------------------
def report(data: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert main([*arguments, "--data-dir", str(data), "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)["rows"]


def test_cost_per_success_by_feature_and_variant(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    who: dict[str, Any] = {"team": "support", "feature": "bot", "experiment": "prompt"}
    calls = [usage_event(variant=variant, **who) for variant in "aab"]  # 3.5 millicents each
    failed = usage_event(variant="b", status="error", input_tokens=0, output_tokens=0, usage_source="unknown", **who)
    attributes = {"genai_meter.experiment": "prompt"}
    outcomes = [told(id=f"T-{number}", success=number != 2, value=10**12) for number in range(3)]
    for event, variant in zip(outcomes, "abb", strict=True):
        event.attributes |= {**attributes, "genai_meter.experiment.variant": variant}
    served.send(*calls, failed, *outcomes)
    served.send(*outcomes)
    labels = {"team": "support", "feature": "bot", "outcome": "ticket_resolved"}
    served.settled("outcomes_total", 2, **labels, success="true")
    served.settled("outcomes_total", 1, **labels, success="false")
    served.settled("outcome_value_usd_total", 3.0, **labels)
    (row,) = report(served.data, capsys, "outcomes", "--since", "all")
    assert row == {
        "outcome": "ticket_resolved",
        "feature": "bot",
        "outcomes": 3,
        "successes": 2,
        "success_rate": 2 / 3,
        "value_usd": "3.000000000000",
        "calls": 4,
        "cost_usd": "0.010500000000",
        "cost_per_success_usd": "0.005250000000",
        "cache_hits": 0,
        "cost_avoided_usd": "0",
    }
    rows = report(served.data, capsys, "outcomes", "--since", "all", "--by", "experiment,variant")
    assert [(row["variant"], row["successes"], row["cost_per_success_usd"]) for row in rows] == [
        ("b", 1, "0.003500000000"),
        ("a", 1, "0.007000000000"),
    ]
    assert main(["outcomes", "--since", "all", "--data-dir", str(served.data)]) == 0
    assert "66.7%" in capsys.readouterr().out
    assert main(["outcomes", "--since", "all", "--by", "model", "--data-dir", str(served.data)]) == 2
    assert "outcome has no column 'model'" in capsys.readouterr().err


def test_a_cost_that_is_no_call_is_shown(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    with telemetry() as pipeline, attribute(tenant="acme"):
        record_cost(Decimal("0.25"), what="vector_search", quantity=3, unit="query", provider="pinecone")
    (event,) = pipeline.events
    served.send(Event(event.attributes, name=event.name, time_ns=event.timestamp))
    served.settled("tenant_cost_usd_total", 0.25, tenant="acme")
    (row,) = report(served.data, capsys, "usage", "--since", "all", "--by", "tenant,provider,operation")
    assert (row["provider"], row["operation"], row["cost_usd"]) == ("pinecone", "vector_search", "0.250000000000")


def test_estimates_against_counts(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.send(
        usage_event(estimated_input_tokens=900, estimated_output_tokens=150),
        usage_event(estimated_input_tokens=1300, estimated_output_tokens=100),
        usage_event(estimated_input_tokens=1, usage_source="estimated"),
    )
    rows = report(served.data, capsys, "estimates", "--since", "all", "--by", "provider")
    assert rows == [
        {
            "provider": "openai",
            "tokens": "input",
            "calls": 2,
            "counted": 2000,
            "estimated": 2200,
            "drift": 0.1,
            "median_error": 0.2,
            "p90_error": 0.3,
        },
        {
            "provider": "openai",
            "tokens": "output",
            "calls": 2,
            "counted": 200,
            "estimated": 250,
            "drift": 0.25,
            "median_error": 0.25,
            "p90_error": 0.5,
        },
    ]
    assert main(["estimates", "--since", "all", "--data-dir", str(served.data)]) == 0
    assert "+10.0%" in capsys.readouterr().out
    assert report(served.data, capsys, "estimates", "--since", "all", "--by", "call_id", "--where", "tenant=zeta") == []
