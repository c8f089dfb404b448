"""The ledger: each call once, whatever arrives how often in which order; roll-ups and counters equal to it."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from exporter_kit import NOW, Event, SpanOf, logs, new_id, traces, usage_event
from genai_meter_exporter import series
from genai_meter_exporter.bounds import Bounds
from genai_meter_exporter.cells import DIMENSIONS, MEASURES
from genai_meter_exporter.charging import charge
from genai_meter_exporter.normalise import Batch, normalise
from genai_meter_exporter.receive import protobuf
from genai_meter_exporter.store import Query, StoreError, open_readonly
from genai_meter_exporter.store.base import Restored, Tally
from genai_meter_exporter.store.reader import SqliteReader
from genai_meter_exporter.store.sqlite import SqliteStore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MINUTE = 60_000_000_000
USD = 10**12


class Ledger:
    """A store with its counters, opened and reopened."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self._options = options
        self.counters: dict[series.SeriesKey, int] = {}
        self.open()

    def open(self) -> Restored:
        """Open it; the counters are those of the store."""
        self.store = SqliteStore(self.path, Bounds({}, 1000, 10_000), clock=lambda: NOW, **self._options)
        restored = self.store.open()
        self.counters = dict(restored.values)
        return restored

    def reopen(self) -> None:
        """Close and open: nothing may have changed."""
        before = self.counters
        self.store.close()
        self.open()
        assert self.counters == before

    def put(self, *batches: Batch, now: int = NOW) -> list[Tally]:
        """Write and commit in one transaction."""
        written = self.store.write(batches, (), now)
        self.store.commit()
        for key, amount in written.deltas.values.items():
            assert amount >= 0
            self.counters[key] = self.counters.get(key, 0) + amount
        return written.tallies

    def send(self, *records: Event | SpanOf, now: int = NOW) -> Tally:
        """Put events and spans, in their order, as one batch."""
        (tally,) = self.put(batch_of(records), now=now)
        return tally

    def rows(self) -> dict[bytes, dict[str, Any]]:
        """The whole ledger."""
        return {row["call_id"]: dict(row) for row in self.store.rows(b"")}

    def total(self, family: series.Family) -> int:
        """Sum of a counter family."""
        return sum(amount for (name, _), amount in self.counters.items() if name == family.name)

    def check(self) -> None:
        """Counters and roll-ups equal the ledger, row by row."""
        rows = list(self.rows().values())
        assert self.total(series.LEDGER_EVENTS) - self.total(series.LEDGER_WITHDRAWN) == len(rows)
        cost = sum(row["cost"] or 0 for row in rows)
        assert self.total(series.LEDGER_COST) - self.total(series.LEDGER_CREDIT) == cost
        assert self.total(series.COST_USD) - self.total(series.CREDIT) == cost
        reader = SqliteReader(self.path)
        try:
            assert reader.totals() == (len(rows), cost)
            # An odd bound, far outside, makes the report read the rows instead of the roll-ups.
            by = tuple(name for name in DIMENSIONS)
            assert reader.report(Query(by)) == reader.report(Query(by, since_ns=1))
        finally:
            reader.close()


def batch_of(records: Sequence[Event | SpanOf]) -> Batch:
    """Events and spans as one normalised and priced batch, as they come from their own requests."""
    joined = Batch()
    for record in records:
        if isinstance(record, Event):
            batch = normalise(protobuf.parse("logs", logs([record]).SerializeToString()))
        else:
            batch = normalise(protobuf.parse("traces", traces([record]).SerializeToString()))
        assert not batch.quarantined, batch.quarantined
        joined.records += batch.records
        joined.parents += batch.parents
    charge(joined)
    return joined


