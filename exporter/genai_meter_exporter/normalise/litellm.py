"""Spans of LiteLLM's OpenTelemetry callback, in the library and in its proxy."""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import replace
from typing import Final

from genai_meter import semconv
from genai_meter.usage import Usage

from genai_meter_exporter.normalise import objects, otel_genai
from genai_meter_exporter.normalise.foreign import Counts
from genai_meter_exporter.normalise.record import WRAPPER, UsageRecord, Wrapper
from genai_meter_exporter.receive.raw import Raw

SCOPES: Final = ("litellm",)

_USAGE: Final = "metadata.usage_object"
"""As Python prints a dictionary: the only place with the cached tokens."""
_ROUTE: Final = "litellm.provider.model"
_WRAPPED: Final = ("resp_", "bGl0ZWxsbTp")
"""What a response id begins with that LiteLLM has packed with others into Base64, after `litellm:`."""
_RAW: Final = "raw_gen_ai_request"
_MINTED: Final = re.compile(r"chatcmpl-[0-9a-f]{8}-[0-9a-f]{4}-")
"""A response id of LiteLLM's own."""

ATTRIBUTES: Final = otel_genai.ATTRIBUTES | {_USAGE, _ROUTE}


def span(raw: Raw) -> UsageRecord | Wrapper | None:
    """A request; the raw one below it repeats it."""
    attributes = raw.attributes
    if raw.name == _RAW:
        return WRAPPER
    if not attributes.get(semconv.SYSTEM) and (route := str(attributes.get(_ROUTE) or "")):
        provider, slash, _ = route.partition("/")
        if slash:
            raw = replace(raw, attributes={**attributes, semconv.SYSTEM: provider})
    counts: Counts | None = None
    beside: bool | None = None
    more: list[Usage] = []
    if whole := objects.printed(attributes.get(_USAGE)):
        counts, beside = objects.counts_of(whole, _USAGE)
        more = objects.beside_of(whole, _USAGE)
        _take_out(counts, more)
    found = otel_genai.read_span(raw, counts=counts, cached_beside=beside, beside=more)
    if isinstance(found, UsageRecord):
        if response_id := found.values.get("response_id"):
            found.values["response_id"] = _unpacked(response_id)
        model, route = found.values.get("model"), f"{attributes.get(semconv.SYSTEM) or ''}/"
        if model and model.startswith(route):
            found.values["model"] = model.removeprefix(route)  # LiteLLM's own way to say who is called
    if isinstance(found, UsageRecord) and _MINTED.match(found.values.get("response_id") or ""):
        found.values["id_family"] = None
    return found


def _take_out(counts: Counts, beside: list[Usage]) -> None:
    """It adds up all iterations of an answer, whoever's they are."""
    for part in beside:
        for name, less in (
            ("input", part.input_tokens),
            ("output", part.output_tokens),
            ("cache_read", part.cache_read_tokens),
            ("cache_write", part.cache_write_tokens),
        ):
            if told := getattr(counts, name):
                setattr(counts, name, max(told - less, 0))
        counts.total = None


def _unpacked(response_id: str) -> str:
    """The provider's own response id."""
    prefix, packed = _WRAPPED
    if not response_id.startswith(prefix + packed):
        return response_id
    text = response_id.removeprefix(prefix)
    try:
        told = b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError:
        return response_id
    return told.partition("response_id:")[2] or response_id
