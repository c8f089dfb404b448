"""Google's Interactions API, and the decisions that report their usage in the same words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from genai_meter.dialects import openai_usage
from genai_meter.dialects.base import Dialect, Json, Reading, RequestView, fields
from genai_meter.dialects.buckets import AUDIO, IMAGE, NONE, TEXT, VIDEO, Tally, count
from genai_meter.dialects.gemini import tier_of
from genai_meter.dialects.requests import ROLES, bound_in, chars, for_model, items, number, size, strings, text, whole
from genai_meter.usage import Usage

_MODALITIES: Final = {TEXT: TEXT, IMAGE: IMAGE, VIDEO: VIDEO, AUDIO: AUDIO}
_TOTALS: Final = ("total_input_tokens", "total_output_tokens")
_GROUNDING: Final = {"google_search": "web_search", "google_maps": "maps_search", "retrieval": "file_search"}
"""Tool that grounds an answer → bucket of its uses."""
_WORKING: Final = frozenset({"in_progress", "queued"})
_STEPS: Final = {
    "user_input": "user",
    "model_output": "assistant",
    "thought": "assistant",
    "function_call": "assistant",
    "function_result": "tool",
}
"""Step of a replayed conversation → role."""


class GoogleInteractions(Dialect):
    """`POST …/interactions`."""

    name = "google_interactions"
    operation = "chat"
    id_family = "google.interaction"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        config = fields(body.get("generation_config"))
        view = RequestView(
            # An agent stands in the model's place, and has its price.
            model=text(body, "model") or text(body, "agent"),
            stream=body.get("stream") is True,
            max_tokens=whole(config, "max_output_tokens"),
            temperature=number(config, "temperature"),
            top_p=number(config, "top_p"),
            seed=whole(config, "seed"),
            stop_sequences=strings(config, "stop_sequences"),
            reasoning_level=text(config, "thinking_level"),
            previous_response_id=text(body, "previous_interaction_id"),
            background=body.get("background") is True,
            tool_count=size(body, "tools"),
        )
        tier = tier_of(body.get("service_tier"))
        if tier is not None:
            view.service_tier = view.context["service_tier"] = tier
        if body.get("system_instruction") is not None:
            view.chars_by_role["system"] = chars(body["system_instruction"])
        _input(view, body.get("input"))
        return view

    def response(self, reading: Reading, payload: Json) -> None:
        answer = fields(payload)
        if not reading.response_id:
            reading.response_id = text(answer, "id") or None
        reading.model = text(answer, "model") or text(answer, "agent") or reading.model
        status = answer.get("status")
        if isinstance(status, str):
            reading.terminal = status not in _WORKING
            reading.finish_reasons = [status[:64]]
            if status == "failed":
                reading.error_type = status
        tier = tier_of(answer.get("service_tier"))
        if tier is not None:
            reading.service_tier = reading.context["service_tier"] = tier
        self._usage(reading, answer.get("usage"))
        for step in answer.get("steps") or answer.get("outputs") or ():
            _step(reading, fields(step))

    def chunk(self, reading: Reading, event: Json) -> None:
        told = event if event.__class__ is dict else fields(event)
        kind = told.get("event_type")
        delta = told.get("delta")
        if delta is not None:
            said = fields(delta).get("text")
            if type(said) is str:
                reading.output_chars += len(said)
            self._usage(reading, fields(told.get("metadata")).get("usage"))
        elif "interaction" in told and told["interaction"] is not None:
            # What a stream says of the whole interaction has no steps in it.
            self.response(reading, told["interaction"])
            reading.terminal = kind in ("interaction.completed", "interaction.complete")
        elif kind == "interaction.status_update":
            status = told.get("status")
            if isinstance(status, str) and status not in _WORKING:
                reading.finish_reasons = [status[:64]]
        elif kind in ("step.start", "content.start"):
            if fields(told.get("step", told.get("content"))).get("type") == "function_call":
                reading.tool_call_count += 1
        elif kind == "error":
            code = fields(told.get("error")).get("code")
            reading.error_type = str(code)[:64] if code else "_OTHER"
        if reading.terminal and reading.usage is not None:
            reading.fidelity = "final"

    def billed(self, reading: Reading) -> list[Usage]:
        if reading.usage is None:
            return []
        told = fields(reading.usage)
        if all(told.get(name) is None for name in _TOTALS):
            return []
        result = Tally()
        cached = count(told.get("total_cached_tokens"))
        result.input(
            count(told.get("total_input_tokens")),
            cached=cached,
            modalities=_by_modality(told.get("input_tokens_by_modality")),
            cached_modalities=_by_modality(told.get("cached_tokens_by_modality")) if cached else NONE,
        )
        result.add("tool_prompt", count(told.get("total_tool_use_tokens")))
        thoughts = count(told.get("total_thought_tokens", told.get("total_reasoning_tokens")))
        result.output(
            count(told.get("total_output_tokens")) + thoughts,
            reasoning=thoughts,
            modalities=_by_modality(told.get("output_tokens_by_modality")),
        )
        if not result.buckets and any(told.get(name) for name in _TOTALS):
            return []  # counts that are none
        for tool in items(told, "grounding_tool_count") or ():
            bucket = _GROUNDING.get(str(fields(tool).get("type")))
            if bucket is not None:
                result.add(bucket, count(fields(tool).get("count")))
        return [result.usage()]

    def apply(
        self, body: Mapping[str, Json], *, model: str | None = None, max_tokens: int | None = None
    ) -> dict[str, Json]:
        changed = for_model(body, model)
        if model is not None:
            # A request names one of the two.
            changed.pop("agent", None)
            changed.pop("agent_config", None)
        if max_tokens is not None:
            bound_in(changed, "generation_config", "max_output_tokens", max_tokens)
        return changed

    def _usage(self, reading: Reading, usage: Json) -> None:
        if usage is not None:
            reading.usage = usage
            # Deltas count what has been generated so far.
            reading.fidelity = "final" if reading.terminal else "partial"


class GoogleDecisions(GoogleInteractions):
    """`POST …/decisions`: questions answered by a model that is read once."""

    name = "google_decisions"
    operation = "decision"
    id_family = "google.decision"

    def response(self, reading: Reading, payload: Json) -> None:
        reading.terminal = True
        self._usage(reading, fields(payload).get("usage"))

    def billed(self, reading: Reading) -> list[Usage]:
        # The path is OpenAI's, too.
        return super().billed(reading) or openai_usage.usages(reading)

    def apply(
        self, body: Mapping[str, Json], *, model: str | None = None, max_tokens: int | None = None
    ) -> dict[str, Json]:
        del max_tokens  # a decision is as long as its questions want it
        return for_model(body, model)


def _by_modality(details: Json) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for detail in details if details.__class__ is list else ():
        told = fields(detail)
        modality = told.get("modality")
        named = _MODALITIES.get(modality.lower()) if isinstance(modality, str) else None
        tokens = count(told.get("tokens"))
        if named is not None and tokens:
            found[named] = found.get(named, 0) + tokens
    return found


def _input(view: RequestView, given: Json) -> None:
    """Sizes of the input: a text, contents, turns or steps."""
    sizes = view.chars_by_role
    if isinstance(given, str):
        view.message_count = 1
        sizes["user"] = len(given)
        return
    several = items({"input": given}, "input")
    if several is None:
        several = [given] if given is not None else []
    view.message_count = len(several)
    for one in several:
        told = fields(one)
        role = ROLES.get(str(told.get("role"))) or _STEPS.get(str(told.get("type")), "user")
        said = told.get("text", told.get("content", told.get("result")))
        sizes[role] = sizes.get(role, 0) + chars(said)


def _step(reading: Reading, step: Mapping[str, Json]) -> None:
    if step.get("type") == "function_call":
        reading.tool_call_count += 1
        return
    # The first versions told contents without steps around them.
    for content in step.get("content") or (step,):
        said = fields(content).get("text")
        if type(said) is str:
            reading.output_chars += len(said)
