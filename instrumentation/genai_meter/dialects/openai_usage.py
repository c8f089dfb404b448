"""The usage object of OpenAI and of everybody who speaks its formats, into buckets.

Both generations (`prompt_tokens`/`completion_tokens`, `input_tokens`/`output_tokens`) and the
spellings of compatible providers are told apart by the fields present, not by the provider's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from genai_meter.dialects.base import Json, Reading, fields
from genai_meter.dialects.buckets import AUDIO, IMAGE, NONE, TEXT, VIDEO, Tally, count, decimal_text
from genai_meter.usage import Usage

INPUT_DETAILS: Final = (
    "prompt_tokens_details",
    "input_tokens_details",
    "input_token_details",  # realtime, transcription
    "prompt_token_details",  # assistants, Writer
)
OUTPUT_DETAILS: Final = (
    "completion_tokens_details",
    "output_tokens_details",
    "output_token_details",
    "completion_token_details",
)
CACHED: Final = (
    "prompt_cache_hit_tokens",  # DeepSeek
    "num_cached_tokens",  # Mistral
    "cached_tokens",  # Together, Moonshot, TGI
)
MODALITIES: Final = (
    (TEXT, "text_tokens"),
    (AUDIO, "audio_tokens"),
    (IMAGE, "image_tokens"),
    (VIDEO, "video_tokens"),
)
SEARCHES: Final = (
    ("server_tool_use", "web_search_requests"),
    ("server_tool_use_details", "web_search_requests"),
    ("server_side_tool_usage_details", "web_search_calls"),
)
WRITE_TTLS: Final = (("cache_write_30m", "ttl_30m_tokens"), ("cache_write_12h", "ttl_12h_tokens"))

_COUNTS: Final = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens")
_PLAIN: Final = frozenset((*_COUNTS, *INPUT_DETAILS, *OUTPUT_DETAILS))
"""Usage of these fields alone tells counts only."""

XAI_TICK: Final = 10
"""xAI reports cost in ticks of 1e-10 USD."""


def tally(usage: Json) -> Tally | None:
    """The token buckets of one usage object; None when it has no token counts."""
    told = fields(usage)
    incoming = told.get("prompt_tokens")
    if incoming is None:
        incoming = told.get("input_tokens")
    outgoing = told.get("completion_tokens")
    if outgoing is None:
        outgoing = told.get("output_tokens")
    reported = told.get("total_tokens")
    if incoming is None and outgoing is None:
        if reported is None:
            return None
        incoming = reported  # embeddings and rerank of some providers tell the total only
    total_in, total_out, total = count(incoming), count(outgoing), count(reported)
    inward, outward = _details(told, INPUT_DETAILS), _details(told, OUTPUT_DETAILS)
    cached = count(inward.get("cached_tokens")) if inward else 0
    if not cached:
        for name in CACHED:
            if name in told:
                cached = cached or count(told[name])
    writes = _writes(inward) if inward else NONE
    modalities = _modalities(inward) if inward else NONE
    reasoning = count(outward.get("reasoning_tokens")) if outward else 0
    out_modalities = _modalities(outward) if outward else NONE

    result = Tally()
    if total and total != total_in + total_out:
        total_in, total_out = _arbitrate(result, total, total_in, total_out, cached, reasoning, modalities)
    if not writes and not modalities and cached <= total_in:
        # Nearly every call: no need for the general split.
        result.add("cache_read", cached)
        result.add("input", total_in - cached)
    else:
        cached_parts = fields(inward.get("cached_tokens_details")) if inward else NONE
        result.input(
            total_in,
            cached=cached,
            writes=writes,
            modalities=modalities,
            cached_modalities=_modalities(cached_parts) if cached_parts else NONE,
        )
    if reasoning or out_modalities:
        result.output(total_out, reasoning=reasoning, modalities=out_modalities)
    else:
        result.add("output", total_out)
    return result


def usages(reading: Reading) -> list[Usage]:
    """The usage of an answer that bills one model and tokens only."""
    if reading.usage is None:
        return []
    result = tally(reading.usage)
    return [] if result is None else [result.usage()]


def evidence(reading: Reading, usage: Json) -> None:
    """What else a usage object tells: a reported cost, the tier that served."""
    told = fields(usage)
    if told.keys() <= _PLAIN:
        return
    cost = told.get("cost")
    if cost is not None and type(cost) not in (int, float):
        cost = fields(cost).get("total_cost")  # Perplexity
    if cost is None:
        cost = told.get("estimated_cost")  # DeepInfra
    ticks = told.get("cost_in_usd_ticks")
    if type(ticks) is int and ticks >= 0:
        reading.reported_cost_usd = f"{ticks // 10**XAI_TICK}.{ticks % 10**XAI_TICK:010d}"
    elif cost is not None:
        reading.reported_cost_usd = decimal_text(cost)
    tier = told.get("service_tier")
    if type(tier) is str:
        served_tier(reading, tier)
    size = told.get("search_context_size")
    if type(size) is str:
        reading.context["search_context_size"] = size


def served_tier(reading: Reading, tier: Json) -> None:
    """Note the tier that served."""
    if type(tier) is str and tier:
        reading.service_tier = tier
        reading.context["service_tier"] = tier


def web_searches(usage: Json) -> int:
    """Searches that the usage object itself counts (OpenRouter, xAI)."""
    told = fields(usage)
    for name, key in SEARCHES:
        if name in told and (n := count(fields(told[name]).get(key))):
            return n
    return 0


def _arbitrate(
    result: Tally,
    total: int,
    total_in: int,
    total_out: int,
    cached: int,
    reasoning: int,
    modalities: Mapping[str, int],
) -> tuple[int, int]:
    """Which part was reported outside its total: `total_tokens` decides, else it is left as told and named."""
    gap = total - total_in - total_out
    if gap < 0:
        result.rule("total_below_parts")
    elif gap == reasoning:
        return total_in, total_out + reasoning  # xAI chat
    elif gap == modalities.get(AUDIO, 0):
        return total_in + gap, total_out  # Mistral Voxtral
    elif gap == cached:
        return total_in + cached, total_out
    else:
        result.rule("total_over_parts")
    return total_in, total_out


def _details(told: Mapping[str, Json], names: tuple[str, ...]) -> Mapping[str, Json]:
    for name in names:
        details = told.get(name)
        if details is not None:
            return fields(details)
    return NONE


def _modalities(details: Mapping[str, Json]) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for modality, name in MODALITIES:
        told = details.get(name)
        if told and (n := count(told)):
            found[modality] = n
    return found


def _writes(details: Mapping[str, Json]) -> Mapping[str, int]:
    told = details.get("cache_write_tokens")
    written = count(told) if told else 0
    if not written:
        return NONE
    ttls = fields(details.get("cache_write_tokens_details"))
    writes = {bucket: n for bucket, name in WRITE_TTLS if (n := count(ttls.get(name)))}
    rest = written - sum(writes.values())
    if rest:
        # More by TTL than written in all is a contradiction; the sum then counts nothing by TTL.
        writes = {"cache_write": written} if rest < 0 else {**writes, "cache_write": rest}
    return writes
