"""The usage object of OpenAI and of everybody who speaks its formats, into buckets.

Both generations (`prompt_tokens`/`completion_tokens`, `input_tokens`/`output_tokens`) and the
spellings of compatible providers are told apart by the fields present, not by the provider's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Final

from genai_meter.dialects.base import Json, Reading, fields
from genai_meter.dialects.buckets import AUDIO, IMAGE, NONE, TEXT, VIDEO, Tally, count, decimal_text
from genai_meter.usage import Quantity, Usage

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
    "cache_read_input_tokens",  # Databricks, LiteLLM
    "cached_prompt_text_tokens",  # xAI's native API
)
_CACHED: Final = frozenset(CACHED)
WRITTEN: Final = ("cache_creation_input_tokens", "cache_write_tokens")
"""Cache writes told beside the counts (Databricks, LiteLLM); they are part of the input."""
MODALITIES: Final = {
    "text_tokens": TEXT,
    "audio_tokens": AUDIO,
    "image_tokens": IMAGE,
    "video_tokens": VIDEO,
    "cached_text_tokens": TEXT,  # OpenAI's image tool
    "cached_image_tokens": IMAGE,
}
_DETAIL: Final = {
    "cached_tokens": "cached",
    "cache_read_input_tokens": "cached",  # Perplexity
    "reasoning_tokens": "reasoning",
    "cache_write_tokens": "written",
    "cache_creation_tokens": "written",  # LiteLLM
    "cache_creation_input_tokens": "written",  # Alibaba, Perplexity
}
"""Field of a `…_details` object → what it tells."""
_PREDICTED: Final = frozenset({"accepted_prediction_tokens", "rejected_prediction_tokens"})
"""Parts of the output that are billed like the rest of it."""
SEARCHES: Final = (
    ("server_tool_use", "web_search_requests"),
    ("server_tool_use_details", "web_search_requests"),
    ("server_side_tool_usage_details", "web_search_calls"),
)
_SEARCHES: Final = frozenset(name for name, _ in SEARCHES)
XAI_TOOLS: Final = (
    ("social_search", ("x_search_calls",)),
    ("file_search", ("file_search_calls", "document_search_calls")),
    ("code_exec", ("code_interpreter_calls",)),
)
"""Bucket → counts of xAI's own tools; calls of MCP servers cost nothing but tokens."""
SEARCH_TOOLS: Final = ("search_web", "web_search")
"""Tools of Perplexity's agents that search."""
WRITE_DETAILS: Final = ("cache_write_tokens_details", "cache_creation_token_details", "cache_creation")
"""Where OpenAI, LiteLLM and Alibaba tell the lifetime of what was written."""
WRITE_TTLS: Final = (
    ("cache_write_30m", "ttl_30m_tokens"),
    ("cache_write_12h", "ttl_12h_tokens"),
    ("cache_write_5m", "ephemeral_5m_input_tokens"),
    ("cache_write_1h", "ephemeral_1h_input_tokens"),
)

_COUNTS: Final = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens")
PLAIN: Final = frozenset((*_COUNTS, *INPUT_DETAILS, *OUTPUT_DETAILS))
"""Usage of these fields alone tells counts only."""
_BESIDE: Final = frozenset(
    {
        *("completion_time", "prompt_time", "queue_time", "total_time", "service_tier", "type"),
        *("cost", "cost_details", "cost_in_usd_ticks", "estimated_cost", "is_byok", "pydantic_ai_gateway"),
        *("num_sources_used", "num_server_side_tools_used", "context_details", "search_context_size"),
        *("prompt_cache_miss_tokens", "request_count", "draft_tokens", "audio_prompt_tokens", *_SEARCHES),
    }
)
"""Fields that change nothing of the counts: money, times, searches, parts that are counted elsewhere."""
_HARMLESS: Final = PLAIN | _BESIDE | _CACHED
_READ: Final = _HARMLESS | {"reasoning_tokens", "citation_tokens", "num_search_queries", *WRITTEN}

XAI_TICK: Final = 10
"""xAI reports cost in ticks of 1e-10 USD."""


def tally(usage: Json) -> Tally | None:
    """The token buckets of one usage object; None when it has no token counts."""
    told = fields(usage)
    buckets = _plain(told)
    if buckets is None:
        return _general(told)
    result = Tally()
    result.buckets = buckets
    return result


_chat: Final = itemgetter(
    "prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details"
)
_responses: Final = itemgetter(
    "input_tokens", "output_tokens", "total_tokens", "input_tokens_details", "output_tokens_details"
)


