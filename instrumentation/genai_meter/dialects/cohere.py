"""Cohere: chat, embed, rerank. What is billed are the `billed_units`, not the tokens."""

from __future__ import annotations

from collections.abc import Mapping

from genai_meter.dialects import openai_usage
from genai_meter.dialects.base import Dialect, Json, Reading, RequestView, fields
from genai_meter.dialects.buckets import IMAGE, Tally, count
from genai_meter.dialects.requests import by_role, chars, items, number, size, strings, text, whole
from genai_meter.usage import Usage


class Cohere(Dialect):
    """`POST /v1/chat` and `/v2/chat`."""

    name = "cohere"
    operation = "chat"
    id_family = "cohere.chat"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        view = RequestView(
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
        messages = items(body, "messages")
        if messages is not None:
            view.message_count = len(messages)
            by_role(messages, view.chars_by_role)
        else:
            view.message_count = 1
            view.chars_by_role["user"] = chars(body.get("message"), 1)
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
        delta = fields(told.get("delta"))
        if kind == "content-delta":
            content = fields(fields(delta.get("message")).get("content"))
            reading.output_chars += chars(content.get("text", content.get("thinking")), 1)
        elif kind == "text-generation":
            reading.output_chars += chars(told.get("text"), 1)
        elif kind == "message-start":
            reading.response_id = text(told, "id") or None
        elif kind == "tool-call-start":
            reading.tool_call_count += 1
        elif kind == "message-end":
            _end(reading, delta)
        elif kind == "stream-end":
            answer = fields(told.get("response"))
            reading.response_id = text(answer, "response_id") or None
            _end(reading, answer)
        elif "usage" in told:
            _end(reading, told)

    def billed(self, reading: Reading) -> list[Usage]:
        if reading.usage is None:
            return []
        told = fields(reading.usage)
        units = fields(told.get("billed_units"))
        if not units:
            units = fields(told.get("tokens"))
        if not units:
            return openai_usage.usages(reading)  # others at the same paths: Writer, Voyage
        result = Tally()
        result.add("input", count(units.get("input_tokens")))
        result.add(f"input_{IMAGE}", count(units.get("image_tokens")))
        result.add("output", count(units.get("output_tokens")))
        result.add("rerank_search", count(units.get("search_units")))
        result.add("images", count(units.get("images")))
        return [result.usage()]


class CohereEmbed(Cohere):
    """`POST /v1/embed` and `/v2/embed`."""

    name = "cohere_embed"
    operation = "embeddings"
    id_family = "cohere.embed"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        texts = items(body, "texts")
        view = RequestView(model=text(body, "model"), message_count=size(body, "texts"))
        view.embedding_dimensions = whole(body, "output_dimension")
        view.chars_by_role["user"] = chars(texts)
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


def _end(reading: Reading, answer: Mapping[str, Json]) -> None:
    reason = answer.get("finish_reason")
    if type(reason) is str:
        reading.finish_reasons = [reason]
    usage = answer.get("usage", answer.get("meta"))
    if usage is not None:
        reading.usage = usage
        reading.fidelity = "final"
    reading.terminal = True
