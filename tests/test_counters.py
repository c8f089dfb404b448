"""`/metrics`: zero first, restored, bounded, exact, with exemplars."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from exporter_kit import NOW, Served, fetch, usage_event
from genai_meter_exporter import series
from genai_meter_exporter.bounds import Bounds
from genai_meter_exporter.counters import Counters
from genai_meter_exporter.metrics import Exposition, LiveFacts, MeterCollector
from genai_meter_exporter.series import Deltas, Exemplar
from genai_meter_exporter.store.base import Restored
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

WHO = {
    "team": "search",
    "environment": "prod",
    "service": "shop",
    "feature": "",
    "provider": "openai",
    "model": "gpt-4o-2024-08-06",
}
TENANT = (series.TENANT_COST.name, ("acme",))
LEDGER = (series.LEDGER_COST.name, ())
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class Clock:
    """A clock that stands still."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def gained(**amounts: int) -> Deltas:
    """What a commit adds: to a tenant's cost and the ledger's."""
    deltas = Deltas()
    for tenant, amount in amounts.items():
        deltas.add(series.TENANT_COST.name, (tenant,), amount)
        deltas.add(series.LEDGER_COST.name, (), amount)
    return deltas


def commit(counters: Counters, deltas: Deltas) -> None:
    """As the pipeline does it: marks what was shown, makes the commit visible."""
    shown = counters.shown()
    with counters.lock:
        counters.apply(deltas)
        counters.mark_recorded(shown)


def render(counters: Counters, accept: str = "") -> str:
    """One scrape."""
    bounds = Bounds({}, 1000, 10_000)
    for family, labels in counters.snapshot().values:
        name = family.partition(":")[0]
        bounds.restore(name, series.LABELS[name], labels)
    body, _ = Exposition(MeterCollector(counters, bounds, LiveFacts())).render(accept)
    return body.decode()


# --- zero first -------------------------------------------------------------------------------------
def shown(counters: Counters, key: series.SeriesKey) -> int:
    """The value of a series in one scrape."""
    snapshot = counters.snapshot()
    return 0 if key in snapshot.held else snapshot.values[key]


def test_a_new_series_is_at_zero_for_one_interval_and_the_total_never() -> None:
    clock = Clock()
    counters = Counters(15, clock)
    commit(counters, gained(acme=12))
    assert (shown(counters, TENANT), shown(counters, LEDGER)) == (0, 12)
    commit(counters, gained(acme=1))
    clock.now += 14.9
    assert (shown(counters, TENANT), shown(counters, LEDGER)) == (0, 13)
    clock.now += 0.1
    assert (shown(counters, TENANT), shown(counters, LEDGER)) == (13, 13)
    commit(counters, gained(acme=1))
    assert shown(counters, TENANT) == 14


def test_the_interval_starts_with_the_first_scrape_not_with_the_first_call() -> None:
    clock = Clock()
    counters = Counters(15, clock)
    commit(counters, gained(acme=12))
    clock.now += 1000
    assert shown(counters, TENANT) == 0


def test_a_value_is_not_shown_before_the_store_knows_of_the_zero() -> None:
    clock = Clock()
    counters = Counters(15, clock)
    commit(counters, gained(acme=12))
    assert shown(counters, TENANT) == 0
    clock.now += 15
    assert shown(counters, TENANT) == 0
    commit(counters, Deltas())
    assert shown(counters, TENANT) == 12


def test_what_was_shown_before_a_restart_is_shown_at_once_and_what_was_not_at_zero() -> None:
    counters = Counters(15, Clock())
    unseen = (series.TENANT_COST.name, ("zeta",))
    counters.restore(Restored({TENANT: 12, unseen: 7, LEDGER: 19}, {TENANT}))
    assert (shown(counters, TENANT), shown(counters, unseen), shown(counters, LEDGER)) == (12, 0, 19)


# --- figures ----------------------------------------------------------------------------------------
def test_money_is_exact_beyond_a_double_s_sum() -> None:
    counters = Counters(0, Clock())
    for _ in range(10):
        commit(counters, gained(acme=10**11))
    assert "genai_meter_ledger_cost_usd_total 1.0\n" in render(counters)
    commit(counters, gained(acme=10**22))
    assert "genai_meter_ledger_cost_usd_total 1.0000000001e+10\n" in render(counters)


