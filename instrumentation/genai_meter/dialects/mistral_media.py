"""Mistral's transcriptions, and what classifies texts."""

from __future__ import annotations

from collections.abc import Mapping

from genai_meter.dialects import openai_usage
from genai_meter.dialects.base import Json, Reading, RequestView, fields
from genai_meter.dialects.buckets import quantity
from genai_meter.dialects.openai_audio import OpenAITranscriptions
from genai_meter.dialects.openai_embeddings import OpenAIEmbeddings
from genai_meter.dialects.requests import chars, size, text
from genai_meter.usage import Usage


class MistralTranscriptions(OpenAITranscriptions):
    """`POST /v1/audio/transcriptions`: tokens are told, but billed are the seconds of audio."""

    name = "mistral_transcriptions"
    id_family = "mistral.transcription"

    def chunk(self, reading: Reading, event: Json) -> None:
        told = fields(event)
        kind = told.get("type")
        if kind == "transcription.text.delta":
            reading.output_chars += chars(told.get("text"), 1)
        elif kind == "transcription.done":
            self.response(reading, told)

    def response(self, reading: Reading, payload: Json) -> None:
        super().response(reading, payload)
        if not self._seconds(reading):
            return
        counted = openai_usage.tally(reading.usage)
        if counted is not None:
            tokens = counted.usage()
            reading.processed = {"input_tokens": tokens.input_tokens, "output_tokens": tokens.output_tokens}

    def billed(self, reading: Reading) -> list[Usage]:
        seconds = self._seconds(reading)
        return [Usage({"audio_seconds_in": seconds})] if seconds else super().billed(reading)

    def _seconds(self, reading: Reading) -> Json:
        return quantity(fields(reading.usage).get("prompt_audio_seconds"))


class MistralModerations(OpenAIEmbeddings):
    """`POST /v1/moderations` and `/v1/chat/moderations`: input only, and not free."""

    name = "mistral_moderations"
    operation = "moderation"
    id_family = "mistral.moderation"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        given = body.get("input")
        view = RequestView(model=text(body, "model"), message_count=size(body, "input") or 1)
        view.chars_by_role["user"] = chars(given)
        return view


class MistralClassifications(MistralModerations):
    """`POST /v1/classifications` and `/v1/chat/classifications`: classifiers of one's own."""

    name = "mistral_classifications"
    operation = "classification"
    id_family = "mistral.classification"
