"""Pictures and videos made by Google's models behind `:predict` and `:predictLongRunning`."""

from __future__ import annotations

from collections.abc import Mapping

from genai_meter.dialects.base import Dialect, Json, Reading, RequestView, fields
from genai_meter.dialects.requests import chars, for_model, items, text, whole
from genai_meter.usage import Usage


class GoogleImages(Dialect):
    """`POST …/models/imagen-…:predict`, and what edits, enlarges and cuts out pictures in the same way."""

    name = "google_images"
    operation = "image"
    id_family = "google.image"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        asked = fields(body.get("parameters"))
        several = items(body, "instances") or []
        view = RequestView(
            model=text(body, "model"),
            choice_count=whole(asked, "sampleCount"),
            output_type="image",
            message_count=len(several),
        )
        view.chars_by_role["user"] = sum(chars(fields(one).get("prompt"), 2) for one in several)
        for key, name in (("sampleImageSize", "image_size"), ("imageSize", "image_size"), ("mode", "image_mode")):
            value = text(asked, key)
            if value is not None and len(value) <= 32:
                view.context[name] = value
        return view

    def response(self, reading: Reading, payload: Json) -> None:
        # What a filter kept back is told beside the pictures and not billed.
        predictions = map(fields, items(fields(payload), "predictions") or [])
        made = sum(1 for one in predictions if one.get("bytesBase64Encoded") or one.get("gcsUri"))
        reading.scratch["images"] = made
        reading.terminal = True
        if made:
            reading.fidelity = "final"

    def chunk(self, reading: Reading, event: Json) -> None:
        self.response(reading, event)

    def billed(self, reading: Reading) -> list[Usage]:
        images = reading.scratch.get("images", 0)
        return [Usage({"images": images})] if images else []

    def apply(
        self, body: Mapping[str, Json], *, model: str | None = None, max_tokens: int | None = None
    ) -> dict[str, Json]:
        del max_tokens  # a picture has no bound
        return for_model(body, model)


class GoogleVideos(GoogleImages):
    """`POST …/models/veo-…:predictLongRunning`: the order is known, what it comes to is never told."""

    name = "google_videos"
    operation = "video"
    id_family = "google.video"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        view = super().request(body)
        view.output_type = "video"
        asked = fields(body.get("parameters"))
        seconds, resolution = whole(asked, "durationSeconds"), text(asked, "resolution")
        if seconds is not None:
            view.context["video_seconds"] = str(seconds)
        if resolution is not None and len(resolution) <= 32:
            view.context["video_resolution"] = resolution
        if type(asked.get("generateAudio")) is bool:
            view.context["video_audio"] = "true" if asked["generateAudio"] else "false"
        return view

    def response(self, reading: Reading, payload: Json) -> None:
        reading.response_id = text(fields(payload), "name")
        reading.terminal = True