def foreign_span(
    *, number: int = 1, input_tokens: int | None = 1000, output_tokens: int | None = 100, **changes: Any
) -> SpanOf:
    """An inference span of another producer about the same call as `usage_event`."""
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
    }
    if input_tokens is not None:
        attributes["gen_ai.usage.input_tokens"] = input_tokens
    if output_tokens is not None:
        attributes["gen_ai.usage.output_tokens"] = output_tokens
    if response_id := changes.pop("response_id", None):
        attributes["gen_ai.response.id"] = response_id
    attributes |= changes.pop("attributes", {})
    span = SpanOf(attributes, span_id=number.to_bytes(8, "big"), trace_id=b"\x01" * 16)
    return replace(span, **changes)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """An empty store."""
    return Ledger(tmp_path / "ledger.db")


# --- idempotence ------------------------------------------------------------------------------------
def test_a_call_sent_again_changes_nothing(ledger: Ledger) -> None:
    event = usage_event(tenant="acme", cache_read=500)
    assert ledger.send(event) == Tally(accepted=1)
    before, counted = ledger.rows(), ledger.total(series.LEDGER_COST)
    assert ledger.send(event) == Tally(duplicate=1)
    assert ledger.send(event, event, event) == Tally(duplicate=3)
    ledger.reopen()
    assert ledger.send(event) == Tally(duplicate=1)
    assert ledger.rows() == before
    assert ledger.total(series.LEDGER_COST) == counted == 4_125_000_000
    ledger.check()


def test_the_row_has_every_figure(ledger: Ledger) -> None:
    event = usage_event(
        tenant="acme", team="search", cache_read=500, output_reasoning=40, cost=4_525_000_000, book_id="app"
    )
    ledger.send(event)
    row = ledger.rows()[event.call_id]
    expected = {
        "tenant": "acme",
        "team": "search",
        "service": "shop",
        "environment": "prod",
        "start": NOW,
        "end": NOW + 2_000_000_000,
        "input_tokens": 1500,
        "output_tokens": 140,
        "cache_read_tokens": 500,
        "cache_write_tokens": 0,
        "reasoning_tokens": 40,
        "usage": '[{"model":null,"buckets":{"input":1000,"output":100,"cache_read":500,"output_reasoning":40}}]',
        "cost": 4_525_000_000,
        "list_cost": 4_525_000_000,
        "app_cost": 4_525_000_000,
        "app_book_id": "app",
        "cost_status": "exact",
        "source": "genai_meter",
        "source_rank": 0,
        "revision": 0,
        "links": None,
        "recorded_at": NOW,
    }
    assert {name: row[name] for name in expected} == expected
    assert row["book_id"].startswith("pb1:genai-prices-")


def test_an_unpriced_call_has_no_cost_and_is_counted(ledger: Ledger) -> None:
    event = usage_event(model="no-such-model", request_model="no-such-model")
    ledger.send(event)
    row = ledger.rows()[event.call_id]
    assert (row["cost"], row["list_cost"], row["cost_status"]) == (None, None, "unpriced")
    assert ledger.counters[series.UNPRICED.name, ("openai", "no-such-model")] == 1
    assert ledger.total(series.LEDGER_COST) == 0
    ledger.check()


def test_a_call_without_usage_is_no_unpriced_model(ledger: Ledger) -> None:
    event = usage_event(input_tokens=0, output_tokens=0, usage_source="unknown", status="error")
    ledger.send(event)
    row = ledger.rows()[event.call_id]
    assert (row["cost"], row["input_tokens"]) == (None, None)
    assert ledger.total(series.UNPRICED) == 0
    ledger.check()


