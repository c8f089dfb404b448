"""Mistral OCR: billed by pages."""

from __future__ import annotations

from collections.abc import Mapping

from genai_meter.dialects.base import Dialect, Json, Reading, RequestView, fields
from genai_meter.dialects.buckets import count
from genai_meter.dialects.requests import text
from genai_meter.usage import Usage


class MistralOCR(Dialect):
    """`POST /v1/ocr`."""

    name = "mistral_ocr"
    operation = "ocr"
    id_family = "mistral.ocr"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        return RequestView(model=text(body, "model"))

    def response(self, reading: Reading, payload: Json) -> None:
        answer = fields(payload)
        reading.model = text(answer, "model") or None
        usage = answer.get("usage_info")
        if usage is not None:
            reading.usage = usage
            reading.fidelity = "final"
        reading.terminal = True

    def chunk(self, reading: Reading, event: Json) -> None:
        self.response(reading, event)

    def billed(self, reading: Reading) -> list[Usage]:
        pages = count(fields(reading.usage).get("pages_processed"))
        return [Usage({"pages": pages})] if pages else []
