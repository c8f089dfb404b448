"""The ledger: each call once; roll-ups, counters and reports equal to it; sums that cannot overflow."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from exporter_kit import NOW, Event, logs, new_id, usage_event
from genai_meter_exporter import series
from genai_meter_exporter.cells import MEASURES
from genai_meter_exporter.charging import charge
from genai_meter_exporter.normalise import normalise
from genai_meter_exporter.receive import protobuf
from genai_meter_exporter.store import Query, StoreError
from genai_meter_exporter.store.base import Price, Tally
from genai_meter_exporter.store.reader import SqliteReader
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_kit import ENGINES, Ledger, batch_of, foreign_span, ledger_of_engine

USD = 10**12


ledger = pytest.fixture(params=ENGINES)(ledger_of_engine)


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


def test_a_truth_value_told_as_a_float_is_read_back(ledger: Ledger) -> None:
    event = usage_event()
    event.attributes["gen_ai.request.stream"] = 1.0
    ledger.send(event)
    assert ledger.rows()[event.call_id]["stream"] == 1
    ledger.check()


def test_an_empty_name_of_the_served_model_is_none(ledger: Ledger) -> None:
    ledger.send(usage_event(model=""))
    ledger.check()
    reader = ledger.reader()
    assert [row["model"] for row in reader.report(Query(("model",), since_ns=1))] == ["gpt-4o"]
    reader.close()


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


# --- reports --------------------------------------------------------------------------------------
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
    reader = ledger.reader()
    for since in (None, 1):
        (row,) = reader.report(Query(("service",), since))
        assert (row["cost"], row["list_cost"], row["calls"]) == (total, total, 2500)
    reader.close()


def test_a_call_that_costs_more_than_a_field_can_hold_is_quarantined() -> None:
    batch = normalise(protobuf.parse("logs", logs([usage_event(output_tokens=10**12)]).SerializeToString()))
    charge(batch)
    assert batch.records == []
    assert [found.reason for found in batch.quarantined] == ["the cost exceeds what one event may cost"]


@pytest.mark.parametrize(
    ("cost", "charged", "credited"), [(5 * USD, 1_500 * USD // 1000, 0), (2 * USD, 0, 1_500 * USD // 1000)]
)
def test_another_price_is_a_revision_and_a_charge_or_a_credit(
    ledger: Ledger, cost: int, charged: int, credited: int
) -> None:
    event = usage_event(tenant="acme", input_tokens=1_000_000, output_tokens=100_000)
    ledger.send(event)
    before = ledger.rows()[event.call_id]
    assert before["cost"] == 3_500 * USD // 1000
    ledger.revise(event.call_id, Price("exact", cost, cost, "[]", None, "pb1:other"), "the contract changed")
    row = ledger.rows()[event.call_id]
    assert (row["revision"], row["cost"], row["book_id"]) == (1, cost, "pb1:other")
    assert ledger.total(series.LEDGER_COST) == before["cost"] + charged
    assert ledger.total(series.LEDGER_CREDIT) == credited
    ledger.check()
    ledger.revise(event.call_id, Price("unpriced", None, None, None, '["unknown_model"]', None), "it was a mistake")
    ledger.check()
    ledger.reopen()
    reader = ledger.reader()
    found = reader.revisions(event.call_id)
    reader.close()
    assert [(row["revision"], row["recorded_at"], row["reason"]) for row in found] == [
        (0, NOW, "the contract changed"),
        (1, NOW, "it was a mistake"),
    ]
    assert [json.loads(row["price"])["cost"] for row in found] == [before["cost"], cost]


def test_a_call_that_is_not_there_has_no_other_price(ledger: Ledger) -> None:
    with pytest.raises(StoreError, match="there is no call"):
        ledger.revise(new_id(), Price("exact", 1, 1, None, None, None), "why")
    assert ledger.send(usage_event()) == Tally(accepted=1)


def test_a_row_is_found_by_its_own_id_and_by_that_of_a_linked_record(ledger: Ledger) -> None:
    span = foreign_span(response_id="chatcmpl-1")
    event = usage_event(response_id="chatcmpl-1")
    ledger.send(span)
    (span_key,) = ledger.rows()
    ledger.send(event)
    reader = ledger.reader()
    own, linked = reader.get(event.call_id), reader.get(span_key)
    assert own is not None
    assert own == linked
    assert own["links"] == f'["{span_key.hex()}"]'
    assert reader.get(new_id()) is None
    reader.close()


def test_the_measures_of_the_report_are_those_of_the_rollup(ledger: Ledger) -> None:
    ledger.send(usage_event(attempt_count=3), usage_event(model="no-such-model"))
    reader = ledger.reader()
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