def test_histograms_have_cumulative_buckets_and_exemplars() -> None:
    counters = Counters(0, Clock())
    deltas = Deltas()
    labels = ("shop", "openai", "gpt-4o")
    for bucket, amount in ((0, 2), (3, 5)):
        deltas.add(f"{series.DURATION.name}:{bucket}", labels, amount)
    deltas.add(series.DURATION.name + series.SUM, labels, 420_000_000)
    deltas.exemplars[f"{series.DURATION.name}:3", labels] = Exemplar("ab" * 16, "cd" * 8, 0.06, 1795338000.5)
    commit(counters, deltas)
    counters.snapshot()
    commit(counters, Deltas())
    lines = [line for line in render(counters, OPENMETRICS).splitlines() if "duration_seconds" in line]
    named = 'model="gpt-4o",provider="openai",service="shop"'
    prefix = "genai_meter_request_duration_seconds"
    assert lines[2:7] == [
        f'{prefix}_bucket{{le="0.01",{named}}} 2.0',
        f'{prefix}_bucket{{le="0.02",{named}}} 2.0',
        f'{prefix}_bucket{{le="0.04",{named}}} 2.0',
        f'{prefix}_bucket{{le="0.08",{named}}} 7.0 # {{span_id="{"cd" * 8}",trace_id="{"ab" * 16}"}} 0.06 1795338000.5',
        f'{prefix}_bucket{{le="0.16",{named}}} 7.0',
    ]
    assert lines[-3:] == [
        f'{prefix}_bucket{{le="+Inf",{named}}} 7.0',
        f"{prefix}_count{{{named}}} 7.0",
        f"{prefix}_sum{{{named}}} 0.42",
    ]
    assert "trace_id" not in render(counters)


# --- bounds -----------------------------------------------------------------------------------------
def test_values_beyond_the_bound_are_folded_and_the_fold_is_a_metric() -> None:
    bounds = Bounds({"tenant": 2}, 100, 1000)
    names = ("tenant",)
    folded = [bounds.fold("tenant_cost_usd", names, (tenant,)) for tenant in ("a", "b", "c", "a", "d", "c")]
    assert folded == [("a",), ("b",), ("other",), ("a",), ("other",), ("other",)]
    assert bounds.folded() == {"tenant_cost_usd": 2}


def test_a_family_has_no_more_label_sets_than_its_bound() -> None:
    bounds = Bounds({}, 100, 3)
    names = ("provider", "model")
    sets = {bounds.fold("unpriced_requests", names, ("openai", f"m{number}")) for number in range(10)}
    assert sets == {("openai", "m0"), ("openai", "m1"), ("openai", "m2"), ("other", "other")}


def test_a_review_names_the_dearest_and_no_series_ever_falls() -> None:
    bounds = Bounds({"tenant": 2}, 100, 1000)
    names = ("tenant",)
    for tenant in ("a", "b", "c"):
        bounds.fold("tenant_cost_usd", names, (tenant,))
    bounds.review("tenant", ["c", "a"])
    assert [bounds.fold("tenant_cost_usd", names, (t,)) for t in ("a", "b", "c")] == [("a",), ("other",), ("c",)]
    assert [bounds.hidden(names, (t,)) for t in ("a", "b", "c", "other")] == [False, True, False, False]
    bounds.review("tenant", ["c", "b"])
    assert bounds.fold("tenant_cost_usd", names, ("b",)) == ("b",)


def test_a_label_value_is_cut_to_its_length() -> None:
    assert Bounds({}, 10, 10).fold("tenant_cost_usd", ("tenant",), ("x" * 500,)) == ("x" * 128,)


# --- a real exporter --------------------------------------------------------------------------------
@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """An exporter that names two tenants."""
    with Served(tmp_path / "data", {"labels": {"limits": {"tenant": 2}}}) as running:
        yield running


def test_every_family_of_a_call(served: Served) -> None:
    event = usage_event(
        tenant="acme", team="search", workflow="triage", cache_read=500, output_reasoning=40, attempt_count=3,
        trace_id=b"\x0a" * 16, span_id=b"\x0b" * 8,
    )  # fmt: skip
    served.send(event)
    first = served.scrape()
    assert first["genai_meter_ledger_cost_usd_total", frozenset()] == 0.004525
    assert first["genai_meter_cost_usd_total", frozenset(WHO.items())] == 0
    served.settled("cost_usd_total", 0.004525, **WHO)
    expected = {
        ("tokens_total", "token_type", "input"): 1000,
        ("tokens_total", "token_type", "cache_read"): 500,
        ("tokens_total", "token_type", "output"): 100,
        ("tokens_total", "token_type", "reasoning"): 40,
    }
    for (name, label, value), amount in expected.items():
        served.settled(name, amount, **WHO, **{label: value})
    served.settled("requests_total", 1, **WHO, operation="chat", status="ok")
    served.settled("retries_total", 2, **WHO)
    served.settled("tenant_cost_usd_total", 0.004525, tenant="acme")
    served.settled("workflow_cost_usd_total", 0.004525, team="search", workflow="triage")
    model = {"provider": "openai", "model": WHO["model"]}
    served.settled("request_duration_seconds_count", 1, service="shop", **model)
    assert served.value("request_duration_seconds_sum", service="shop", **model) == 2.0
    assert served.value("request_tokens_sum", service="shop", direction="input", **model) == 1500
    assert served.value("request_tokens_sum", service="shop", direction="output", **model) == 140
    assert served.value("cost_usd_per_1k_tokens", **model) == pytest.approx(0.004525 / 1.640)  # pyright: ignore[reportUnknownMemberType]
    last = served.value("last_event_timestamp_seconds", team="search", environment="prod", service="shop")
    assert last == (NOW + 2_000_000_000) / 1e9
    assert served.value("build_info", version="0.1.0") == 1
    assert served.value("ledger_events_total") == 1


