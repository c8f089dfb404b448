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

    provider: str | None
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
    "audio": ("audio_in", "audio_out"),
    "images": ("image_in", "image_out", "video_in"),
    "searches": ("web_search_requests",),
    "iterations": ("iterations",),
    "tier": ("service_tier",),
    "billed": ("billed_input", "billed_output"),
}
"""What a producer may leave out → fields of the truth that then tell nothing."""

_REGION: Final = re.compile(r"^(?:us|us-gov|eu|apac|jp|au|global)\.")
_MEDIA: Final = {"audio_in": "input_audio", "image_in": "input_image", "video_in": "input_video"}
_MEDIA_OUT: Final = {"audio_out": "output_audio", "image_out": "output_image"}


@lru_cache
def resolver() -> Resolver:
    """The shipped prices."""
    return Resolver(read_book())


def provider(exchange: Exchange, untold: frozenset[str] = frozenset()) -> str:
    """Who is paid: as the host says, else as the files do."""
    host, _, port = (exchange.host or "").partition(":")
    library = "anthropic" if exchange.operation == "messages" else "openai"
    if "unnamed" in untold:
        return ""
    if "host" in untold:
        return library
    label = library if exchange.provider == "other" else exchange.provider
    found = provider_of(host, "", label, int(port) if port else None, exchange.path)
    for fact, names in _COARSER.items():
        if fact in untold:
            found = next((coarse for fine, coarse in names if found.startswith(fine)), found)
    return found


_COARSER: Final = {
    "route": (("huggingface_", "huggingface"),),
    "azure": (("azure.ai.inference", "azure.ai.openai"),),
    "foundry": (("azure.ai.openai", "azure.ai.inference"),),
    "vertex": (("gcp.vertex_ai", "gcp.gemini"),),
    "gen_ai": (("gcp.", "gcp.gen_ai"),),
}
"""A fact → beginnings of providers, and the name they have without it."""


def bill(
    exchange: Exchange,
    asked: str | None,
    served: str | None,
    *,
    at_ns: int,
    untold: frozenset[str] = frozenset(),
) -> Bill | None:
    """The truth, without what the producer does not tell; None when the answer tells no usage."""
    left_out = {name for fact in untold for name in NOT_TOLD.get(fact, ())}
    truth = {name: value for name, value in _counts(exchange, untold).items() if name not in left_out}
    total = truth.get("input_tokens") or 0
    if not (total or truth.get("output_tokens") or truth.get("audio_seconds")):
        return None
    # Some servers say more than can be: the total holds.
    read = min(truth.get("cache_read") or 0, total)
    write = min(truth.get("cache_write") or 0, total - read)
    truth |= {"cache_read": read, "cache_write": write}
    tier = None if "tier" in untold else truth.get("service_tier") or _tier(exchange)
    paid = provider(exchange, untold)
    if asked and "profile" in untold:
        asked = _REGION.sub("", asked)
    if "asked" in untold and served:
        asked = None
    model = billed_model(paid, asked, None if "served" in untold else served)
    parts = [Usage(buckets(truth))]
    output, reasoning = truth.get("output_tokens") or 0, truth.get("reasoning") or 0
    for entry in truth.get("iterations") or ():
        if entry["type"] in ("advisor_message", "compaction"):  # beside the sums
            more = _iteration(entry)
            parts.append(Usage(buckets(more), model=entry.get("model")))
            total, output = total + more["input_tokens"], output + more["output_tokens"]
            read, write = read + more["cache_read"], write + more["cache_write"]
    cost = resolver().price(paid, model, parts, at_ns, {"service_tier": tier} if tier else {})
    return Bill(paid or None, model, total, read, write, output, reasoning, cost.effective_pico)


def _iteration(entry: Mapping[str, Any]) -> dict[str, int]:
    read, write = entry["cache_read_input_tokens"], entry["cache_creation_input_tokens"]
    return {
        "input_tokens": entry["input_tokens"] + read + write,
        "cache_read": read,
        "cache_write": write,
        "output_tokens": entry["output_tokens"],
    }


def _counts(exchange: Exchange, untold: frozenset[str]) -> dict[str, Any]:
    """The truth, or what a producer takes for it."""
    truth = {name: value for name, value in (exchange.truth or {}).items() if value is not None}
    if "billed" not in untold and "billed_input" in truth:
        # Cohere bills less than what it has read; of that it does not say what was cached.
        billed = {"input_tokens": truth["billed_input"], "output_tokens": truth.get("billed_output", 0)}
        billed["reasoning"] = min(truth.get("reasoning", 0), billed["output_tokens"])
        return billed | {name: truth[name] for name in ("service_tier", "search_units") if name in truth}
    seconds = truth.pop("audio_seconds", None)
    if exchange.provider == "mistral_ai" and exchange.operation == "audio" and "seconds" not in untold:
        return {"audio_seconds": seconds}  # tokens are told, and not billed
    truth.setdefault("web_search_requests", _searches(exchange))
    gross = truth.get("input_tokens", 0)
    if "audio_beside" in untold:
        truth["input_tokens"] = gross - truth.pop("audio_in", 0)
    if "tool_prompt" in untold:
        truth["input_tokens"] = gross - truth.get("tool_use_input", 0)
    if "tool_prompt_as_output" in untold and (more := truth.get("tool_use_input")):
        parts = {"output_tokens": truth["output_tokens"] + more, "reasoning": truth.get("reasoning", 0) + more}
        truth |= {"input_tokens": gross - more, **parts}
    if "thoughts" in untold:
        truth["output_tokens"] = truth.get("output_tokens", 0) - truth.pop("reasoning", 0)
    if "read_beside" in untold:
        truth["input_tokens"] = gross - truth.pop("cache_read", 0)
    if "cached_beside" in untold:
        cached = truth.pop("cache_read", 0) + truth.pop("cache_write", 0)
        truth = {**truth, "input_tokens": gross - cached, "cache_write_5m": 0, "cache_write_1h": 0}
    return truth


def _searches(exchange: Exchange) -> int:
    """Of OpenAI's Responses and of Gemini, which the files do not count: the provider's own prices say how it does."""
    events = exchange.events() if exchange.streaming else [exchange.json()] if exchange.body.startswith(b"{") else []
    if exchange.bare_path.endswith("/responses"):
        answers = [event.get("response", event) for event in events]
        outputs: list[list[Any]] = [answer["output"] for answer in answers if answer.get("output")]
        calls = [item for item in (outputs[-1] if outputs else ()) if item["type"] == "web_search_call"]
        return sum(call.get("action", {}).get("type", "search") == "search" for call in calls)
    candidates = [found for event in events for found in event.get("candidates") or ()]
    told = [found.get("groundingMetadata", {}).get("webSearchQueries") or () for found in candidates]
    queries = {query for queries in told for query in queries}
    return len(queries) if "gemini-3" in exchange.path else min(len(queries), 1)


def buckets(truth: Mapping[str, Any]) -> dict[str, Any]:
    """Exclusive parts of the truth's sums."""

    def count(name: str) -> int:
        return truth.get(name) or 0

    written = {name: count(name) for name in ("cache_write_5m", "cache_write_1h")}
    told = {to: count(name) for name, to in (_MEDIA | _MEDIA_OUT).items()}
    plain = count("input_tokens") - count("cache_read") - count("cache_write")
    if sum(told[to] for to in _MEDIA.values()) > plain:
        told |= dict.fromkeys(_MEDIA.values(), 0)  # part of them is cached, who knows how much
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
        "audio_seconds_in": count("audio_seconds"),
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
