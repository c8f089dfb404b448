"""One call, told by several producers: one charge, whatever arrives how often in which order."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from exporter_kit import NOW, Event, SpanOf, usage_event
from genai_meter_exporter import series
from genai_meter_exporter.store.base import StoreError, Tally
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_kit import LINKING, Ledger, PostgresLedger, batch_of, foreign_span, ledger_of_engine

MINUTE = 60_000_000_000

OPENLLMETRY = "opentelemetry.instrumentation.anthropic"


ledger = pytest.fixture(params=LINKING)(ledger_of_engine)


# --- one call, several producers --------------------------------------------------------------------
TRACE = b"\x01" * 16


def one_charge(ledger: Ledger, event: Event, *, cost: int = 3_500_000_000) -> dict[str, Any]:
    """The ledger has one call: the event's, at its price."""
    ledger.check()
    rows = ledger.rows()
    assert list(rows) == [event.call_id]
    row = rows[event.call_id]
    assert (row["cost"], row["source"]) == (cost, "genai_meter")
    return row


@pytest.mark.parametrize("event_first", [True, False])
def test_a_span_that_the_event_names_is_the_same_call(ledger: Ledger, event_first: bool) -> None:
    span = foreign_span()
    event = usage_event(trace_id=TRACE, span_id=span.span_id, tenant="acme")
    first, second = (event, span) if event_first else (span, event)
    assert ledger.send(first) == Tally(accepted=1)
    assert ledger.send(second) == Tally(linked=1)
    assert ledger.send(span) == Tally(duplicate=1)
    assert ledger.send(event) == Tally(duplicate=1)
    one_charge(ledger, event)
    ledger.reopen()
    assert ledger.send(span, event) == Tally(duplicate=2)
    one_charge(ledger, event)


@pytest.mark.parametrize("event_first", [True, False])
@pytest.mark.parametrize("reopened", [True, False])
def test_equal_response_ids_model_and_usage_are_the_same_call(
    ledger: Ledger, event_first: bool, reopened: bool
) -> None:
    span = foreign_span(response_id="chatcmpl-1", trace_id=b"\x09" * 16)
    event = usage_event(response_id="chatcmpl-1")
    first, second = (event, span) if event_first else (span, event)
    ledger.send(first)
    if reopened:
        ledger.reopen()
    assert ledger.send(second) == Tally(linked=1)
    row = one_charge(ledger, event)
    assert row["links"] is not None


@pytest.mark.parametrize(
    "different",
    [
        {"response_id": "chatcmpl-2"},
        {"input_tokens": 999},
        {"output_tokens": 101},
        {"attributes": {"gen_ai.response.model": "gpt-4o-mini"}},
        {"start_ns": NOW + 11 * MINUTE, "end_ns": NOW + 12 * MINUTE},
    ],
)
def test_what_differs_is_another_call(ledger: Ledger, different: dict[str, Any]) -> None:
    event = usage_event(response_id="chatcmpl-1")
    changes: dict[str, Any] = {"response_id": "chatcmpl-1", "trace_id": b"\x09" * 16, **different}
    span = foreign_span(**changes)
    assert ledger.send(event, span) == Tally(accepted=2)
    assert len(ledger.rows()) == 2
    ledger.check()


