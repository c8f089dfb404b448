"""Mistral's chat, fill-in-the-middle and agents: OpenAI's format, but for content in parts and errors of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping

from genai_meter.dialects.base import Json, Reading, RequestView, fields, read
from genai_meter.dialects.openai_chat import OpenAIChat
from genai_meter.dialects.requests import chars, strings, text, whole


class MistralChat(OpenAIChat):
    """`POST /v1/chat/completions` as `mistralai` sends it."""

    name = "mistral_chat"
    injects_usage = False
    piece = re.compile(
        rb'\{"id":"[^"\\]*","object":"chat\.completion\.chunk","created":\d+,"model":"[^"\\]*","choices":'
        rb'\[\{"index":0,"delta":\{"content":"([^"\\]*)"\},"finish_reason":null\}\](?:,"p":"[^"\\]*")?\}'
    )

    def request(self, body: Mapping[str, Json]) -> RequestView:
        view = super().request(body)
        view.seed = whole(body, "random_seed")
        return view

    def response(self, reading: Reading, payload: Json) -> None:
        super().response(reading, payload)
        for choice in read(payload, "choices") or ():
            content = read(read(choice, "message"), "content")
            if content.__class__ is list:
                reading.output_chars += said(content)
        note_error(reading, payload)

    def chunk(self, reading: Reading, event: Json) -> None:
        super().chunk(reading, event)
        note_error(reading, event)

    def _in_parts(self, content: Json) -> int:
        return said(content) if content.__class__ is list else len(content)


class MistralFim(MistralChat):
    """`POST /v1/fim/completions`: a prompt and a suffix; the answer is a chat's."""

    name = "mistral_fim"
    operation = "text_completion"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        view = super().request(body)
        view.message_count = 1
        view.chars_by_role["user"] = chars(body.get("prompt"), 1) + chars(body.get("suffix"), 1)
        view.stop_sequences = strings(body, "stop")
        return view


class MistralAgents(MistralChat):
    """`POST /v1/agents/completions`: the agent knows its model, the answer tells it."""

    name = "mistral_agents"

    def apply(
        self, body: Mapping[str, Json], *, model: str | None = None, max_tokens: int | None = None
    ) -> dict[str, Json]:
        del model  # which one an agent uses is no matter of the request
        return super().apply(body, max_tokens=max_tokens)


def said(content: Json) -> int:
    """Characters of generated text in parts: text, and thoughts that have parts of their own."""
    total = 0
    for part in content:
        told = fields(part)
        thought = told.get("thinking")
        total += said(thought) if thought.__class__ is list else chars(told.get("text", thought), 1)
    return total


def note_error(reading: Reading, answer: Json) -> None:
    """An error inside a 200 answer, as Mistral tells it: `object: error` with a type and a code."""
    told = fields(answer)
    if told.get("object") == "error":
        kind = text(told, "type") or text(told, "code")
        reading.error_type = kind[:64] if kind else "_OTHER"
        # The library raises, and reads no further.
        reading.terminal = True
