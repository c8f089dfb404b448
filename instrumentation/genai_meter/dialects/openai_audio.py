"""Audio: speech, transcription, translation. Billed by tokens, seconds or characters, as the model is."""

from __future__ import annotations

from collections.abc import Mapping

from genai_meter.dialects import openai_usage
from genai_meter.dialects.base import Dialect, Json, Reading, RequestView, fields
from genai_meter.dialects.buckets import AUDIO, count, quantity
from genai_meter.dialects.requests import chars, number, text
from genai_meter.usage import Usage


class OpenAITranscriptions(Dialect):
    """`POST /audio/transcriptions`: tokens, or seconds of audio."""

    name = "openai_transcriptions"
    operation = "transcription"
    id_family = "openai.transcription"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        view = RequestView(
            model=text(body, "model"), stream=body.get("stream") is True, temperature=number(body, "temperature")
        )
        view.chars_by_role["user"] = chars(body.get("prompt"), 1)
        return view

    def response(self, reading: Reading, payload: Json) -> None:
        answer = fields(payload)
        reading.model = text(answer, "model") or None
        said = answer.get("text")
        reading.output_chars = len(said) if type(said) is str else 0
        self._end(reading, answer)

    def chunk(self, reading: Reading, event: Json) -> None:
        told = event if event.__class__ is dict else event.__dict__
        delta = told.get("delta")
        if type(delta) is str:
            reading.output_chars += len(delta)
        if told.get("type") == "transcript.text.done":
            self._end(reading, fields(event))

    def billed(self, reading: Reading) -> list[Usage]:
        seconds = reading.scratch.get("seconds", 0)
        result = openai_usage.tally(reading.usage) if reading.usage is not None else None
        if result is not None:
            return [result.usage()]
        return [Usage({"audio_seconds_in": seconds})] if seconds else []

    def _end(self, reading: Reading, answer: Mapping[str, Json]) -> None:
        usage = answer.get("usage")
        if usage is not None:
            reading.usage = usage
            openai_usage.evidence(reading, usage)
        # `verbose_json` without usage tells the duration beside the text.
        seconds = quantity(fields(usage).get("seconds")) or quantity(answer.get("duration"))
        if seconds:
            reading.scratch["seconds"] = seconds
        if usage is not None or seconds:
            reading.fidelity = "final"
        reading.terminal = True


class OpenAITranslations(OpenAITranscriptions):
    """`POST /audio/translations`."""

    name = "openai_translations"
    operation = "translation"
    id_family = "openai.translation"


class OpenAISpeech(Dialect):
    """`POST /audio/speech`. The answer is sound; what is billed are the characters of the request.

    The `gpt-…` models are billed by tokens instead, which only their event stream tells.
    """

    name = "openai_speech"
    operation = "speech"
    id_family = "openai.speech"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        view = RequestView(model=text(body, "model"), output_type="speech")
        view.stream = text(body, "stream_format") == "sse"
        view.chars_by_role["user"] = chars(body.get("input"), 1)
        view.chars_by_role["system"] = chars(body.get("instructions"), 1)
        return view

    def response(self, reading: Reading, payload: Json) -> None:
        answer = fields(payload)
        characters = count(answer.get("input_characters"))
        if characters:
            reading.scratch["characters"] = characters
        reading.scratch["spoken"] = True
        reading.fidelity = "final"
        reading.terminal = True

    def chunk(self, reading: Reading, event: Json) -> None:
        told = fields(event)
        if told.get("type") == "speech.audio.done":
            reading.usage = told.get("usage")
            self.response(reading, event)

    def usages(self, reading: Reading, request: RequestView) -> list[Usage]:
        if reading.usage is not None and (result := openai_usage.tally(reading.usage)) is not None:
            spoken = result.buckets.pop("output", 0)
            result.output(int(spoken), modalities={AUDIO: int(spoken)})
            return [result.usage()]
        if not reading.scratch.get("spoken") or (request.model or "").startswith("gpt"):
            return []
        characters = reading.scratch.get("characters", request.chars_by_role.get("user", 0))
        return [Usage({"chars_in": characters})] if characters else []
