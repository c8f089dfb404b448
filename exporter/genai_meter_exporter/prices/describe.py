"""Books, cards and costs as text for people."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from genai_meter.pricing import Cost, RateCard
from genai_meter.pricing.engine import Resolver
from genai_meter.pricing.overlay import FOREVER

from genai_meter_exporter.prices.calc import usd_text


def source_of(resolver: Resolver, entry: str) -> str:
    """Where a price came from: a page of the provider, or the source of a fact or an overlay entry."""
    if entry.startswith("genai:"):
        provider = entry.removeprefix("genai:").partition("/")[0]
        urls = resolver.book.sources(provider)
        return f"{resolver.book.base} ({urls[0]})" if urls else resolver.book.base
    label = entry.partition("#")[0].partition(">")[0]
    for known in resolver.entries:
        if known.label == label:
            layer = "facts" if known.layer == 0 else "overlay"
            return f"{layer}: {known.raw.get('source') or 'no source given'}"
    return "unknown"


def instant_text(ns: int) -> str:
    """Unix nanoseconds as an ISO instant; the ends of time as words."""
    if abs(ns) >= FOREVER:
        return "ever" if ns > 0 else "the beginning"
    return datetime.fromtimestamp(ns // 10**9, UTC).isoformat().replace("+00:00", "Z")


def cost_text(resolver: Resolver, cost: Cost) -> Iterator[str]:
    """A cost line by line, each with its price source."""
    for line in cost.lines:
        price = f"{line.quantity} × ${line.rate} / {line.per:,} = ${usd_text(line.list_pico)}"
        yield f"  {line.model}  {line.bucket}: {price}"
        if line.effective_pico != line.list_pico:
            yield f"      effective ${usd_text(line.effective_pico)}"
        for entry in line.entries:
            yield f"      {entry}  <- {source_of(resolver, entry)}"
    if cost.list_pico is None or cost.effective_pico is None:
        yield f"  no price: {', '.join(cost.reasons)}"
        return
    yield f"  list ${usd_text(cost.list_pico)}, effective ${usd_text(cost.effective_pico)}, status {cost.status}"
    if cost.reasons:
        yield f"  because: {', '.join(cost.reasons)}"


def card_text(resolver: Resolver, card: RateCard) -> Iterator[str]:
    """A rate card as a table."""
    yield f"{card.provider}  {card.model}  ({card.row})"
    yield f"  in force from {instant_text(card.valid_from)} until {instant_text(card.valid_until)}; book {card.book_id}"
    limits = [f"context window {card.context_window:,}"] if card.context_window else []
    limits += [f"output at most {card.max_output_tokens:,}"] if card.max_output_tokens else []
    limits += ["deprecated by its provider"] if card.deprecated else []
    if limits:
        yield f"  {', '.join(limits)}"
    for above, rates in card.rates():
        if len(card.rates()) > 1:
            yield f"  more than {above:,} input tokens:" if above else "  base:"
        for bucket, rate in rates.items():
            if not _shown(bucket, rates):
                continue
            discounted = rate.effective != rate.listed
            paid = f"  (effective x{float(rate.effective / rate.listed):.4g})" if discounted and rate.listed else ""
            yield f"    {bucket:<18} ${rate.text} / {rate.per:,}{paid}  {rate.entries[0]}"
    sources = dict.fromkeys(
        source_of(resolver, entry) for _, rates in card.rates() for rate in rates.values() for entry in rate.entries
    )
    yield from (f"  source: {source}" for source in sources)
    if card.reasons:
        yield f"  prices are estimated: {', '.join(card.reasons)}"


def _shown(bucket: str, rates: dict[str, Any]) -> bool:
    """Only buckets with a rate of their own, not those that fall back to it."""
    own: str = rates[bucket].entries[0]
    same = [name for name, rate in rates.items() if rate.entries == rates[bucket].entries]
    return bucket == same[0] or own.rpartition("#")[2] == bucket
