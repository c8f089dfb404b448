"""What comes out of normalising: usage records, what is beside them, and what could not be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import orjson
from genai_meter.usage import INPUT_BUCKETS, OUTPUT_BUCKETS, Usage

RANK_OWN_EVENT: Final = 0
RANK_OWN_SPAN: Final = 1
RANK_EVENT: Final = 2
RANK_SPAN: Final = 3
RANK_PARTIAL: Final = 4
"""Source ranks: the lowest of the records of one call is the one that is charged. Partial: known to tell less, or
less exactly, than others do."""

OWN_PRODUCER: Final = "genai_meter"

MAX_INT: Final = 2**63 - 1
"""What one field of the ledger can hold."""

MAX_COUNT: Final = 10**12
"""More tokens, attempts or the like no call has; sums of millions of calls still fit 64 bits."""

WORKED_OUT: Final = frozenset(
    {"input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "list_cost"}
)
"""Columns that the ledger works out itself when it knows the buckets: what is sent of them is not read."""

_INPUT, _CACHE_READ, _CACHE_WRITE, _OUTPUT, _REASONING = range(5)
_PARTS: Final = {
    **dict.fromkeys(INPUT_BUCKETS, _INPUT),
    **{bucket: _CACHE_READ for bucket in INPUT_BUCKETS if bucket.startswith("cache_read")},
    **{bucket: _CACHE_WRITE for bucket in INPUT_BUCKETS if bucket.startswith("cache_write")},
    **dict.fromkeys(OUTPUT_BUCKETS, _OUTPUT),
    "output_reasoning": _REASONING,
}
"""Bucket of tokens → the part that it is of the input or of the output."""

REFUSED: Final = "refused"
"""Key of a record in the quarantine that must not be read again, whoever asks; its value says why."""


class Unreadable(Exception):
    """A record that cannot be charged; the message says why, without its content."""


class Wrapper:
    """A record that a flavour knows to be no model call of its own: an agent, a tool, the outer of two spans."""


WRAPPER: Final = Wrapper()


@dataclass(slots=True)
class UsageRecord:
    """One record of one call, on its way into the ledger."""

    key: bytes
    """16 bytes, time-ordered: the ledger's primary key."""
    values: dict[str, Any]
    """Field of `schema` → value as the ledger stores it; absent = unknown."""
    usages: list[Usage]
    producer: str
    """Who made the record. Two records of one producer are two calls; ours say so by their call ids."""
    rank: int
    trace_id: bytes = b""
    span_id: bytes = b""
    parent_span_id: bytes = b""
    context: Mapping[str, str] = field(default_factory=dict[str, str])
    """Price dimensions."""
    given_cost: bool = False
    """The cost is a fact of the producer (`genai_meter.cost`), not ours to compute."""
    tenants: frozenset[str] | None = None
    """Sent with a token of these tenants: it touches no call of any other."""

    @property
    def source(self) -> str:
        """The producer and the kind of record; unique with the key."""
        return self.values["source"]


Kind: TypeAlias = Literal["outcome", "cache_hit"]


@dataclass(slots=True)
class Beside:
    """An event that is neither a charge nor a provider call: an outcome, or an answer from a cache."""

    kind: Kind
    """Also the name of its table."""
    key: bytes
    time_ns: int
    values: dict[str, Any]
    """Column → value; absent = unknown."""


@dataclass(slots=True)
class Quarantined:
    """A record that could not be read: why, from whom, and its metadata (never content)."""

    signal: str
    reason: str
    producer: str
    attributes: dict[str, Any]


@dataclass(slots=True)
class Batch:
    """One export request, normalised."""

    records: list[UsageRecord] = field(default_factory=list[UsageRecord])
    beside: list[Beside] = field(default_factory=list[Beside])
    quarantined: list[Quarantined] = field(default_factory=list[Quarantined])
    parents: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    ignored: dict[str, int] = field(default_factory=dict[str, int])
    """Signal → records that are no usage."""
    retried: dict[bytes, str | None] = field(default_factory=dict[bytes, str | None])
    """Digest of a record in the quarantine that has been read again → why it still cannot be read; None: it can."""

    @property
    def size(self) -> int:
        """Rows to be written."""
        return len(self.records) + len(self.beside) + len(self.quarantined)


def fill_totals(values: dict[str, Any], usages: list[Usage]) -> None:
    """Set the inclusive token columns from the exclusive buckets of all billed models."""
    total_input = total_output = cache_read = cache_write = reasoning = 0
    for usage in usages:
        for bucket, quantity in usage.buckets.items():
            part = _PARTS.get(bucket)
            if part is None:
                continue
            count = int(quantity)
            if part >= _OUTPUT:
                total_output += count
                if part == _REASONING:
                    reasoning += count
                continue
            total_input += count
            if part == _CACHE_READ:
                cache_read += count
            elif part == _CACHE_WRITE:
                cache_write += count
    if total_input > MAX_COUNT or total_output > MAX_COUNT:
        raise Unreadable(f"the token counts exceed {MAX_COUNT}")
    values["input_tokens"] = total_input
    values["output_tokens"] = total_output
    values["cache_read_tokens"] = cache_read
    values["cache_write_tokens"] = cache_write
    values["reasoning_tokens"] = reasoning


def price_context(values: dict[str, Any]) -> dict[str, str]:
    """Price dimensions: as sent, or from the fields that imply them."""
    sent = values.get("price_context")
    if sent:
        try:
            return {str(name): str(value) for name, value in orjson.loads(sent).items()}
        except AttributeError:
            raise Unreadable("genai_meter.price.context is no JSON object") from None
    context: dict[str, str] = {}
    for name, column in (("service_tier", "tier"), ("processing", "processing"), ("speed", "speed")):
        if column in values:
            context[name] = values[column]
    return context


def usage_json(usages: Sequence[Usage]) -> str | None:
    """The `usage` column: buckets of every billed model, in one shape."""
    if not usages:
        return None
    if len(usages) == 1 and usages[0].model is None:
        return f'[{{"model":null,"buckets":{orjson.dumps(usages[0].buckets, default=str).decode()}}}]'
    return orjson.dumps([{"model": u.model, "buckets": u.buckets} for u in usages], default=str).decode()