@pytest.mark.parametrize(
    ("output", "later", "expected"),
    [(101, 0, Tally(linked=1)), (101, 3 * 10**9, Tally(accepted=1))],
)
def test_an_anthropic_stream_whose_placeholder_was_counted_too(
    ledger: Ledger, output: int, later: int, expected: Tally
) -> None:
    """OpenLLMetry adds the output tokens of `message_start` to the true count; overlapping in time it is the call."""
    event = usage_event(response_id="msg_1", id_family="anthropic.message")
    ledger.send(event)
    span = foreign_span(
        response_id="msg_1",
        output_tokens=output,
        start_ns=NOW + later,
        end_ns=NOW + later + 10**9,
        trace_id=b"\x09" * 16,
    )
    assert ledger.send(span) == expected
    ledger.check()


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(("parent", "expected"), [(b"\x08" * 8, Tally(linked=1)), (b"\x07" * 8, Tally(accepted=1))])
def test_an_anthropic_stream_whose_input_grew(ledger: Ledger, parent: bytes, expected: Tally, first: int) -> None:
    """A search of the provider's own adds to the input that `message_start` has told, and some tell only that."""
    spans = [
        foreign_span(number=1, response_id="msg_1", parent=b"\x08" * 8, scope="com.anthropic.sdk.python"),
        foreign_span(number=2, response_id="msg_1", parent=parent, input_tokens=7, scope=OPENLLMETRY),
    ]
    assert ledger.send(spans[first]) == Tally(accepted=1)
    assert ledger.send(spans[1 - first]) == expected
    ledger.check()
    assert max(row["input_tokens"] for row in ledger.rows().values()) == 1000


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(
    ("producer", "expected"),
    [("opentelemetry.instrumentation.google_generativeai", Tally(linked=1)), ("some.producer", Tally(accepted=1))],
)
def test_who_sees_all_and_who_tells_less_of_the_same_answer(
    ledger: Ledger, producer: str, expected: Tally, first: int
) -> None:
    event = usage_event(trace_id=TRACE, span_id=b"\x02" * 8, response_id="abc")
    inside = foreign_span(response_id="abc", parent=b"\x02" * 8, input_tokens=7, scope=producer)
    records = (event, inside)
    assert ledger.send(records[first]) == Tally(accepted=1)
    assert ledger.send(records[1 - first]) == expected
    ledger.check()
    assert len(ledger.rows()) == 2 - expected.linked
    assert ledger.rows()[event.call_id]["input_tokens"] == 1000


CLAUDE = "claude-haiku-4-5-20251001"


@pytest.mark.parametrize(
    ("served", "told", "expected"),
    [
        (CLAUDE, f"anthropic.{CLAUDE}", Tally(linked=1)),
        (f"us.anthropic.{CLAUDE}-v1:0", f"anthropic.{CLAUDE}-v1:0", Tally(linked=1)),
        (CLAUDE, "anthropic.claude-haiku-4-6", Tally(accepted=1)),
        ("gpt-4.1", "gpt-3.1", Tally(accepted=1)),
    ],
)
def test_who_made_a_model_tells_no_calls_apart(ledger: Ledger, served: str, told: str, expected: Tally) -> None:
    """On Bedrock some leave out the inference profile, and some the maker."""
    ledger.send(usage_event(response_id="msg_1", id_family="anthropic.message", model=served))
    span = foreign_span(
        response_id="msg_1", trace_id=b"\x09" * 16, scope="another", attributes={"gen_ai.response.model": told}
    )
    assert ledger.send(span) == expected
    ledger.check()


def test_another_id_family_is_another_call(ledger: Ledger) -> None:
    event = usage_event(response_id="msg_1", id_family="openai.chat")
    span = foreign_span(response_id="msg_1", trace_id=b"\x09" * 16)
    assert ledger.send(event, span) == Tally(accepted=2)


def test_repeated_response_ids_stay_distinct_calls(ledger: Ledger) -> None:
    events = [usage_event(response_id="chatcmpl-0", start_ns=NOW + number * MINUTE) for number in range(3)]
    spans = [
        foreign_span(
            number=number + 1,
            response_id="chatcmpl-0",
            trace_id=bytes([number + 1]) * 16,
            start_ns=NOW + number * MINUTE + 1000,
        )
        for number in range(3)
    ]
    assert ledger.send(*events) == Tally(accepted=3)
    assert ledger.send(*spans) == Tally(linked=3)
    rows = ledger.rows()
    assert set(rows) == {event.call_id for event in events}
    assert all(row["links"].count('"') == 2 for row in rows.values())
    ledger.check()


