"""The spool in the application: on disk before the answer, shipped once acknowledged, whatever goes wrong between."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from emission_kit import START_NS, call
from exporter_kit import Served
from genai_meter import attribute, cache_hit, emit, estimator, identity, outcome, record_cost, spool_files
from genai_meter.call import Attempt
from genai_meter.safety import internal_errors
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from spool_kit import (
    ANSWER,
    BODY,
    Receiver,
    an_event,
    make,
    on_disk,
    response_ids,
    spooling,
    states,
    wait_until,
    write_file,
)


# --- written ----------------------------------------------------------------------------------------
def test_an_event_is_on_disk_when_the_call_returns_and_goes_no_other_way(tmp_path: Path) -> None:
    with spooling(tmp_path / "spool") as pipeline:
        for number in range(1, 4):
            make(number)
            assert [event[6]["gen_ai.response.id"] for event in on_disk(tmp_path / "spool")] == [
                f"chatcmpl-{n}" for n in range(1, number + 1)
            ]
        assert pipeline.events == []
        assert len(pipeline.spans) == 3
        assert states(pipeline) == {"spooled": 3}


def test_a_disabled_sdk_emits_nothing_with_a_spool_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with spooling(tmp_path / "spool") as pipeline:
        make()
        assert pipeline.events == []
    assert not (tmp_path / "spool").exists()


class Counted(IdGenerator):
    """The same ids every time."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def generate_span_id(self) -> int:
        return next(self._numbers)

    def generate_trace_id(self) -> int:
        return 2**100 + next(self._numbers)


