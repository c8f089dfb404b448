"""Ingest into the embedded ledger, as a share of what parsing the same bytes and walking their attributes costs."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from genai_meter import identity
from genai_meter_exporter import series
from genai_meter_exporter.bounds import Bounds
from genai_meter_exporter.budgets.engine import Engine
from genai_meter_exporter.charging import open_prices
from genai_meter_exporter.counters import Counters
from genai_meter_exporter.metrics import Exposition, LiveFacts, MeterCollector
from genai_meter_exporter.normalise.wanted import WANTED
from genai_meter_exporter.pipeline import Pipeline
from genai_meter_exporter.receive import protobuf
from genai_meter_exporter.server import GC_THRESHOLDS
from genai_meter_exporter.store.base import Restored
from genai_meter_exporter.store.sqlite import SqliteStore
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from benchmarks.counter import Instructions

RECORDS: Final = 512
"""Of one request: the SDK's and the collector's usual batch."""

PAGES: Final = {"text": "", "openmetrics": "application/openmetrics-text; version=1.0.0"}

START_NS: Final = 1_795_338_000_000_000_000

MODELS: Final = (
    ("openai", "gpt-4o-2024-08-06", "openai.chat"),
    ("openai", "gpt-4.1-mini", "openai.responses"),
    ("anthropic", "claude-sonnet-4-5-20250929", "anthropic"),
    ("openai", "text-embedding-3-small", "openai.embeddings"),
)


def bodies(count: int, seed: int) -> list[bytes]:
    """Usage events told in full (a plain chat leaves some of the 40 attributes out): 200 tenants, 4 models."""
    chance = random.Random(seed)
    return [_body(chance, number) for number in range(count)]


def _body(chance: random.Random, number: int) -> bytes:
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    told = {"service.name": f"shop-{number % 4}", "deployment.environment.name": "prod", "service.version": "7.1"}
    group.resource.attributes.extend(_pairs(told))
    scope = group.scope_logs.add()
    scope.scope.name = "genai_meter"
    for index in range(RECORDS):
        start = START_NS + (number * RECORDS + index) * 100_000_000
        record = scope.log_records.add()
        record.event_name = "genai_meter.usage"
        record.time_unix_nano = start + 1_500_000_000
        record.trace_id, record.span_id = chance.randbytes(16), chance.randbytes(8)
        record.attributes.extend(_pairs(_attributes(chance, start)))
    return request.SerializeToString()


def _attributes(chance: random.Random, start: int) -> dict[str, Any]:
    provider, model, family = MODELS[min(int(chance.expovariate(1.2)), 3)]
    feature = min(int(chance.expovariate(1.5)), 2)
    tokens, cached, output = chance.randint(200, 9000), chance.choice((0, 0, 1024)), chance.randint(5, 900)
    call_id = (start // 1_000_000).to_bytes(6, "big") + b"\x70" + chance.randbytes(9)
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "gen_ai.request.max_tokens": 1000,
        "server.address": "api.example.com",
        "gen_ai.response.id": f"chatcmpl-{chance.randbytes(12).hex()}",
        "gen_ai.response.model": model,
        "gen_ai.usage.input_tokens": tokens + cached,
        "gen_ai.usage.output_tokens": output,
        "gen_ai.usage.cache_read.input_tokens": cached,
        "genai_meter.call.id": identity.text(call_id),
        "genai_meter.id_family": family,
        "genai_meter.tenant": f"tenant-{int(chance.expovariate(0.02)) % 200}",
        "genai_meter.team": f"team-{feature % 2}",
        "genai_meter.feature": ("search", "chat", "summary")[feature],
        "user.id": f"u-{chance.randrange(10_000)}",
        "genai_meter.usage.source": "provider",
        "genai_meter.usage.input": tokens,
        "genai_meter.usage.cache_read": cached,
        "genai_meter.usage.output": output,
        "genai_meter.cost.status": "exact",
        "genai_meter.cost.effective": 1_000_000 * output,
        "genai_meter.cost.list": 1_000_000 * output,
        "genai_meter.cost.book": "pb1:genai-prices-2026-11-01",
        "genai_meter.schema_version": "1",
        "genai_meter.start": start,
        "genai_meter.end": start + 1_500_000_000,
        "genai_meter.status": "ok",
        "genai_meter.sdk": "openai.OpenAI",
        "gen_ai.request.stream": False,
        "genai_meter.request.messages": 2,
        "genai_meter.request.chars": '{"system":900,"user":1100}',
        "genai_meter.request.id": f"req_{chance.randbytes(12).hex()}",
        "http.response.status_code": 200,
        "genai_meter.attempts.count": 1,
        "gen_ai.response.finish_reasons": '["stop"]',
        "genai_meter.tier": "default",
        "genai_meter.estimate.input_tokens": tokens + cached,
        "genai_meter.estimate.output_tokens": output,
        "genai_meter.context_window.ratio": 0.031,
    }


def _pairs(attributes: dict[str, Any]) -> Iterator[KeyValue]:
    for key, value in attributes.items():
        if isinstance(value, bool):
            yield KeyValue(key=key, value=AnyValue(bool_value=value))
        elif isinstance(value, int):
            yield KeyValue(key=key, value=AnyValue(int_value=value))
        elif isinstance(value, float):
            yield KeyValue(key=key, value=AnyValue(double_value=value))
        else:
            yield KeyValue(key=key, value=AnyValue(string_value=value))


def walk(body: bytes) -> int:
    """The yardstick: parse, and read the attributes that the normaliser reads; nothing else."""
    found = 0
    for resource_logs in ExportLogsServiceRequest.FromString(body).resource_logs:
        for scope_logs in resource_logs.scope_logs:
            for record in scope_logs.log_records:
                read: dict[str, Any] = {}
                for pair in record.attributes:
                    key = pair.key
                    if key in WANTED:
                        value = pair.value
                        read[key] = value.string_value or value.int_value or value.double_value or value.bool_value
                found += len(read)
    return found


class Ledger:
    """A pipeline over a new store, as `genai-meter serve` makes it."""

    def __init__(self, path: Path) -> None:
        bounds = Bounds({"tenant": 500, "workflow": 500}, 200, 10_000)
        self.store = SqliteStore(path, bounds, synchronous="FULL", clock=lambda: START_NS)
        self.pipeline = Pipeline(
            self.store,
            Counters(15.0),
            bounds,
            LiveFacts(),
            queue_requests=1024,
            queue_bytes=256 * 1024 * 1024,
            group_records=8192,
        )

    async def ingest(self, requests: list[bytes], at_once: int) -> None:
        """Send requests, `at_once` under way; each is done when it is synced."""
        waiting = iter(requests)

        async def sender() -> None:
            for body in waiting:
                await self.pipeline.accept("logs", body, protobuf.parse)

        await asyncio.gather(*(sender() for _ in range(at_once)))


@dataclass(frozen=True, slots=True)
class Spent:
    """What something took."""

    cpu: float
    wall: float
    instructions: int | None


class Meter:
    """Measures what happens between two looks."""

    def __init__(self, counter: Instructions) -> None:
        self._counter = counter
        self._cpu, self._wall, self._instructions = time.process_time(), time.perf_counter(), counter.read()

    def spent(self) -> Spent:
        """Since it was made."""
        now = self._counter.read()
        instructions = None if now is None or self._instructions is None else now - self._instructions
        return Spent(time.process_time() - self._cpu, time.perf_counter() - self._wall, instructions)


def turn(path: Path, requests: list[bytes], at_once: int, counter: Instructions) -> dict[str, Any]:
    """One turn of both over the same bytes."""
    meter = Meter(counter)
    for body in requests:
        walk(body)
    walked = meter.spent()
    ledger = Ledger(path)
    ledger.pipeline.start()
    try:
        meter = Meter(counter)
        asyncio.run(ledger.ingest(requests, at_once))
        ingested = meter.spent()
        syncs = ledger.store.syncs
    finally:
        ledger.pipeline.stop()
    return {"walk": walked, "ingest": ingested, "syncs": syncs, "bytes": path.stat().st_size}


def scrape(series_count: int, accept: str) -> float:
    """Seconds of CPU for one page of so many series; the best of seven."""
    page = exposition_of(series_count)
    best = float("inf")
    for _ in range(7):
        begun = time.process_time()
        page.render(accept)
        best = min(best, time.process_time() - begun)
    return best


def exposition_of(series_count: int, budgets: Engine | None = None) -> Exposition:
    """The page of an exporter with so many series."""
    restored, bounds = Restored(), Bounds({}, series_count, series_count)
    families = [family for family in series.FAMILIES if family.labels and not family.internal]
    for number in range(series_count):
        family = families[number % len(families)]
        if family is series.INGEST:
            continue
        labels = tuple(f"{name}-{number * 7 % 997}-{number}" for name in family.labels)
        bounds.restore(family.name, family.labels, labels)
        restored.values[family.name, labels] = number * 1_000_000_007
        restored.shown.add((family.name, labels))
    counters = Counters(15.0)
    counters.restore(restored)
    return Exposition(MeterCollector(counters, bounds, LiveFacts(), budgets=budgets))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rounds", type=int, nargs="?", default=5)
    parser.add_argument("requests", type=int, nargs="?", default=60)
    parser.add_argument("at_once", type=int, nargs="?", default=16)
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    open_prices(None)
    requests = bodies(options.requests, 1)
    records = options.requests * RECORDS
    # As `genai-meter serve` sets it.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    counter = Instructions()
    with tempfile.TemporaryDirectory(dir=os.environ.get("GENAI_METER_BENCH_DIR")) as directory:
        turn(Path(directory) / "warm.db", requests[:4], options.at_once, counter)
        paths = (Path(directory) / f"{number}.db" for number in range(options.rounds))
        turns = [turn(path, requests, options.at_once, counter) for path in paths]
    page = {name: scrape(10_000, accept) for name, accept in PAGES.items()}
    print(json.dumps({"records": records, "request_bytes": len(requests[0]), **_ratios(turns, records), "page": page}))


def _ratios(turns: list[dict[str, Any]], records: int) -> dict[str, Any]:
    def ratio(of: Callable[[Spent], float | None]) -> float | None:
        pairs = [(of(found["walk"]), of(found["ingest"])) for found in turns]
        told = [walk / ingest for walk, ingest in pairs if walk and ingest]
        return statistics.median(told) if told else None

    return {
        "cpu": ratio(lambda spent: spent.cpu),
        "wall": ratio(lambda spent: spent.wall),
        "instructions": ratio(lambda spent: spent.instructions),
        "per_second": records / statistics.median(found["ingest"].cpu for found in turns),
        "syncs": statistics.median(found["syncs"] for found in turns),
        "bytes_per_record": statistics.median(found["bytes"] for found in turns) / records,
        "resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


if __name__ == "__main__":
    main()
