"""What recorded calls cost by the truth of the traffic files, and what the ledger says of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from genai_meter.clients.targets import provider_of
from genai_meter.pricing import billed_model
from genai_meter.pricing.book import read_book
from genai_meter.pricing.engine import Resolver
from genai_meter.usage import Usage

from tests.traffic.recordings import Exchange


class Bill(NamedTuple):
    """One call as the ledger has it."""

    provider: str
    model: str
    """Whose price it has."""
    input: int
    """Cached tokens included."""
    cache_read: int
    cache_write: int
    output: int
    """Reasoning included."""
    reasoning: int
    cost: int | None
    """Pico-USD; None when the model has no price."""


NOT_TOLD: Final = {
    "cached": ("cache_read",),
    "written": ("cache_write", "cache_write_5m", "cache_write_1h"),
    "ttl": ("cache_write_5m", "cache_write_1h"),
    "reasoning": ("reasoning",),
    "media": ("audio_in", "audio_out", "image_in", "image_out", "video_in", "document_in", "tool_use_input"),
    "searches": ("web_search_requests",),
    "tier": ("service_tier",),
}
"""What a producer may leave out → fields of the truth that then tell nothing."""

_MEDIA: Final = {"audio_in": "input_audio", "image_in": "input_image", "video_in": "input_video"}
_MEDIA_OUT: Final = {"audio_out": "output_audio", "image_out": "output_image"}


@lru_cache
def resolver() -> Resolver:
    """The shipped prices."""
    return Resolver(read_book())


def provider(exchange: Exchange) -> str:
    """Who is paid: as the host says, else as the files do."""
    host, _, port = (exchange.host or "").partition(":")
    library = "anthropic" if exchange.operation == "messages" else "openai"
    label = library if exchange.provider == "other" else exchange.provider
    return provider_of(host, "", label, int(port) if port else None, exchange.path)


def bill(
    exchange: Exchange,
    asked: str | None,
    served: str | None,
    *,
    paid: str,
    at_ns: int,
    hidden: frozenset[str] = frozenset(),
) -> Bill | None:
    """The truth, without what the producer does not tell; None when the answer tells no usage."""
    left_out = {name for fact in hidden for name in NOT_TOLD.get(fact, ())}
    truth = {name: value for name, value in (exchange.truth or {}).items() if name not in left_out}
    if not (truth.get("input_tokens") or truth.get("output_tokens")):
        return None
    found = Usage(buckets(truth))
    tier = None if "tier" in hidden else truth.get("service_tier") or _tier(exchange)
    model = billed_model(paid, asked, served)
    cost = resolver().price(paid, model, [found], at_ns, {"service_tier": tier} if tier else {})
    return Bill(
        paid,
        model,
        truth.get("input_tokens") or 0,
        truth.get("cache_read") or 0,
        truth.get("cache_write") or 0,
        truth.get("output_tokens") or 0,
        truth.get("reasoning") or 0,
        cost.effective_pico,
    )


def buckets(truth: Mapping[str, Any]) -> dict[str, Any]:
    """Exclusive parts of the truth's sums."""

    def count(name: str) -> int:
        return truth.get(name) or 0

    written = {name: count(name) for name in ("cache_write_5m", "cache_write_1h")}
    told = {to: count(name) for name, to in (_MEDIA | _MEDIA_OUT).items()}
    plain = count("input_tokens") - count("cache_read") - count("cache_write")
    plain -= sum(told[to] for to in _MEDIA.values())
    answer = count("output_tokens") - count("reasoning") - sum(told[to] for to in _MEDIA_OUT.values())
    found = {
        **told,
        **written,
        "input": plain,
        "cache_read": count("cache_read"),
        "cache_write": count("cache_write") - sum(written.values()),
        "output": answer,
        "output_reasoning": count("reasoning"),
        "web_search": count("web_search_requests"),
    }
    return {name: quantity for name, quantity in found.items() if quantity > 0}


def _tier(exchange: Exchange) -> str | None:
    """The tier that an answer of OpenAI's format names at its end, which the files leave out."""
    told = re.findall(rb'"service_tier": ?"([a-z]+)"', exchange.body)
    return told[-1].decode() if told else None


def of_row(row: Mapping[str, Any]) -> Bill:
    """What the ledger says."""
    return Bill(
        row["provider"],
        billed_model(row["provider"] or "", row["request_model"], row["model"]),
        row["input_tokens"],
        row["cache_read_tokens"],
        row["cache_write_tokens"],
        row["output_tokens"],
        row["reasoning_tokens"],
        row["cost"],
    )
