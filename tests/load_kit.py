"""What drills share: producers that send until each batch is acknowledged, and what ledger and `/metrics` must say."""

from __future__ import annotations

import http.client
import random
import sqlite3
import threading
import time
import urllib.error
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from exporter_kit import NOW, Answer, Event, Served, SpanOf, logs, traces, usage_event
from genai_meter_exporter.store.reader import SqliteReader

PICO = 10**12
GONE = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


# --- what is sent ---------------------------------------------------------------------------------------
def price(tokens: int) -> int:
    """Of one event below, in pico-USD: by hand from the list price."""
    return tokens * 2_500_000 + 100 * 10_000_000


def twin(event: Event) -> SpanOf:
    """Another producer's account of the same call, without the answer's id."""
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.usage.input_tokens": event.attributes["genai_meter.usage.input"],
        "gen_ai.usage.output_tokens": 100,
    }
    return SpanOf(attributes, trace_id=event.trace_id, span_id=event.span_id)


class Target(Protocol):
    """Where requests go: an exporter, a collector, a balancer."""

    def post(self, signal: str, body: bytes, /) -> Answer:
        """One OTLP/HTTP request."""
        ...


@dataclass
class Load:
    """Producers at work, and who watches them; `under_load` starts and ends it."""

    target: Target
    pace: float
    """Seconds between two requests of a producer."""
    running: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    producers: list[Producer] = field(default_factory=list["Producer"])

    @contextmanager
    def paused(self) -> Generator[None]:
        """Meanwhile no request begins."""
        self.running.clear()
        yield
        self.running.set()

    @property
    def acknowledged(self) -> dict[bytes, int]:
        """Call id → input tokens."""
        return {key: tokens for producer in self.producers for key, tokens in producer.acknowledged.items()}

    @property
    def due(self) -> tuple[int, int]:
        """Calls and cost that must be in the ledger."""
        return len(self.acknowledged), sum(map(price, self.acknowledged.values()))

    @property
    def resent(self) -> int:
        """Requests that had to be sent again."""
        return sum(producer.resent for producer in self.producers)


@contextmanager
def under_load(
    target: Target, producers: int = 3, *, pace: float = 0, watch: Callable[[Load], None] | None = None
) -> Generator[Load]:
    """What happens in the block happens while they send; afterwards every batch that was begun is acknowledged."""
    load = Load(target, pace)
    load.producers = [Producer(load, seed) for seed in range(1, producers + 1)]
    threads: list[threading.Thread] = [*load.producers]
    if watch:
        threads.append(threading.Thread(target=watch, args=(load,), daemon=True))
    load.running.set()
    for thread in threads:
        thread.start()
    try:
        yield load
        time.sleep(0.3)
    finally:
        load.over.set()
        load.running.set()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()


class Producer(threading.Thread):
    """Sends batches, again and again until each is acknowledged; a twin span of another producer beside each tenth."""

    def __init__(self, load: Load, seed: int) -> None:
        super().__init__(daemon=True)
        self._load = load
        self._seed = seed
        self._random = random.Random(seed)
        self._number = 0
        self.acknowledged: dict[bytes, int] = {}
        self.resent = 0

    def run(self) -> None:
        """Until it is over; every batch that was begun is finished."""
        while not self._load.over.is_set():
            events = [self._event() for _ in range(self._random.randint(1, 40))]
            self._until_acknowledged("logs", logs(events).SerializeToString())
            self.acknowledged |= {event.call_id: event.attributes["genai_meter.usage.input"] for event in events}
            twins = [twin(event) for event in events if event.span_id]
            if twins:
                self._until_acknowledged("traces", traces(twins).SerializeToString())

    def _event(self) -> Event:
        self._number += 1
        tokens = self._random.randint(1, 5000)
        identity = (self._seed << 32 | self._number).to_bytes(8, "big")
        traced: dict[str, Any] = {"trace_id": identity * 2, "span_id": identity} if self._number % 10 == 0 else {}
        return usage_event(
            start_ns=NOW + self._number * 10**9, input_tokens=tokens, tenant=f"t{tokens % 7}", attempt_count=1, **traced
        )

    def _until_acknowledged(self, signal: str, body: bytes) -> None:
        while True:
            time.sleep(self._load.pace)
            self._load.running.wait()
            try:
                if self._load.target.post(signal, body).status == 200:
                    return
            except GONE:
                pass
            self.resent += 1


# --- what must come of it -------------------------------------------------------------------------------
def ledger(served: Served) -> tuple[int, int]:
    """Calls and cost, summed from the rows."""
    with closing(SqliteReader(served.ledger)) as reader:
        return reader.totals()


def stored(served: Served) -> set[bytes]:
    """Ids of the calls in the ledger."""
    with closing(sqlite3.connect(f"file:{served.ledger}?mode=ro", uri=True)) as database:
        return {row[0] for row in database.execute("SELECT call_id FROM call")}


def scraped(served: Served) -> tuple[int, int]:
    """The label-free totals of `/metrics`: calls, and cost less credit in whole pico-USD."""
    found = served.scrape()
    value = {name: amount for (name, labels), amount in found.items() if not labels}
    net = value["genai_meter_ledger_cost_usd_total"] - value["genai_meter_ledger_credit_usd_total"]
    calls = value["genai_meter_ledger_events_total"] - value["genai_meter_ledger_events_withdrawn_total"]
    return round(calls), round(net * PICO / 1000) * 1000


def near(cost: int) -> int:
    """To the nano-USD: a double holds no more of thousands of USD."""
    return round(cost / 1000) * 1000
