"""Anthropic's legacy text completions: no usage is reported."""

from __future__ import annotations

from collections.abc import Mapping

from genai_meter.dialects.base import Dialect, Json, Reading, RequestView, fields
from genai_meter.dialects.requests import chars, number, strings, text, whole


class AnthropicCompletions(Dialect):
    """`POST /v1/complete`."""

    name = "anthropic_completions"
    operation = "text_completion"
    id_family = "anthropic.completion"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        view = RequestView(
            model=text(body, "model"),
            stream=body.get("stream") is True,
            max_tokens=whole(body, "max_tokens_to_sample"),
            temperature=number(body, "temperature"),
            top_p=number(body, "top_p"),
            top_k=whole(body, "top_k"),
            stop_sequences=strings(body, "stop_sequences"),
            message_count=1,
        )
        view.chars_by_role["user"] = chars(body.get("prompt"), 1)
        return view

    def response(self, reading: Reading, payload: Json) -> None:
        self.chunk(reading, payload)
        reading.terminal = True

    def chunk(self, reading: Reading, event: Json) -> None:
        told = fields(event)
        reading.response_id = reading.response_id or text(told, "id") or None
        reading.model = reading.model or text(told, "model") or None
        said = told.get("completion")
        if type(said) is str:
            reading.output_chars += len(said)
        reason = told.get("stop_reason")
        if type(reason) is str:
            reading.finish_reasons = [reason]
            reading.terminal = True
