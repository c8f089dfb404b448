"""Background responses: one charge, for whoever sees first that they are over."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import httpx2
import openai
import pytest
from emission_kit import Telemetry, metered
from genai_meter import attribute, guard
from genai_meter.clients import background
from genai_meter.instrumentor import OpenAIInstrumentor

from examples.provider import Provider

ASK: Any = {"model": "gpt-5.2", "input": "Where to, and why?", "background": True}
"""Five tokens in the stand-in's count; it thinks for 64 and answers with as many words as its answer has."""


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    """The library metered, into memory; nothing ordered or charged before."""
    with metered(OpenAIInstrumentor) as kept:
        forget()
        yield kept


@pytest.fixture
def client(provider: Provider) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk-test", max_retries=0) as made:
        yield made


def forget() -> None:
    """As in another process."""
    background.orders.clear()
    background.charged.clear()


def only(telemetry: Telemetry) -> Mapping[str, Any]:
    (event,) = telemetry.take()
    return event


def usage(event: Mapping[str, Any]) -> tuple[Any, ...]:
    names = ("gen_ai.response.id", "genai_meter.status", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
    return tuple(event.get(name) for name in names)


def told(provider: Provider, response_id: str, status: str = "ok") -> tuple[Any, ...]:
    """The same as the provider knows it."""
    counts = provider.memory.responses[response_id]["usage"]
    return response_id, status, counts["input_tokens"], counts["output_tokens"]


def test_polling_charges_once_when_it_is_over(telemetry: Telemetry, client: Any, provider: Provider) -> None:
    with attribute(tenant="acme"):
        response = client.responses.create(**ASK, metadata={"polls": "2"})
    assert response.status == "queued"
    statuses = [client.responses.retrieve(response.id).status for _ in range(2)]
    assert statuses == ["in_progress", "in_progress"]
    assert telemetry.take() == []
    assert client.responses.retrieve(response.id).status == "completed"
    event = only(telemetry)
    assert usage(event) == told(provider, response.id)
    # 1.75 and 14 USD a million tokens.
    assert event["genai_meter.cost.effective"] == 5 * 1_750_000 + event["gen_ai.usage.output_tokens"] * 14_000_000
    assert (event["genai_meter.cost.status"], event["genai_meter.tenant"]) == ("exact", "acme")
    assert event["gen_ai.request.model"] == "gpt-5.2"
    assert client.responses.retrieve(response.id).status == "completed"
    assert telemetry.take() == []


def test_another_process_makes_the_same_call_of_it(telemetry: Telemetry, client: Any, provider: Provider) -> None:
    response = client.responses.create(**ASK)
    client.responses.retrieve(response.id)
    first = only(telemetry)
    forget()
    with attribute(tenant="poller"):
        client.responses.retrieve(response.id)
    second = only(telemetry)
    assert second["genai_meter.call.id"] == first["genai_meter.call.id"]
    assert usage(second) == usage(first) == told(provider, response.id)
    assert second["genai_meter.cost.effective"] == first["genai_meter.cost.effective"]
    assert second["genai_meter.tenant"] == "poller"
    assert second["genai_meter.start"] == provider.memory.responses[response.id]["created_at"] * 10**9
    assert "gen_ai.request.model" not in second


def test_a_stored_answer_was_charged_when_it_was_made(telemetry: Telemetry, client: Any) -> None:
    response = client.responses.create(model="gpt-5.2", input="Where to?")
    assert len(telemetry.take()) == 1
    forget()
    assert client.responses.retrieve(response.id).status == "completed"
    assert list(client.responses.retrieve(response.id, stream=True))
    assert telemetry.take() == []


def test_the_stream_of_the_order(telemetry: Telemetry, client: Any, provider: Provider) -> None:
    stream = client.responses.create(**ASK, stream=True)
    assert type(stream) is openai.Stream
    last: Any = list(cast(Any, stream))[-1]
    event = only(telemetry)
    assert usage(event) == told(provider, last.response.id)
    assert event["gen_ai.response.time_to_first_chunk"] > 0
    forget()
    client.responses.retrieve(last.response.id)
    assert only(telemetry)["genai_meter.call.id"] == event["genai_meter.call.id"]


def test_a_stream_that_is_left_and_taken_up_again(telemetry: Telemetry, client: Any, provider: Provider) -> None:
    with attribute(tenant="acme"), client.responses.create(**ASK, stream=True) as stream:
        first: Any = next(iter(stream))
    assert telemetry.take() == []
    again = client.responses.retrieve(first.response.id, stream=True)
    assert type(again) is openai.Stream
    assert list(cast(Any, again))[-1].type == "response.completed"
    event = only(telemetry)
    assert usage(event) == told(provider, first.response.id)
    assert event["genai_meter.tenant"] == "acme"
    assert "gen_ai.response.time_to_first_chunk" not in event


@pytest.mark.parametrize(("end", "status", "error"), [("failed", "error", "server_error"), ("incomplete", "ok", None)])
def test_other_ends(
    telemetry: Telemetry, client: Any, provider: Provider, end: str, status: str, error: str | None
) -> None:
    response = client.responses.create(**ASK, metadata={"end": end})
    if end == "incomplete":
        provider.memory.responses[response.id]["error"] = None
        provider.memory.responses[response.id]["metadata"] = {}
        provider.memory.responses[response.id]["status"] = end
    assert client.responses.retrieve(response.id).status == end
    event = only(telemetry)
    assert usage(event) == told(provider, response.id, status)
    assert event.get("error.type") == error


def test_cancelling_tells_the_end(telemetry: Telemetry, client: Any, provider: Provider) -> None:
    response = client.responses.create(**ASK, metadata={"polls": "9"})
    assert client.responses.cancel(response.id).status == "cancelled"
    event = only(telemetry)
    assert usage(event) == told(provider, response.id)
    assert json.loads(event["gen_ai.response.finish_reasons"]) == ["cancelled"]
    client.responses.retrieve(response.id)
    assert telemetry.take() == []


def test_raw_responses(telemetry: Telemetry, client: Any, provider: Provider) -> None:
    order = client.responses.with_raw_response.create(**ASK)
    response_id = json.loads(order.text)["id"]
    assert telemetry.take() == []
    raw = client.responses.with_raw_response.retrieve(response_id)
    assert usage(only(telemetry)) == told(provider, response_id)
    assert raw.parse() is raw.parse()
    forget()
    with client.responses.with_streaming_response.retrieve(response_id) as streamed:
        assert telemetry.take() == []
        assert streamed.parse().status == "completed"
    assert usage(only(telemetry)) == told(provider, response_id)


async def test_in_a_coroutine(telemetry: Telemetry, provider: Provider) -> None:
    async with openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="sk-test") as opened:
        client: Any = opened
        response = await client.responses.create(**ASK, metadata={"polls": "1"})
        assert (await client.responses.retrieve(response.id)).status == "in_progress"
        assert telemetry.take() == []
        assert (await client.responses.retrieve(response.id)).status == "completed"
        assert usage(only(telemetry)) == told(provider, response.id)
        forget()
        assert [event.type async for event in await client.responses.retrieve(response.id, stream=True)]
        assert usage(only(telemetry)) == told(provider, response.id)


