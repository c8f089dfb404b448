"""The reader and the writer take turns, and what is being read goes into the same transaction."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from genai_meter_exporter import jobs
from genai_meter_exporter.jobs import Job, Jobs
from genai_meter_exporter.normalise import Batch
from genai_meter_exporter.store.base import Tally


def ends(gathered: list[Job]) -> list[Future[Tally]]:
    return [job.done for job in gathered]


def test_what_is_being_read_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_GATHER_SECONDS", 60.0)
    waiting = Jobs(1000, in_turn=True)
    with ThreadPoolExecutor(1) as pool:
        with waiting.coming():
            first = waiting.put(None)
            gathered = pool.submit(waiting.gather, 30)
            time.sleep(0.05)
            second = waiting.put(Batch())
        assert ends(gathered.result(30)) == [first, second]
        # A request with nothing in it puts nothing.
        with waiting.coming():
            third = waiting.put(Batch())
            gathered = pool.submit(waiting.gather, 30)
            time.sleep(0.05)
        assert ends(gathered.result(30)) == [third]


def test_nobody_waits_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_GATHER_SECONDS", 0.05)
    waiting = Jobs(1000, in_turn=True)
    with waiting.coming():
        first = waiting.put(None)
        assert ends(waiting.gather(30)) == [first]


def test_beside_a_server_nobody_waits() -> None:
    waiting = Jobs(1000, in_turn=False)
    with waiting.coming(), waiting.reading(), waiting.writing():
        first = waiting.put(None)
        assert ends(waiting.gather(30)) == [first]


def test_a_queue_that_is_closed_is_emptied() -> None:
    waiting = Jobs(1000, in_turn=True)
    first = waiting.put(None)
    waiting.close()
    assert (ends(waiting.gather(30)), waiting.closed) == ([first], True)
    with pytest.raises(queue.Empty):
        waiting.gather(0.001)


def test_the_writer_gets_its_turn_however_much_there_is_to_read() -> None:
    waiting = Jobs(1000, in_turn=True)
    ended = threading.Event()
    inside: list[str] = []

    def read() -> None:
        while not ended.is_set():
            with waiting.reading():
                inside.append("reader")
                time.sleep(0.001)
                assert inside.pop() == "reader"

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        try:
            for _ in range(20):
                with waiting.writing():
                    assert inside == []
                    time.sleep(0.002)
        finally:
            ended.set()
        reader.result(30)