def test_calls_without_ids_stay_distinct(ledger: Ledger) -> None:
    spans = [foreign_span(number=number) for number in range(1, 4)]
    assert ledger.send(*spans) == Tally(accepted=3)
    assert ledger.send(*(usage_event() for _ in range(3))) == Tally(accepted=3)
    ledger.check()


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_a_span_above_with_equal_facts_is_the_same_call(ledger: Ledger, order: tuple[int, ...]) -> None:
    outer = foreign_span(number=1, scope="framework")
    between = SpanOf({"http.method": "POST"}, span_id=b"\x00" * 7 + b"\x02", trace_id=TRACE, parent=outer.span_id)
    event = usage_event(trace_id=TRACE, span_id=b"\x00" * 7 + b"\x03", tenant="acme")
    own = SpanOf(
        dict(event.attributes),
        trace_id=TRACE,
        span_id=event.span_id,
        parent=between.span_id,
        scope="genai_meter",
        start_ns=NOW,
    )
    ledger.send(between)
    for index in order:
        ledger.send((outer, event, own)[index])
    one_charge(ledger, event)
    assert ledger.send(outer, event, own) == Tally(duplicate=3)
    ledger.reopen()
    one_charge(ledger, event)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gpt-4o", Tally(linked=1)),
        ("gpt-4o-2024-08-06", Tally(linked=1)),
        ("gpt-4o-mini", Tally(accepted=1)),
    ],
)
def test_a_model_that_is_told_alone_is_the_served_or_the_requested_one(
    ledger: Ledger, model: str, expected: Tally
) -> None:
    told = {"openinference.span.kind": "LLM", "llm.provider": "openai", "llm.model_name": model}
    counts = {"llm.token_count.prompt": 1000, "llm.token_count.completion": 100}
    outer = foreign_span(scope="openinference.instrumentation.llama_index")
    outer = replace(outer, attributes={**told, **counts})
    event = usage_event(trace_id=TRACE, span_id=b"\x00" * 7 + b"\x03")
    own = SpanOf(event.attributes, trace_id=TRACE, span_id=event.span_id, parent=outer.span_id, scope="genai_meter")
    ledger.send(event, own)
    assert ledger.send(outer) == expected
    ledger.check()


@pytest.mark.parametrize(
    "different",
    [
        {"attributes": {"gen_ai.operation.name": "embeddings"}},
        {"input_tokens": 2000},
        {"start_ns": NOW - 10 * MINUTE, "end_ns": NOW - 9 * MINUTE},
    ],
)
def test_a_span_above_with_other_facts_is_another_call(ledger: Ledger, different: dict[str, Any]) -> None:
    inner = foreign_span(number=2, parent=b"\x00" * 7 + b"\x01", scope="sdk")
    changes: dict[str, Any] = {"number": 1, "scope": "framework", **different}
    outer = foreign_span(**changes)
    assert ledger.send(inner, outer) == Tally(accepted=2)
    ledger.check()


def test_a_failed_transaction_forgets_no_way_up(ledger: Ledger) -> None:
    outer = foreign_span(span_id=b"\x00" * 7 + b"\x03")
    between = SpanOf({"http.method": "POST"}, span_id=b"\x00" * 7 + b"\x02", trace_id=TRACE, parent=outer.span_id)
    event = usage_event(trace_id=TRACE, span_id=b"\x00" * 7 + b"\x01")
    own = SpanOf(event.attributes, trace_id=TRACE, span_id=event.span_id, parent=between.span_id)
    ledger.send(between)
    unwritable = batch_of([usage_event()])
    unwritable.records[0].values["response_id"] = object()
    with pytest.raises(StoreError):
        ledger.put(unwritable)
    ledger.send(event, own)
    assert ledger.send(outer) == Tally(linked=1)
    one_charge(ledger, event)


