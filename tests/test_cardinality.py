"""The contract on labels: bounded series whatever comes, the biggest spenders named, nothing lost in the totals."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from exporter_kit import NOW, PRICED, Served, usage_event
from fuzz_kit import resident
from genai_meter_exporter import series
from genai_meter_exporter.bounds import OTHER, Bounds
from genai_meter_exporter.bounds import shown as label_of
from genai_meter_exporter.counters import Counters
from genai_meter_exporter.metrics import Exposition, LiveFacts, MeterCollector
from genai_meter_exporter.store import Query
from genai_meter_exporter.store.reader import SqliteReader
from genai_meter_exporter.store.sqlite import SqliteStore
from hypothesis import given
from hypothesis import strategies as st
from ledger_kit import batch_of

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("tenants", "limit"), [(3_000, 50), pytest.param(100_000, 500, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_many_tenants(tmp_path: Path, tenants: int, limit: int, record_property: Callable[[str, object], None]) -> None:
    bounds, counters = Bounds({"tenant": limit}, 200, 10_000), Counters(0)
    store = SqliteStore(tmp_path / "ledger.db", bounds, synchronous="NORMAL")
    counters.restore(store.open())
    began, memory = time.process_time(), resident()
    for first in range(0, tenants, 500):
        events = [
            usage_event(start_ns=NOW + number, tenant=f"tenant-{number}", input_tokens=1000 + number)
            for number in range(first, min(first + 500, tenants))
        ]
        written = store.write([batch_of(events)], (), NOW)
        store.commit()
        counters.apply(written.deltas)
    took, grown = time.process_time() - began, resident() - memory
    exposition = Exposition(MeterCollector(counters, bounds, LiveFacts()))
    exposition.render("")
    counters.mark_recorded(counters.shown())
    before = time.process_time()
    body, _ = exposition.render("")
    scraped = time.process_time() - before
    lines = [line for line in body.decode().splitlines() if line.startswith("genai_meter_tenant_cost_usd_total{")]
    assert len(lines) == limit + 1
    assert f'genai_meter_series_folded{{family="tenant_cost_usd"}} {tenants - limit}.0' in body.decode()
    assert f'genai_meter_label_values{{label="tenant"}} {limit}.0' in body.decode()
    assert f'genai_meter_label_limit{{label="tenant"}} {limit}.0' in body.decode()
    values = counters.snapshot().values
    by_tenant = sum(amount for (family, _), amount in values.items() if family == series.TENANT_COST.name)
    assert by_tenant == values[series.LEDGER_COST.name, ()]
    store.close()
    reader = SqliteReader(tmp_path / "ledger.db")
    rows = reader.report(Query(("tenant",)))
    reader.close()
    assert len(rows) == tenants
    assert sum(row["cost"] for row in rows) == by_tenant
    size = (tmp_path / "ledger.db").stat().st_size
    record_property(
        "table",
        f"{tenants:,} tenants: {took / tenants * 1e6:.0f} µs of CPU a call (making it included), memory grown by "
        f"{grown / MIB:.0f} MiB, /metrics {len(body) / 1e3:.0f} kB in {scraped * 1e3:.0f} ms, "
        f"ledger {size / tenants:.0f} bytes a call",
    )
    assert grown < 100 * MIB + 2_000 * tenants
    assert scraped < 0.25


def test_the_biggest_spenders_are_named_at_a_review() -> None:
    bounds = Bounds({"tenant": 2}, 10, 100)
    names = ("tenant",)
    told = [bounds.fold("tenant_cost_usd", names, (name,)) for name in ("a", "b", "c", "d", "c")]
    assert told == [("a",), ("b",), (OTHER,), (OTHER,), (OTHER,)]
    assert bounds.full("tenant")
    bounds.review("tenant", ["c", "b", "a"])
    assert [bounds.fold("tenant_cost_usd", names, (name,)) for name in "abcd"] == [(OTHER,), ("b",), ("c",), (OTHER,)]
    assert bounds.hidden(names, ("a",))
    assert bounds.places() == {"tenant": (2, 2)}
    assert bounds.folded() == {"tenant_cost_usd": 3}


def test_a_family_may_have_a_bound_of_its_own() -> None:
    bounds = Bounds({}, 10, 3, {"retries": 1})
    for family, expected in (("retries", ["a", OTHER, OTHER]), ("requests", ["a", "b", "c"])):
        assert [bounds.fold(family, ("model",), (name,))[0] for name in "abc"] == expected


def shown(served: Served) -> dict[str, float]:
    """Tenants in `/metrics` and their cost, once every series shows its value."""
    deadline = time.monotonic() + 60
    while True:
        found = {
            dict(labels)["tenant"]: value
            for (name, labels), value in served.scrape().items()
            if name == "genai_meter_tenant_cost_usd_total"
        }
        if found and all(found.values()):
            return found
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_named_ones_stay_the_same_over_restarts(tmp_path: Path) -> None:
    """First come, with places; a restart is no review."""
    served = Served(tmp_path / "data", {"labels": {"limits": {"tenant": 3}, "series_limits": {"retries": 5}}})
    with served:
        for number, tenant in enumerate(("a", "b", "c", "d", "e")):
            served.send(usage_event(tenant=tenant, input_tokens=1000 * (number + 1), output_tokens=0))
        before = shown(served)
        assert before == {"a": 0.0025, "b": 0.005, "c": 0.0075, OTHER: 0.0225}
    for end in (served.stop, served.kill):
        served.start()
        assert shown(served) == before
        end()
    with served:
        served.send(usage_event(tenant="e", input_tokens=1000, output_tokens=0))
        served.settled("tenant_cost_usd_total", 0.025, tenant=OTHER)


def test_what_lost_its_place_stays_hidden_over_a_restart(tmp_path: Path) -> None:
    def opened() -> tuple[SqliteStore, Bounds]:
        bounds = Bounds({"tenant": 2}, 200, 1000)
        return SqliteStore(tmp_path / "ledger.db", bounds, synchronous="NORMAL"), bounds

    store, bounds = opened()
    store.open()
    for number, tenant in enumerate("abc"):
        event = usage_event(start_ns=NOW + number, tenant=tenant, input_tokens=1000 * (number + 1))
        store.write([batch_of([event])], (), NOW)
        store.commit()
    bounds.review("tenant", store.top("tenant", 2))
    # c is named now and gets a series of its own; a has lost its place.
    store.write([batch_of([usage_event(start_ns=NOW + 9, tenant="c")])], (), NOW)
    store.commit()
    store.close()
    store, bounds = opened()
    store.open()
    assert bounds.crowded("tenant")
    bounds.review("tenant", store.top("tenant", 2))
    assert [bounds.hidden(("tenant",), (name,)) for name in "abc"] == [True, False, False]
    store.close()


def test_who_is_called_like_the_rest_shares_no_series_with_it(tmp_path: Path) -> None:
    contract = {"tenant": "other", "team": "sales", "usd_per_hour": 2, "revenue_usd_30d": 100}
    config = {"labels": {"limits": {"tenant": 3}}, "budgets": {"contracts": [contract]}}
    served = Served(tmp_path / "data", config)
    names = ("other", "_other", "others", "d", "e")
    with served:
        for number, name in enumerate(names):
            served.send(usage_event(tenant=name, feature=name, input_tokens=1000 << number, output_tokens=0))
        before = shown(served)
        assert before == {"_other": 0.0025, "__other": 0.005, "others": 0.01, OTHER: 0.06}
        features = {"_other": 0.0025, "__other": 0.005, "others": 0.01, "d": 0.02, "e": 0.04}
        where = {"team": "", "environment": "prod", "service": "shop", "provider": "openai", "model": PRICED}
        for feature, cost in features.items():
            served.settled("cost_usd_total", cost, **where, feature=feature)
        # What is folded has no contract: the rule compares by tenant.
        assert served.value("tenant_contract_usd_per_hour", tenant="_other", team="sales") == 2
        assert served.value("tenant_contract_usd_per_hour", tenant=OTHER, team="sales") is None
        served.settled("tenant_cost_30d_usd", 0.0025, tenant="_other")
        assert served.value("tenant_revenue_30d_usd", tenant="_other", team="sales") == 100
    with served:
        served.send(usage_event(tenant="other", input_tokens=1000, output_tokens=0))
        served.settled("tenant_cost_usd_total", 0.005, tenant="_other")
        assert shown(served) == {**before, "_other": 0.005}
        with closing(SqliteReader(served.ledger)) as reader:
            assert {row["tenant"] for row in reader.report(Query(("tenant",)))} == set(names)


def test_a_review_names_what_has_another_name_as_a_label() -> None:
    bounds = Bounds({"tenant": 2}, 10, 100)
    names, long = ("tenant",), "x" * 200
    for name in ("a", "b", long, "other"):
        bounds.fold("tenant_cost_usd", names, (name,))
    bounds.review("tenant", ["other", long, "a"])
    told = [bounds.fold("tenant_cost_usd", names, (name,)) for name in ("a", "other", long, "b")]
    assert told == [(OTHER,), ("_other",), ("x" * 128,), (OTHER,)]
    assert bounds.hidden(names, ("a",))
    assert not bounds.hidden(names, ("_other",))


@given(st.lists(st.one_of(st.sampled_from(["other", "_other", "__other", "another", "", "_"]), st.text(max_size=9))))
def test_no_two_values_are_one_label_and_none_is_the_rest(values: list[str]) -> None:
    labels = [label_of(value) for value in values]
    assert OTHER not in labels
    assert len(set(labels)) == len(set(values))
