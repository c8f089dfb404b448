"""Images: generations, edits, variations. Newer models bill tokens, older ones images."""

from __future__ import annotations

from collections.abc import Mapping

from genai_meter.dialects import openai_usage
from genai_meter.dialects.base import Dialect, Json, Reading, RequestView, fields
from genai_meter.dialects.requests import chars, text, whole
from genai_meter.usage import Usage


class OpenAIImages(Dialect):
    """`POST /images/generations`, `/images/edits`, `/images/variations`."""

    name = "openai_images"
    operation = "image"
    id_family = "openai.image"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        view = RequestView(
            model=text(body, "model"),
            stream=body.get("stream") is True,
            choice_count=whole(body, "n"),
            output_type="image",
        )
        view.chars_by_role["user"] = chars(body.get("prompt"), 1)
        for key in ("quality", "size"):
            value = text(body, key)
            if value is not None and len(value) <= 32:
                view.context[f"image_{key}"] = value
        return view

    def response(self, reading: Reading, payload: Json) -> None:
        answer = fields(payload)
        reading.model = text(answer, "model") or None
        images = answer.get("data")
        reading.scratch["images"] = len(images) if images else 0
        self._end(reading, answer)

    def chunk(self, reading: Reading, event: Json) -> None:
        told = event if event.__class__ is dict else event.__dict__
        kind = told.get("type")
        if type(kind) is str and kind.endswith(".completed"):
            reading.scratch["images"] = reading.scratch.get("images", 0) + 1
            self._end(reading, fields(event))

    def billed(self, reading: Reading) -> list[Usage]:
        images = reading.scratch.get("images", 0)
        if reading.usage is None:
            return [Usage({"images": images})] if images else []
        told = fields(reading.usage)
        result = openai_usage.image_tally(told)
        if result is None:
            return [Usage({"images": images})] if images else []
        found = [result.usage()]
        drawing = reading.scratch.get("svg_usage")
        if drawing is not None and (authored := openai_usage.tally(drawing)) is not None:
            found.append(authored.usage(text(fields(drawing), "model")))
        return found

    def _end(self, reading: Reading, answer: Mapping[str, Json]) -> None:
        usage = answer.get("usage")
        if usage is not None:
            reading.usage = usage
            openai_usage.evidence(reading, usage)
        if answer.get("svg_usage") is not None:
            reading.scratch["svg_usage"] = answer["svg_usage"]
        if usage is not None or reading.scratch.get("images"):
            reading.fidelity = "final"
        reading.terminal = True