def counted(reading: Reading) -> list[Usage] | None:
    """The usage of nearly every chat: fields that tell counts and nothing else. None for all else."""
    told = reading.usage
    buckets = _plain(told) if told and PLAIN.issuperset(told) else None
    return None if buckets is None else [Usage(buckets)]


def _plain(told: Mapping[str, Json]) -> dict[str, Quantity] | None:
    """Nearly every call: totals that add up, cached and reasoning tokens at most. None for all else."""
    try:
        total_in, total_out, total, inward, outward = (_chat if "prompt_tokens" in told else _responses)(told)
    except KeyError:
        return None
    if type(total_in) is not int or type(total_out) is not int or total_in < 0 or total_out < 0:
        return None
    if inward is None or total != total_in + total_out:
        return None
    cached = reasoning = 0
    details = fields(inward)
    for name, value in details.items() if any(details.values()) else ():
        if value:
            if name != "cached_tokens" or type(value) is not int or not 0 < value <= total_in:
                return None
            cached = value
    if len(told) > len(_COUNTS) and (not _HARMLESS.issuperset(told) or (not cached and not _CACHED.isdisjoint(told))):
        return None
    if outward is not None:
        details = fields(outward)
        for name, value in details.items() if any(details.values()) else ():
            if value and name not in _PREDICTED:
                if name != "reasoning_tokens" or type(value) is not int or not 0 < value <= total_out:
                    return None
                reasoning = value
    buckets: dict[str, Quantity] = {}
    if cached:
        buckets["cache_read"] = cached
    if total_in > cached:
        buckets["input"] = total_in - cached
    if reasoning:
        buckets["output_reasoning"] = reasoning
    if total_out > reasoning:
        buckets["output"] = total_out - reasoning
    return buckets


def _general(told: Mapping[str, Json]) -> Tally | None:
    totals = _totals(told)
    if totals is None:
        return None
    total_in, total_out, total = totals
    inward = _parts(told, INPUT_DETAILS)
    outward = _parts(told, OUTPUT_DETAILS)
    inward.cached = inward.cached or _first(told, CACHED)
    inward.written = inward.written or _first(told, WRITTEN)
    outward.reasoning = outward.reasoning or count(told.get("reasoning_tokens"))

    result = Tally()
    if told.get("citation_tokens") is not None:
        # Perplexity's research: what it has read and thought is beside the answer, with rates of its own.
        result.add("output_citation", count(told["citation_tokens"]))
        result.add("output_reasoning", outward.reasoning)
        outward.reasoning = 0
    if total and total not in (total_in + total_out, total_in + total_out + sum(map(int, result.buckets.values()))):
        total_in, total_out = _arbitrate(result, total, total_in, total_out, inward, outward.reasoning)
    if inward.modalities or inward.written or inward.cached > total_in:
        parts = inward.details if "cached_tokens_details" in inward.details else told
        result.input(
            total_in,
            cached=inward.cached,
            writes=_writes(inward) if inward.written else NONE,
            modalities=inward.modalities,
            cached_modalities=_parts(parts, ("cached_tokens_details",)).modalities,
        )
    else:
        result.add("cache_read", inward.cached)
        result.add("input", total_in - inward.cached)
    if outward.modalities or outward.reasoning > total_out:
        result.output(total_out, reasoning=outward.reasoning, modalities=outward.modalities)
    else:
        result.add("output_reasoning", outward.reasoning)
        result.add("output", total_out - outward.reasoning)
    if not told.keys() <= _READ:
        _unread(result, told)
    return result


def _totals(told: Mapping[str, Json]) -> tuple[int, int, int] | None:
    """Input, output and their total as told; None when there are none that can be read."""
    incoming = told.get("prompt_tokens")
    if incoming is None:
        incoming = told.get("input_tokens")
    outgoing = told.get("completion_tokens")
    if outgoing is None:
        outgoing = told.get("output_tokens")
    reported = told.get("total_tokens")
    if incoming is None and outgoing is None:
        incoming = reported  # embeddings and rerank of some providers tell the total only
    total_in, total_out = count(incoming), count(outgoing)
    if not total_in and not total_out and all(value is None or value != 0 for value in (incoming, outgoing)):
        return None
    return total_in, total_out, count(reported)


def _first(told: Mapping[str, Json], names: tuple[str, ...]) -> int:
    """The first count of these names that is there and not zero."""
    return next((n for name in names if name in told and (n := count(told[name]))), 0)


def _unread(result: Tally, told: Mapping[str, Json]) -> None:
    """Name what looks like something billed and has no meaning here: it must not be free in silence."""
    for name, value in told.items():
        if name not in _READ and name.endswith(("_tokens", "_requests", "_queries")) and count(value):
            result.rule(f"unread_count:{name[:40]}")
    for name, used in fields(told.get("tool_calls_details")).items():
        if name not in SEARCH_TOOLS and count(fields(used).get("invocation")):
            result.rule(f"unread_tool:{name[:40]}")


