"""Chat completions: OpenAI and every provider with an OpenAI-compatible chat API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from genai_meter.dialects import openai_usage
from genai_meter.dialects.base import Dialect, Json, Reading, RequestView, fields, read
from genai_meter.dialects.requests import (
    NUMBER,
    TEXT,
    WHOLE,
    Parameters,
    by_role,
    for_model,
    items,
    lower,
    read_parameters,
    size,
    strings,
    text,
    whole,
)
from genai_meter.usage import Usage

PRICED_TIERS: Final = frozenset({"flex", "priority", "scale"})
"""Tiers that change the price when served; `auto` and `default` ask for nothing special."""

PARAMETERS: Final[Parameters] = {
    "model": ("model", TEXT),
    "stream": ("stream", (bool,)),
    "service_tier": ("service_tier", TEXT),
    "temperature": ("temperature", NUMBER),
    "top_p": ("top_p", NUMBER),
    "seed": ("seed", WHOLE),
    "frequency_penalty": ("frequency_penalty", NUMBER),
    "presence_penalty": ("presence_penalty", NUMBER),
    "n": ("choice_count", WHOLE),
    "reasoning_effort": ("reasoning_level", TEXT),
}
"""What OpenAI's generating APIs have in common."""

_PARAMETERS: Final[Parameters] = {**PARAMETERS, "max_tokens": ("max_tokens", WHOLE)}
_SELDOM: Final = frozenset({"max_completion_tokens", "reasoning", "response_format", "modalities"})

_RENAMED: Final = ("gpt", "o1", "o3", "o4", "chatgpt", "codex", "ft:gpt", "ft:o")
"""Models that know the bound as `max_completion_tokens`; for all others `max_tokens` is the safe name."""

SAID: Final = ("content", "reasoning_content", "refusal")
"""Where a message or a delta has generated text."""

MISSING: Final = "error"
"""What the conventions want in the place of a choice that has no finish reason."""


class OpenAIChat(Dialect):
    """`POST /chat/completions`."""

    name = "openai_chat"
    operation = "chat"
    id_family = "openai.chat"
    injects_usage = True

    def request(self, body: Mapping[str, Json]) -> RequestView:
        view = parameters(body, _PARAMETERS)
        if not _SELDOM.isdisjoint(body):
            self._seldom(view, body)
        messages = items(body, "messages")
        if messages is not None:
            view.message_count = len(messages)
            by_role(messages, view.chars_by_role)
        return view

    def _seldom(self, view: RequestView, body: Mapping[str, Json]) -> None:
        """Parameters that most requests have not."""
        view.max_tokens = whole(body, "max_completion_tokens") or view.max_tokens
        if view.reasoning_level is None and "reasoning" in body:
            view.reasoning_level = text(fields(body["reasoning"]), "effort")
        view.output_type = output_type(body)

    def response(self, reading: Reading, payload: Json) -> None:
        answer = fields(payload)
        head(reading, answer)
        for choice in answer.get("choices") or ():
            told = fields(choice)
            reason = told.get("finish_reason")
            reading.finish_reasons.append(reason if type(reason) is str else MISSING)
            message = fields(told.get("message"))
            for key in SAID:
                said = message.get(key)
                if said is not None and type(said) is str:
                    reading.output_chars += len(said)
            calls = message.get("tool_calls")
            if calls:
                reading.tool_call_count += len(calls)
                for call in calls:
                    arguments = read(read(call, "function"), "arguments")
                    reading.output_chars += len(arguments) if type(arguments) is str else 0
        if answer.get("usage_breakdown") is not None:
            _breakdown(reading, answer["usage_breakdown"])
        if MISSING in reading.finish_reasons and not any(r != MISSING for r in reading.finish_reasons):
            reading.finish_reasons.clear()
        if "error" in answer:
            note_error(reading, answer)
        reading.terminal = True

    def chunk(self, reading: Reading, event: Json) -> None:
        if event.__class__ is dict:
            self._chunk(reading, event)
            return
        try:
            # Nearly every chunk: one choice, a piece of text, nothing else.
            told = event.__dict__
            (choice,) = told["choices"]
            part = choice.__dict__
            if (
                part["finish_reason"] is None
                and told["usage"] is None
                and not part["index"]
                and reading.model is not None
                and "error" not in told
            ):
                reading.output_chars += len(part["delta"].__dict__["content"])
                return
        except (AttributeError, KeyError, TypeError, ValueError):
            # Another shape: tool calls, no choice at all.
            pass
        self._chunk(reading, event)

    def _chunk(self, reading: Reading, event: Json) -> None:
        told = event if event.__class__ is dict else event.__dict__
        if reading.model is None or told.get("usage") is not None:
            head(reading, fields(event))
        for choice in told.get("choices") or ():
            part = choice if choice.__class__ is dict else choice.__dict__
            delta = part.get("delta")
            if delta is not None:
                delta = delta if delta.__class__ is dict else delta.__dict__
                said = delta.get("content")
                if said is not None:
                    reading.output_chars += len(said) if said.__class__ is str else self._in_parts(said)
                elif delta:
                    _rare(reading, delta)
            index = part.get("index")
            if index:
                reading.scratch["choices"] = max(index + 1, reading.scratch.get("choices", 1))
            reason = part.get("finish_reason")
            if reason:
                finish(reading, index or 0, reason)
                _extension(reading, event, choice)
        if "error" in told:
            note_error(reading, told)

    def _in_parts(self, content: Json) -> int:
        """Characters of a delta's content that is no text."""
        return len(content)

    def billed(self, reading: Reading) -> list[Usage]:
        found, searches = openai_usage.counted(reading), 0
        if found is None:
            found = openai_usage.usages(reading)
            searches = openai_usage.web_searches(reading.usage) if found else 0
        if found:
            if not searches and reading.model and "-search-" in reading.model:
                # OpenAI's search models look at the web in every call, and count it nowhere.
                searches = 1
            if "breakdown" in reading.scratch:
                found = _by_model(found[0], reading.scratch["breakdown"], reading.model)
            if searches:
                found[0].buckets["web_search"] = searches
        return found

    def apply(
        self, body: Mapping[str, Json], *, model: str | None = None, max_tokens: int | None = None
    ) -> dict[str, Json]:
        changed = for_model(body, model)
        if max_tokens is not None and not lower(changed, ("max_completion_tokens", "max_tokens"), max_tokens):
            changed[_bound_name(changed.get("model"))] = max_tokens
        return changed


