"""Programs that use the clients in their own ways: nothing breaks, nothing is lost."""

from __future__ import annotations

import contextvars
import inspect
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from emission_kit import Telemetry, metered
from genai_meter import emit
from genai_meter.instrumentor import OpenAIInstrumentor

from examples.provider import Provider

ASK: Any = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Where to?"}]}


class Overriding(openai.OpenAI):
    """A client class with a `request` of its own, made before the patch."""

    def request(self, cast_to: Any, options: Any, **kwargs: Any) -> Any:
        """Send it."""
        return super().request(cast_to, options, **kwargs)


@dataclass
class Equal(openai.OpenAI):
    """A client class that can be compared, and therefore has no hash."""

    name: str

    def __post_init__(self) -> None:
        super().__init__(base_url=self.name, api_key="sk-test")


@pytest.fixture(name="metered")
def openai_metered() -> Iterator[Telemetry]:
    with metered(OpenAIInstrumentor) as pipeline:
        yield pipeline


def statuses(pipeline: Telemetry) -> list[Any]:
    emit.flush()
    return [event.attributes["genai_meter.status"] for event in pipeline.events]


def test_an_override_of_the_callers_stays_what_it_is(metered: Telemetry, provider: Provider) -> None:
    assert list(inspect.signature(Overriding.request).parameters) == ["self", "cast_to", "options", "kwargs"]
    assert (Overriding.request.__qualname__, Overriding.request.__doc__) == ("Overriding.request", "Send it.")
    with Overriding(base_url=f"{provider.url}/v1", api_key="sk-test") as client:
        client.chat.completions.create(**ASK)
    assert statuses(metered) == ["ok"]


def test_a_client_without_a_hash_is_metered(metered: Telemetry, provider: Provider) -> None:
    with Equal(f"{provider.url}/v1") as client:
        client.chat.completions.create(**ASK)
    assert statuses(metered) == ["ok"]


async def test_a_coroutine_thrown_away_in_another_context_is_no_error(metered: Telemetry, provider: Provider) -> None:
    client: Any = openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="sk-test")
    async with client:
        running = client.chat.completions.create(**ASK)
        contextvars.copy_context().run(running.send, None)
        running.close()
    # Nothing was sent yet; that no error was swallowed is for the fixture to see.
    assert statuses(metered) == []


async def test_the_iterator_of_a_stream_looks_like_the_librarys_own(metered: Telemetry, provider: Provider) -> None:
    kinds: list[object] = []
    for switch in (lambda: None, OpenAIInstrumentor().uninstrument):
        switch()
        with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk-test") as client:
            stream: Any = client.chat.completions.create(**ASK, stream=True)
            # Private, but Sentry, Datadog and others wrap it, and look at what it is.
            plain: object = stream._iterator
            kinds.append((str(type(plain)), inspect.isgenerator(plain), inspect.isasyncgen(plain)))
            assert len(list(stream)) > 2
        async with openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="sk-test") as client:
            stream = await client.chat.completions.create(**ASK, stream=True)
            plain = stream._iterator
            kinds.append((str(type(plain)), inspect.isgenerator(plain), inspect.isasyncgen(plain)))
            assert len([chunk async for chunk in stream]) > 2
    assert kinds[:2] == kinds[2:] == [("<class 'generator'>", True, False), ("<class 'async_generator'>", False, True)]
    assert statuses(metered) == ["ok", "ok"]


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_queue_and_thread_come_from_the_same_world() -> None:
    # As gevent does it, after an import of ours: a greenlet in `get` of a real queue would stop the whole program.
    code = """
        import queue

        from genai_meter import emit

        made = []

        class Patched(queue.SimpleQueue):
            def __init__(self):
                made.append(self)

        queue.SimpleQueue = Patched
        emit.expect_drops()
        print(emit.flush(), len(made))
    """
    assert _python(code) == "True 1"


def test_a_dropped_call_is_recorded_where_no_thread_can_be_had() -> None:
    code = """
        import threading

        from emission_kit import Telemetry, call
        from genai_meter import emit, safety

        start = threading.Thread.start

        def refuse(self):
            if self.name == "genai_meter-reaper":
                raise RuntimeError("can't start new thread")
            start(self)

        threading.Thread.start = refuse
        telemetry = Telemetry()
        telemetry.bind()
        emit.expect_drops()
        emit.finish(call("openai_chat", {"model": "gpt-4o", "messages": [], "stream": True}), "abandoned")
        print(emit.flush(), len(telemetry.events), sorted(safety.internal_errors))
    """
    assert _python(code) == "True 1 ['emit.reaper']"


WORKER = """
    import multiprocessing
    import time

    from emission_kit import call
    from genai_meter import emit
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, ConsoleLogRecordExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

    def sent(record):
        time.sleep({pause})
        return record.log_record.event_name + " "

    spans, logs = TracerProvider(), LoggerProvider()
    spans.add_span_processor(
        BatchSpanProcessor(ConsoleSpanExporter(formatter=lambda span: span.name), schedule_delay_millis=3_600_000)
    )
    logs.add_log_record_processor(
        BatchLogRecordProcessor(ConsoleLogRecordExporter(formatter=sent), schedule_delay_millis=3_600_000)
    )
    emit.bind(spans, None, logs)

    def work():
        emit.finish(call("openai_chat", {{"model": "gpt-4o", "messages": []}}), "ok")

    begun = time.monotonic()
    worker = multiprocessing.get_context("fork").Process(target=work)
    worker.start()
    worker.join()
    print(" exit", worker.exitcode, time.monotonic() - begun < 30)
"""


def test_a_worker_of_multiprocessing_leaves_nothing_behind() -> None:
    assert _python(WORKER.format(pause=0)) == "genai_meter.usage chat gpt-4o exit 0 True"


def test_a_worker_does_not_wait_for_a_receiver_that_hangs() -> None:
    assert _python(WORKER.format(pause=90)) == "exit 0 True"
