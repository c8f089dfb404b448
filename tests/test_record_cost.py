"""Costs that are no LLM call: one event, one owner, exact amounts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from emission_kit import telemetry
from genai_meter import attribute, record_cost


def test_a_cost_that_is_no_call() -> None:
    with telemetry() as pipeline, attribute(tenant="acme", team="core"):
        record_cost("0.0025", what="vector_search", quantity=3, unit="query", provider="pinecone", team="search")
        points = pipeline.points()
    (event,) = pipeline.events
    attributes = event.attributes
    assert (event.name, event.severity, pipeline.spans) == ("genai_meter.cost", 9, [])
    assert len(attributes.pop("genai_meter.call.id")) == 36
    assert attributes.pop("genai_meter.start") == attributes.pop("genai_meter.end") == event.timestamp
    assert attributes == {
        "genai_meter.schema_version": "1",
        "genai_meter.status": "ok",
        "genai_meter.cost.what": "vector_search",
        "genai_meter.cost.quantity": 3,
        "genai_meter.cost.unit": "query",
        "genai_meter.cost.list": 2_500_000_000,
        "genai_meter.cost.effective": 2_500_000_000,
        "genai_meter.cost.status": "exact",
        "gen_ai.provider.name": "pinecone",
        "genai_meter.tenant": "acme",
        "genai_meter.team": "search",
    }
    (point,) = points["genai_meter.cost"]
    assert (point.value, point.attributes) == (
        0.0025,
        {
            "genai_meter.cost.what": "vector_search",
            "gen_ai.provider.name": "pinecone",
            "genai_meter.tenant": "acme",
            "genai_meter.team": "search",
            "genai_meter.status": "ok",
            "genai_meter.cost.status": "exact",
        },
    )


@pytest.mark.parametrize(
    ("amount", "pico"),
    [(1, 10**12), (Decimal("0.1"), 10**11), ("1e-12", 1), ("0.0000000000015", 2), ("0.0000000000005", 0), (0, 0)],
)
def test_amounts_are_exact(amount: Decimal | str | int, pico: int) -> None:
    with telemetry() as pipeline:
        record_cost(amount, what="storage")
    assert pipeline.events[0].attributes["genai_meter.cost.effective"] == pico


@pytest.mark.parametrize("amount", [0.1, True, None, b"1"])
def test_a_float_is_no_amount(amount: Any) -> None:
    with pytest.raises(TypeError, match="amount must be a Decimal, decimal text or an int, not"):
        record_cost(amount, what="storage")


@pytest.mark.parametrize("amount", ["-1", "NaN", "Infinity", "one", "", "10000000"])
def test_an_impossible_amount_is_a_value_error(amount: str) -> None:
    with pytest.raises(ValueError, match="amount must be"):
        record_cost(amount, what="storage")


def test_a_wrong_owner_or_quantity_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="did you mean 'tenant'"):
        record_cost(1, what="storage", tenent="acme")
    with pytest.raises(TypeError, match="quantity must be an int or a Decimal, not float"):
        record_cost(1, what="storage", quantity=1.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
