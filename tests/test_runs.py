"""What a run and a conversation have cost so far: sync, async, threads, streams, other costs; bounded."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from emission_kit import START_NS, Telemetry, call, minted, telemetry
from genai_meter import Spend, attribute, cache_hit, current_conversation, current_run, emit, record_cost, runs
from genai_meter.call import Attempt

BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 100},
}
"""0.0035 USD."""


@pytest.fixture(autouse=True)
def pipeline() -> Iterator[Telemetry]:
    with telemetry() as running:
        yield running
    runs.forget()


def chat(**more: Any) -> None:
    emit.finish(call("openai_chat", {**BODY, **more}, answer=ANSWER, call_id=minted()), "ok")


def test_outside_a_run_everything_is_zero() -> None:
    chat()
    assert current_run() == current_conversation() == Spend(None)
    assert (current_run().cost_usd, current_run().total_tokens) == (Decimal(0), 0)


def test_a_run_that_has_not_called_yet_has_its_id() -> None:
    with attribute(run_id="r-1", conversation_id="c-1"):
        assert (current_run(), current_conversation()) == (Spend("r-1"), Spend("c-1"))


def test_a_run_sums_its_calls_and_only_them() -> None:
    with attribute(run_id="other"):
        chat()
    with attribute(run_id="r-1", conversation_id="c-1"):
        chat()
        with attribute(step="inner"):
            chat()
        seen = current_run()
    with attribute(run_id="r-2", conversation_id="c-1"):
        chat()
        conversation = current_conversation()
    assert seen == Spend("r-1", Decimal("0.007"), calls=2, input_tokens=2000, output_tokens=200)
    assert conversation == Spend("c-1", Decimal("0.0105"), calls=3, input_tokens=3000, output_tokens=300)
    assert current_run() == Spend(None)


def test_failed_and_unpriced_calls_are_told_apart() -> None:
    refused = Attempt(START_NS, START_NS, None, None, "APIConnectionError")
    with attribute(run_id="r-1"):
        emit.finish(call("openai_chat", BODY, call_id=minted(), attempts=(refused,)), "error", "APIConnectionError")
        emit.finish(call("openai_chat", BODY, answer={**ANSWER, "usage": None, "choices": []}, call_id=minted()), "ok")
        chat()
        assert current_run() == Spend(
            "r-1", Decimal("0.0035"), calls=3, input_tokens=1000, output_tokens=100, unpriced_calls=1
        )


def test_other_costs_and_cache_hits_belong_to_the_run() -> None:
    with attribute(run_id="r-1"):
        chat()
        record_cost("0.001", what="vector_search")
        cache_hit(ANSWER)
        assert current_run() == Spend(
            "r-1",
            Decimal("0.0045"),
            calls=1,
            input_tokens=1000,
            output_tokens=100,
            cache_hits=1,
            cost_avoided_usd=Decimal("0.0035"),
        )


def test_a_dropped_stream_counts_once_it_is_ended() -> None:
    with attribute(run_id="r-1"):
        emit.expect_drops()
        emit.finish(call("openai_chat", BODY, answer=ANSWER, call_id=minted()), "abandoned", in_finalizer=True)
        emit.flush()
        assert current_run().calls == 1


async def test_tasks_of_one_run() -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        chat()

    async with attribute(run_id="r-1"):
        await asyncio.gather(*(work() for _ in range(200)))
        await asyncio.to_thread(chat)
        assert (current_run().calls, current_run().cost_usd) == (201, Decimal("0.7035"))


def test_threads_lose_nothing() -> None:
    with attribute(run_id="r-1"):
        contexts = [contextvars.copy_context() for _ in range(8)]
        threads = [threading.Thread(target=context.run, args=(repeat,)) for context in contexts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert current_run().calls == 400


def repeat() -> None:
    for _ in range(50):
        chat()


def test_memory_is_bounded_and_the_idlest_is_forgotten() -> None:
    with attribute(run_id="kept"):
        for number in range(9000):
            runs.add_cost({"run_id": f"r-{number}"}, 1)
            if not number % 1000:
                runs.add_cost({"run_id": "kept"}, 10**12)
        assert current_run().cost_usd == 9
    with attribute(run_id="r-0"):
        assert current_run() == Spend("r-0")
    with attribute(run_id="r-8999"):
        assert current_run().cost_usd == Decimal("0.000000000001")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_counts_its_own() -> None:
    with attribute(run_id="r-1"):
        chat()
        child = os.fork()
        if child == 0:
            os._exit(0 if current_run() == Spend("r-1") else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert current_run().calls == 1
