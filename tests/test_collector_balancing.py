"""A collector before two exporters with a journal each: all accounts of a call reach the same one, whoever is killed.

`make collector` builds the OpenTelemetry Collector, `make collector-drill` runs the long form.
"""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from clickhouse_kit import Server
from collector_kit import EXAMPLE, Balancing, shipped, validated
from exporter_kit import NOW, Event, Served, logs, traces, usage_event
from genai_meter_exporter.store import Query, open_readonly
from load_kit import Load, ledger, near, price, scraped, stored, twin, under_load
from test_clickhouse import settled
from test_collector import built, exporter

from examples.children import wait_for


@contextmanager
def pair(place: Path, **store: Any) -> Generator[list[Served]]:
    """Two exporters, each with its journal."""
    configs = [{"store": {**store, "instance": name}} if store else {} for name in ("exporter-0", "exporter-1")]
    with exporter(place / "0", **configs[0]) as one, exporter(place / "1", **configs[1]) as two:
        yield [one, two]


def linked(served: Served) -> int:
    """Accounts of others that were recognised as a call that is there."""
    return round(served.value("ingest_events_total", status="linked") or 0)


def calls(number: int) -> list[Event]:
    """Calls in traces of their own."""
    chance = random.Random(3)
    return [
        usage_event(start_ns=NOW + n * 10**9, trace_id=chance.randbytes(16), span_id=chance.randbytes(8))
        for n in range(number)
    ]


def send(collector: Balancing, signal: str, body: bytes) -> None:
    """Have one request acknowledged."""
    assert collector.post(signal, body).status == 200


# --- what is written ------------------------------------------------------------------------------------
@built
@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLE.glob("otelcol*.yaml")))
def test_the_collector_takes_the_file_as_it_is(name: str) -> None:
    code, told = validated(name)
    assert code == 0, told


def test_each_exporter_has_its_receiver_its_queue_and_its_pipelines() -> None:
    config = shipped("otelcol-loadbalancing.yaml")
    receivers, sending, pipelines = config["receivers"], config["exporters"], config["service"]["pipelines"]
    inside = [receivers[f"otlp/{number}"]["protocols"]["grpc"]["endpoint"] for number in (0, 1)]
    assert sending["load_balancing"]["resolver"] == {"static": {"hostnames": inside}}
    single = shipped()["exporters"]["otlp/genai-meter"]
    for number in (0, 1):
        told = sending[f"otlp/exporter-{number}"]
        assert {**told, "endpoint": single["endpoint"]} == single
        for signal in ("logs", "traces"):
            way = {"receivers": [f"otlp/{number}"], "exporters": [f"otlp/exporter-{number}"]}
            assert pipelines[f"{signal}/{number}"] == way


# --- who goes where -------------------------------------------------------------------------------------
@built
def test_accounts_of_one_call_meet_whatever_signal_brings_them(tmp_path: Path) -> None:
    events = calls(100)
    with pair(tmp_path) as both, Balancing(tmp_path, [served.grpc for served in both]) as collector:
        send(collector, "traces", traces([twin(event) for event in events]).SerializeToString())
        send(collector, "logs", logs(events).SerializeToString())
        _met(both, 100)
        assert [stored(served) for served in both] == [_of(both, events, number) for number in (0, 1)]
        assert min(len(stored(served)) for served in both) > 10
        assert sum(cost for _, cost in map(ledger, both)) == 100 * price(1000)


def _met(both: Sequence[Served], number: int) -> None:
    """Every call has both its accounts."""
    wait_for("each call was told twice", lambda: sum(map(linked, both)) == number, 60)
    assert sum(calls for calls, _ in map(ledger, both)) == number


def _of(both: Sequence[Served], events: Sequence[Event], number: int) -> set[bytes]:
    """What one exporter has when nothing is at both."""
    return {event.call_id for event in events} - stored(both[1 - number])


@built
def test_by_the_trace_id_events_and_spans_of_one_call_part(tmp_path: Path) -> None:
    events = calls(100)
    with (
        pair(tmp_path) as both,
        Balancing(tmp_path, [served.grpc for served in both], by_trace_id=True) as collector,
    ):
        send(collector, "traces", traces([twin(event) for event in events]).SerializeToString())
        send(collector, "logs", logs(events).SerializeToString())
        wait_for("all have arrived", lambda: sum(map(linked, both)) + _rows(both) == 200, 60)
        # It hashes a span's trace id as bytes and a log record's as text: half of the calls are charged twice.
        assert 120 < _rows(both) < 180


def _rows(both: Sequence[Served]) -> int:
    return sum(calls for calls, _ in map(ledger, both))


