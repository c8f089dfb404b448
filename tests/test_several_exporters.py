"""Two exporters on one PostgreSQL behind a balancer: each call once, their counters together are the ledger."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from exporter_kit import NOW, Answer, Served, SpanOf, fetch, usage_event
from genai_meter_exporter.store.base import StoreError
from genai_meter_exporter.store.postgres_reader import PostgresReader
from ledger_kit import Ledger, PostgresLedger, foreign_span
from load_kit import GONE, Load, near, scraped, under_load
from postgres_kit import Postgres
from postgres_kit import served as serve_postgres


# --- one ledger, two instances, in this process ------------------------------------------------------
def test_an_account_that_arrives_at_another_exporter_is_linked(postgres: str) -> None:
    one = PostgresLedger.new(postgres)
    two = PostgresLedger(one.url, instance="two")
    event = usage_event(tenant="acme", response_id="chatcmpl-1", trace_id=b"\x01" * 16, span_id=b"\x07" * 8)
    outer = foreign_span(number=3)
    between = SpanOf({"http.method": "POST"}, span_id=b"\x06" * 8, parent=outer.span_id)
    own = SpanOf(event.attributes, span_id=b"\x07" * 8, parent=between.span_id, scope="genai_meter")
    assert two.send(between).accepted == 0
    assert one.send(event).accepted == 1
    assert two.send(own).linked == 1
    assert one.send(outer).linked == 1
    assert two.send(foreign_span(number=9, response_id="chatcmpl-1", scope="third")).linked == 1
    assert two.send(event, own, outer).duplicate == 3
    shares = _together(one, two)
    assert (shares["ledger_events"], shares["ledger_cost_usd"]) == (1, 3_500_000_000)
    assert set(two.rows()) == {event.call_id}
    one.reopen()
    two.reopen()
    assert _together(one, two) == shares
    one.store.close()
    two.store.close()


def test_a_better_account_at_another_exporter_moves_the_charge(postgres: str) -> None:
    one = PostgresLedger.new(postgres)
    two = PostgresLedger(one.url, instance="two")
    one.send(foreign_span(response_id="chatcmpl-1"))
    two.send(usage_event(response_id="chatcmpl-1", tenant="acme", team="search"))
    shares = _together(one, two)
    assert shares["ledger_cost_usd"] - shares["ledger_credit_usd"] == 3_500_000_000
    assert shares["cost_usd"] - shares["credit_usd"] == 3_500_000_000
    reader = one.reader()
    assert reader.totals() == (1, 3_500_000_000)
    reader.close()
    one.store.close()
    two.store.close()


def test_a_name_is_taken_once_and_one_exporter_leads(postgres: str) -> None:
    one = PostgresLedger.new(postgres)
    with pytest.raises(StoreError, match=r"another exporter of this database is named 'one'"):
        PostgresLedger(one.url, busy_seconds=0.2)
    two = PostgresLedger(one.url, instance="two")
    assert [one.store.leads(), two.store.leads(), one.store.leads(), two.store.leads()] == [True, False, True, False]
    one.store.close()
    deadline = time.monotonic() + 60
    while not two.store.leads():
        assert time.monotonic() < deadline
    two.store.close()


def test_a_connection_that_is_cut_is_made_again_and_the_counters_read_again(postgres: str) -> None:
    ledger = PostgresLedger.new(postgres)
    event = usage_event(tenant="acme")
    ledger.send(event)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'genai-meter one'"
        )
    with pytest.raises(StoreError):
        ledger.send(usage_event())
    written = ledger.store.write([], (), NOW)
    assert written.restored is not None
    assert written.restored.values == ledger.counters
    ledger.store.commit()
    assert ledger.send(event).duplicate == 1
    ledger.check()
    ledger.store.close()


def _together(*ledgers: Ledger) -> dict[str, int]:
    names = {name for ledger in ledgers for name, _ in ledger.counters}
    return {
        name: sum(amount for ledger in ledgers for (family, _), amount in ledger.counters.items() if family == name)
        for name in names
    }


# --- the drill ----------------------------------------------------------------------------------------
class Balancer:
    """Sends each request to the next exporter, as a load balancer does, whether it is there or not."""

    def __init__(self, exporters: list[Served]) -> None:
        self._next = itertools.cycle(exporters)
        self._lock = threading.Lock()

    def post(self, signal: str, body: bytes) -> Answer:
        """One request, to one of them."""
        with self._lock:
            served = next(self._next)
        return fetch(f"{served.http}/v1/{signal}", body, {"content-type": "application/x-protobuf"})


@dataclass
class Watcher:
    """Sums both scrapes, again and again: the sum lies between the ledger just before and just after."""

    exporters: list[Served]
    url: str
    scrapes: int = 0
    wrong: list[str] = field(default_factory=list[str])

    def watch(self, load: Load) -> None:
        """Until it is over."""
        while not load.over.is_set():
            load.running.wait()
            try:
                before = totals(self.url)
                seen = together(self.exporters)
                after = totals(self.url)
            except (*GONE, KeyError, psycopg.Error, StoreError):
                continue
            self.scrapes += 1
            # A credit of one exporter may be seen before the charge of the other: calls and cost grow only here.
            if not (before[0] <= seen[0] <= after[0] and near(before[1]) - 2000 <= seen[1] <= near(after[1]) + 2000):
                self.wrong.append(f"scraped {seen} between {before} and {after}")


def totals(url: str) -> tuple[int, int]:
    """Calls and cost, summed from the rows."""
    reader = PostgresReader(url)
    try:
        return reader.totals()
    finally:
        reader.close()


def together(exporters: list[Served]) -> tuple[int, int]:
    """The label-free totals of all exporters."""
    found = [scraped(served) for served in exporters]
    return sum(calls for calls, _ in found), sum(cost for _, cost in found)


@contextmanager
def exporters(data: Path, url: str) -> Generator[list[Served]]:
    """Two, each under its own name."""
    made = [Served(data / name, {"store": {"url": url, "instance": name}}) for name in ("one", "two")]
    with made[0], made[1]:
        yield made


def drill(data: Path, database: Postgres, kills: int) -> dict[str, int]:
    """Kill an exporter or the database under load `kills` times; returns the figures."""
    url = database.url("drill")
    chance = random.Random(7)
    unequal = 0
    with exporters(data, url) as both:
        watcher = Watcher(both, url)
        with under_load(Balancer(both), watch=watcher.watch) as load:
            for number in range(kills):
                time.sleep(chance.uniform(1.0, 2.0))
                with load.paused():
                    if number % 3 == 2:
                        database.kill()
                        database.start()
                    else:
                        both[number % 2].kill()
                        load.running.set()
                        # The other one goes on alone.
                        time.sleep(0.5)
                        load.running.clear()
                        both[number % 2].start()
                    unequal += not _meet(both, url)
        calls, cost = totals(url)
        with psycopg.connect(url) as connection:
            stored = {row[0] for row in connection.execute("SELECT call_id FROM call")}
        figures = {
            "kills": kills,
            "acknowledged": load.due[0],
            "requests sent again": load.resent,
            "lost": len(load.acknowledged.keys() - stored),
            "doubled": calls - load.due[0],
            "pico-USD off": cost - load.due[1],
            "scrapes": watcher.scrapes,
            "scrapes wrong": len(watcher.wrong),
            "restarts with another total": unequal,
            "final total off": int(not _meet(both, url)),
        }
        assert not watcher.wrong, watcher.wrong[:5]
    return figures


def _meet(both: list[Served], url: str) -> bool:
    """The exporters agree with the ledger, at the latest when what was under way is finished."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            before, seen, after = totals(url), together(both), totals(url)
        except (*GONE, KeyError, psycopg.Error, StoreError):
            continue
        if before == after and seen[0] == after[0] and abs(seen[1] - near(after[1])) <= 2000:
            return True
        # After the database was gone, an exporter learns with its next transaction what was committed.
        fetch(f"{both[0].status_url}/readyz")
        fetch(f"{both[1].status_url}/readyz")
        time.sleep(0.1)
    return False


def check(figures: dict[str, int]) -> None:
    """Nothing lost, nothing doubled, every total equal."""
    print(figures)
    assert figures["acknowledged"] > 20 * figures["kills"]
    assert figures["requests sent again"] > 0
    zero = ("lost", "doubled", "pico-USD off", "scrapes wrong", "restarts with another total", "final total off")
    assert {name: figures[name] for name in zero} == dict.fromkeys(zero, 0)


@pytest.mark.timeout(300)
def test_three_kills_of_two_exporters_and_their_database(tmp_path: Path) -> None:
    with serve_postgres(synced=True) as database:
        check(drill(tmp_path, database, 3))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_kills_of_two_exporters_and_their_database(tmp_path: Path) -> None:
    with serve_postgres(synced=True) as database:
        check(drill(tmp_path, database, 100))