def test_a_refused_order_is_a_call_and_a_failed_poll_is_none(
    telemetry: Telemetry, client: Any, provider: Provider
) -> None:
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_unknown")
    with pytest.raises(openai.NotFoundError):
        client.responses.cancel("resp_unknown")
    assert telemetry.take() == []
    with pytest.raises(openai.BadRequestError):
        client.responses.create(**ASK, extra_headers={"x-scenario": "400"})
    event = only(telemetry)
    assert (event["genai_meter.status"], event["error.type"]) == ("error", "BadRequestError")
    assert "genai_meter.cost.status" not in event


def test_the_guard_decides_about_the_order_not_about_reading_it(
    telemetry: Telemetry, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = client.responses.create(**ASK)

    def block(_: object) -> guard.Decision:
        raise guard.Blocked("over budget")

    monkeypatch.setattr(guard, "decide", block)
    assert client.responses.retrieve(response.id).status == "completed"
    assert only(telemetry)["genai_meter.status"] == "ok"
    with pytest.raises(guard.Blocked):
        client.responses.create(**ASK)
    assert only(telemetry)["genai_meter.status"] == "blocked"


def test_recorded_background_responses(telemetry: Telemetry, traffic: Path) -> None:
    """Orders and polls as they were recorded: one charge a response, with the usage that the last poll told."""
    answers: dict[str, list[dict[str, Any]]] = {}
    with gzip.open(traffic / "dev.jsonl.gz") as file:
        for line in file:
            recorded: dict[str, Any] = json.loads(line) if b"background" in line else {}
            path = recorded.get("path", "").partition("?")[0]
            if recorded.get("provider") == "openai" and recorded["method"] == "GET" and "/responses/resp_" in path:
                answer = json.loads(recorded["response_body_text"])
                answers.setdefault(answer["id"], []).append(answer)
    over = ("completed", "incomplete", "failed", "cancelled")
    expected: list[tuple[Any, ...]] = []
    for response_id, told in answers.items():
        # As they were asked for: at work first.
        queue = sorted(told, key=lambda answer: answer["status"] in over)
        handed = [*queue, queue[-1]]

        def handle(_: httpx2.Request, left: list[dict[str, Any]] = handed) -> httpx2.Response:
            return httpx2.Response(200, json=left.pop(0))

        http = httpx2.Client(transport=httpx2.MockTransport(handle))
        with openai.OpenAI(api_key="sk-test", http_client=http) as client:
            for _ in range(len(queue) + 1):
                client.responses.retrieve(response_id)
        if queue[-1]["status"] in over and queue[-1]["background"]:
            counts = queue[-1]["usage"]
            expected.append((response_id, "ok", counts["input_tokens"], counts["output_tokens"]))
    assert expected
    assert [usage(event) for event in telemetry.take()] == expected


def test_nothing_is_remembered_without_end(telemetry: Telemetry, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "MOST_REMEMBERED", 3)
    ids = [client.responses.create(**ASK).id for _ in range(5)]
    assert list(background.orders) == ids[2:]
    for response_id in ids:
        client.responses.retrieve(response_id)
    assert len(telemetry.take()) == 5
    assert list(background.charged) == ids[2:]
    assert background.orders == {}


def test_a_process_that_never_polls_imports_nothing_for_it(provider: Provider) -> None:
    """Batches and background responses cost a program that has none of them no import."""
    code = """
import sys
from genai_meter.instrumentor import OpenAIInstrumentor
OpenAIInstrumentor().instrument()
import openai
with openai.OpenAI(base_url=sys.argv[1], api_key="sk-test") as client:
    client.responses.create(model="gpt-5.2", input="Where to?")
    client.models.list()
print([name for name in ("background", "batches") if f"genai_meter.clients.{name}" in sys.modules])
"""
    command = [sys.executable, "-c", code, f"{provider.url}/v1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