def test_spans_that_wait_for_a_commit_are_bounded(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    for number in range(25):
        ids = (index.to_bytes(8, "big") for index in range(number * 5000, (number + 1) * 5000))
        ledger.store.learn((b"\x01" * 16 + span, b"\x02" * 8) for span in ids)
    ledger.send(usage_event())
    ledger.store.close()
    with closing(sqlite3.connect(ledger.path)) as database:
        (kept,) = database.execute("SELECT spans FROM span_parent").fetchone()
    last = b"\x01" * 16 + (124_999).to_bytes(8, "big") + b"\x02" * 8
    assert (len(kept), kept[-32:]) == (100_000 * 32, last)


def test_the_first_of_two_equal_sources_stays(ledger: Ledger) -> None:
    first = foreign_span(response_id="chatcmpl-1", scope="one")
    second = foreign_span(number=2, response_id="chatcmpl-1", scope="two")
    ledger.send(first)
    assert ledger.send(second) == Tally(linked=1)
    (row,) = ledger.rows().values()
    assert row["source"] == "one/span"
    ledger.check()


def test_our_span_stands_in_until_the_event_comes(ledger: Ledger) -> None:
    event = usage_event(tenant="acme", output_tokens=200)
    own = SpanOf({**event.attributes, "genai_meter.usage.output": 100}, scope="genai_meter")
    assert ledger.send(own) == Tally(accepted=1)
    (row,) = ledger.rows().values()
    assert (row["source"], row["cost"]) == ("genai_meter/span", 3_500_000_000)
    assert ledger.send(event) == Tally(linked=1)
    one_charge(ledger, event, cost=4_500_000_000)
    assert ledger.total(series.LEDGER_COST) == 4_500_000_000
    assert ledger.total(series.LEDGER_CREDIT) == 0
    assert ledger.send(own) == Tally(duplicate=1)


def test_a_better_record_that_costs_less_is_a_credit(ledger: Ledger) -> None:
    event = usage_event(tenant="acme", output_tokens=100)
    own = SpanOf({**event.attributes, "genai_meter.usage.output": 200}, scope="genai_meter")
    ledger.send(own)
    ledger.send(event)
    one_charge(ledger, event)
    assert ledger.total(series.LEDGER_COST) == 4_500_000_000
    assert ledger.total(series.LEDGER_CREDIT) == 1_000_000_000
    assert ledger.counters[series.CREDIT.name, ("", "prod", "shop", "", "openai", "gpt-4o-2024-08-06")] == 1_000_000_000


def test_a_better_record_with_an_owner_moves_the_charge(ledger: Ledger) -> None:
    span = foreign_span(response_id="chatcmpl-1")
    event = usage_event(response_id="chatcmpl-1", tenant="acme", team="search")
    ledger.send(span)
    ledger.send(event)
    one_charge(ledger, event)
    who = ("prod", "shop", "", "openai", "gpt-4o-2024-08-06")
    assert ledger.counters[series.COST_USD.name, ("", *who)] == 3_500_000_000
    assert ledger.counters[series.CREDIT.name, ("", *who)] == 3_500_000_000
    assert ledger.counters[series.COST_USD.name, ("search", *who)] == 3_500_000_000
    assert ledger.counters[series.TENANT_COST.name, ("acme",)] == 3_500_000_000


def test_a_restart_reads_of_a_call_what_linking_needs_and_no_more(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.send(*(usage_event(start_ns=NOW + number) for number in range(2_000)))

    def seconds(what: Callable[[], object]) -> float:
        start = time.process_time()
        what()
        return time.process_time() - start

    whole = min(seconds(ledger.rows) for _ in range(3))
    again = min(seconds(ledger.reopen) for _ in range(3))
    assert len(ledger.rows()) == 2_000
    assert again < 0.7 * whole
    ledger.store.close()


def test_a_late_call_finds_its_twin_after_a_restart(ledger: Ledger) -> None:
    long_ago = NOW - 300 * MINUTE
    event = usage_event(start_ns=long_ago, response_id="chatcmpl-1")
    ledger.send(event)
    ledger.reopen()
    span = foreign_span(response_id="chatcmpl-1", start_ns=long_ago, end_ns=long_ago + MINUTE)
    assert ledger.send(span) == Tally(linked=1)
    one_charge(ledger, event)


def test_the_window_ends(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db", window_ns=10 * MINUTE)
    ledger.send(usage_event(response_id="chatcmpl-1"), now=NOW)
    ledger.send(usage_event(response_id="chatcmpl-2"), now=NOW + 11 * MINUTE)
    assert ledger.send(foreign_span(response_id="chatcmpl-1"), now=NOW + 11 * MINUTE) == Tally(accepted=1)


# --- property: any order, any batching, any number of re-sends ---------------------------------------
@st.composite
def histories(draw: st.DrawFn) -> tuple[list[tuple[Event, list[Event | SpanOf]]], list[list[int]]]:
    """Calls, each with all its records, and an order of arrival: batches of indices, some more than once.

    Response ids repeat, are missing, usage repeats; every call is recorded by the same producers.
    """
    producers = draw(st.sampled_from([(), ("llmetry",), ("llmetry", "inference"), ("own_span", "llmetry")]))
    calls: list[tuple[Event, list[Event | SpanOf]]] = []
    for number in range(draw(st.integers(1, 4))):
        response_id = draw(st.sampled_from([None, "chatcmpl-same", f"chatcmpl-{number}"]))
        tokens = draw(st.sampled_from([10, 20]))
        enriched = draw(st.booleans())
        trace = bytes([number + 1]) * 16
        ids: dict[str, Any] = {"response_id": response_id} if response_id else {}
        inner = SpanOf(trace_id=trace, span_id=bytes([9] * 8))
        outer_id = bytes([1] * 8)
        named = outer_id if enriched and "llmetry" in producers else inner.span_id
        event = usage_event(trace_id=trace, span_id=named, input_tokens=tokens, tenant=f"t{number % 2}", **ids)
        records: list[Event | SpanOf] = [event]
        for producer in producers:
            if producer == "own_span":
                records.append(replace(inner, attributes=dict(event.attributes), parent=outer_id, scope="genai_meter"))
            else:
                depth = producers.index(producer)
                records.append(
                    foreign_span(
                        scope=producer,
                        trace_id=trace,
                        input_tokens=tokens,
                        span_id=outer_id if producer == "llmetry" else bytes([2] * 8),
                        parent=outer_id if depth and producer == "inference" else b"",
                        **ids,
                    )
                )
        if "own_span" not in producers and named == inner.span_id and producers:
            # Nobody tells what is above our span: without an id the calls cannot be told to be one.
            event.span_id = outer_id
        calls.append((event, records))
    indices = [(c, r) for c, (_, records) in enumerate(calls) for r in range(len(records))]
    order = draw(st.permutations(indices + draw(st.lists(st.sampled_from(indices), max_size=4))))
    flat = [sum(len(records) for _, records in calls[:c]) + r for c, r in order]
    cuts = sorted(draw(st.sets(st.integers(1, max(len(flat) - 1, 1)), max_size=4)))
    return calls, [flat[a:b] for a, b in zip([0, *cuts], [*cuts, len(flat)], strict=True) if a < b]


def check_history(
    ledger: Ledger, history: tuple[list[tuple[Event, list[Event | SpanOf]]], list[list[int]]], *, reopened: bool
) -> None:
    """Each call is charged once, at the price of its event."""
    calls, arrivals = history
    records = [record for _, found in calls for record in found]
    for arrival in arrivals:
        ledger.send(*(records[index] for index in arrival))
        ledger.check()
        if reopened:
            ledger.reopen()
    rows = ledger.rows()
    ledger.store.close()
    assert set(rows) == {event.call_id for event, _ in calls}
    for event, _ in calls:
        tokens = event.attributes["genai_meter.usage.input"]
        assert rows[event.call_id]["cost"] == tokens * 2_500_000 + 100 * 10_000_000


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories(), st.booleans())
def test_every_history_charges_every_call_once(
    history: tuple[list[tuple[Event, list[Event | SpanOf]]], list[list[int]]], reopened: bool
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        check_history(Ledger(Path(directory) / "ledger.db"), history, reopened=reopened)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=histories(), reopened=st.booleans())
def test_every_history_charges_every_call_once_in_postgresql(
    postgres: str, history: tuple[list[tuple[Event, list[Event | SpanOf]]], list[list[int]]], reopened: bool
) -> None:
    check_history(PostgresLedger.new(postgres), history, reopened=reopened)