def everything(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One event of each kind, of a world in which time stands still and ids are counted."""
    resource = Resource.create({"service.name": "Größe", "service.instance.id": "i-1", "genai_meter.team": "search"})
    tracer = TracerProvider(resource=resource, id_generator=Counted(), shutdown_on_exit=False)
    logger = LoggerProvider(resource=resource, shutdown_on_exit=False)
    logger.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(f"{endpoint}/v1/logs")))
    emit.bind(tracer, MeterProvider(shutdown_on_exit=False), logger)
    estimator.reset()
    numbers = count(1)
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: START_NS)
        patch.setattr(identity, "new_call_id", lambda: START_NS.to_bytes(12, "big") + next(numbers).to_bytes(4, "big"))
        attempts = (Attempt(START_NS, START_NS + 5, 429, "req-0"), Attempt(START_NS + 9, START_NS + 99, 200, "req-1"))
        with attribute(tenant="acme", feature="a=b,c", user_tier="\N{SNOWMAN}"):
            emit.finish(call("openai_chat", BODY, answer=ANSWER, attempts=attempts), "ok")
            second = call("openai_chat", {**BODY, "stream": True}, chunks=[], call_id=identity.new_call_id())
            emit.finish(second, "error", "ConnectError")
            record_cost("0.000000000001", what="vector_search", quantity=3, unit="query", tenant="globex")
            record_cost(2, what="storage", provider="pinecone")
            outcome("resolved", success=False, value_usd="12.5", outcome_id="T-1")
            outcome("resolved")
            cache_hit(provider="openai", model="gpt-4o-mini", input_tokens=100, output_tokens=10)
            cache_hit(input_chars=400, provider="openai", model="gpt-4o-mini")
    emit.bind()


def tables(served: Served) -> dict[str, list[dict[str, Any]]]:
    """Every row that a record has made, without when it was received."""
    with closing(sqlite3.connect(f"file:{served.ledger}?mode=ro", uri=True)) as ledger:
        ledger.row_factory = sqlite3.Row
        found = {
            name: [dict(row) for row in ledger.execute(f"SELECT * FROM {name} ORDER BY 1")]
            for name in ("usage", "outcome", "cache_hit", "linked", "quarantine")
        }
    for row in (row for rows in found.values() for row in rows):
        row.pop("recorded_at", None)
    return found


def test_the_ledger_is_the_same_by_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Served(tmp_path / "one") as by_sdk, Served(tmp_path / "two") as by_spool:
        everything(by_sdk.http, monkeypatch)
        with spooling(tmp_path / "spool", by_spool.http):
            everything("http://127.0.0.1:9", monkeypatch)
        expected = tables(by_sdk)
        assert tables(by_spool) == expected
        assert by_spool.value("ledger_events_total") == by_sdk.value("ledger_events_total") == 4
    assert {name: len(rows) for name, rows in expected.items()} == {
        "usage": 4,
        "outcome": 2,
        "cache_hit": 2,
        "linked": 0,
        "quarantine": 0,
    }
    first = next(row for row in expected["usage"] if row["response_id"])
    assert (first["service"], first["tenant"], first["response_id"]) == ("Größe", "acme", "chatcmpl-Grüße-☃")
    assert (first["input_tokens"], first["attempt_count"]) == (100, 2)
    assert first["trace_id"] == f"{2**100 + 1:032x}"
    assert on_disk(tmp_path / "spool") == []


@pytest.mark.parametrize("broken", ["encode", "frame", "names", "total", "parse"])
def test_what_breaks_in_the_spool_reaches_no_caller(
    tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: Any, **_kwargs: Any) -> Any:
        raise RuntimeError(broken)

    with Receiver() as receiver:
        with spooling(tmp_path / "spool", receiver.url):
            make(1)
            monkeypatch.setattr(f"genai_meter.spool_files.{broken}", fail)
            assert make(2) == "chatcmpl-2"
        assert internal_errors.total() > 0
        internal_errors.clear()


# --- shipped ----------------------------------------------------------------------------------------
def test_it_is_shipped_in_the_background_and_gone(tmp_path: Path) -> None:
    with Receiver() as receiver, spooling(tmp_path / "spool", receiver.url) as pipeline:
        ids = [make(number) for number in range(5)]
        assert response_ids(receiver.wait_for(5)) == ids
        wait_until(lambda: on_disk(tmp_path / "spool") == [])
        assert states(pipeline) == {"spooled": 5, "acknowledged": 5}
        ids.append(make(6))
        assert response_ids(receiver.wait_for(6)) == ids
    assert list((tmp_path / "spool").iterdir()) == []


def test_what_another_has_left_is_shipped_with_its_own_resource(tmp_path: Path) -> None:
    left = write_file(tmp_path / "spool", [an_event(1), an_event(2)], resource="billing")
    with Receiver() as receiver, spooling(tmp_path / "spool", receiver.url):
        make()
        receiver.wait_for(3)
        resource = receiver.requests[0].body.decode()
        assert '"billing"' in resource
        wait_until(lambda: not left.exists())


def test_the_end_of_the_pipeline_ships_at_once(tmp_path: Path) -> None:
    with Receiver() as receiver:
        with spooling(tmp_path / "spool", receiver.url):
            make()
        assert len(receiver.taken) == 1
    assert list((tmp_path / "spool").iterdir()) == []


def test_nobody_is_waited_for_at_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with spooling(tmp_path / "spool"):
        make()
        begun = time.monotonic()
    assert time.monotonic() - begun < 4
    assert len(on_disk(tmp_path / "spool")) == 1
    (told,) = [record.getMessage() for record in caplog.records if record.name == "genai_meter"]
    assert told.startswith(
        f"genai_meter: events wait in the spool {tmp_path / 'spool'}: http://127.0.0.1:9/v1/logs cannot"
    )


def test_files_that_somebody_removes_under_a_running_program_come_back(tmp_path: Path) -> None:
    with Receiver() as receiver, spooling(tmp_path / "spool", receiver.url) as pipeline:
        ids = [make(0)]
        receiver.wait_for(1)
        wait_until(lambda: on_disk(tmp_path / "spool") == [])
        # The next file is open by now.
        shutil.rmtree(tmp_path / "spool")
        ids += [make(number) for number in range(1, 4)]
        assert response_ids(receiver.wait_for(4, 20)) == ids
        wait_until(lambda: states(pipeline) == {"spooled": 4, "acknowledged": 4})


def test_files_that_are_removed_come_back_at_the_end(tmp_path: Path) -> None:
    with spooling(tmp_path / "spool") as pipeline:
        ids = [make(1)]
        shutil.rmtree(tmp_path / "spool")
        ids.append(make(2))
        told = states(pipeline)
    assert [event[6]["gen_ai.response.id"] for event in on_disk(tmp_path / "spool")] == ids
    assert told == {"spooled": 2}


# --- the bound, and a disk that takes nothing ---------------------------------------------------------
def test_at_the_bound_the_newest_are_given_up_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("genai_meter.spool._MEMORY_BYTES", 5_000)
    with spooling(tmp_path / "spool", SPOOL_MAX_BYTES="20000") as pipeline:
        ids = [make(number) for number in range(40)]
        found = states(pipeline)
        assert sum(found.values()) == 40
        assert min(found["spooled"], found["held"], found["given_up"]) > 1
        kept = [event[6]["gen_ai.response.id"] for event in on_disk(tmp_path / "spool")]
        assert kept == ids[: found["spooled"]]
        assert spool_files.total(str(tmp_path / "spool")) <= 20_000
    told = [record.getMessage() for record in caplog.records if "takes no events" in record.getMessage()]
    assert len(told) == 1
    assert "GENAI_METER_SPOOL_MAX_BYTES (20000) is reached" in told[0]
    # What waited in memory when the process ended is lost as well, and said so.
    assert any(f"{found['held']} events are lost" in record.getMessage() for record in caplog.records)


def test_what_waits_in_memory_is_shipped_from_there(tmp_path: Path) -> None:
    with Receiver() as receiver:
        with spooling(tmp_path / "spool", receiver.url, SPOOL_MAX_BYTES="100") as pipeline:
            ids = [make(number) for number in range(3)]
            assert on_disk(tmp_path / "spool") == []
            assert response_ids(receiver.wait_for(3)) == ids
            wait_until(lambda: states(pipeline) == {"held": 3, "acknowledged": 3})
        assert len(receiver.taken) == 3


def test_a_line_that_the_disk_takes_in_part_is_taken_back(tmp_path: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with spooling(tmp_path / "spool") as pipeline:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        try:
            ids = [make(number) for number in range(30)]
            time.sleep(0.6)
            ids.append(make(30))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert {event[6]["gen_ai.response.id"] for event in on_disk(tmp_path / "spool")} == set(ids)
        assert states(pipeline).get("given_up", 0) == 0
        assert all(path.stat().st_size <= 10_000 for path in (tmp_path / "spool").iterdir())


# --- processes --------------------------------------------------------------------------------------
FORKING = """
import os, signal, sys
from spool_kit import make, spooling
from pathlib import Path
with spooling(Path(sys.argv[1])):
    make(1)
    child = os.fork()
    if child == 0:
        make(2)
        # It keeps its file; running, it would be through with it in a second, and others might ship it.
        os.kill(os.getpid(), signal.SIGSTOP)
    os.waitpid(child, os.WUNTRACED)
    print(child, flush=True)
    os._exit(0)
"""


def test_a_child_writes_files_of_its_own_and_does_not_keep_its_parent_s(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", FORKING, str(tmp_path / "spool")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout
    with parent.stdout:
        child = int(parent.stdout.readline())
    parent.wait(60)
    try:
        with Receiver() as receiver, spooling(tmp_path / "spool", receiver.url):
            # The parent is dead, its child lives: one of the two files is in the hands of nobody.
            make(3)
            assert sorted(response_ids(receiver.wait_for(2))) == ["chatcmpl-1", "chatcmpl-3"]
            wait_until(
                lambda: [event[6]["gen_ai.response.id"] for event in on_disk(tmp_path / "spool")] == ["chatcmpl-2"]
            )
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_system_without_file_locks_is_told(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['fcntl'] = None; sys.argv = ['']\n"
        "from pathlib import Path\n"
        "from spool_kit import make, spooling\n"
        f"with spooling(Path({str(tmp_path / 'spool')!r})) as pipeline:\n"
        "    make()\n"
        "    assert len(pipeline.events) == 1\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "GENAI_METER_SPOOL_DIR is ignored, a process that is killed loses events" in done.stderr
    assert "a spool needs the file locks of POSIX (fcntl.flock), which this system does not have" in done.stderr


@pytest.mark.parametrize("how", ["file", "variable"])
def test_a_directory_that_cannot_be_used_is_named(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "file"
    endpoint = "http://127.0.0.1:9"
    if how == "file":
        place.write_text("")
    else:
        endpoint = "grpc://exporter:4327"
    with spooling(place, endpoint) as pipeline:
        make()
        assert len(pipeline.events) == 1
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("GENAI_METER_SPOOL_DIR is ignored")
    assert told.endswith("File exists" if how == "file" else "must begin with http:// or https://")


@pytest.fixture(autouse=True)
def warnings(caplog: pytest.LogCaptureFixture) -> None:
    """What is logged, and how often, is part of what is looked at."""
    caplog.set_level(logging.WARNING, "genai_meter")


def test_metrics_of_the_directory(tmp_path: Path) -> None:
    with spooling(tmp_path / "spool") as pipeline:
        make()
        (point,) = pipeline.points()["genai_meter.spool.size"]
        assert point.value == spool_files.total(str(tmp_path / "spool")) > 0
