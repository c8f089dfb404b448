"""Real collectors between applications and the exporter: each hop killed and restarted, each call one row.

`make collector` builds the OpenTelemetry Collector, `make collector-drill` runs the long form.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from collector_kit import EXAMPLE, OTELCOL, Collector, Otelcol, Rotel, Tempo, shipped
from environments import ROOT
from exporter_kit import NOW, Served, SpanOf, fetch, logs, traces, usage_event
from genai_meter.spool import Spool
from genai_meter.spool_shipping import Destination
from load_kit import ledger, near, price, scraped, stored, under_load
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from prometheus_client.parser import text_string_to_metric_families

from examples.children import free_port, wait_for

built = pytest.mark.skipif(not OTELCOL.exists(), reason="the OpenTelemetry Collector is not built; `make collector`")


@contextmanager
def exporter(place: Path, **config: Any) -> Generator[Served]:
    """An exporter that comes back on the same ports."""
    listen = {"grpc_port": free_port(), "http_port": free_port(), "metrics_port": free_port()}
    with_ports = Served(place, {"listen": listen, **config})
    with_ports.start(keep_ports=True)
    try:
        yield with_ports
    finally:
        with_ports.stop()


def arrived(served: Served, calls: int) -> None:
    """Until the ledger has as many calls, and a moment for more that should not be there."""
    wait_for(f"{calls} calls in the ledger", lambda: ledger(served)[0] >= calls, 60)
    time.sleep(0.5)


# --- the drill ----------------------------------------------------------------------------------------
def drill(served: Served, collector: Collector, restarts: int, end: Callable[[], None]) -> dict[str, int]:
    """Kill the exporter, and end the collector by `end`, in turn under load; returns the figures."""
    chance = random.Random(5)
    with under_load(collector, 2, pace=0.02) as load:
        for number in range(restarts):
            time.sleep(chance.uniform(0.3, 0.9))
            if number % 2 == 0:
                served.kill()
                # Meanwhile the collector takes what applications send.
                time.sleep(chance.uniform(0.3, 0.9))
                served.start(keep_ports=True)
            else:
                end()
                collector.start()
    arrived(served, load.due[0])
    calls, cost = ledger(served)
    shown = scraped(served)
    return {
        "restarts": restarts,
        "events sent": load.due[0],
        "requests sent again": load.resent,
        "rows": calls,
        "lost": len(load.acknowledged.keys() - stored(served)),
        "doubled": calls - load.due[0],
        "pico-USD off": cost - load.due[1],
        "/metrics off, calls": shown[0] - calls,
        "/metrics off, pico-USD": shown[1] - near(cost),
    }


def check(figures: dict[str, int]) -> None:
    """Nothing lost, nothing doubled, every total equal."""
    print(figures)
    assert figures["events sent"] > 20 * figures["restarts"]
    zero = ("lost", "doubled", "pico-USD off", "/metrics off, calls", "/metrics off, pico-USD")
    assert {name: figures[name] for name in zero} == dict.fromkeys(zero, 0)


# --- what is written ------------------------------------------------------------------------------------
def test_the_readme_shows_a_part_of_what_runs_below() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (snippet,) = [found for found in map(yaml.safe_load, blocks) if "exporters" in found]
    assert set(snippet) == {"extensions", "exporters", "service"}
    assert missing(snippet, shipped()) == []


def missing(part: Any, whole: Any, path: str = "") -> list[str]:
    """Where the part says what the whole does not."""
    if not isinstance(part, dict):
        return [] if part == whole else [path]
    return [
        place
        for key, value in cast("dict[str, Any]", part).items()
        for place in (missing(value, whole[key], f"{path}/{key}") if key in whole else [f"{path}/{key}"])
    ]


def test_collector_and_builder_are_of_one_release() -> None:
    parts: dict[str, Any] = yaml.safe_load((EXAMPLE / "builder.yaml").read_text(encoding="utf-8"))
    release = parts["dist"]["version"]
    assert parts["dist"]["output_path"] == str(OTELCOL.parent.relative_to(ROOT))
    assert f"collector/cmd/builder@v{release} " in (ROOT / "Makefile").read_text(encoding="utf-8")
    modules = [row["gomod"] for kind in ("extensions", "receivers", "processors", "exporters") for row in parts[kind]]
    assert {module.partition(" v")[2] for module in modules} == {release}


# --- Rotel --------------------------------------------------------------------------------------------
def test_rotel_holds_what_the_exporter_cannot_take_and_empties_itself_at_its_end(tmp_path: Path) -> None:
    with exporter(tmp_path / "exporter") as served, Rotel(tmp_path, served.grpc) as rotel:
        check(drill(served, rotel, 2, rotel.stop))


def test_what_rotel_holds_in_memory_dies_with_it(tmp_path: Path) -> None:
    events = [usage_event(start_ns=NOW + number) for number in range(20)]
    with exporter(tmp_path / "exporter") as served, Rotel(tmp_path, served.grpc) as rotel:
        assert rotel.post("logs", logs(events[:10]).SerializeToString()).status == 200
        arrived(served, 10)
        served.kill()
        # It acknowledges what is only in its memory: why a spool must not ship to it.
        assert rotel.post("logs", logs(events[10:]).SerializeToString()).status == 200
        rotel.kill()
        served.start(keep_ports=True)
        rotel.start()
        time.sleep(2)
        assert stored(served) == {event.call_id for event in events[:10]}


# --- the OpenTelemetry Collector ----------------------------------------------------------------------
@built
@pytest.mark.parametrize(
    "kills", [4, pytest.param(40, marks=(pytest.mark.slow, pytest.mark.timeout(1200)))], ids="{} kills".format
)
def test_the_queue_on_disk_survives_kills_of_both(tmp_path: Path, kills: int) -> None:
    with (
        Tempo() as tempo,
        exporter(tmp_path / "exporter") as served,
        Otelcol(tmp_path, served.grpc, tempo.address) as otelcol,
    ):
        figures = drill(served, otelcol, kills, otelcol.kill)
    check(figures)
    assert figures["requests sent again"] > 0


@built
def test_what_waits_on_disk_while_both_are_gone_arrives(tmp_path: Path) -> None:
    events = [usage_event(start_ns=NOW + number) for number in range(50)]
    with (
        Tempo() as tempo,
        exporter(tmp_path / "exporter") as served,
        Otelcol(tmp_path, served.grpc, tempo.address) as otelcol,
    ):
        served.kill()
        assert otelcol.post("logs", logs(events).SerializeToString()).status == 200
        otelcol.kill()
        served.start(keep_ports=True)
        assert stored(served) == set()
        otelcol.start()
        arrived(served, 50)
        assert stored(served) == {event.call_id for event in events}


@built
def test_a_batch_processor_before_the_queue_loses_what_was_acknowledged(tmp_path: Path) -> None:
    first, second = usage_event(start_ns=NOW), usage_event(start_ns=NOW + 1)
    with (
        Tempo() as tempo,
        exporter(tmp_path / "exporter") as served,
        Otelcol(tmp_path, served.grpc, tempo.address, batch_first=True) as otelcol,
    ):
        assert otelcol.post("logs", logs([first]).SerializeToString()).status == 200
        otelcol.kill()
        otelcol.start()
        assert otelcol.post("logs", logs([second]).SerializeToString()).status == 200
        # Asked to end, it puts what it holds into the queue.
        otelcol.stop()
        otelcol.start()
        arrived(served, 1)
        assert stored(served) == {second.call_id}


@built
def test_traces_are_sampled_and_events_are_not(tmp_path: Path) -> None:
    events = [usage_event(start_ns=NOW + number, trace_id=_trace(number), span_id=b"\x07" * 8) for number in range(200)]
    spans = [
        SpanOf(event.attributes, trace_id=event.trace_id, span_id=event.span_id, scope="genai_meter", failed=odd)
        for event, odd in zip(events, [False, True] * 100, strict=True)
    ]
    with (
        Tempo() as tempo,
        exporter(tmp_path / "exporter") as served,
        Otelcol(tmp_path, served.grpc, tempo.address) as otelcol,
    ):
        assert otelcol.post("traces", traces(spans).SerializeToString()).status == 200
        assert otelcol.post("logs", logs(events).SerializeToString()).status == 200
        arrived(served, 200)
        failed = {span.trace_id for span in spans if span.failed}
        wait_for("every failed trace at Tempo", lambda: failed <= set(tempo.traces), 60)
        time.sleep(0.5)
        # A tenth of the hundred others, by their hashes.
        assert 0 < len(set(tempo.traces) - failed) < 40
        assert len(tempo.traces) == len(set(tempo.traces))
        assert ledger(served) == (200, 200 * price(1000))
        assert scraped(served) == (200, near(200 * price(1000)))


@built
def test_the_spools_own_metrics_reach_prometheus_under_the_names_of_the_alert(tmp_path: Path) -> None:
    resource = Resource.create({"service.name": "shop", "service.namespace": "sales", "service.instance.id": "i-1"})
    with Tempo() as tempo, Otelcol(tmp_path, "127.0.0.1:9", tempo.address) as otelcol:
        sending = OTLPMetricExporter(f"{otelcol.http}/v1/metrics")
        provider = MeterProvider([PeriodicExportingMetricReader(sending)], resource)
        spool = Spool(str(tmp_path), 1 << 20, Destination("http://127.0.0.1:9", {}), None)
        spool.observe(provider, None)
        provider.shutdown()
        wait_for("the metrics are there", lambda: b"spool" in fetch(f"http://{otelcol.prometheus}/metrics").body, 60)
        page = fetch(f"http://{otelcol.prometheus}/metrics").body.decode()
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    told = {(s.name, s.labels["job"], s.labels.get("genai_meter_spool_state")) for s in samples if "spool" in s.name}
    assert told >= {("genai_meter_spool_events_total", "sales/shop", "given_up")}
    assert told >= {("genai_meter_spool_size_bytes", "sales/shop", None)}


def _trace(number: int) -> bytes:
    return random.Random(number).randbytes(16)
