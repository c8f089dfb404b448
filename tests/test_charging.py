"""The exporter's own price of a record: what the ledger charges, and how sure it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from exporter_kit import NOW, SpanOf, logs, new_id, traces, usage_event
from genai_meter import identity
from genai_meter_exporter.charging import charge
from genai_meter_exporter.normalise import normalise
from genai_meter_exporter.receive import protobuf

TRACE, SPAN = bytes(range(16)), bytes(range(8))


def charged(*events: Any, spans: list[SpanOf] | None = None) -> dict[str, Any]:
    """Ledger columns of the one record."""
    signal, request = ("traces", traces(spans, {})) if spans else ("logs", logs(list(events), {}))
    batch = normalise(protobuf.parse(signal, request.SerializeToString()))
    charge(batch)
    assert batch.quarantined == []
    (record,) = batch.records
    return record.values


def test_lines_name_rate_and_source_and_the_applications_figures_stay() -> None:
    values = charged(usage_event(cache_read=40, cost=999, book_id="pb1:other"))
    # 1,000 × 2.50, 40 × 1.25 and 100 × 10 USD a million.
    assert (values["cost_status"], values["cost"], values["list_cost"]) == ("exact", 3_550_000_000, 3_550_000_000)
    assert (values["app_cost"], values["app_book_id"]) == (999, "pb1:other")
    lines = json.loads(values["cost_lines"])
    assert [
        (line["bucket"], line["quantity"], line["rate"], line["per"], line["effective_pico"]) for line in lines
    ] == [
        ("input", 1000, "2.5", 1_000_000, 2_500_000_000),
        ("output", 100, "10", 1_000_000, 1_000_000_000),
        ("cache_read", 40, "1.25", 1_000_000, 50_000_000),
    ]
    assert all(line["entries"] for line in lines)


def test_an_estimate_stays_one_in_the_ledger() -> None:
    values = charged(usage_event(usage_source="estimated", cost_reasons='["output_estimated"]'))
    assert (values["cost_status"], json.loads(values["cost_reasons"])) == ("estimated", ["output_estimated"])
    assert values["cost"] == 3_500_000_000


def test_reasons_of_another_shape_name_their_attribute() -> None:
    told = [usage_event(cost_reasons=reasons) for reasons in ("null", "7", '{"a":1}', '[{"a":1},null]')]
    batch = normalise(protobuf.parse("logs", logs(told, {}).SerializeToString()))
    charge(batch)
    assert [found.reason for found in batch.quarantined] == ["genai_meter.cost.reasons is no JSON array"] * 3
    assert [record.values["cost_reasons"] for record in batch.records] == [None]


@pytest.mark.parametrize(("http_status", "status"), [(429, "error"), (None, "error"), (None, "cancelled")])
def test_a_call_that_was_never_answered_is_not_billed(http_status: int | None, status: str) -> None:
    told: dict[str, Any] = {} if http_status is None else {"http_status": http_status}
    values = charged(usage_event(status=status, input_tokens=0, output_tokens=0, usage_source="unknown", **told))
    assert (values["cost_status"], values["cost"]) == (None, None)


def test_an_answer_that_had_begun_without_usage_is_unpriced() -> None:
    values = charged(
        usage_event(status="closed_early", http_status=200, input_tokens=0, output_tokens=0, usage_source="unknown")
    )
    assert (values["cost_status"], values["cost"], json.loads(values["cost_reasons"])) == (
        "unpriced",
        None,
        ["no_usage"],
    )


def test_our_span_without_buckets_is_charged_by_its_inclusive_counts() -> None:
    attributes = {
        "genai_meter.call.id": identity.text(new_id()),
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "genai_meter.usage.source": "provider",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.cache_read.input_tokens": 40,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.reasoning.output_tokens": 5,
    }
    values = charged(spans=[SpanOf(attributes, trace_id=TRACE, span_id=SPAN, start_ns=NOW)])
    # 60 × 2.50, 40 × 1.25 and 20 × 10 USD a million.
    assert (values["cost_status"], values["cost"]) == ("exact", 400_000_000)
    assert (values["input_tokens"], values["cache_read_tokens"], values["reasoning_tokens"]) == (100, 40, 5)


def test_on_bedrock_the_inference_profile_decides_the_price() -> None:
    asked = "global.anthropic.claude-haiku-4-5-20251001-v1:0"
    values = charged(usage_event(provider="aws.bedrock", request_model=asked, model="claude-haiku-4-5-20251001"))
    # 1,000 × 1 and 100 × 5 USD a million; within one region it would be a tenth more.
    assert (values["cost_status"], values["cost"]) == ("exact", 1_500_000_000)
    assert values["model"] == "claude-haiku-4-5-20251001"
