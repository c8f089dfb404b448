"""Ollama's native API. Local models have no price, but tokens are tokens."""

from __future__ import annotations

from collections.abc import Mapping

from genai_meter.dialects.base import Dialect, Json, Reading, RequestView, fields
from genai_meter.dialects.buckets import Tally, count
from genai_meter.dialects.requests import bound_in, by_role, chars, for_model, items, number, size, text, whole
from genai_meter.usage import Usage


class Ollama(Dialect):
    """`POST /api/chat`."""

    name = "ollama"
    operation = "chat"
    id_family = "ollama"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        options = fields(body.get("options"))
        view = RequestView(
            model=text(body, "model"),
            stream=body.get("stream") is not False,
            max_tokens=whole(options, "num_predict"),
            temperature=number(options, "temperature"),
            top_p=number(options, "top_p"),
            top_k=whole(options, "top_k"),
            seed=whole(options, "seed"),
            tool_count=size(body, "tools"),
        )
        messages = items(body, "messages")
        if messages is not None:
            view.message_count = len(messages)
            by_role(messages, view.chars_by_role)
        else:
            view.chars_by_role["user"] = chars(body.get("prompt"), 1)
        return view

    def response(self, reading: Reading, payload: Json) -> None:
        self.chunk(reading, payload)

    def chunk(self, reading: Reading, event: Json) -> None:
        told = fields(event)
        reading.model = reading.model or text(told, "model") or None
        message = fields(told.get("message"))
        said = message.get("content", told.get("response"))
        if type(said) is str:
            reading.output_chars += len(said)
        reading.tool_call_count += len(message.get("tool_calls") or ())
        if told.get("done") is True or told.get("prompt_eval_count") is not None:
            reason = text(told, "done_reason")
            if reason is not None:
                reading.finish_reasons = [reason]
            if told.get("eval_count") is not None or told.get("prompt_eval_count") is not None:
                reading.usage = told
                reading.fidelity = "final"
            reading.terminal = True

    def billed(self, reading: Reading) -> list[Usage]:
        if reading.usage is None:
            return []
        told = fields(reading.usage)
        result = Tally()
        result.add("input", count(told.get("prompt_eval_count")))
        result.add("output", count(told.get("eval_count")))
        return [result.usage()]

    def apply(
        self, body: Mapping[str, Json], *, model: str | None = None, max_tokens: int | None = None
    ) -> dict[str, Json]:
        changed = for_model(body, model)
        if max_tokens is not None:
            bound_in(changed, "options", "num_predict", max_tokens)
        return changed


class OllamaGenerate(Ollama):
    """`POST /api/generate`."""

    name = "ollama_generate"
    operation = "text_completion"


class OllamaEmbed(Ollama):
    """`POST /api/embed`."""

    name = "ollama_embed"
    operation = "embeddings"
