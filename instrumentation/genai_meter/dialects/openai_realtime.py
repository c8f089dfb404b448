"""Realtime sessions: one `response.done` event is one billed answer, one transcription another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from genai_meter.dialects import openai_usage
from genai_meter.dialects.base import Dialect, Json, Reading, RequestView, fields
from genai_meter.dialects.buckets import quantity
from genai_meter.dialects.requests import text
from genai_meter.usage import Usage

XAI_VOICE: Final = (("billable_audio_seconds", "audio_seconds"), ("input_text_messages", "messages_in"))
"""What xAI bills in the place of the tokens, which cost nothing."""


class OpenAIRealtime(Dialect):
    """Events of a session; the request is the session's configuration."""

    name = "openai_realtime"
    operation = "chat"
    id_family = "openai.realtime"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        session = fields(body.get("session", body))
        return RequestView(model=text(session, "model"), stream=True)

    def response(self, reading: Reading, payload: Json) -> None:
        self.chunk(reading, payload)

    def chunk(self, reading: Reading, event: Json) -> None:
        told = fields(event)
        kind = told.get("type")
        if kind == "response.done":
            answer = fields(told.get("response"))
            reading.response_id = text(answer, "id") or reading.response_id
            reading.model = text(answer, "model") or reading.model
            status = text(answer, "status")
            if status is not None:
                reading.finish_reasons = [status]
            if status == "failed":
                error = fields(fields(answer.get("status_details")).get("error"))
                reading.error_type = text(error, "code") or text(error, "type") or "_OTHER"
            self._end(reading, answer.get("usage") or told.get("usage"))
        elif kind == "conversation.item.input_audio_transcription.completed":
            # Billed beside the answers, by the session's transcription model.
            self._end(reading, told.get("usage"))
        elif kind == "session.created":
            reading.model = text(fields(told.get("session")), "model")

    def billed(self, reading: Reading) -> list[Usage]:
        told = fields(reading.usage)
        seconds = quantity(told.get("seconds"))
        if seconds:
            return [Usage({"audio_seconds_in": seconds})]
        found = openai_usage.usages(reading)
        if found:
            for name, bucket in XAI_VOICE:
                if amount := quantity(told.get(name)):
                    found[0].buckets[bucket] = amount
        return found

    def _end(self, reading: Reading, usage: Json) -> None:
        if usage is not None:
            reading.usage = usage
            reading.fidelity = "final"
        reading.terminal = True