def test_a_transaction_that_is_not_committed_leaves_nothing(ledger: Ledger) -> None:
    event = usage_event()
    ledger.store.write([batch_of([event])], (), NOW)
    ledger.store.close()
    ledger.open()
    assert ledger.rows() == {}
    assert ledger.send(event) == Tally(accepted=1)
    ledger.check()


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
    span = foreign_span(**{"response_id": "chatcmpl-1", "trace_id": b"\x09" * 16, **different})
    assert ledger.send(event, span) == Tally(accepted=2)
    assert len(ledger.rows()) == 2
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
    "different",
    [
        {"attributes": {"gen_ai.operation.name": "text_completion"}},
        {"input_tokens": 2000},
        {"start_ns": NOW - 10 * MINUTE, "end_ns": NOW - 9 * MINUTE},
    ],
)
def test_a_span_above_with_other_facts_is_another_call(ledger: Ledger, different: dict[str, Any]) -> None:
    inner = foreign_span(number=2, parent=b"\x00" * 7 + b"\x01", scope="sdk")
    outer = foreign_span(**{"number": 1, "scope": "framework", **different})
    assert ledger.send(inner, outer) == Tally(accepted=2)
    ledger.check()


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
        ids = {"response_id": response_id} if response_id else {}
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


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories(), st.booleans())
def test_every_history_charges_every_call_once(
    history: tuple[list[tuple[Event, list[Event | SpanOf]]], list[list[int]]], reopened: bool
) -> None:
    calls, arrivals = history
    records = [record for _, found in calls for record in found]
    with tempfile.TemporaryDirectory() as directory:
        ledger = Ledger(Path(directory) / "ledger.db")
        for arrival in arrivals:
            ledger.send(*(records[index] for index in arrival))
            ledger.check()
            if reopened:
                ledger.reopen()
        rows = ledger.rows()
        assert set(rows) == {event.call_id for event, _ in calls}
        for event, _ in calls:
            tokens = event.attributes["genai_meter.usage.input"]
            assert rows[event.call_id]["cost"] == tokens * 2_500_000 + 100 * 10_000_000
        ledger.store.close()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 4 * 3600),
            st.sampled_from(["acme", "zeta", None]),
            st.sampled_from(["gpt-4o-2024-08-06", "no-such-model"]),
            st.integers(0, 10**12),
            st.integers(0, 10**6),
            st.sampled_from(["ok", "error"]),
        ),
        max_size=30,
    )
)
def test_reports_from_rollups_equal_a_sum_by_hand(calls: list[tuple[int, str | None, str, int, int, str]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        ledger = Ledger(Path(directory) / "ledger.db")
        expected: dict[tuple[str, str], list[int]] = {}
        for second, tenant, model, tokens, output, status in calls:
            start = NOW + second * 1_000_000_000
            ledger.send(
                usage_event(
                    start_ns=start,
                    tenant=tenant,
                    model=model,
                    input_tokens=tokens,
                    output_tokens=output,
                    status=status,
                )
            )
            if second < 3600:
                known = model == "gpt-4o-2024-08-06"
                cost = tokens * 2_500_000 + output * 10_000_000 if known else 0
                figures = expected.setdefault((tenant or "", model), [0, 0, 0, 0])
                for index, amount in enumerate((1, tokens, output, cost)):
                    figures[index] += amount
        reader = SqliteReader(ledger.path)
        rows = reader.report(Query(("tenant", "model"), NOW, NOW + 3600 * 10**9))
        found = {
            (row["tenant"], row["model"]): [row["calls"], row["input_tokens"], row["output_tokens"], row["cost"]]
            for row in rows
        }
        assert found == expected
        reader.close()
        ledger.store.close()


# --- money ------------------------------------------------------------------------------------------
def test_sums_do_not_overflow_at_ten_billion_usd(ledger: Ledger) -> None:
    # 2,500 calls of 4,000,000.000001 USD and one pico-USD more each: 64-bit pico-USD end at 9.2 million.
    each = 4_000_000 * USD + 1_000_001
    events = [
        Event(
            {
                **usage_event().attributes,
                "genai_meter.cost.what": "reserved_capacity",
                "genai_meter.cost.effective": each,
                "genai_meter.cost.list": each,
            },
            name="genai_meter.cost",
        )
        for _ in range(2500)
    ]
    ledger.put(*(batch_of(events[start : start + 250]) for start in range(0, 2500, 250)))
    total = 2500 * each
    assert total > 10_000_000_000 * USD
    assert ledger.total(series.LEDGER_COST) == total
    ledger.check()
    ledger.reopen()
    reader = open_readonly(ledger.path)
    for since in (None, 1):
        (row,) = reader.report(Query(("service",), since))
        assert (row["cost"], row["list_cost"], row["calls"]) == (total, total, 2500)
    reader.close()


def test_a_call_that_costs_more_than_a_field_can_hold_is_quarantined() -> None:
    batch = normalise(protobuf.parse("logs", logs([usage_event(input_tokens=2**62)]).SerializeToString()))
    charge(batch)
    assert batch.records == []
    assert [found.reason for found in batch.quarantined] == ["the cost exceeds what one event may cost"]


# --- the file ---------------------------------------------------------------------------------------
def test_a_file_of_a_newer_version_is_refused(ledger: Ledger) -> None:
    ledger.store.close()
    with sqlite3.connect(ledger.path) as database:
        database.execute("INSERT INTO schema_version VALUES (99, 0)")
    database.close()
    with pytest.raises(StoreError, match="was written by a newer genai-meter"):
        ledger.open()


def test_a_field_that_the_schema_gained_becomes_a_column(ledger: Ledger) -> None:
    ledger.send(usage_event())
    ledger.store.close()
    with sqlite3.connect(ledger.path) as database:
        database.execute("ALTER TABLE usage DROP COLUMN variant")
    database.close()
    ledger.open()
    event = usage_event(variant="b")
    ledger.send(event)
    assert ledger.rows()[event.call_id]["variant"] == "b"


def test_every_commit_is_synced_under_full_and_none_under_normal(tmp_path: Path) -> None:
    for mode, expected in (("FULL", 3), ("NORMAL", 0)):
        ledger = Ledger(tmp_path / f"{mode}.db", synchronous=mode)
        for _ in range(3):
            ledger.send(usage_event())
        assert ledger.store.syncs == expected
        ledger.store.close()


def test_a_row_is_found_by_its_own_id_and_by_that_of_a_linked_record(ledger: Ledger) -> None:
    span = foreign_span(response_id="chatcmpl-1")
    event = usage_event(response_id="chatcmpl-1")
    ledger.send(span)
    (span_key,) = ledger.rows()
    ledger.send(event)
    reader = open_readonly(ledger.path)
    own, linked = reader.get(event.call_id), reader.get(span_key)
    assert own is not None
    assert own == linked
    assert own["links"] == f'["{span_key.hex()}"]'
    assert reader.get(new_id()) is None
    reader.close()


def test_there_is_no_store_to_read(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store at"):
        open_readonly(tmp_path / "nothing.db")


def test_outcomes_are_kept_once(ledger: Ledger) -> None:
    outcome = Event({"genai_meter.run.id": "r1", "genai_meter.tenant": "acme"}, name="genai_meter.outcome")
    for _ in range(2):
        ledger.put(normalise(protobuf.parse("logs", logs([outcome]).SerializeToString())))
    ledger.store.close()
    with sqlite3.connect(ledger.path) as database:
        found = database.execute("SELECT time_ns, attributes FROM outcome").fetchall()
    database.close()
    assert found == [(NOW, '{"genai_meter.run.id":"r1","genai_meter.tenant":"acme"}')]


def test_the_measures_of_the_report_are_those_of_the_rollup(ledger: Ledger) -> None:
    ledger.send(usage_event(attempt_count=3), usage_event(model="no-such-model"))
    reader = open_readonly(ledger.path)
    by_grain, by_row = reader.report(Query(("service",))), reader.report(Query(("service",), since_ns=1))
    reader.close()
    assert by_grain == by_row
    assert {name: by_grain[0][name] for name in MEASURES} == {
        "calls": 2,
        "retries": 2,
        "input_tokens": 2000,
        "output_tokens": 200,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "reasoning_tokens": 0,
        "unpriced_calls": 1,
        "unknown_usage_calls": 0,
        "list_cost": 3_500_000_000,
        "cost": 3_500_000_000,
    }