def parameters(body: Mapping[str, Json], known: Parameters = PARAMETERS) -> RequestView:
    """The parameters that OpenAI's generating APIs have in common."""
    view = RequestView.blank()
    read_parameters(view, body, known)
    if "stop" in body:
        view.stop_sequences = strings(body, "stop")
    if "tools" in body:
        view.tool_count = size(body, "tools")
    if view.service_tier in PRICED_TIERS:
        view.context["service_tier"] = view.service_tier
    return view


def head(reading: Reading, answer: Mapping[str, Json]) -> None:
    """Id, model, tier and usage: what the whole answer and every chunk carry alike."""
    told = answer.get("id")
    if told and type(told) is str:
        reading.response_id = told
    told = answer.get("model")
    if told and type(told) is str:
        reading.model = told
    told = answer.get("system_fingerprint")
    if told and type(told) is str:
        reading.system_fingerprint = told
    told = answer.get("service_tier")
    if told is not None:
        openai_usage.served_tier(reading, told)
    usage = answer.get("usage")
    if usage is not None and (counts := fields(usage)):
        reading.usage = counts
        reading.fidelity = "final"
        if not openai_usage.PLAIN.issuperset(counts):
            openai_usage.evidence(reading, counts)


def note_error(reading: Reading, answer: Mapping[str, Json]) -> None:
    """An error inside a 200 answer."""
    error = answer.get("error")
    if error is not None:
        told = fields(error)
        code = told.get("code") or told.get("type")
        reading.error_type = str(code)[:64] if type(code) in (str, int) else "_OTHER"


def output_type(body: Mapping[str, Json]) -> str | None:
    """The conventions' output type, when the request asks for one."""
    wanted = text(fields(body.get("response_format")), "type")
    if wanted in ("json_object", "json_schema"):
        return "json"
    modalities = items(body, "modalities") or ()
    if "audio" in modalities:
        return "speech"
    if "image" in modalities:
        return "image"
    return "text" if wanted == "text" else None


def _rare(reading: Reading, delta: Mapping[str, Json]) -> None:
    """Tool calls, refusals: deltas without content."""
    calls = delta.get("tool_calls")
    if calls:
        for call in calls:
            told = fields(call)
            if told.get("id"):
                reading.tool_call_count += 1
            arguments = read(told.get("function"), "arguments")
            if type(arguments) is str:
                reading.output_chars += len(arguments)
        return
    for key in SAID:
        said = delta.get(key)
        if type(said) is str:
            reading.output_chars += len(said)


def finish(reading: Reading, index: int, reason: str) -> None:
    """Keep finish reasons in the order of their choices; the end is when all choices have one."""
    reasons = reading.finish_reasons
    while len(reasons) <= index < 128:
        reasons.append(MISSING)
    reasons[index] = reason
    reading.terminal = len(reasons) >= reading.scratch.get("choices", 1) and MISSING not in reasons


def _extension(reading: Reading, event: Json, choice: Json) -> None:
    """Groq tells the usage in `x_groq` of the last choice chunk, Moonshot in the choice, asked or not."""
    extension = read(event, "x_groq")
    if extension is not None:
        _breakdown(reading, read(extension, "usage_breakdown"))
    if reading.usage is None:
        usage = fields(read(choice if extension is None else extension, "usage"))
        if usage:
            reading.usage = usage
            reading.fidelity = "final"


def _breakdown(reading: Reading, told: Json) -> None:
    """Groq's compound systems bill the models they have asked."""
    models = read(told, "models") if told is not None else None
    if models:
        reading.scratch["breakdown"] = models


def _by_model(whole: Usage, models: Json, served: str | None) -> list[Usage]:
    """The parts that the models have of the whole; the whole, when they do not make it up."""
    parts: dict[str, Usage] = {}
    for entry in models:
        model, part = read(entry, "model"), openai_usage.tally(read(entry, "usage"))
        if type(model) is not str or part is None:
            return [whole]
        same = parts.setdefault(model, Usage({}, None if model == served else model))
        for name, amount in part.buckets.items():
            # Thoughts that the whole does not tell apart are output.
            bucket = "output" if name == "output_reasoning" and not whole.reasoning_tokens else name
            same.buckets[bucket] = same.buckets.get(bucket, 0) + amount
    found = list(parts.values())
    sums = sum(part.input_tokens for part in found), sum(part.output_tokens for part in found)
    return found if sums == (whole.input_tokens, whole.output_tokens) else [whole]


def _bound_name(model: Json) -> str:
    name = model.rsplit("/", 1)[-1] if type(model) is str else ""
    return "max_completion_tokens" if name.startswith(_RENAMED) else "max_tokens"
