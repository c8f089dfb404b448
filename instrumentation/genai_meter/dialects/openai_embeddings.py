"""Embeddings in OpenAI's format (also Voyage, Mistral, local servers)."""

from __future__ import annotations

from collections.abc import Mapping

from genai_meter.dialects import openai_usage
from genai_meter.dialects.base import Dialect, Json, Reading, RequestView, fields
from genai_meter.dialects.buckets import count
from genai_meter.dialects.requests import chars, text, whole
from genai_meter.usage import Usage


class OpenAIEmbeddings(Dialect):
    """`POST /embeddings`. Bills input only; some providers repeat the total as `completion_tokens: 0`."""

    name = "openai_embeddings"
    operation = "embeddings"
    id_family = "openai.embedding"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        view = RequestView(
            model=text(body, "model"),
            embedding_dimensions=whole(body, "dimensions"),
            encoding_format=text(body, "encoding_format"),
        )
        given = body.get("input", body.get("inputs"))
        view.message_count = 1
        if given.__class__ is list and given and given[0].__class__ is not int:
            view.message_count = len(given)
        view.chars_by_role["user"] = chars(given, 2)
        return view

    def response(self, reading: Reading, payload: Json) -> None:
        answer = fields(payload)
        reading.response_id = text(answer, "id") or None
        reading.model = text(answer, "model") or None
        usage = answer.get("usage")
        if usage is not None:
            reading.usage = usage
            reading.fidelity = "final"
            openai_usage.evidence(reading, usage)
        reading.terminal = True

    def chunk(self, reading: Reading, event: Json) -> None:
        self.response(reading, event)

    def billed(self, reading: Reading) -> list[Usage]:
        if reading.usage is None:
            return []
        told = fields(reading.usage)
        total = told.get("prompt_tokens", told.get("input_tokens"))
        if total is None:
            total = told.get("total_tokens")
        tokens = count(total)
        return [_input_only(tokens)] if tokens or total == 0 else []


def _input_only(total: int) -> Usage:
    return Usage({"input": total} if total else {})