def usages(reading: Reading) -> list[Usage]:
    """The usage of an answer that bills one model and tokens only."""
    if reading.usage is None:
        return []
    told = fields(reading.usage)
    buckets = _plain(told)
    if buckets is not None:
        return [Usage(buckets)]
    result = _general(told)
    return [] if result is None else [result.usage()]


def evidence(reading: Reading, usage: Json) -> None:
    """What else a usage object tells: a reported cost, the tier that served."""
    told = fields(usage)
    if PLAIN.issuperset(told):
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
    """Note the tier that served; `auto` is what was asked for, before it is decided."""
    if type(tier) is str and tier and tier != "auto":
        reading.service_tier = tier
        reading.context["service_tier"] = tier


def web_searches(usage: Json) -> int:
    """Searches that the usage object itself counts (OpenRouter, xAI)."""
    told = fields(usage)
    if told.get("citation_tokens") is not None:
        return count(told.get("num_search_queries"))  # Perplexity's research; a fee covers those of its other models
    if "tool_calls_details" in told:
        used = fields(told["tool_calls_details"])
        return sum(count(fields(used.get(name)).get("invocation")) for name in SEARCH_TOOLS)
    if _SEARCHES.isdisjoint(told):
        return 0
    for name, key in SEARCHES:
        if name in told and (n := count(fields(told[name]).get(key))):
            return n
    return 0


def hosted_tools(usage: Json) -> list[tuple[str, int]]:
    """Calls of the provider's own tools that the usage object counts, by bucket."""
    found = [("web_search", web_searches(usage))]
    details = fields(usage).get("server_side_tool_usage_details")
    if details is not None:
        told = fields(details)
        found += [(bucket, sum(count(told.get(name)) for name in names)) for bucket, names in XAI_TOOLS]
    return [(bucket, n) for bucket, n in found if n]


def image_tally(usage: Json) -> Tally | None:
    """The buckets of an image model's usage: its output is images unless it says otherwise."""
    told = fields(usage)
    result = tally(told)
    if result is not None and all(told.get(name) is None for name in OUTPUT_DETAILS):
        told_out = result.buckets.pop("output", 0)
        result.output(int(told_out), modalities={IMAGE: int(told_out)})
    return result


class _Parts:
    """What a `…_details` object tells of its total."""

    __slots__ = ("cached", "details", "modalities", "reasoning", "written")

    def __init__(self) -> None:
        self.details: Mapping[str, Json] = NONE
        self.cached = self.written = self.reasoning = 0
        self.modalities: Mapping[str, int] = NONE


def _parts(told: Mapping[str, Json], names: tuple[str, ...]) -> _Parts:
    """Read the first of `names` that is there, in one pass over its fields."""
    parts = _Parts()
    details = next((d for name in names if (d := told.get(name)) is not None), None)
    if details is None:
        return parts
    parts.details = fields(details)
    for name, value in parts.details.items():
        if not value:
            continue
        if name in _DETAIL:
            setattr(parts, _DETAIL[name], count(value))
        elif name in MODALITIES and (n := count(value)):
            parts.modalities = {**parts.modalities, MODALITIES[name]: n}
    return parts


def _arbitrate(
    result: Tally, total: int, total_in: int, total_out: int, inward: _Parts, reasoning: int
) -> tuple[int, int]:
    """Which part was reported outside its total: `total_tokens` decides, else it is left as told and named."""
    gap = total - total_in - total_out
    if gap < 0:
        result.rule("total_below_parts")
    elif gap == reasoning:
        return total_in, total_out + reasoning  # xAI chat
    elif gap in (inward.modalities.get(AUDIO, 0), inward.cached, inward.written, inward.cached + inward.written):
        return total_in + gap, total_out  # audio: Mistral Voxtral; cache: gateways to Claude
    else:
        result.rule("total_over_parts")
    return total_in, total_out


def _writes(inward: _Parts) -> Mapping[str, int]:
    """Cache writes by lifetime, as far as told."""
    ttls = next((fields(d) for name in WRITE_DETAILS if (d := inward.details.get(name)) is not None), NONE)
    writes = {bucket: n for bucket, name in WRITE_TTLS if (n := count(ttls.get(name)))}
    rest = inward.written - sum(writes.values())
    if rest < 0:
        # More by lifetime than in all is a contradiction: nothing is known by lifetime.
        return {"cache_write": inward.written}
    return {**writes, "cache_write": rest} if rest else writes
