"""Moderations: free of charge, and no usage is reported."""

from __future__ import annotations

from collections.abc import Mapping

from genai_meter.dialects.base import Dialect, Json, Reading, RequestView, fields
from genai_meter.dialects.requests import chars, size, text


class OpenAIModerations(Dialect):
    """`POST /moderations`."""

    name = "openai_moderations"
    operation = "moderation"
    id_family = "openai.moderation"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        given = body.get("input")
        view = RequestView(model=text(body, "model"))
        view.message_count = size(body, "input") or 1
        view.chars_by_role["user"] = chars(given)
        return view

    def response(self, reading: Reading, payload: Json) -> None:
        answer = fields(payload)
        reading.response_id = text(answer, "id") or None
        reading.model = text(answer, "model") or None
        reading.terminal = True

    def chunk(self, reading: Reading, event: Json) -> None:
        self.response(reading, event)
