"""Records without ids and relatives: paired one to one with a producer that sees every call, and never else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from exporter_kit import NOW, Event, SpanOf, usage_event
from genai_meter_exporter.store import siblings
from ledger_kit import LINKING, Ledger, foreign_span, ledger_of_engine

ledger = pytest.fixture(params=LINKING)(ledger_of_engine)

TRACE, PARENT = b"\x01" * 16, b"\x0f" * 8
SDK, LOGFIRE, OTHER = "com.anthropic.sdk.python", "logfire.anthropic", "some.agent"
CLAUDE = {"gen_ai.request.model": "claude-sonnet-4-5", "gen_ai.response.model": "claude-sonnet-4-5-20250929"}
COHERE = "openinference.instrumentation.cohere"
SECOND = 1_000_000_000


def told(scope: str, number: int, *, start: int = 0, seconds: int = 2, **changes: Any) -> SpanOf:
    """A span under the request."""
    attributes = {**CLAUDE, **changes.pop("attributes", {})}
    start_ns = NOW + start * SECOND
    return foreign_span(
        number=number,
        scope=scope,
        parent=PARENT,
        start_ns=start_ns,
        end_ns=start_ns + seconds * SECOND,
        attributes=attributes,
        **changes,
    )


def charges(ledger: Ledger, *records: SpanOf | Event) -> int:
    """How many calls there are after all records, each in a batch of its own."""
    for record in records:
        ledger.send(record)
    ledger.check()
    return len(ledger.rows())


def test_an_instrumentation_of_the_sdk_is_paired_with_the_sdks_own_span(ledger: Ledger) -> None:
    assert charges(ledger, told(LOGFIRE, 1), told(SDK, 2, response_id="msg_1")) == 1
    (row,) = ledger.rows().values()
    assert (row["source"], row["response_id"]) == (f"{SDK}/span", "msg_1")
    ledger.reopen()
    assert charges(ledger, told(LOGFIRE, 1), told(SDK, 2, response_id="msg_1")) == 1


def test_below_a_span_of_the_same_instrumentation(ledger: Ledger) -> None:
    """Logfire's log of a stream is beside its request span, the SDK's span below that."""
    request = SpanOf({"x": "y"}, trace_id=TRACE, span_id=b"\x0e" * 8, parent=PARENT, scope=LOGFIRE)
    inner = replace(told(SDK, 2, response_id="msg_1"), parent=request.span_id)
    assert charges(ledger, request, told(LOGFIRE, 1), inner) == 1


@pytest.mark.parametrize("order", list(permutations(range(4)))[::5])
def test_parallel_calls_that_look_alike_stay_two(ledger: Ledger, order: Sequence[int]) -> None:
    records = [told(LOGFIRE, 1), told(LOGFIRE, 2), told(SDK, 3, response_id="msg_1"), told(SDK, 4, response_id="msg_2")]
    assert charges(ledger, *(records[place] for place in order)) == 2


def test_a_call_that_only_one_of_them_saw_stays(ledger: Ledger) -> None:
    seen_by_all = [told(SDK, number, response_id=f"msg_{number}") for number in (3, 4, 5)]
    assert charges(ledger, *seen_by_all, told(LOGFIRE, 1)) == 3


@pytest.mark.parametrize(
    "second",
    [
        told(OTHER, 2),
        told("openinference.instrumentation.openai", 2),
        told(LOGFIRE, 2, input_tokens=999),
        told(LOGFIRE, 2, output_tokens=None),
        told(LOGFIRE, 2, start=60),
        told(LOGFIRE, 2, response_id="msg_2"),
        told(LOGFIRE, 2, attributes={"gen_ai.response.model": "claude-haiku-4-5"}),
        told(LOGFIRE, 2, attributes={"service.instance.id": "another process"}),
        replace(told(LOGFIRE, 2), parent=b"\x0d" * 8),
        replace(told(LOGFIRE, 2), parent=b""),
        replace(told(LOGFIRE, 2), trace_id=b"\x02" * 16),
    ],
    ids=["stranger", "library", "input", "untold", "later", "id", "model", "process", "parent", "root", "trace"],
)
def test_whatever_may_be_another_call_is_one(ledger: Ledger, second: SpanOf) -> None:
    assert charges(ledger, told(SDK, 1, response_id="msg_1"), second) == 2


@pytest.mark.parametrize(
    "scope",
    [
        COHERE,
        "opentelemetry.instrumentation.genai.openai",
        "opentelemetry.instrumentation.openai.v1",
        "opentelemetry.instrumentation.openai_v2",
        "opentelemetry.instrumentation.ollama",
    ],
)
def test_ours_sees_every_call_of_the_libraries_it_meters(ledger: Ledger, scope: str) -> None:
    event = usage_event(trace_id=TRACE, span_id=b"\x0a" * 8, provider="cohere")
    ours = SpanOf({"x": "y"}, trace_id=TRACE, span_id=b"\x0a" * 8, parent=PARENT)
    beside = foreign_span(number=1, scope=scope, parent=PARENT)
    stranger = foreign_span(number=2, scope="openinference.instrumentation.portkey", parent=PARENT)
    assert charges(ledger, ours, event, beside, stranger) == 2


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_beside_ours_the_usage_need_not_be_equal(ledger: Ledger, order: Sequence[int]) -> None:
    """Two calls at once, of which an instrumentation leaves out something: two charges, by our account of them."""
    events = [usage_event(trace_id=TRACE, span_id=bytes([10 + number]) * 8, provider="cohere") for number in (0, 1)]
    spans = [SpanOf({"x": "y"}, trace_id=TRACE, span_id=bytes([10 + n]) * 8, parent=PARENT) for n in (0, 1)]
    others = [
        foreign_span(number=1, scope=COHERE, parent=PARENT, input_tokens=7),
        foreign_span(number=2, scope=COHERE, parent=PARENT, input_tokens=None, output_tokens=None),
    ]
    records = [*events, *others]
    assert charges(ledger, *spans, *(records[place] for place in order)) == 2
    assert {row["input_tokens"] for row in ledger.rows().values()} == {1000}


def test_who_sees_all() -> None:
    assert siblings.sees_all({"genai_meter"}, {"opentelemetry.instrumentation.genai.openai/event"})
    assert siblings.sees_all({"genai_meter"}, {"langfuse-sdk.openai/span"})
    assert not siblings.sees_all({"genai_meter"}, {"langfuse-sdk/span"})
    assert not siblings.sees_all({"genai_meter"}, {"logfire.openai/span", "some.agent/span"})
    assert siblings.sees_all({f"{SDK}/span"}, {"opentelemetry.instrumentation.anthropic/span"})
    assert not siblings.sees_all({f"{SDK}/span"}, {"openinference.instrumentation.openai/span"})
    assert not siblings.sees_all({"logfire.anthropic/span"}, {"openinference.instrumentation.anthropic/span"})


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_a_record_may_show_that_three_charges_are_one(ledger: Ledger, order: Sequence[int]) -> None:
    """Nobody's id, and the span that our event names comes from another exporter than the spans around it."""
    named, around = b"\x0a" * 8, b"\x0b" * 8
    records = [
        usage_event(trace_id=TRACE, span_id=named),
        foreign_span(scope="logfire.openai", span_id=named, parent=around),
        foreign_span(scope="opentelemetry.instrumentation.openai.v1", span_id=around, parent=PARENT),
        foreign_span(scope="langfuse-sdk.openai", number=1, parent=PARENT),
    ]
    assert charges(ledger, *(records[place] for place in order)) == 1
