"""An application and its gateway, both metered: one provider call is one charge, whatever comes in which order."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from exporter_kit import NOW, Event, Served, SpanOf, new_id, usage_event
from genai_meter_exporter import series
from genai_meter_exporter.store import Query, open_readonly
from genai_meter_exporter.store.base import Tally
from genai_meter_exporter.store.sqlite import SqliteStore
from ledger_kit import Ledger

from examples.children import wait_for
from examples.provider import Provider

ROOT = Path(__file__).resolve().parent.parent
SECOND = 1_000_000_000
ID = "chatcmpl-9f8e7d6c5b4a39281706"
TRACE = b"\x07" * 16
APP, GATEWAY, EDGE = (bytes([number]) * 8 for number in (1, 2, 3))
HTTP = b"\x09" * 8


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.db")


def account(service: str, start: int, seconds: float, **more: Any) -> Event:
    """One process's account of the call: `start` in milliseconds after the first."""
    start_ns = NOW + start * 1_000_000
    fields: dict[str, Any] = {"response_id": ID, "instance": f"{service}-1", "service": service, **more}
    event = usage_event(start_ns=start_ns, **fields)
    event.attributes["genai_meter.end"] = start_ns + int(seconds * SECOND)
    return event


def application(**more: Any) -> Event:
    return account("shop", 0, 2.0, **{"team": "search", "feature": "find", "provider": "gateway.local", **more})


def gateway(**more: Any) -> Event:
    return account("llm-gateway", 10, 1.9, **{"team": "platform", "tenant": "acme", **more})


def one(ledger: Ledger, call_id: bytes) -> dict[str, Any]:
    """The ledger's only row."""
    ledger.check()
    rows = ledger.rows()
    assert list(rows) == [call_id]
    assert ledger.total(series.LEDGER_EVENTS) - ledger.total(series.LEDGER_WITHDRAWN) == 1
    return rows[call_id]


def told(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("service", "team", "feature", "tenant", "provider", "cost"))


MERGED = ("shop", "search", "find", "acme", "openai", 3_500_000_000)
"""Who asked is told by the application, as far as it tells; what was billed by the gateway."""


@pytest.mark.parametrize("reopened", [False, True])
@pytest.mark.parametrize("first", ["application", "gateway"])
def test_one_answer_told_by_both_is_one_charge(ledger: Ledger, first: str, reopened: bool) -> None:
    app, inner = application(), gateway()
    order = (app, inner) if first == "application" else (inner, app)
    assert ledger.send(order[0]) == Tally(accepted=1)
    if reopened:
        ledger.reopen()
    assert ledger.send(order[1]) == Tally(linked=1)
    assert told(one(ledger, inner.call_id)) == MERGED
    assert ledger.send(*order) == Tally(duplicate=2)
    ledger.reopen()
    assert ledger.send(*order) == Tally(duplicate=2)
    assert told(one(ledger, inner.call_id)) == MERGED


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("reopened", [False, True])
def test_three_in_a_row(ledger: Ledger, order: tuple[int, ...], reopened: bool) -> None:
    accounts = (
        application(team=None),
        gateway(feature="proxy"),
        account("edge", 20, 1.8, team="edge", owner="ops"),
    )
    for index in order:
        ledger.send(accounts[index])
        if reopened:
            ledger.reopen()
    row = one(ledger, accounts[2].call_id)
    # The application has no team: that of either gateway, whichever was heard first.
    assert told(row)[0] == "shop"
    assert (row["feature"], row["tenant"], row["owner"], row["provider"]) == ("find", "acme", "ops", "openai")
    assert row["team"] in ("platform", "edge")


def test_all_in_one_request(ledger: Ledger) -> None:
    app, inner = application(), gateway()
    assert ledger.send(app, inner) == Tally(accepted=1, linked=1)
    assert told(one(ledger, inner.call_id)) == MERGED


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_spans_of_both_change_nothing(ledger: Ledger, order: tuple[int, ...]) -> None:
    app, inner = application(trace_id=TRACE, span_id=APP), gateway(trace_id=TRACE, span_id=GATEWAY)
    records = (
        app,
        inner,
        span_of(app, APP, b"", "shop"),
        span_of(inner, GATEWAY, HTTP, "llm-gateway"),
    )
    for index in order:
        ledger.send(records[index])
    assert told(one(ledger, inner.call_id)) == MERGED


def span_of(event: Event, span_id: bytes, parent: bytes, service: str) -> SpanOf:
    """The span of our own that says the same."""
    attributes = dict(event.attributes)
    start, end = attributes["genai_meter.start"], attributes["genai_meter.end"]
    return SpanOf(
        attributes, start_ns=start, end_ns=end, trace_id=TRACE, span_id=span_id, parent=parent, scope="genai_meter"
    )


@pytest.mark.parametrize("first", ["application", "gateway"])
def test_without_a_response_id_the_trace_tells(ledger: Ledger, first: str) -> None:
    app = application(response_id=None, trace_id=TRACE, span_id=APP)
    inner = gateway(response_id="another-id", trace_id=TRACE, span_id=GATEWAY)
    ledger.store.learn([(TRACE + GATEWAY, HTTP), (TRACE + HTTP, APP)])
    for event in (app, inner) if first == "application" else (inner, app):
        ledger.send(event)
    assert told(one(ledger, inner.call_id)) == MERGED


