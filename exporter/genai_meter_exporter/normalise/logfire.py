"""Spans of Logfire: the conventions, and the provider's whole usage. A stream is told by a log record at its end."""

from __future__ import annotations

from typing import Final

from genai_meter_exporter.normalise import objects, otel_genai, read
from genai_meter_exporter.normalise.foreign import Counts
from genai_meter_exporter.normalise.record import RANK_PARTIAL, RANK_SPAN, WRAPPER, Unreadable, UsageRecord, Wrapper
from genai_meter_exporter.receive.raw import Raw

SCOPES: Final = ("logfire",)

_OPENAI: Final = "logfire.openai"
"""Does not tell the host: who is called through OpenAI's library stays unknown."""
_RAW: Final = "gen_ai.usage.raw"
_KIND: Final = "logfire.span_type"
_SECONDS: Final = "duration"
"""How long a stream lasted: its log record is of the instant when it ended."""

_LATE_NS: Final = 100_000_000
"""And is written when its attributes are put together, which takes a while: it began so much earlier at most."""

ATTRIBUTES: Final = otel_genai.ATTRIBUTES | {_RAW, _KIND, _SECONDS}


def span(raw: Raw) -> UsageRecord | Wrapper | None:
    """A request, or the record that a stream leaves."""
    attributes = raw.attributes
    counts: Counts | None = None
    beside: bool | None = None
    whole = objects.mapping(attributes.get(_RAW))
    if whole:
        counts, beside = objects.counts_of(whole, _RAW)
    rank = RANK_PARTIAL if raw.scope == _OPENAI else RANK_SPAN
    # The record of a stream has no id: its counts tell which call it is, and others tell them without these.
    more = [] if attributes.get(_KIND) == "log" else objects.beside_of(whole, _RAW)
    found = otel_genai.read_span(raw, rank=rank, counts=counts, cached_beside=beside, beside=more)
    if isinstance(found, UsageRecord):
        if attributes.get(_KIND) == "log":
            found.values["start"] = max(raw.start_ns - _duration_ns(raw) - _LATE_NS, 0)
            if found.values.get("model") == found.values.get("request_model"):
                # Of a stream it does not know the model that answered.
                found.values.pop("model", None)
        elif not found.usages and not raw.failed:
            # The request of a stream: what it used is told at the stream's end.
            return WRAPPER
    return found


def _duration_ns(raw: Raw) -> int:
    value = raw.attributes.get(_SECONDS)
    if value is None:
        return 0
    try:
        return int(read.number(value) * 1e9)
    except ValueError as error:
        raise Unreadable(f"{_SECONDS} {error}") from None
