"""Gemini's Live API: the messages of a session, one turn of which is one billed answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from genai_meter.dialects.base import Dialect, Json, Reading, RequestView, fields
from genai_meter.dialects.buckets import NONE, Tally, count
from genai_meter.dialects.gemini import TRAFFIC_TIERS, add_grounding, by_modality, note_grounding, tier_of
from genai_meter.dialects.requests import for_model, text
from genai_meter.usage import Usage

_GROUNDING: Final = (
    "web_search_queries",
    "image_search_queries",
    "grounding_chunks",
    "google_maps_widget_context_token",
)


class GeminiLive(Dialect):
    """Messages as the client library parses them, in `snake_case`; the request is the session's."""

    name = "gemini_live"
    operation = "chat"
    id_family = "gemini.live"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        return RequestView(model=text(body, "model"), stream=True)

    def response(self, reading: Reading, payload: Json) -> None:
        self.chunk(reading, payload)

    def chunk(self, reading: Reading, event: Json) -> None:
        told = fields(event)
        content = fields(told.get("server_content"))
        if content:
            _content(reading, content)
        calls = fields(told.get("tool_call")).get("function_calls")
        if calls:
            reading.tool_call_count += len(calls)
        usage = told.get("usage_metadata")
        if usage is not None:
            # Each message that counts counts what the model was given and made since the last one.
            reading.scratch.setdefault("usages", []).append(usage)
            reading.usage = usage
            reading.fidelity = "final"
            counts = fields(usage)
            tier = tier_of(counts.get("service_tier")) or TRAFFIC_TIERS.get(_name(counts.get("traffic_type")))
            if tier is not None:
                reading.service_tier = reading.context["service_tier"] = tier

    def usages(self, reading: Reading, request: RequestView) -> list[Usage]:
        result = Tally()
        for usage in reading.scratch.get("usages", ()):
            told = fields(usage)
            cached = count(told.get("cached_content_token_count"))
            result.input(
                count(told.get("prompt_token_count")),
                cached=cached,
                modalities=by_modality(told.get("prompt_tokens_details"), "token_count"),
                cached_modalities=by_modality(told.get("cache_tokens_details"), "token_count") if cached else NONE,
            )
            result.add("tool_prompt", count(told.get("tool_use_prompt_token_count")))
            thoughts = count(told.get("thoughts_token_count"))
            result.output(
                count(told.get("response_token_count")) + thoughts,
                reasoning=thoughts,
                modalities=by_modality(told.get("response_tokens_details"), "token_count"),
            )
        if not result.buckets:
            return []
        add_grounding(result, reading, reading.model or request.model)
        return [result.usage()]

    def apply(
        self, body: Mapping[str, Json], *, model: str | None = None, max_tokens: int | None = None
    ) -> dict[str, Json]:
        del max_tokens  # belongs to the configuration of the session
        return for_model(body, model)


def _content(reading: Reading, content: Mapping[str, Json]) -> None:
    grounding = content.get("grounding_metadata")
    if grounding is not None:
        note_grounding(reading, fields(grounding), _GROUNDING)
    for part in fields(content.get("model_turn")).get("parts") or ():
        said = fields(part).get("text")
        if type(said) is str:
            reading.output_chars += len(said)
    spoken = fields(content.get("output_transcription")).get("text")
    if type(spoken) is str:
        reading.output_chars += len(spoken)
    if content.get("turn_complete"):
        reason = content.get("turn_complete_reason")
        reading.finish_reasons = [_name(reason) if reason is not None else "turn_complete"]
        reading.terminal = True
    elif content.get("interrupted"):
        reading.finish_reasons = ["interrupted"]


def _name(value: Json) -> str:
    """Of an enum's member, or the text itself."""
    return str(getattr(value, "value", value))[:64]
