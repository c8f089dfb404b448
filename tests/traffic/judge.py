"""What a run must show for each exchange: the same to the caller, the true usage, one span, one event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.traffic import known
from tests.traffic.families import beyond, metered
from tests.traffic.recordings import Exchange, fields

METERED: Final = metered()

PREFIX: Final = "genai_meter.usage."
SOURCE: Final = "genai_meter.usage.source"

COUNTS: Final = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cache_read": "gen_ai.usage.cache_read.input_tokens",
    "cache_write": "gen_ai.usage.cache_write.input_tokens",
    "reasoning": "gen_ai.usage.reasoning.output_tokens",
}
"""Field of the truth → attribute of the usage event, inclusive as the conventions want it."""

PROCESSED: Final = {
    "input_tokens": "genai_meter.processed.input_tokens",
    "output_tokens": "genai_meter.processed.output_tokens",
    "cache_read": "genai_meter.processed.cache_read_tokens",
}
"""The same, where something else than the tokens is billed."""

BILLED: Final = {"billed_input": "gen_ai.usage.input_tokens", "billed_output": "gen_ai.usage.output_tokens"}
"""Field of the truth → attribute, where the billed tokens are told beside the processed ones."""

PARTS: Final = {
    "cache_write_5m": ("cache_write_5m",),
    "cache_write_1h": ("cache_write_1h",),
    "audio_in": ("input_audio", "cache_read_audio"),
    "audio_out": ("output_audio",),
    "image_in": ("input_image", "cache_read_image"),
    "image_out": ("output_image",),
    "audio_seconds": ("audio_seconds_in",),
    "web_search_requests": ("web_search",),
    "pages": ("pages",),
    "search_units": ("rerank_search",),
}
"""Field of the truth → buckets of the usage event that sum to it."""


@dataclass(slots=True)
class Verdict:
    """One exchange in one form."""

    exchange: Exchange
    form: str
    skipped: str | None = None
    problems: dict[str, str] = field(default_factory=dict[str, str])
    """`usage`, `values`, `broken`, `spans` → what is wrong."""
    known: dict[str, str] = field(default_factory=dict[str, str])
    """`usage`, `values` → what cannot be equal, and why (`known`)."""
    usage_known: bool = False
    """The provider told a usage, so that there was something to compare."""
    price: str | None = None
    """Status of the cost; None for what is not metered."""
    model: str | None = None
    """The model that was billed, as the event names it."""


def judge(exchange: Exchange, form: str, without: Mapping[str, Any], with_plugin: Mapping[str, Any]) -> Verdict:
    """Compare one exchange, driven without and with the plugin."""
    verdict = Verdict(exchange, form)
    if "skip" in with_plugin:
        verdict.skipped = with_plugin["skip"]
        return verdict
    before, after = without["items"], with_plugin["items"]
    if [item[2] for item in before] != [item[2] for item in after]:
        verdict.problems["broken"] = (
            f"raises {_raised(after) or 'nothing'}, without the plugin {_raised(before) or 'nothing'}"
        )
    elif before != after:
        place = next((i for i, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), len(before))
        text, why = f"item {place} of {len(before)} / {len(after)}", known.values(exchange)
        if why is None:
            verdict.problems["values"] = text
        else:
            verdict.known["values"] = f"{text}: {why}"
    events, spans = with_plugin["events"], with_plugin["spans"]
    more = beyond(exchange)
    metered, truth = _metered(exchange) or more is not None, exchange.truth or more or None
    if len(events) != int(metered):
        verdict.problems["usage"] = f"{len(events)} usage events"
    if list(spans.values()) != [1] * int(metered):
        verdict.problems["spans"] = f"spans ended: {sorted(spans.values())}"
    if metered and len(events) == 1:
        verdict.usage_known = truth is not None
        verdict.price = events[0].get("genai_meter.cost.status", "none")
        verdict.model = events[0].get("gen_ai.response.model") or events[0].get("gen_ai.request.model")
        wrong = usage_difference(truth, events[0])
        excused = known.usage(exchange) if wrong else {}
        for name, text in wrong.items():
            place, why = (verdict.known, excused[name]) if name in excused else (verdict.problems, None)
            told = "; ".join(part for part in (place.get("usage"), f"{name} {text}") if part)
            place["usage"] = f"{told} ({why})" if why else told
    return verdict


def _metered(exchange: Exchange) -> bool:
    """A background response is billed when it is read, not when it is asked for."""
    background = fields(exchange.request).get("background") is True
    return exchange.operation in METERED and (exchange.streaming or not background)


def usage_difference(truth: Mapping[str, Any] | None, event: Mapping[str, Any]) -> dict[str, str]:
    """Where a usage event differs from the truth: field → what it is not and what it is."""
    if truth is None:
        told = [name for name in COUNTS.values() if event.get(name)] if event.get(SOURCE) == "provider" else []
        return dict.fromkeys(told, "not told by the provider")
    expected, other_models = _with_iterations(truth)
    counts = COUNTS | {name: attribute for name, attribute in BILLED.items() if name in expected}
    if PROCESSED["input_tokens"] in event:
        counts |= PROCESSED
    wrong: dict[str, tuple[object, object]] = {
        name: (expected.get(name) or 0, event.get(attribute, 0))
        for name, attribute in counts.items()
        if (expected.get(name) or 0) != event.get(attribute, 0)
    }
    for name, buckets in PARTS.items():
        told = sum(event.get(PREFIX + bucket, 0) for bucket in buckets)
        if expected.get(name) is not None and expected[name] != told:
            wrong[name] = (expected[name], told)
    if other_models and "genai_meter.usage.models" not in event:
        wrong["models"] = (other_models, None)
    if any(expected.get(name) for name in COUNTS) and event.get(SOURCE) != "provider":
        wrong["source"] = ("provider", event.get(SOURCE))
    return {name: f"{was} not {now}" for name, (was, now) in wrong.items()}


def _with_iterations(truth: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The truth is of the top level, which leaves out compactions (same model) and advisors (their own).

    The event's inclusive counts are of the whole call, whatever the model.
    """
    expected = dict(truth)
    models: list[str] = []
    for entry in truth.get("iterations") or ():
        if entry["type"] == "advisor_message":
            models.append(entry["model"])
        if entry["type"] in ("advisor_message", "compaction"):
            read, written = entry.get("cache_read_input_tokens") or 0, entry.get("cache_creation_input_tokens") or 0
            for name, more in (
                ("input_tokens", entry["input_tokens"] + read + written),
                ("output_tokens", entry["output_tokens"]),
                ("cache_read", read),
                ("cache_write", written),
            ):
                expected[name] = (expected.get(name) or 0) + more
            # The truth file does not split these by lifetime.
            expected.pop("cache_write_5m", None)
            expected.pop("cache_write_1h", None)
    return expected, models


def _raised(items: list[Any]) -> str | None:
    return next((item[0] for item in items if item[2]), None)
