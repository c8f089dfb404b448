"""Calls that nobody else tells of go in together; all else is as if each had come alone."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from exporter_kit import NOW, Event, new_id, usage_event
from genai_meter_exporter.store import together
from genai_meter_exporter.store.base import Tally
from genai_meter_exporter.store.sqlite import SqliteStore
from ledger_kit import LINKING, Ledger, foreign_span, ledger_of_engine

MINUTE = 60_000_000_000

ledger = pytest.fixture(params=LINKING)(ledger_of_engine)


def calls(count: int) -> list[Event]:
    """Calls of many shapes: some tell of a tenant, a run, a first chunk or a cache; some are unpriced or failed."""
    chance = random.Random(7)
    found: list[Event] = []
    for number in range(count):
        more: dict[str, Any] = {"response_id": f"chatcmpl-{number}"} if number % 3 else {}
        if number % 2:
            more |= {"trace_id": chance.randbytes(16), "span_id": chance.randbytes(8)}
        more |= chance.choice(
            (
                {},
                {"tenant": f"t{number % 5}", "team": "search", "user": "it's \u20ac"},
                {"workflow": "triage", "run_id": f"r{number % 4}"},
                {"time_to_first_chunk": 0.25, "stream": True},
                {"model": None, "request_model": "made-up"},
                {"status": "error", "attempt_count": 3},
                {"cache_read": 512},
            )
        )
        start = NOW + number * 20_000_000_000
        found.append(usage_event(start_ns=start, input_tokens=number + 1, call_id=new_id(start), **more))
    return found


def test_together_is_the_same_as_one_at_a_time(ledger: Ledger, tmp_path: Path) -> None:
    events = calls(120)
    assert ledger.send(*events) == Tally(accepted=120)
    alone = Ledger(tmp_path / "alone.db")
    for event in events:
        assert alone.send(event) == Tally(accepted=1)
    ledger.check()
    assert ledger.rows() == alone.rows()
    assert {key: amount for key, amount in ledger.counters.items() if amount} == {
        key: amount for key, amount in alone.counters.items() if amount
    }
    alone.store.close()
    ledger.reopen()
    assert ledger.send(*events) == Tally(duplicate=120)
    ledger.check()


def test_what_came_together_is_linked_afterwards(ledger: Ledger) -> None:
    events = [usage_event(response_id=f"chatcmpl-{number}", input_tokens=number + 1) for number in range(40)]
    ledger.send(*events)
    spans = [
        foreign_span(number=number + 1, response_id=f"chatcmpl-{number}", input_tokens=number + 1)
        for number in range(40)
    ]
    assert ledger.send(*spans) == Tally(linked=40)
    ledger.check()
    assert set(ledger.rows()) == {event.call_id for event in events}
    assert all(len(row["links"]) > 2 for row in ledger.rows().values())


def test_two_of_one_call_among_many(ledger: Ledger) -> None:
    events = calls(50)
    events[7].attributes["gen_ai.response.id"] = "chatcmpl-shared"
    twin = foreign_span(response_id="chatcmpl-shared", input_tokens=8, start_ns=NOW + 140_000_000_000)
    again = events[20]
    assert ledger.send(twin, *events, again) == Tally(accepted=50, linked=1, duplicate=1)
    ledger.check()
    assert set(ledger.rows()) == {event.call_id for event in events}


def test_a_failed_transaction_leaves_no_charge_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    events = calls(20)
    events[4].attributes["gen_ai.response.id"] = "chatcmpl-1"
    span = foreign_span(response_id="chatcmpl-1", input_tokens=5, start_ns=NOW + 80_000_000_000)

    def fail(*_: Any) -> None:
        raise RuntimeError("no")

    with monkeypatch.context() as patch:
        patch.setattr("genai_meter_exporter.store.sqlite.beside.write", fail)
        with pytest.raises(RuntimeError):
            ledger.send(events[4], span)
        with pytest.raises(RuntimeError):
            ledger.send(*events)
    assert ledger.rows() == {}
    # Nothing of these calls is left to be linked to.
    assert ledger.send(span) == Tally(accepted=1)
    assert ledger.send(*events) == Tally(accepted=19, linked=1)
    ledger.check()
    assert set(ledger.rows()) == {event.call_id for event in events}
    ledger.store.close()


def test_what_came_together_is_forgotten_after_the_window(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db", window_ns=10 * MINUTE)
    events = [usage_event(response_id=f"chatcmpl-{number}") for number in range(4)]
    ledger.send(*events)
    # One of them has met another record, the rest have not.
    assert ledger.send(foreign_span(number=9, response_id="chatcmpl-0")) == Tally(linked=1)
    late = [foreign_span(number=number + 20, response_id=f"chatcmpl-{number}") for number in range(2)]
    assert ledger.send(*late, now=NOW + 11 * MINUTE) == Tally(accepted=2)
    ledger.check()
    store = ledger.store
    assert isinstance(store, SqliteStore)
    assert ledger.send(*events, now=NOW + 11 * MINUTE) == Tally(duplicate=4)
    store.close()


@pytest.mark.parametrize("count", [1, 15, 16, 17, 64, 100])
@pytest.mark.parametrize("same", [False, True])
def test_rows_go_in_as_they_are(count: int, same: bool) -> None:
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE kept (key INTEGER PRIMARY KEY, text TEXT, number INTEGER, blank TEXT)")
    texts = ["alike"] * count if same else [f"text '{number}'" for number in range(count)]
    numbers = [2**62 + number % 3 for number in range(count)]
    columns = [range(count), texts, numbers, (None,) * count]
    often_equal = frozenset({"text", "blank"})
    together.insert(db, "kept", ("key", "text", "number", "blank"), columns, often_equal=often_equal)
    expected = [(number, texts[number], numbers[number], None) for number in range(count)]
    assert db.execute("SELECT * FROM kept ORDER BY key").fetchall() == expected
    with pytest.raises(sqlite3.IntegrityError):
        together.insert(db, "kept", ("key", "text", "number", "blank"), columns)
    db.close()