def test_both_formats_and_the_exemplar_leads_to_the_call(served: Served) -> None:
    served.send(usage_event(team="search", trace_id=b"\x0a" * 16, span_id=b"\x0b" * 8))
    served.settled("cost_usd_total", 0.0035, **WHO)
    plain = fetch(served.metrics_url)
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert b"trace_id" not in plain.body
    assert b"# EOF" not in plain.body
    rich = fetch(served.metrics_url, headers={"Accept": OPENMETRICS})
    assert rich.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert rich.body.endswith(b"# EOF\n")
    found = re.findall(rb'_bucket\{.*?\} 1\.0 # \{span_id="(\w+)",trace_id="(\w+)"\} ([\d.]+)', rich.body)
    assert found == [
        (b"0b" * 8, b"0a" * 16, b"2.0"),
        (b"0b" * 8, b"0a" * 16, b"1000.0"),
        (b"0b" * 8, b"0a" * 16, b"100.0"),
    ]


def test_everything_is_restored_after_a_kill(served: Served) -> None:
    # Of now: what comes late is counted, too.
    now = time.time_ns()
    served.send(usage_event(start_ns=now, tenant="acme", team="search"))
    served.settled("cost_usd_total", 0.0035, **WHO)
    served.send(usage_event(start_ns=now, tenant="zeta", model="no-such-model"))
    moving = ("store_syncs", "ingest_ignored", "last_event", "_evaluated", "last_reload")
    before = {key: value for key, value in served.scrape().items() if not any(name in key[0] for name in moving)}
    served.kill()
    served.start()
    after = served.scrape()
    unseen = {key for key in before if "no-such-model" in dict(key[1]).values()}
    assert {key: after[key] for key in before if key not in unseen} == {
        key: value for key, value in before.items() if key not in unseen
    }
    assert after["genai_meter_ledger_events_total", frozenset()] == 2


def test_tenants_beyond_the_bound_share_one_series_and_the_total_is_whole(served: Served) -> None:
    for tenant in ("a", "b", "c", "d"):
        served.send(usage_event(tenant=tenant))
    served.settled("tenant_cost_usd_total", 0.007, tenant="other")
    assert served.value("tenant_cost_usd_total", tenant="a") == 0.0035
    assert served.value("tenant_cost_usd_total", tenant="c") is None
    assert served.value("series_folded", family="tenant_cost_usd") == 2
    assert served.value("ledger_cost_usd_total") == 0.014


# --- the page -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("accept", ["", OPENMETRICS, "text/plain; version=1.0.0; escaping=allow-utf-8"])
def test_the_page_is_what_the_library_would_write(accept: str) -> None:
    counters, bounds = Counters(0), Bounds({}, 1000, 10_000)
    deltas = gained(**{"acme": 12, 'quo"te': 3, "new\nline": 4, "back\\slash": 5, "": 6})
    for number, name in enumerate(("request_duration_seconds", "request_tokens")):
        histogram = series.HISTOGRAMS[number]
        labels = ("shop", "openai", 'm"\\', "input")[: len(histogram.labels)]
        deltas.add(name + series.SUM, labels, 2_500_000_000)
        deltas.add(f"{name}:3", labels, 2)
        deltas.exemplars[f"{name}:3", labels] = Exemplar("ab" * 16, "cd" * 8 if number else "", 1.5, 1795338000.25)
        bounds.restore(name, histogram.labels, labels)
    deltas.last_events["search", "prod", "shop"] = NOW
    for family, labels in deltas.values:
        if family in series.LABELS:
            bounds.restore(family, series.LABELS[family], labels)
    commit(counters, deltas)
    counters.snapshot()
    commit(counters, gained())
    facts = LiveFacts()
    facts.book_id, facts.book_time = 'b"1', 1795338000.0
    collector = MeterCollector(counters, bounds, facts)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    encoder, content_type = choose_encoder(accept)
    exposition = Exposition(collector)
    exposition.render(accept)
    body, told = exposition.render(accept)
    assert (told, body.decode()) == (content_type, encoder(registry).decode())
    assert b'tenant="quo\\"te"} 3e-12' in body
