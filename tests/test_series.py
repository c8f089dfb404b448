"""A better record takes the place of a charge: what that does to the counters."""

from __future__ import annotations

from genai_meter_exporter.bounds import Bounds
from genai_meter_exporter.cells import DIMENSIONS, MEASURES, Cell, Measures
from genai_meter_exporter.columns import alike
from genai_meter_exporter.observations import observe
from genai_meter_exporter.series import Deltas, replace_cell

WHO = {
    "team": "search",
    "environment": "prod",
    "service": "shop",
    "feature": "find",
    "provider": "openai",
    "model": "m",
}
SHOWN = ("search", "prod", "shop", "find", "openai", "m")


def cell(**changed: str) -> Cell:
    values = {**WHO, "tenant": "acme", "operation": "chat", "status": "ok", **changed}
    return 0, tuple(values.get(name, "") for name in DIMENSIONS)


def measures(**values: int) -> Measures:
    return tuple({"calls": 1, **values}.get(name, 0) for name in MEASURES)


def replaced(old: tuple[Cell, Measures], new: tuple[Cell, Measures]) -> dict[tuple[str, tuple[str, ...]], int]:
    deltas = Deltas()
    replace_cell(deltas, Bounds({}, 100, 1000), old, new)
    return deltas.values


def test_same_amounts_under_a_dimension_that_is_no_label_change_nothing() -> None:
    what = measures(input_tokens=10, output_tokens=5, cost=700)
    assert replaced((cell(), what), (cell(tier="default"), what)) == {}


def test_a_higher_cost_is_charged_by_the_difference() -> None:
    old, new = measures(input_tokens=10, cost=700), measures(input_tokens=12, cost=900)
    assert replaced((cell(), old), (cell(), new)) == {
        ("cost_usd", SHOWN): 200,
        ("tenant_cost_usd", ("acme",)): 200,
        ("ledger_cost_usd", ()): 200,
        ("tokens", (*SHOWN, "input")): 2,
        ("priced_cost", ("openai", "m")): 200,
        ("priced_tokens", ("openai", "m")): 2,
    }


def test_a_lower_cost_is_a_credit() -> None:
    old, new = measures(input_tokens=10, cost=900), measures(input_tokens=10, cost=700)
    assert replaced((cell(), old), (cell(tier="flex"), new)) == {
        ("credit_usd", SHOWN): 200,
        ("ledger_credit_usd", ()): 200,
    }


def test_between_labels_the_whole_amount_moves() -> None:
    what = measures(input_tokens=10, cost=700)
    other = ("search", "prod", "shop", "", "openai", "m")
    assert replaced((cell(feature=""), what), (cell(), what)) == {
        ("credit_usd", other): 700,
        ("ledger_credit_usd", ()): 700,
        ("cost_usd", SHOWN): 700,
        ("ledger_cost_usd", ()): 700,
        ("tokens", (*SHOWN, "input")): 10,
        ("requests", (*SHOWN, "chat", "ok")): 1,
    }


def test_the_latest_event_is_bounded_and_never_ahead_of_its_arrival() -> None:
    deltas = Deltas()
    services = ("shop", "s" * 300, "mail", "blog")
    calls = [
        {"start": 0, "end": number * 10, "recorded_at": 35, **WHO, "service": service}
        for number, service in enumerate(services, 1)
    ]
    observe(deltas, Bounds({"service": 2}, 100, 1000), alike(calls))
    assert deltas.last_events == {
        ("search", "prod", "shop"): 10,
        ("search", "prod", "s" * 128): 20,
        ("search", "prod", "other"): 35,
    }