@built
def test_without_a_trace_what_is_sent_again_takes_the_same_way(tmp_path: Path) -> None:
    named = [usage_event(start_ns=NOW + n * 10**9, response_id=f"chatcmpl-{n}") for n in range(40)]
    unnamed = [usage_event(start_ns=NOW + n * 10**9) for n in range(40)]
    # Another producer's event about the same answers.
    others = [
        Event(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.response.model": "gpt-4o-2024-08-06",
                "gen_ai.usage.input_tokens": 1000,
                "gen_ai.usage.output_tokens": 100,
                "gen_ai.response.id": event.attributes["gen_ai.response.id"],
            },
            name="gen_ai.client.inference.operation.details",
            time_ns=event.time_ns,
            scope="some.producer",
        )
        for event in named
    ]
    with pair(tmp_path) as both, Balancing(tmp_path, [served.grpc for served in both]) as collector:
        for _ in range(3):
            send(collector, "logs", logs([*named, *unnamed]).SerializeToString())
        send(collector, "logs", logs(others).SerializeToString())
        _met_again(both)
        assert stored(both[0]) & stored(both[1]) == set()
        for group in (named, unnamed):
            ids = {event.call_id for event in group}
            assert min(len(ids & stored(served)) for served in both) > 5


def _met_again(both: Sequence[Served]) -> None:
    wait_for("the others are linked", lambda: sum(map(linked, both)) == 40, 60)
    duplicates = sum(round(served.value("ingest_events_total", status="duplicate") or 0) for served in both)
    assert (_rows(both), duplicates) == (80, 160)


@built
def test_one_exporter_that_is_away_does_not_hold_up_the_other(tmp_path: Path) -> None:
    events = calls(100)
    with pair(tmp_path) as both, Balancing(tmp_path, [served.grpc for served in both]) as collector:
        both[0].kill()
        send(collector, "logs", logs(events).SerializeToString())
        wait_for("the other one has its part", lambda: ledger(both[1])[0] > 10, 60)
        collector.kill()
        both[0].start(keep_ports=True)
        collector.start()
        wait_for("what waited on disk has come", lambda: _rows(both) == 100, 60)
        assert stored(both[0]) | stored(both[1]) == {event.call_id for event in events}


# --- the drill ------------------------------------------------------------------------------------------
def drill(place: Path, server: Server, kills: int) -> dict[str, int]:
    """Kill an exporter, the other one and the collector in turn under load; returns the figures."""
    url = server.url()
    store = {"url": url, "calendar": "exporter-0", "move_seconds": 0.2, "move_rows": 500}
    chance = random.Random(11)
    with pair(place, **store) as both, Balancing(place, [served.grpc for served in both]) as collector:
        with under_load(collector, 2, pace=0.02) as load:
            for number in range(kills):
                time.sleep(chance.uniform(0.3, 0.9))
                if number % 3 == 2:
                    collector.kill()
                    collector.start()
                else:
                    both[number % 3].kill()
                    # Its part waits on disk; the other's goes on.
                    time.sleep(chance.uniform(0.3, 0.9))
                    both[number % 3].start(keep_ports=True)
        return _figures(load, both, Server.here(url), kills)


def _figures(load: Load, both: Sequence[Served], url: str, kills: int) -> dict[str, int]:
    sent, cost = load.due
    twins = sum(len(producer.acknowledged) // 10 for producer in load.producers)
    # A span may be told again, never linked again.
    wait_for("all have arrived", lambda: (_rows(both), sum(map(linked, both))) == (sent, twins), 90)
    settled(url, load.due)
    shown = [scraped(served) for served in both]
    with closing(open_readonly(url)) as reader:
        in_clickhouse = {bytes(row["call_id"]) for row in reader.calls(Query(()))}
    return {
        "kills": kills,
        "events sent": sent,
        "of them told by two producers": twins,
        "requests sent again": load.resent,
        "rows at exporter 0": ledger(both[0])[0],
        "rows at exporter 1": ledger(both[1])[0],
        "lost": len(load.acknowledged.keys() - in_clickhouse),
        "doubled": len(in_clickhouse) - sent + len(stored(both[0]) & stored(both[1])),
        "pico-USD off": sum(cost for _, cost in map(ledger, both)) - cost,
        "/metrics off, calls": sum(calls for calls, _ in shown) - sent,
        "/metrics off, nano-USD": (sum(cost for _, cost in shown) - near(cost)) // 2000,
    }


def check(figures: dict[str, int]) -> None:
    """Nothing lost, nothing doubled, every total equal, both at work."""
    print(figures)
    assert figures["events sent"] > 20 * figures["kills"]
    assert min(figures["rows at exporter 0"], figures["rows at exporter 1"]) > figures["events sent"] // 8
    zero = ("lost", "doubled", "pico-USD off", "/metrics off, calls", "/metrics off, nano-USD")
    assert {name: figures[name] for name in zero} == dict.fromkeys(zero, 0)


@built
@pytest.mark.timeout(300)
def test_three_kills_of_two_exporters_on_clickhouse_and_the_collector(tmp_path: Path) -> None:
    with Server() as server:
        check(drill(tmp_path, server, 3))


@built
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_thirty_kills_of_two_exporters_on_clickhouse_and_the_collector(tmp_path: Path) -> None:
    with Server() as server:
        figures = drill(tmp_path, server, 60)
    check(figures)
    assert figures["requests sent again"] > 0
