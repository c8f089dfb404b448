"""Mistral's conversations: a model or an agent answers, and may use connectors on the way.

What connectors put before the model is told beside the prompt and billed as input; each use of a connector
is billed, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from genai_meter.dialects.base import Dialect, Json, Reading, RequestView, fields
from genai_meter.dialects.buckets import Tally, count
from genai_meter.dialects.mistral_chat import said
from genai_meter.dialects.requests import bound_in, by_role, chars, for_model, items, number, size, strings, text, whole
from genai_meter.usage import Usage

CONNECTORS: Final = {
    "web_search": "web_search",
    "web_search_premium": "web_search",
    "code_interpreter": "code_exec",
    "document_library": "file_search",
    "image_generation": "images",
}
"""Built-in connector → bucket of its uses."""


class MistralConversations(Dialect):
    """`POST /v1/conversations`, and what appends to one or restarts it."""

    name = "mistral_conversations"
    operation = "chat"
    id_family = "mistral.conversation"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        bounds = fields(body.get("completion_args"))
        view = RequestView(
            model=text(body, "model"),
            stream=body.get("stream") is True,
            max_tokens=whole(bounds, "max_tokens"),
            temperature=number(bounds, "temperature"),
            top_p=number(bounds, "top_p"),
            seed=whole(bounds, "random_seed"),
            frequency_penalty=number(bounds, "frequency_penalty"),
            presence_penalty=number(bounds, "presence_penalty"),
            stop_sequences=strings(bounds, "stop"),
            tool_count=size(body, "tools"),
        )
        entries = items(body, "inputs")
        if entries is not None:
            view.message_count = len(entries)
            by_role(entries, view.chars_by_role)
        else:
            view.message_count = 1
            view.chars_by_role["user"] = chars(body.get("inputs"), 1)
        instructions = chars(body.get("instructions"), 1)
        if instructions:
            view.chars_by_role["system"] = view.chars_by_role.get("system", 0) + instructions
        return view

    def response(self, reading: Reading, payload: Json) -> None:
        answer = fields(payload)
        for entry in answer.get("outputs") or ():
            output = fields(entry)
            kind = output.get("type")
            if kind == "message.output":
                self._message(reading, output)
            elif kind == "function.call":
                reading.tool_call_count += 1
                reading.output_chars += chars(output.get("arguments"), 1)
        self._end(reading, answer)

    def chunk(self, reading: Reading, event: Json) -> None:
        told = fields(event)
        kind = told.get("type")
        if kind == "message.output.delta":
            self._message(reading, told)
        elif kind == "function.call.delta":
            if told.get("id") != reading.scratch.get("function"):
                reading.scratch["function"] = told.get("id")
                reading.tool_call_count += 1
            reading.output_chars += chars(told.get("arguments"), 1)
        elif kind == "conversation.response.done":
            self._end(reading, told)
        elif kind == "conversation.response.error":
            code = told.get("code")
            reading.error_type = str(code)[:64] if type(code) in (str, int) else "_OTHER"

    def billed(self, reading: Reading) -> list[Usage]:
        if reading.usage is None:
            return []
        told = fields(reading.usage)
        result = Tally()
        result.add("input", count(told.get("prompt_tokens")))
        result.add("tool_prompt", count(told.get("connector_tokens")))
        result.add("output", count(told.get("completion_tokens")))
        if not result.buckets and any(told.get(name) for name in ("prompt_tokens", "completion_tokens")):
            return []  # counts that are none
        for connector, uses in fields(told.get("connectors")).items():
            bucket = CONNECTORS.get(connector)
            if bucket is not None:
                result.add(bucket, count(uses))
        return [result.usage()]

    def apply(
        self, body: Mapping[str, Json], *, model: str | None = None, max_tokens: int | None = None
    ) -> dict[str, Json]:
        changed = for_model(body, model if "model" in body else None)
        if max_tokens is not None:
            bound_in(changed, "completion_args", "max_tokens", max_tokens)
        return changed

    def _message(self, reading: Reading, told: Mapping[str, Json]) -> None:
        reading.model = text(told, "model") or reading.model
        reading.response_id = text(told, "id") or reading.response_id
        content = told.get("content")
        if type(content) is str:
            reading.output_chars += len(content)
        elif content is not None:
            reading.output_chars += said(content if content.__class__ is list else [content])

    def _end(self, reading: Reading, told: Mapping[str, Json]) -> None:
        usage = told.get("usage")
        if usage is not None:
            reading.usage = usage
            reading.fidelity = "final"
        reading.terminal = True
