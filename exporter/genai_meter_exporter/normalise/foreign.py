"""What all records of other producers share: their key, their buckets, their id family."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from genai_meter.semconv import INFERENCE_OPERATIONS
from genai_meter.usage import Usage

from genai_meter_exporter.normalise.own import time_prefix
from genai_meter_exporter.normalise.record import Unreadable
from genai_meter_exporter.receive.raw import Raw

_FAMILY_OF_PREFIX: Final = (
    ("chatcmpl-", "openai.chat"),
    ("resp_", "openai.responses"),
    ("cmpl-", "openai.completion"),
    ("msg_", "anthropic.message"),
)


@dataclass(slots=True)
class Counts:
    """Tokens as a foreign producer reports them; None = not told."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None
    total: int | None = None

    @property
    def told(self) -> bool:
        """Any usage at all."""
        return self.input is not None or self.output is not None


def key(raw: Raw, kind: str) -> bytes:
    """A time-ordered key from the record's own start and (trace id, span id): the same on every re-send."""
    if not raw.start_ns:
        raise Unreadable("the record has no time")
    if len(raw.trace_id) != 16 or len(raw.span_id) != 8:
        raise Unreadable("the record has no trace id and span id: it could not be told from its own re-send")
    digest = hashlib.blake2b(raw.trace_id + raw.span_id + kind.encode(), digest_size=10)
    return time_prefix(raw.start_ns) + digest.digest()


def id_family(response_id: str | None) -> str | None:
    """The wire format a response id comes from, where its shape tells."""
    if not response_id:
        return None
    return next((family for prefix, family in _FAMILY_OF_PREFIX if response_id.startswith(prefix)), None)


def usage(counts: Counts, *, cached_beside: bool) -> Usage | None:
    """Exclusive buckets of inclusive or exclusive counts; None when nothing was told.

    Producers disagree on whether `input` contains the cached tokens. What the numbers themselves prove
    decides first: more cached than input, or a total that fits only one reading. `cached_beside` is what
    is known of the producer, and decides the rest.
    """
    if not counts.told:
        return None
    gross, inferred = _gross_input(counts, cached_beside)
    cache_read, cache_write = counts.cache_read or 0, counts.cache_write or 0
    output, reasoning = counts.output or 0, counts.reasoning or 0
    if reasoning > output:
        output += reasoning
        inferred = (*inferred, "reasoning_beside_output")
    buckets: dict[str, Any] = {
        "input": gross - cache_read - cache_write,
        "cache_read": cache_read,
        "cache_write": cache_write,
        "output": output - reasoning,
        "output_reasoning": reasoning,
    }
    return Usage({name: count for name, count in buckets.items() if count}, inferred=inferred)


def operation(told: str, values: dict[str, Any]) -> str:
    """What a call was: nobody who instruments Bedrock tells embeddings from chat."""
    if told in INFERENCE_OPERATIONS and values.get("provider") == "aws.bedrock":
        model = values.get("model") or values.get("request_model") or ""
        return "embeddings" if "embed" in model else told
    return told


def _gross_input(counts: Counts, cached_beside: bool) -> tuple[int, tuple[str, ...]]:
    given = counts.input or 0
    cached = (counts.cache_read or 0) + (counts.cache_write or 0)
    if not cached:
        return given, ()
    if cached > given:
        return given + cached, ("cached_beside_input",)
    if counts.total is not None:
        beside = given + cached + (counts.output or 0)
        if counts.total == beside:
            return given + cached, ("cached_beside_input",)
        if counts.total == given + (counts.output or 0):
            return given, ()
    return (given + cached, ("cached_beside_input",)) if cached_beside else (given, ())
