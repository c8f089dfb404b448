"""Legacy text completions, of OpenAI and of compatible local servers."""

from __future__ import annotations

from collections.abc import Mapping

from genai_meter.dialects import openai_usage
from genai_meter.dialects.base import Dialect, Json, Reading, RequestView, fields
from genai_meter.dialects.openai_chat import MISSING, finish, head, note_error, parameters
from genai_meter.dialects.requests import chars, for_model, lower, whole
from genai_meter.usage import Usage


class OpenAICompletions(Dialect):
    """`POST /completions`."""

    name = "openai_completions"
    operation = "text_completion"
    id_family = "openai.completion"
    injects_usage = True

    def request(self, body: Mapping[str, Json]) -> RequestView:
        view = parameters(body)
        view.max_tokens = whole(body, "max_tokens")
        prompt = body.get("prompt")
        view.message_count = 1
        if prompt.__class__ is list and prompt and prompt[0].__class__ is not int:
            view.message_count = len(prompt)
        view.chars_by_role["user"] = chars(prompt, 2)
        return view

    def response(self, reading: Reading, payload: Json) -> None:
        answer = fields(payload)
        head(reading, answer)
        for choice in answer.get("choices") or ():
            told = fields(choice)
            reason, said = told.get("finish_reason"), told.get("text")
            if type(said) is str:
                reading.output_chars += len(said)
            reading.finish_reasons.append(reason if type(reason) is str else MISSING)
        if all(reason == MISSING for reason in reading.finish_reasons):
            reading.finish_reasons.clear()
        note_error(reading, answer)
        reading.terminal = True

    def chunk(self, reading: Reading, event: Json) -> None:
        told = event if event.__class__ is dict else event.__dict__
        if reading.model is None or told.get("usage") is not None:
            head(reading, fields(event))
        for choice in told.get("choices") or ():
            part = choice if choice.__class__ is dict else choice.__dict__
            said = part.get("text")
            if said:
                reading.output_chars += len(said)
            index = part.get("index")
            if index:
                reading.scratch["choices"] = max(index + 1, reading.scratch.get("choices", 1))
            reason = part.get("finish_reason")
            if reason:
                finish(reading, index or 0, reason)
        if "error" in told:
            note_error(reading, told)

    def billed(self, reading: Reading) -> list[Usage]:
        return openai_usage.usages(reading)

    def apply(
        self, body: Mapping[str, Json], *, model: str | None = None, max_tokens: int | None = None
    ) -> dict[str, Json]:
        changed = for_model(body, model)
        if max_tokens is not None and not lower(changed, ("max_tokens",), max_tokens):
            # The default is 16; a bound that was not asked for must not raise it.
            changed["max_tokens"] = min(max_tokens, 16)
        return changed
