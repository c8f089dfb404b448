"""Sessions over websockets on the real client: every answer that tells its usage is one call."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import openai
import pytest
from emission_kit import Telemetry, metered
from genai_meter import attribute, safety
from genai_meter.clients import websockets
from genai_meter.instrumentor import OpenAIInstrumentor
from openai.resources.realtime.realtime import AsyncRealtimeConnection, RealtimeConnection
from openai.types.realtime import RealtimeServerEvent
from websockets.sync.server import ServerConnection, serve

Events = Sequence[Mapping[str, Any]]

USAGE: Any = {
    "total_tokens": 160,
    "input_tokens": 100,
    "output_tokens": 60,
    "input_token_details": {
        "cached_tokens": 30,
        "text_tokens": 60,
        "audio_tokens": 40,
        "image_tokens": 0,
        "cached_tokens_details": {"text_tokens": 20, "audio_tokens": 10, "image_tokens": 0},
    },
    "output_token_details": {"text_tokens": 15, "audio_tokens": 45},
}
BUCKETS = {
    "input_text": 40,
    "input_audio": 30,
    "cache_read_text": 20,
    "cache_read_audio": 10,
    "output_text": 15,
    "output_audio": 45,
}
CREATED: Any = {
    "type": "session.created",
    "session": {"model": "gpt-realtime", "audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}},
}
BEGUN: Any = {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress", "usage": None}}
DELTA: Any = {"type": "response.output_audio.delta", "response_id": "resp_1", "delta": "AAAA"}
DONE: Any = {"type": "response.done", "response": {"id": "resp_1", "status": "completed", "usage": USAGE}}
TRANSCRIBED: Any = {
    "type": "conversation.item.input_audio_transcription.completed",
    "transcript": 'She said "usage" and "session.',
    "usage": {
        "type": "tokens",
        "total_tokens": 35,
        "input_tokens": 26,
        "input_token_details": {"text_tokens": 0, "audio_tokens": 26},
        "output_tokens": 9,
    },
}
SESSION: Events = (CREATED, BEGUN, DELTA, TRANSCRIBED, DELTA, DONE)


class Sessions:
    """A server that says what a session has recorded, one after the other, and hangs up."""

    def __init__(self) -> None:
        self.known: dict[str, Events] = {"plain": SESSION}
        self.paths: list[str] = []
        self._server = serve(self._play, "127.0.0.1", 0)
        self.host = f"127.0.0.1:{self._server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def _play(self, socket: ServerConnection) -> None:
        request = socket.request
        assert request is not None
        self.paths.append(request.path)
        for event in self.known[parse_qs(urlsplit(request.path).query)["session"][0]]:
            socket.send(json.dumps(event, separators=(",", ":")))
        socket.close()

    def __enter__(self) -> Sessions:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.shutdown()
        self._thread.join()


@pytest.fixture(scope="module")
def sessions() -> Iterator[Sessions]:
    with Sessions() as running:
        yield running


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    """The library metered, into memory."""
    with metered(OpenAIInstrumentor) as kept:
        yield kept
        gc.collect()


@pytest.fixture
def client(sessions: Sessions) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"http://{sessions.host}/v1", websocket_base_url=f"ws://{sessions.host}/v1", api_key="sk-test"
    ) as made:
        yield made


def buckets(event: Mapping[str, Any]) -> dict[str, Any]:
    prefix = "genai_meter.usage."
    return {k.removeprefix(prefix): v for k, v in event.items() if k.startswith(prefix) and not k.endswith("source")}


def is_plain(found: list[Mapping[str, Any]]) -> None:
    """The two calls of the plain session."""
    transcription, answer = found
    assert (transcription["gen_ai.operation.name"], answer["gen_ai.operation.name"]) == ("transcription", "chat")
    assert transcription["gen_ai.request.model"] == "gpt-4o-transcribe"
    assert buckets(transcription) == {"input_audio": 26, "output": 9}
    assert buckets(answer) == BUCKETS
    assert (answer["gen_ai.response.model"], answer["gen_ai.response.id"]) == ("gpt-realtime", "resp_1")
    assert answer["genai_meter.cost.status"] == transcription["genai_meter.cost.status"] == "exact"
    # USD a million: text 4, cached 0.40, out 16; audio 32, cached 0.40, out 64.
    assert answer["genai_meter.cost.effective"] == (
        40 * 4_000_000 + 30 * 400_000 + 30 * 32_000_000 + 15 * 16_000_000 + 45 * 64_000_000
    )
    assert {event["genai_meter.status"] for event in found} == {"ok"}


# --- ways of receiving
def by_iterating(connection: Any) -> int:
    return sum(1 for _ in connection)


def by_recv(connection: Any) -> int:
    return sum(1 for _ in SESSION if connection.recv())


def by_raw_bytes(connection: Any) -> int:
    return sum(1 for _ in SESSION if isinstance(connection.recv_bytes(), bytes))


def by_handlers(connection: Any) -> int:
    seen: list[Any] = []
    connection.on("event", seen.append)
    connection.dispatch_events()
    return len(seen)


@pytest.mark.parametrize("receive", [by_iterating, by_recv, by_raw_bytes, by_handlers])
def test_an_answer_and_a_transcription_are_a_call_each(
    telemetry: Telemetry, client: openai.OpenAI, sessions: Sessions, receive: Callable[[Any], int]
) -> None:
    with (
        attribute(tenant="acme"),
        client.realtime.connect(model="gpt-realtime", extra_query={"session": "plain"}) as connection,
    ):
        assert type(connection) is RealtimeConnection
        assert vars(connection).keys() & {"genai_meter"} == set()
        assert telemetry.take() == []
        assert receive(connection) == len(SESSION)
        found = telemetry.take()
        is_plain(found)
        assert {event["genai_meter.tenant"] for event in found} == {"acme"}
        assert {event["server.address"] for event in found} == {"127.0.0.1"}
    assert telemetry.take() == []


async def test_in_coroutines(telemetry: Telemetry, sessions: Sessions) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"http://{sessions.host}/v1", websocket_base_url=f"ws://{sessions.host}/v1", api_key="sk-test"
    ) as client:
        connecting = client.realtime.connect(model="gpt-realtime", extra_query={"session": "plain"})
        async with connecting as connection:
            assert type(connection) is AsyncRealtimeConnection
            assert [event.type async for event in connection] == [event["type"] for event in SESSION]
        is_plain(telemetry.take())
        connection = await client.realtime.connect(model="gpt-realtime", extra_query={"session": "plain"}).enter()
        received: list[RealtimeServerEvent] = [await connection.recv() for _ in SESSION]
        assert received[-1].type == "response.done"
        await connection.close()
        is_plain(telemetry.take())


async def test_a_cancelled_receiver(telemetry: Telemetry, sessions: Sessions) -> None:
    sessions.known["quiet"] = (CREATED,)
    async with openai.AsyncOpenAI(websocket_base_url=f"ws://{sessions.host}/v1", api_key="sk-test") as client:
        async with client.realtime.connect(model="gpt-realtime", extra_query={"session": "plain"}) as connection:
            received: list[RealtimeServerEvent] = []
            # On a machine that is busy the first event may be there already.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0):
                    received.append(await connection.recv())
            received += [event async for event in connection]
            assert [event.type for event in received] == [event["type"] for event in SESSION]
        is_plain(telemetry.take())


def test_the_older_entry(telemetry: Telemetry, client: openai.OpenAI) -> None:
    beta: Any = client.beta
    with beta.realtime.connect(model="gpt-realtime", extra_query={"session": "plain"}) as connection:
        assert sum(1 for _ in connection) == len(SESSION)
    is_plain(telemetry.take())


def test_azure_names_its_deployment(telemetry: Telemetry, sessions: Sessions) -> None:
    sessions.known["azure"] = (
        {"type": "session.created", "session": {"model": "gpt-realtime-global-standard"}},
        BEGUN,
        DONE,
    )
    client = openai.AzureOpenAI(
        azure_endpoint=f"http://{sessions.host}",
        websocket_base_url=f"ws://{sessions.host}/openai",
        api_key="k",
        api_version="2025-08-28",
    )
    with client, client.realtime.connect(model="voice", extra_query={"session": "azure"}) as connection:
        assert sum(1 for _ in connection) == 3
    (event,) = telemetry.take()
    assert (event["gen_ai.provider.name"], event["gen_ai.request.model"]) == ("azure.ai.openai", "voice")
    assert (event["gen_ai.response.model"], event["genai_meter.cost.status"]) == ("gpt-realtime", "exact")


# --- ends
def test_a_session_that_is_left_in_an_answer(telemetry: Telemetry, client: openai.OpenAI, sessions: Sessions) -> None:
    """The provider bills what it generated and tells nobody: a call of unknown usage, no call of nothing."""
    sessions.known["cut"] = SESSION[:3]
    with client.realtime.connect(model="gpt-realtime", extra_query={"session": "cut"}) as connection:
        assert sum(1 for _ in connection) == 3
    del connection
    gc.collect()
    (event,) = telemetry.take()
    assert (event["genai_meter.status"], event["genai_meter.usage.source"]) == ("abandoned", "unknown")
    assert (event["gen_ai.response.id"], event["gen_ai.response.model"]) == ("resp_1", "gpt-realtime")


def test_an_answer_that_was_refused(telemetry: Telemetry, client: openai.OpenAI, sessions: Sessions) -> None:
    error = {"type": "failed", "error": {"type": "invalid_request_error", "code": "inference_rate_limit_exceeded"}}
    failed = {"id": "resp_1", "status": "failed", "status_details": error, "usage": None}
    sessions.known["failed"] = (CREATED, BEGUN, {"type": "response.done", "response": failed})
    with client.realtime.connect(model="gpt-realtime", extra_query={"session": "failed"}) as connection:
        assert sum(1 for _ in connection) == 3
    (event,) = telemetry.take()
    assert (event["genai_meter.status"], event["error.type"]) == ("error", "inference_rate_limit_exceeded")


def test_the_time_of_an_answer_is_its_own(telemetry: Telemetry, client: openai.OpenAI, sessions: Sessions) -> None:
    """From its begin to its end as they came, however long the session had been open."""
    before = time.time_ns()
    with client.realtime.connect(model="gpt-realtime", extra_query={"session": "plain"}) as connection:
        time.sleep(0.3)
        after = time.time_ns()
        assert sum(1 for _ in connection) == len(SESSION)
    _, answer = telemetry.take()
    assert before < after <= answer["genai_meter.start"] <= answer["genai_meter.end"] <= time.time_ns()


def test_an_instrumentor_that_was_removed(telemetry: Telemetry, client: openai.OpenAI) -> None:
    OpenAIInstrumentor().uninstrument()
    with client.realtime.connect(model="gpt-realtime", extra_query={"session": "plain"}) as connection:
        assert sum(1 for _ in connection) == len(SESSION)
    assert telemetry.take() == []
    OpenAIInstrumentor().instrument()


@pytest.mark.parametrize("broken", ["opened", "received", "Session"])
def test_what_breaks_in_the_meter_is_no_matter_of_the_session(
    telemetry: Telemetry, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise RuntimeError("chaos")

    monkeypatch.setattr(websockets, broken, fail)
    with client.realtime.connect(model="gpt-realtime", extra_query={"session": "plain"}) as connection:
        assert [event.type for event in connection] == [event["type"] for event in SESSION]
    assert telemetry.events == []
    assert safety.internal_errors
    safety.internal_errors.clear()


def test_messages_that_make_no_sense(telemetry: Telemetry, client: openai.OpenAI, sessions: Sessions) -> None:
    sessions.known["odd"] = (
        {"type": "session.created", "session": None},
        {"type": "response.created", "response": None},
        {"type": "response.done", "response": {"id": 7, "usage": "none"}},
        {"type": 3, "usage": {}},
    )
    with client.realtime.connect(model="gpt-realtime", extra_query={"session": "odd"}) as connection:
        assert sum(1 for _ in connection) == 4
    assert [event["genai_meter.usage.source"] for event in telemetry.take()] == ["unknown"]


# --- responses over a websocket
def test_responses_over_a_websocket(telemetry: Telemetry, client: openai.OpenAI, sessions: Sessions) -> None:
    answer = {
        "id": "resp_2",
        "model": "gpt-5.2-2025-12-11",
        "status": "completed",
        "service_tier": "default",
        "output": [{"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}}],
        "usage": {"input_tokens": 7, "output_tokens": 11, "total_tokens": 18},
    }
    sessions.known["responses"] = (
        {"type": "response.created", "response": {"id": "resp_2", "status": "in_progress"}},
        {"type": "response.output_text.delta", "delta": "Hi"},
        {"type": "response.completed", "response": answer},
    )
    with client.responses.connect(extra_query={"session": "responses"}) as connection:
        assert sum(1 for _ in connection) == 3
    (event,) = telemetry.take()
    assert (event["genai_meter.id_family"], event["gen_ai.response.id"]) == ("openai.response", "resp_2")
    assert buckets(event) == {"input": 7, "output": 11, "web_search": 1}
    # 1.75 and 14 USD a million tokens, 10 USD a thousand searches.
    assert event["genai_meter.cost.effective"] == 7 * 1_750_000 + 11 * 14_000_000 + 10_000_000_000
    assert event["genai_meter.cost.status"] == "exact"


# --- recorded sessions
TRUTH = {
    "input_tokens": ("input_text", "input_audio", "input_image", "cache_read_text", "cache_read_audio", "input"),
    "output_tokens": ("output_text", "output_audio", "output"),
    "cache_read": ("cache_read_text", "cache_read_audio", "cache_read_image", "cache_read"),
    "audio_in": ("input_audio", "cache_read_audio"),
    "audio_out": ("output_audio",),
    "cached_audio": ("cache_read_audio",),
    "audio_seconds": ("audio_seconds_in",),
}
"""Count of the recordings → the buckets that are it."""


def test_recorded_sessions(
    telemetry: Telemetry,
    client: openai.OpenAI,
    sessions: Sessions,
    traffic: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Every session of the OpenAI format that was recorded: calls and usage equal to what it told."""
    file = traffic / "extra.dev.jsonl.gz"
    if not file.exists():
        pytest.skip(f"{file} is not there")
    with gzip.open(file) as opened:
        lines = [json.loads(line) for line in opened]
    table: dict[tuple[str, str], list[int]] = {}
    for recorded in lines:
        if recorded["kind"] != "websocket" or recorded["provider"] == "gcp.gemini":
            continue
        said = [event["data"] for event in recorded["events"] if event["direction"] == "received"]
        sessions.known[recorded["id"]] = said
        with client.realtime.connect(model="gpt-realtime", extra_query={"session": recorded["id"]}) as connection:
            assert sum(1 for _ in connection) == len(said)
        found = telemetry.take()
        # A truth that tells nothing is a mention of usage in an event that has none.
        truths = [truth for truth in recorded["usage_truth"] if any(truth.get(name) for name in TRUTH)]
        assert len(found) == len(truths), recorded["id"]
        for event, truth in zip(found, truths, strict=True):
            told = buckets(event)
            for name, parts in TRUTH.items():
                assert (truth.get(name) or 0) == sum(told.get(part, 0) for part in parts), (recorded["id"], name)
            priced = event["genai_meter.cost.status"]
            row = table.setdefault((recorded["provider"], event["gen_ai.operation.name"]), [0, 0, 0])
            row[0] += 1
            row[1] += priced == "exact"
            row[2] += priced == "unpriced"
    rows = [
        f"{provider:18}{operation:16}{row[0]:6}{row[0]:12}{row[1]:8}{row[2]:10}"
        for (provider, operation), row in table.items()
    ]
    heading = f"{'provider':18}{'operation':16}{'calls':>6}{'usage equal':>12}{'exact':>8}{'unpriced':>10}"
    record_property("table", "\n".join((heading, *rows)))
    assert sum(row[0] for row in table.values()) == 38
