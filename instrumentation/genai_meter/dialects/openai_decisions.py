"""Decisions: questions answered by a model that is read once (OpenAI, Perplexity, OpenRouter)."""

from __future__ import annotations

from collections.abc import Mapping

from genai_meter.dialects import openai_usage
from genai_meter.dialects.base import Dialect, Json, Reading, RequestView, fields
from genai_meter.dialects.openai_chat import head
from genai_meter.dialects.requests import by_role, chars, for_model, items, text
from genai_meter.usage import Usage

ROUTE = "decisions"
"""Price dimension: the input costs the same cached or not, what is answered costs nothing."""


class OpenAIDecisions(Dialect):
    """`POST /decisions`."""

    name = "openai_decisions"
    operation = "decision"
    id_family = "openai.decision"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        view = RequestView(model=text(body, "model"), message_count=1)
        view.context["route"] = ROUTE
        several = items(body, "input")
        if several is not None:
            view.message_count = len(several)
            by_role(several, view.chars_by_role)
        else:
            view.chars_by_role["user"] = chars(body.get("input"), 1)
        return view

    def response(self, reading: Reading, payload: Json) -> None:
        head(reading, fields(payload))
        reading.terminal = True

    def chunk(self, reading: Reading, event: Json) -> None:
        self.response(reading, event)

    def billed(self, reading: Reading) -> list[Usage]:
        return openai_usage.usages(reading)

    def apply(
        self, body: Mapping[str, Json], *, model: str | None = None, max_tokens: int | None = None
    ) -> dict[str, Json]:
        del max_tokens  # a decision is as long as its questions want it
        return for_model(body, model)