@pytest.mark.parametrize("first", ["application", "gateway"])
def test_an_application_that_gave_up_is_still_the_outer_one(ledger: Ledger, first: str) -> None:
    app = account(
        "shop",
        0,
        0.5,
        team="search",
        usage_source="estimated",
        cost_reasons='["usage_estimated"]',
        output_tokens=7,
        status="closed_early",
    )
    inner = gateway()
    for event in (app, inner) if first == "application" else (inner, app):
        ledger.send(event)
    row = one(ledger, inner.call_id)
    assert (row["team"], row["output_tokens"], row["cost"], row["status"]) == ("search", 100, 3_500_000_000, "ok")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"instance": "shop-1"}, "one process makes two calls"),
        ({"response_id": ID[:-1]}, "another answer"),
        ({"output_tokens": 101}, "another usage"),
        ({"id_family": "anthropic.message"}, "another format"),
        ({"start_ns": NOW + 3 * SECOND}, "after the application's call"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("first", ["application", "gateway"])
def test_what_are_two_calls(ledger: Ledger, changed: dict[str, Any], reason: str, first: str) -> None:
    changed = dict(changed)
    app, inner = application(), gateway()
    start = changed.pop("start_ns", None)
    if start:
        inner = usage_event(start_ns=start, response_id=ID, service="llm-gateway", instance="llm-gateway-1")
    for name, value in changed.items():
        attribute = {"instance": "service.instance.id", "response_id": "gen_ai.response.id"}.get(name)
        attribute = attribute or {"output_tokens": "genai_meter.usage.output"}.get(name) or "genai_meter.id_family"
        inner.attributes[attribute] = value
    for event in (app, inner) if first == "application" else (inner, app):
        assert ledger.send(event) == Tally(accepted=1), reason
    ledger.check()
    assert len(ledger.rows()) == 2


def test_ids_that_servers_repeat_need_the_trace(ledger: Ledger) -> None:
    short = {"response_id": "chatcmpl-123"}
    ledger.send(application(**short), gateway(**short))
    assert len(ledger.rows()) == 2
    traced = (
        application(**short, trace_id=TRACE, span_id=APP),
        gateway(**short, trace_id=TRACE, span_id=GATEWAY),
    )
    assert ledger.send(*traced) == Tally(accepted=1, linked=1)
    assert len(ledger.rows()) == 3


def test_many_calls_at_once_find_their_own(ledger: Ledger) -> None:
    apps = [application(response_id=f"{ID}-{number}", tenant=f"t{number}", call_id=new_id()) for number in range(50)]
    inners = [gateway(response_id=f"{ID}-{number}", tenant=None, call_id=new_id()) for number in range(50)]
    ledger.send(*apps[:25], *inners, *apps[25:])
    ledger.check()
    rows = ledger.rows()
    assert set(rows) == {event.call_id for event in inners}
    assert {row["response_id"]: row["tenant"] for row in rows.values()} == {
        f"{ID}-{number}": f"t{number}" for number in range(50)
    }


def test_a_failed_commit_undoes_the_nesting(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    app, inner = application(), gateway()
    ledger.send(inner)

    def fail(store: SqliteStore, *_: Any) -> None:
        raise RuntimeError("no")

    with monkeypatch.context() as patch:
        patch.setattr("genai_meter_exporter.store.sqlite.beside.write", fail)
        with pytest.raises(RuntimeError):
            ledger.send(app)
    assert told(one(ledger, inner.call_id))[:2] == ("llm-gateway", "platform")
    ledger.send(app)
    assert told(one(ledger, inner.call_id)) == MERGED


# --- real processes -------------------------------------------------------------------------------------
def metered(service: str, endpoint: str, **variables: str) -> dict[str, str]:
    """Variables of a program under `opentelemetry-instrument`."""
    return {
        **os.environ,
        "OTEL_SERVICE_NAME": service,
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_BLRP_SCHEDULE_DELAY": "100",
        "PYTHONPATH": str(ROOT),
        **variables,
    }


@pytest.mark.timeout(180)
def test_a_gateway_and_an_application_as_processes(provider: Provider, tmp_path: Path) -> None:
    instrument = [Path(sys.executable).with_name("opentelemetry-instrument"), sys.executable, "-m"]
    with Served(tmp_path / "exporter") as exporter:
        variables = metered("llm-gateway", exporter.http, UPSTREAM=f"{provider.url}/v1", GENAI_METER_TEAM="platform")
        proxy = subprocess.Popen(
            [*instrument, "tests.nested.gateway"], env=variables, stdout=subprocess.PIPE, text=True
        )
        try:
            assert proxy.stdout
            url = proxy.stdout.readline().strip()
            variables = metered("shop", exporter.http, OPENAI_BASE_URL=url, GENAI_METER_TEAM="search")
            subprocess.run([*instrument, "tests.nested.application"], env=variables, check=True, timeout=120)
            exporter.settled("ingest_events_total", 24, status="accepted")
            wait_for("every call has both accounts", lambda: nested(exporter.ledger) == 24, 60)
        finally:
            proxy.terminate()
            proxy.wait(60)
            if proxy.stdout:
                proxy.stdout.close()
        reader = open_readonly(exporter.ledger)
        rows = reader.report(Query(("service", "team", "provider")))
        tenants = reader.report(Query(("tenant",)))
        reader.close()
        assert [(row["service"], row["team"], row["calls"]) for row in rows] == [("shop", "search", 24)]
        assert {row["tenant"]: row["calls"] for row in tenants} == {f"tenant-{number}": 8 for number in range(3)}
        usages = [answer.usage for answer in provider.served]
        assert len(usages) == 24
        for column, name in (("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens")):
            assert sum(row[column] for row in rows) == sum(usage[name] for usage in usages if usage)


def nested(ledger: Path) -> int:
    """Charges that have another account of ours beside them."""
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as database:
        return database.execute("SELECT COUNT(DISTINCT charge) FROM linked WHERE rule = 'nested'").fetchone()[0]
