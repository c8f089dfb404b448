"""Processes that end past Python's exit handlers: what was metered is sent all the same, and nobody waits for long."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from examples.provider import Provider

ROOT = Path(__file__).resolve().parent.parent

HEAD = """
import multiprocessing, os, signal, time
from emission_kit import call, minted
from genai_meter import emit, flush, leaving
from genai_meter.instrumentor import OpenAIInstrumentor, ProcessesInstrumentor
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, ConsoleLogRecordExporter

PAUSE = 0
BOUNDS = leaving.TASK_SECONDS, leaving.LAST_SECONDS
# What a receiver that answers is sent depends on no machine's speed.
leaving.TASK_SECONDS = leaving.LAST_SECONDS = 40.0

def hang():
    '''The receiver answers no more; now it is about the bounds.'''
    global PAUSE
    PAUSE = 90
    leaving.TASK_SECONDS, leaving.LAST_SECONDS = BOUNDS

def told(record):
    time.sleep(PAUSE)
    return "<" + record.log_record.attributes["genai_meter.status"] + ">"

logs = LoggerProvider()
exporter = ConsoleLogRecordExporter(formatter=told)
logs.add_log_record_processor(BatchLogRecordProcessor(exporter, schedule_delay_millis=3_600_000))
emit.bind(None, None, logs)
ProcessesInstrumentor().instrument()
OpenAIInstrumentor().instrument()

def ask(number=0):
    emit.finish(call("openai_chat", {"model": "gpt-4o", "messages": []}, call_id=minted()), "ok")
    return number
"""


def ends(program: str, *arguments: str) -> tuple[int, str]:
    """How a program ends, and what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", HEAD + textwrap.dedent(program), *arguments],
        cwd=Path(__file__).parent,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.strip()


POOL = """
    if __name__ == "__main__":
        with multiprocessing.get_context("fork").Pool(1) as pool:
            begun = time.monotonic()
            answers = pool.map(ask, range(3), chunksize=1)
            seconds = time.monotonic() - begun
        print(answers, seconds < 20)
"""


def test_workers_of_a_pool_that_is_terminated_have_sent_what_they_metered() -> None:
    assert ends(POOL) == (0, "<ok><ok><ok>[0, 1, 2] True")


def test_tasks_do_not_wait_for_a_receiver_that_hangs() -> None:
    assert ends("    hang()\n" + POOL) == (0, "[0, 1, 2] True")


def test_the_threads_of_a_pool_send_nothing_of_their_own() -> None:
    assert ends("""
        from multiprocessing.pool import ThreadPool
        exporter.force_flush = exporter.shutdown = lambda *_: True
        with ThreadPool(2) as pool:
            print(pool.map(ask, range(3), chunksize=1), flush=True)
    """) == (0, "[0, 1, 2]\n<ok><ok><ok>")


def test_a_forked_child_that_leaves_at_once_has_sent_what_it_metered(provider: Provider) -> None:
    program = """
        import openai, sys

        if os.fork() == 0:
            ask()
            client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="sk-test")
            stream = client.chat.completions.create(model="gpt-4o", messages=[], stream=True)
            next(stream)
            os._exit(7)
        print("", os.waitstatus_to_exitcode(os.wait()[1]))
    """
    assert ends(program, provider.url) == (0, "<ok><abandoned> 7")


def test_a_forked_child_that_metered_nothing_leaves_at_once() -> None:
    assert ends("""
        ask()
        flush()
        PAUSE = 90
        emit.finish(call("openai_chat", {"model": "gpt-4o", "messages": []}), "ok")
        begun = time.monotonic()
        if os.fork() == 0:
            os._exit(7)
        print("", os.waitstatus_to_exitcode(os.wait()[1]), time.monotonic() - begun < 20, flush=True)
        os._exit(0)
    """) == (0, "<ok> 7 True")


UVICORN = """
    import asyncio, uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            ask()
            signal.raise_signal(NUMBER)

    async def app(scope, receive, send):
        pass

    async def serve():
        await Server(uvicorn.Config(app, port=0, lifespan="off", log_level="critical")).serve()
        print("goes on", flush=True)

    asyncio.run(serve())
"""


@pytest.mark.parametrize(
    ("before", "end"),
    [
        ("NUMBER = signal.SIGTERM", (-signal.SIGTERM, "<ok>")),
        # The program has a handler, and lives.
        ("NUMBER = signal.SIGTERM; signal.signal(NUMBER, lambda *_: None)", (0, "goes on\n<ok>")),
        # Nobody waits for long.
        ("NUMBER = signal.SIGTERM; hang()", (-signal.SIGTERM, "")),
    ],
)
def test_uvicorn_has_sent_what_it_metered_before_the_signal_kills_it(before: str, end: tuple[int, str]) -> None:
    assert ends(f"    {before}\n{UVICORN}") == end


def test_flush_sends_now_and_tells_whether_it_could() -> None:
    assert ends("""
        print(flush(), flush=True)
        ask()
        print(flush(60), flush=True)
        PAUSE = 90
        ask()
        print(flush(0.2), flush=True)
        os._exit(0)
    """) == (0, "True\n<ok>True\nFalse")
