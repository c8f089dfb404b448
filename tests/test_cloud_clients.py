"""Clients of the clouds over the wire: below the seam they rename the model, the path and the framing."""

from __future__ import annotations

import json
import struct
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from zlib import crc32

import openai
import pytest
from anthropic.lib.bedrock import AnthropicBedrock
from anthropic.lib.vertex import AnthropicVertex
from emission_kit import Telemetry, metered
from genai_meter import emit
from genai_meter.instrumentor import AnthropicInstrumentor, OpenAIInstrumentor

SERVED = "claude-haiku-4-5-20251001"
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": SERVED,
    "content": [{"type": "text", "text": "north"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1000, "output_tokens": 10},
}
EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "north"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 10}},
    {"type": "message_stop"},
]
CHOICE = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "north"}}
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4.1-2025-04-14",
    "choices": [CHOICE],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010},
}
PROFILE = "global.anthropic.claude-haiku-4-5-20251001-v1:0"
ASK: Any = {"max_tokens": 50, "messages": [{"role": "user", "content": "Where to?"}]}


def aws_event(event: Mapping[str, Any]) -> bytes:
    """One event as `application/vnd.amazon.eventstream` frames it: prelude, headers, payload, two checksums."""
    payload = json.dumps({"bytes": b64encode(json.dumps(event).encode()).decode()}).encode()
    told = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    headers = b"".join(
        struct.pack(f">B{len(name)}sBH{len(value)}s", len(name), name.encode(), 7, len(value), value.encode())
        for name, value in told.items()
    )
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack(">I", crc32(prelude)) + headers + payload
    return message + struct.pack(">I", crc32(message))


def answer_to(path: str) -> tuple[str, bytes]:
    """Content type and body of the answer to a path."""
    if path.endswith("/invoke-with-response-stream"):
        return "application/vnd.amazon.eventstream", b"".join(aws_event(event) for event in EVENTS)
    if path.endswith(":streamRawPredict"):
        return "text/event-stream", b"".join(
            f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in EVENTS
        )
    return "application/json", json.dumps(CHAT if "/chat/completions" in path else MESSAGE).encode()


class Cloud(BaseHTTPRequestHandler):
    """Answers as the clouds do."""

    asked: list[tuple[str, dict[str, Any]]]

    def do_POST(self) -> None:
        self.asked.append((self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))
        content_type, body = answer_to(self.path)
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@pytest.fixture
def cloud() -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """Address of a cloud, and what it has been asked."""
    asked: list[tuple[str, dict[str, Any]]] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), type("OneCloud", (Cloud,), {"asked": asked})) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


@pytest.fixture(name="metered")
def both_metered() -> Iterator[Telemetry]:
    """Both libraries metered into memory, with a key for fingerprints."""
    with metered(OpenAIInstrumentor, AnthropicInstrumentor, HASH_KEY="k:0123456789abcdef") as pipeline:
        yield pipeline


def bedrock(url: str) -> Any:
    return AnthropicBedrock(aws_region="us-east-1", api_key="aws-key", base_url=url)


def vertex(url: str) -> Any:
    return AnthropicVertex(region="us-east5", project_id="project-1", access_token="token", base_url=f"{url}/v1")


def whole(client: Any, model: str) -> None:
    assert client.messages.create(model=model, **ASK).content[0].text == "north"


def beta(client: Any, model: str) -> None:
    assert client.beta.messages.create(model=model, **ASK).content[0].text == "north"


def stream(client: Any, model: str) -> None:
    kinds = [event.type for event in client.messages.create(model=model, stream=True, **ASK)]
    assert kinds == [event["type"] for event in EVENTS]


def helper(client: Any, model: str) -> None:
    with client.messages.stream(model=model, **ASK) as running:
        assert running.get_final_text() == "north"


VERTEX_PATH = "/v1/projects/project-1/locations/us-east5/publishers/anthropic/models/claude-haiku-4-5@20251001"


@pytest.mark.parametrize("ask", [whole, beta, stream, helper])
@pytest.mark.parametrize(
    ("make", "model", "expected", "paths", "pico"),
    [
        pytest.param(
            bedrock,
            PROFILE,
            {"gen_ai.provider.name": "aws.bedrock", "cloud.region": "us-east-1"},
            (f"/model/{PROFILE}/invoke", f"/model/{PROFILE}/invoke-with-response-stream"),
            1050 * 1_000_000,
            id="bedrock",
        ),
        pytest.param(
            vertex,
            "claude-haiku-4-5@20251001",
            {
                "gen_ai.provider.name": "gcp.vertex_ai",
                "cloud.region": "us-east5",
                "genai_meter.provider.account": "project-1",
            },
            (f"{VERTEX_PATH}:rawPredict", f"{VERTEX_PATH}:streamRawPredict"),
            1050 * 1_100_000,
            id="vertex",
        ),
    ],
)
def test_claude_in_a_cloud(
    metered: Telemetry,
    cloud: tuple[str, list[tuple[str, dict[str, Any]]]],
    make: Callable[[str], Any],
    model: str,
    expected: dict[str, Any],
    paths: tuple[str, str],
    pico: int,
    ask: Callable[[Any, str], None],
) -> None:
    streamed = ask in (stream, helper)
    if streamed and make is bedrock:
        pytest.importorskip("botocore", reason="Bedrock's streams are framed by AWS; the client reads them by botocore")
    url, asked = cloud
    with make(url) as client:
        ask(client, model)
    emit.flush()
    ((path, body),) = asked
    assert path == paths[streamed]
    assert "model" not in body
    (event,) = metered.events
    assert {name: event.attributes.get(name) for name in expected} == expected
    assert event.attributes["gen_ai.request.model"] == model
    assert event.attributes["gen_ai.response.model"] == SERVED
    assert event.attributes["genai_meter.status"] == "ok"
    assert event.attributes["genai_meter.usage.source"] == "provider"
    assert event.attributes["gen_ai.usage.input_tokens"] == 1000
    assert event.attributes["gen_ai.usage.output_tokens"] == 10
    assert event.attributes["genai_meter.cost.effective"] == pico
    assert [span.name for span in metered.spans] == [f"chat {model}"]


@pytest.mark.parametrize(
    ("options", "path", "deployment", "key"),
    [
        ({"api_key": "azure-key"}, "/openai/deployments/mine/chat/completions", None, True),
        (
            {"azure_ad_token": "token", "azure_deployment": "prod"},
            "/openai/deployments/prod/chat/completions",
            "prod",
            False,
        ),
    ],
)
def test_azure(
    metered: Telemetry,
    cloud: tuple[str, list[tuple[str, dict[str, Any]]]],
    options: dict[str, Any],
    path: str,
    deployment: str | None,
    key: bool,
) -> None:
    url, asked = cloud
    with openai.AzureOpenAI(azure_endpoint=url, api_version="2024-10-21", **options) as client:
        client.chat.completions.create(model="mine", messages=ASK["messages"])
    ((called, _),) = asked
    assert called == f"{path}?api-version=2024-10-21"
    (event,) = metered.events
    told = event.attributes
    assert told["gen_ai.provider.name"] == "azure.ai.openai"
    assert (told["gen_ai.request.model"], told["gen_ai.response.model"]) == ("mine", "gpt-4.1-2025-04-14")
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (1000, 10)
    assert told.get("genai_meter.deployment") == deployment
    # A client with a token has a placeholder for a key, which is nobody's.
    assert ("genai_meter.api_key.fingerprint" in told) is key
