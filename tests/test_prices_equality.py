"""The compiled book prices as genai-prices does, over its whole table.

Excluded, each with its reason: Groq's two whisper rows (their ten-second minimum is code in
genai-prices, an entry of our facts here), models without any price (genai-prices says 0, we say
unpriced). The facts layer is off: it exists to differ.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from genai_meter.pricing import RateCard
from genai_meter.pricing.book import read_book
from genai_meter.pricing.engine import Resolver
from genai_meter.pricing.units import DIMENSIONS
from genai_meter.usage import Usage
from genai_meter_exporter.prices import compiler
from genai_prices import Usage as TheirUsage
from genai_prices.data import providers
from genai_prices.units import _get_registry  # pyright: ignore[reportPrivateUsage]

DATES = (
    datetime(2024, 7, 1, 12, tzinfo=UTC),
    datetime(2025, 6, 10, 0, tzinfo=UTC),
    datetime(2026, 8, 18, 2, tzinfo=UTC),
    datetime(2026, 10, 11, 23, 59, 59, tzinfo=UTC),
    datetime(2026, 11, 20, 12, tzinfo=UTC),
    datetime(2027, 2, 1, 7, tzinfo=UTC),
)
QUANTITIES = (1, 7, 777, 1234, 99_999, 250_001, 1_000_003)
THEIR_UNITS = {unit.usage_key: unit for unit in _get_registry().units.values()}
THEIR_KEY = {
    compiler.UNITS[unit.price_key]: key for key, unit in THEIR_UNITS.items() if unit.price_key in compiler.UNITS
}


def _their_usage(buckets: dict[str, int]) -> TheirUsage:
    """Every unit as the sum of the exclusive buckets below it: genai-prices counts inclusively."""
    counts = {
        key: sum(
            quantity
            for bucket, quantity in buckets.items()
            if unit.dimensions.items() <= THEIR_UNITS[THEIR_KEY[bucket]].dimensions.items()
        )
        for key, unit in THEIR_UNITS.items()
        if key != "requests"
    }
    return TheirUsage(**counts)


def _contexts(model: Any) -> Iterator[dict[str, str]]:
    yield {}
    yield from (dict(variant.when) for variant in model.price_variants or ())
    if model.price_variants:
        yield {"service_tier": "default", "processing": "batch"}
        yield {"service_tier": "nonesuch"}


def _cases(seed: int) -> Iterator[tuple[Any, Any, datetime, dict[str, str]]]:
    chooser = random.Random(seed)
    for provider in providers:
        for model in provider.models:
            if provider.id == "groq" and model.id.startswith("whisper"):
                continue
            for context in _contexts(model):
                for at in DATES if context or isinstance(model.prices, list) else chooser.sample(DATES, 4):
                    yield provider, model, at, context


def test_book_equals_genai_prices_over_its_whole_table() -> None:
    resolver = Resolver(read_book(), facts=False)
    chooser = random.Random(20261122)
    priced = unpriced = 0
    differences: list[str] = []
    for provider, model, at, context in _cases(7):
        at_ns = int(at.timestamp()) * 10**9
        card = resolver.card(provider.id, model.id, at_ns, context)
        if not isinstance(card, RateCard) or card.row != f"{provider.id}/{model.id}":
            unpriced += 1
            continue
        rates = card.rates()[0][1]
        candidates = [bucket for bucket in rates if bucket in THEIR_KEY and bucket != "request"]
        if not candidates:
            unpriced += 1
            continue
        chosen = chooser.sample(candidates, min(len(candidates), chooser.randint(1, 6)))
        buckets = {bucket: chooser.choice(QUANTITIES) for bucket in chosen}
        theirs = model.calc_price(
            _their_usage(buckets), provider, genai_request_timestamp=at, price_context=context or None
        ).total_price
        ours = card.price(Usage(dict(buckets)))
        assert ours.list_pico is not None
        # Half a pico of rounding a line, and half of the ninth place of a rate a unit.
        allowed = Fraction(len(ours.lines), 2) + sum(Fraction(q, 2000) for q in buckets.values())
        if abs(Fraction(theirs) * 10**12 - ours.list_pico) > allowed:
            differences.append(f"{provider.id}/{model.id} {at} {context} {buckets}: {theirs} != {ours}")
        priced += 1
    assert differences[:5] == []
    assert priced >= 10_000
    assert unpriced < priced / 10


def test_every_bucket_of_ours_that_genai_prices_knows_means_the_same() -> None:
    translated = {
        bucket: dict(THEIR_UNITS[key].dimensions) for bucket, key in THEIR_KEY.items() if bucket in DIMENSIONS
    }
    assert {bucket: dict(DIMENSIONS[bucket]) for bucket in translated} == translated


def test_shipped_book_is_what_the_compiler_makes() -> None:
    found, base, data_date = compiler.installed()
    assert read_book().book_id.startswith("pb1:genai-prices-0.2.3:")
    content = compiler.compile_book(found, base, data_date)
    assert content == compiler.compile_book(list(found), base, data_date)
    import hashlib

    assert read_book().sha256 == hashlib.sha256(content).hexdigest(), "the book is stale: run `make prices`"
