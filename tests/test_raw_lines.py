"""Streams of one JSON object a line, read by the caller as bytes."""

from __future__ import annotations

import json

import httpx2
import openai
from emission_kit import metered
from genai_meter import emit
from genai_meter.instrumentor import OpenAIInstrumentor

HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def test_a_broken_line_spoils_no_other() -> None:
    choice = {"index": 0, "delta": {"content": "ok"}, "finish_reason": "stop"}
    said, counted = json.dumps({**HEAD, "choices": [choice]}), json.dumps({**HEAD, "choices": [], "usage": USAGE})
    body = f'{said}\n{{"id": \n{counted}\n'.encode()

    def answer(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(
            200, headers={"content-type": "application/x-ndjson"}, content=iter([body[:50], body[50:]])
        )

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    client = openai.OpenAI(base_url="https://gateway.example/v1", api_key="sk-test", http_client=http, max_retries=0)
    with metered(OpenAIInstrumentor) as telemetry, client:
        completions = client.chat.completions.with_streaming_response
        with completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "Where to?"}], stream=True
        ) as response:
            assert b"".join(response.iter_bytes()) == body
        emit.flush()
    (event,) = telemetry.events
    told = event.attributes
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (3, 4)
    assert (told["genai_meter.status"], told["genai_meter.usage.source"]) == ("ok", "provider")
