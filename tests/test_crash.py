"""kill -9 under load: what was acknowledged is in the ledger once, and the counters equal it before and after."""

from __future__ import annotations

import http.client
import random
import re
import shutil
import sqlite3
import subprocess
import threading
import time
import urllib.error
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from exporter_kit import NOW, Event, Served, SpanOf, logs, traces, usage_event
from genai_meter_exporter.store.reader import SqliteReader

PICO = 10**12
GONE = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


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


@dataclass(eq=False)
class Producer(threading.Thread):
    """Sends batches, again and again until each is acknowledged; a twin span of another producer beside each tenth."""

    served: Served
    seed: int
    running: threading.Event
    over: threading.Event
    acknowledged: dict[bytes, int] = field(default_factory=dict[bytes, int])
    requests: int = 0
    resent: int = 0

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self._random = random.Random(self.seed)
        self._number = 0

    def run(self) -> None:
        """Until it is over; every batch that was begun is finished."""
        while not self.over.is_set():
            events = [self._event() for _ in range(self._random.randint(1, 40))]
            self._until_acknowledged("logs", logs(events).SerializeToString())
            self.acknowledged |= {event.call_id: event.attributes["genai_meter.usage.input"] for event in events}
            twins = [twin(event) for event in events if event.span_id]
            if twins:
                self._until_acknowledged("traces", traces(twins).SerializeToString())

    def _event(self) -> Event:
        self._number += 1
        tokens = self._random.randint(1, 5000)
        identity = (self.seed << 32 | self._number).to_bytes(8, "big")
        traced: dict[str, Any] = {"trace_id": identity * 2, "span_id": identity} if self._number % 10 == 0 else {}
        return usage_event(
            start_ns=NOW + self._number * 10**9, input_tokens=tokens, tenant=f"t{tokens % 7}", attempt_count=1, **traced
        )

    def _until_acknowledged(self, signal: str, body: bytes) -> None:
        while True:
            self.running.wait()
            self.requests += 1
            try:
                if self.served.post(signal, body).status == 200:
                    return
            except GONE:
                pass
            self.resent += 1


def ledger(served: Served) -> tuple[int, int]:
    """Calls and cost, summed from the rows."""
    reader = SqliteReader(served.ledger)
    try:
        return reader.totals()
    finally:
        reader.close()


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


@dataclass(eq=False)
class Watcher(threading.Thread):
    """Scrapes all the time: every scrape lies between the ledger just before it and just after it."""

    served: Served
    running: threading.Event
    over: threading.Event
    scrapes: int = 0
    equal: int = 0
    wrong: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def run(self) -> None:
        """Until it is over."""
        last = (0, 0)
        while not self.over.is_set():
            self.running.wait()
            try:
                before = ledger(self.served)
                seen = scraped(self.served)
            except (*GONE, KeyError):
                continue
            after = ledger(self.served)
            self.scrapes += 1
            self.equal += before == after
            if not (before[0] <= seen[0] <= after[0] and near(before[1]) <= seen[1] <= near(after[1])):
                self.wrong.append(f"scraped {seen} between {before} and {after}")
            if seen < last:
                self.wrong.append(f"fell from {last} to {seen}")
            last = seen


def drill(data: Path, kills: int) -> dict[str, int]:
    """Kill an exporter under load `kills` times; returns the figures."""
    with Served(data) as served:
        return _drill(served, kills)


def _drill(served: Served, kills: int) -> dict[str, int]:
    running, over = threading.Event(), threading.Event()
    producers = [Producer(served, seed, running, over) for seed in range(1, 4)]
    watcher = Watcher(served, running, over)
    running.set()
    for thread in (*producers, watcher):
        thread.start()
    chance = random.Random(7)
    restarts_unequal = 0
    for _ in range(kills):
        time.sleep(chance.uniform(0.3, 1.0))
        running.clear()
        served.kill()
        served.start()
        calls, cost = ledger(served)
        restarts_unequal += scraped(served) != (calls, near(cost))
        running.set()
    time.sleep(0.5)
    over.set()
    for thread in (*producers, watcher):
        thread.join(60)
        assert not thread.is_alive()
    acknowledged = {key: tokens for producer in producers for key, tokens in producer.acknowledged.items()}
    calls, cost = ledger(served)
    with sqlite3.connect(served.ledger) as database:
        stored = {key for (key,) in database.execute("SELECT call_id FROM usage")}
    database.close()
    expected = sum(map(price, acknowledged.values()))
    figures = {
        "kills": kills,
        "acknowledged": len(acknowledged),
        "requests sent again": sum(producer.resent for producer in producers),
        "lost": len(acknowledged.keys() - stored),
        "doubled": calls - len(acknowledged),
        "pico-USD off": cost - expected,
        "scrapes": watcher.scrapes,
        "scrapes wrong": len(watcher.wrong),
        "restarts with another total": restarts_unequal,
        "final total off": int(scraped(served) != (calls, near(cost))),
    }
    assert not watcher.wrong, watcher.wrong[:5]
    assert served.stop() == 0
    return figures


def check(figures: dict[str, int]) -> None:
    """Nothing lost, nothing doubled, every total equal."""
    print(figures)
    assert figures["acknowledged"] > 20 * figures["kills"]
    assert figures["requests sent again"] > 0
    assert figures["scrapes"] > 0
    zero = ("lost", "doubled", "pico-USD off", "scrapes wrong", "restarts with another total", "final total off")
    assert {name: figures[name] for name in zero} == dict.fromkeys(zero, 0)


def test_five_kills_under_load(tmp_path: Path) -> None:
    check(drill(tmp_path / "data", 5))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_kills_under_load(tmp_path: Path) -> None:
    check(drill(tmp_path / "data", 100))


def test_a_sync_is_counted_before_every_acknowledgement(tmp_path: Path) -> None:
    with Served(tmp_path / "data") as served:
        for number in range(1, 21):
            before = served.value("store_syncs_total")
            event = usage_event(start_ns=NOW + number)
            assert before is not None
            served.send(event)
            after = served.value("store_syncs_total")
            assert after is not None
            assert after > before
            served.send(event)
            again = served.value("store_syncs_total")
            assert again is not None
            assert again > after


def test_the_kernel_is_asked_to_sync_the_log_before_every_acknowledgement(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None or subprocess.run([strace, "-o", "/dev/null", "true"], check=False).returncode:
        pytest.skip("strace is not here or may not trace; the counter's test stands alone")
    trace = tmp_path / "trace"
    served = Served(tmp_path / "data")
    # -D: the exporter stays our own child, strace runs beside it.
    served.wrapper = (strace, "-D", "-f", "-y", "-qq", "-s", "32", "-o", str(trace))
    served.wrapper += ("-e", "trace=fsync,fdatasync,recvfrom,sendto")
    with served:
        for number in range(10):
            served.send(usage_event(start_ns=NOW + number))
    sequence = ""
    deadline = time.monotonic() + 10
    while sequence.count("A") < 10 and time.monotonic() < deadline:
        sequence = "".join(_kind(line) for line in trace.read_text(encoding="utf-8").splitlines())
    assert re.fullmatch(r"S*(RS+A)+S*", sequence), sequence
    assert sequence.count("R") == sequence.count("A") == 10


def _kind(line: str) -> str:
    """R: a request arrives. S: the write-ahead log has been synced. A: it is acknowledged."""
    if "POST /v1/logs" in line and "recvfrom(" in line:
        return "R"
    if re.search(r"f(data)?sync\(\d+<[^>]*ledger\.db-wal>", line):
        return "S"
    return "A" if "HTTP/1.1 200 OK" in line and "sendto(" in line else ""
