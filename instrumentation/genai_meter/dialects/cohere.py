"""Cohere: chat, generate, embed, rerank, classify, parse. What is billed are the `billed_units`.

Beside them the API tells the tokens that were processed, which are more; they are no part of the usage and
told by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from genai_meter.dialects import openai_usage
from genai_meter.dialects.base import Dialect, Json, Reading, RequestView, fields
from genai_meter.dialects.buckets import IMAGE, Tally, count
from genai_meter.dialects.requests import bound, by_role, chars, for_model, items, number, size, strings, text, whole
from genai_meter.usage import Usage

UNITS: Final = {
    "input_tokens": "input",
    "image_tokens": f"input_{IMAGE}",
    "search_units": "rerank_search",
    "images": "images",
    "classifications": "classifications",
    "pages": "pages",
}
"""Billed unit → bucket, for all but the output."""


INFERENCE: Final = ("chat", "text_completion")
"""What has output tokens; `max_tokens` is the bound of a text's length elsewhere."""

BEDROCK: Final = "amazon-bedrock-invocationMetrics"
"""What Bedrock adds to the last event of a stream."""


class Cohere(Dialect):
    """`POST /v1/chat` and `/v2/chat`."""

    name = "cohere"
    operation = "chat"
    id_family = "cohere.chat"
    piece = re.compile(
        rb'\{"type":"content-delta","index":\d+,"delta":\{"message":\{"content":\{"text":"([^"\\]*)"\}\}\}\}'
    )

    def request(self, body: Mapping[str, Json]) -> RequestView:
        view = parameters(body)
        messages = items(body, "messages")
        if messages is not None:
            view.message_count = len(messages)
            by_role(messages, view.chars_by_role)
        else:
            history = items(body, "chat_history") or []
            view.message_count = 1 + len(history)
            view.chars_by_role["user"] = chars(body.get("message"), 1) + sum(
                chars(fields(turn).get("message"), 1) for turn in history
            )
            preamble = chars(body.get("preamble"), 1)
            if preamble:
                view.chars_by_role["system"] = preamble
        return view

    def response(self, reading: Reading, payload: Json) -> None:
        answer = fields(payload)
        reading.response_id = text(answer, "id") or text(answer, "response_id") or reading.response_id
        message = fields(answer.get("message"))
        reading.tool_call_count += len(message.get("tool_calls") or answer.get("tool_calls") or ())
        reading.output_chars += chars(answer.get("text")) or chars(message.get("content"))
        _end(reading, answer)

    def chunk(self, reading: Reading, event: Json) -> None:
        told = fields(event)
        kind = told.get("type") or told.get("event_type")
        try:
            # Nearly every chunk: a piece of text.
            if kind == "content-delta":
                reading.output_chars += len(told["delta"]["message"]["content"]["text"])
                return
        except (KeyError, TypeError):
            # Thoughts; other shapes.
            pass
        delta = fields(told.get("delta"))
        if kind == "content-delta":
            content = fields(fields(delta.get("message")).get("content"))
            reading.output_chars += chars(content.get("text", content.get("thinking")), 1)
        elif kind == "text-generation":
            reading.output_chars += chars(told.get("text"), 1)
        elif kind == "message-start":
            reading.response_id = text(told, "id") or None
        elif kind == "tool-plan-delta":
            reading.output_chars += chars(fields(delta.get("message")).get("tool_plan"), 1)
        elif kind == "tool-call-start":
            reading.tool_call_count += 1
        elif kind == "tool-call-delta":
            function = fields(fields(fields(delta.get("message")).get("tool_calls")).get("function"))
            reading.output_chars += chars(function.get("arguments"), 1)
        elif kind == "message-end":
            _end(reading, delta)
        elif kind == "stream-end":
            _stream_end(reading, told)
        elif "usage" in told:
            _end(reading, told)

    def billed(self, reading: Reading) -> list[Usage]:
        if reading.usage is None:
            return []
        told = fields(reading.usage)
        units, tokens = fields(told.get("billed_units")), fields(told.get("tokens"))
        if not units:
            units = tokens
        if not units:
            return openai_usage.usages(reading)  # others at the same paths: Writer, Voyage
        result = Tally()
        for unit, bucket in UNITS.items():
            result.add(bucket, count(units.get(unit)))
        total = count(units.get("output_tokens"))
        result.output(total, reasoning=min(total, count(tokens.get("reasoning_tokens"))))
        return [result.usage()]

    def apply(
        self, body: Mapping[str, Json], *, model: str | None = None, max_tokens: int | None = None
    ) -> dict[str, Json]:
        changed = for_model(body, model)
        if max_tokens is not None and self.operation in INFERENCE:
            bound(changed, "max_tokens", max_tokens)
        return changed


class CohereGenerate(Cohere):
    """`POST /v1/generate` and `/v1/summarize`: a text in, texts out."""

    name = "cohere_generate"
    operation = "text_completion"
    id_family = "cohere.generation"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        view = parameters(body)
        view.choice_count = whole(body, "num_generations")
        view.message_count = 1
        view.chars_by_role["user"] = chars(body.get("prompt", body.get("text")), 1)
        return view

    def response(self, reading: Reading, payload: Json) -> None:
        answer = fields(payload)
        reading.response_id = text(answer, "id") or reading.response_id
        reading.output_chars += chars(answer.get("generations")) + chars(answer.get("summary"), 1)
        for generation in answer.get("generations") or ():
            reason = fields(generation).get("finish_reason")
            if type(reason) is str:
                reading.finish_reasons.append(reason)
        _end(reading, answer)


class CohereEmbed(Cohere):
    """`POST /v1/embed` and `/v2/embed`."""

    name = "cohere_embed"
    operation = "embeddings"
    id_family = "cohere.embed"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        given = next((found for key in ("texts", "inputs", "images") if (found := items(body, key)) is not None), None)
        view = RequestView(model=text(body, "model"), message_count=None if given is None else len(given))
        view.embedding_dimensions = whole(body, "output_dimension")
        view.chars_by_role["user"] = chars(items(body, "texts")) + chars(items(body, "inputs"))
        return view


class CohereRerank(Cohere):
    """`POST /v1/rerank` and `/v2/rerank`."""

    name = "cohere_rerank"
    operation = "rerank"
    id_family = "cohere.rerank"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        view = RequestView(model=text(body, "model"), message_count=size(body, "documents"))
        view.chars_by_role["user"] = chars(body.get("query"), 1) + chars(items(body, "documents"))
        return view


class CohereClassify(Cohere):
    """`POST /v1/classify`: billed by what is classified."""

    name = "cohere_classify"
    operation = "classification"
    id_family = "cohere.classify"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        view = RequestView(model=text(body, "model"), message_count=size(body, "inputs"))
        view.chars_by_role["user"] = chars(items(body, "inputs")) + chars(items(body, "examples"))
        return view


class CohereParse(Cohere):
    """`POST /v2/parse`: documents read, billed by the page."""

    name = "cohere_parse"
    operation = "ocr"
    id_family = "cohere.parse"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        return RequestView(model=text(body, "model"))


def parameters(body: Mapping[str, Json]) -> RequestView:
    """What chat and generate have in common."""
    return RequestView(
        model=text(body, "model"),
        stream=body.get("stream") is True,
        max_tokens=whole(body, "max_tokens"),
        temperature=number(body, "temperature"),
        top_p=number(body, "p"),
        top_k=whole(body, "k"),
        seed=whole(body, "seed"),
        frequency_penalty=number(body, "frequency_penalty"),
        presence_penalty=number(body, "presence_penalty"),
        stop_sequences=strings(body, "stop_sequences"),
        tool_count=size(body, "tools"),
    )


def _stream_end(reading: Reading, told: Mapping[str, Json]) -> None:
    """The last event of version 1: the whole answer once more, or the reason alone."""
    answer = dict(fields(told.get("response")))
    metrics = fields(told.get(BEDROCK))
    if metrics and "meta" not in answer:
        counts = {"input_tokens": metrics.get("inputTokenCount"), "output_tokens": metrics.get("outputTokenCount")}
        answer["meta"] = {"billed_units": counts}
    reading.response_id = text(answer, "response_id") or text(answer, "id") or None
    _end(reading, {"finish_reason": told.get("finish_reason"), **answer})


def _end(reading: Reading, answer: Mapping[str, Json]) -> None:
    reason = answer.get("finish_reason")
    if type(reason) is str:
        reading.finish_reasons = [reason]
        if reason == "ERROR":
            reading.error_type = reason
    usage = answer.get("usage", answer.get("meta"))
    if usage is not None:
        reading.usage = usage
        reading.fidelity = "final"
        reading.processed = _processed(fields(usage))
    reading.terminal = True


def _processed(told: Mapping[str, Json]) -> dict[str, int] | None:
    """The tokens processed; None where they are the billed ones."""
    billed, tokens = fields(told.get("billed_units")), fields(told.get("tokens"))
    found = {name: count(tokens.get(name)) for name in ("input_tokens", "output_tokens")}
    if not billed or found == {name: count(billed.get(name)) for name in found}:
        return None
    found["cache_read_tokens"] = count(told.get("cached_tokens"))
    return {name: number for name, number in found.items() if number}
