"""Prices in the application: units, tiers, windows, contexts, names, statuses, threads."""

from __future__ import annotations

import decimal
import json
import subprocess
import sys
import threading
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from genai_meter.pricing import Cost, Line, RateCard, add_costs, build, overlay
from genai_meter.pricing.book import Book, BookError, read_book
from genai_meter.pricing.build import STALE_AFTER_DAYS
from genai_meter.pricing.cost import usd
from genai_meter.pricing.engine import MAX_CARDS, Resolver
from genai_meter.pricing.overlay import instant
from genai_meter.pricing.units import DIMENSIONS, FALLBACKS, decimal_text
from genai_meter.pricing.windows import Window, minutes_of_day, zone
from genai_meter.usage import BUCKETS, OUTPUT_BUCKETS, Usage
from hypothesis import given
from hypothesis import strategies as st
from prices_kit import NOON, cost, effective, listed, resolver, shipped

PRICES = resolver()


# --- money and units ----------------------------------------------------------------------------------
def test_money_is_integers_and_never_the_callers_decimal_context() -> None:
    with decimal.localcontext() as context:
        context.prec = 2
        context.traps[decimal.Inexact] = True
        found = cost(PRICES, "openai", "gpt-4.1", input=123_456_789, cache_read=3, output=1)
        audio = cost(PRICES, "groq", "whisper-large-v3", audio_seconds_in=Decimal("12.345"))
    assert found.list_pico == 123_456_789 * 2_000_000 + 3 * 500_000 + 8_000_000
    assert found.effective_pico == found.list_pico
    # 12.345 s at 0.111 an hour
    assert audio.list_pico == round(Fraction("12.345") * Fraction("0.111") * 10**12 / 3600)


def test_a_line_is_rounded_half_even_once() -> None:
    # 0.0833333333 a million is not an integer of pico-USD a token: 3 tokens are 249999.9999, 250000 rounded.
    entries = """
        - id: odd
          kind: price
          match: {provider: local, model: m}
          effective_from: 2026-01-01
          rates: {input: {usd: "0.0000005", per: 1000000}, output: {usd: "0.0000015", per: 1000000}}
    """
    found = cost(resolver(entries), "local", "m", input=1, output=1)
    # 0.5 and 1.5 pico-USD: both go to the even neighbour.
    assert [line.list_pico for line in found.lines] == [0, 2]
    assert found.list_pico == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(0), "0"),
        (Fraction(7, 4), "1.75"),
        (Fraction(1, 1000), "0.001"),
        (Fraction(-5, 2), "-2.5"),
        (Fraction(12), "12"),
    ],
)
def test_decimal_text_is_plain(value: Fraction, text: str) -> None:
    assert decimal_text(value) == text


def test_every_bucket_of_the_usage_has_dimensions_and_falls_back_to_what_contains_it() -> None:
    assert set(BUCKETS) <= set(DIMENSIONS)
    assert FALLBACKS["cache_read_audio"] == ("cache_read_audio", "cache_read", "input_audio", "input")
    assert FALLBACKS["cache_write_12h"] == ("cache_write_12h", "cache_write", "input")
    assert FALLBACKS["tool_prompt"] == ("tool_prompt", "input")
    assert FALLBACKS["output_reasoning"] == ("output_reasoning", "output")
    assert FALLBACKS["audio_seconds_in"] == ("audio_seconds_in", "audio_seconds")
    assert all(FALLBACKS[bucket][-1] == "output" for bucket in OUTPUT_BUCKETS)


def test_usd_is_exact_at_twelve_places() -> None:
    assert usd(4_686_500_000) == Decimal("0.0046865")
    assert str(usd(-1)) == "-1E-12"
    with decimal.localcontext() as context:
        context.prec = 3
        assert usd(1_234_567_890_123_456) == Decimal("1234.567890123456")


# --- tiers, dates, windows ----------------------------------------------------------------------------
def test_tier_counts_all_input_and_needs_strictly_more() -> None:
    at = cost(PRICES, "openai", "gpt-6-sol", input=72_000, cache_read=200_000, output=1000)
    over = cost(PRICES, "openai", "gpt-6-sol", input=72_000, cache_read=200_001, output=1000)
    assert listed(at) == Decimal("0.144") + Decimal("0.04") + Decimal("0.01")
    assert listed(over) == Decimal("0.288") + 200_001 * Decimal("0.0000004") + Decimal("0.015")
    assert [line.entries[0] for line in over.lines] == [
        "genai:openai/gpt-6-sol@input>272000",
        "genai:openai/gpt-6-sol@cache_read>272000",
        "genai:openai/gpt-6-sol@output>272000",
    ]


def test_the_price_in_force_at_the_start_of_the_call_holds() -> None:
    before = cost(PRICES, "openai", "gpt-5.6-luna", "2026-07-29T23:59:59.999999Z", input=100_000)
    after = cost(PRICES, "openai", "gpt-5.6-luna", "2026-07-30T00:00:00Z", input=100_000)
    assert (listed(before), listed(after)) == (Decimal("0.1"), Decimal("0.02"))
    assert after.lines[0].entries == ("genai:openai/gpt-5.6-luna@input#2026-07-30",)


@pytest.mark.parametrize(
    ("at", "input_usd"),
    [
        ("2026-11-20T00:59:59Z", "0.15"),  # Friday, before the peak
        ("2026-11-20T01:00:00Z", "0.3"),
        ("2026-11-20T03:59:59Z", "0.3"),
        ("2026-11-20T04:00:00Z", "0.15"),
        ("2026-11-20T06:00:00Z", "0.3"),
        ("2026-11-20T10:00:00Z", "0.15"),
        ("2026-11-21T02:00:00Z", "0.15"),  # Saturday
        ("2026-11-22T08:00:00Z", "0.15"),  # Sunday
        ("2026-11-23T02:00:00Z", "0.3"),  # Monday
        ("2026-08-22T02:00:00Z", "0.44"),  # the Saturday before weekends became off-peak
        ("2026-08-23T02:00:00Z", "0.22"),
        ("2026-08-18T02:00:00Z", "0.44"),
        ("2026-08-18T05:00:00Z", "0.22"),
        ("2026-05-01T02:00:00Z", "0.14"),  # before there were peaks
    ],
)
def test_deepseek_peaks_and_weekends_on_the_clock_of_beijing(at: str, input_usd: str) -> None:
    assert listed(cost(PRICES, "deepseek", "deepseek-v4-flash", at, input=1_000_000)) == Decimal(input_usd)


def test_a_card_is_valid_until_the_next_change_of_price() -> None:
    card = PRICES.card("deepseek", "deepseek-v4-flash", instant("2026-11-20T02:30:00Z"), {})
    assert (card.valid_from, card.valid_until) == (instant("2026-11-20T01:00:00Z"), instant("2026-11-20T04:00:00Z"))


def test_a_book_becomes_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "STALE_AFTER_DAYS", STALE_AFTER_DAYS)
    prices = resolver()
    stale = f"{date.fromisoformat(prices.book.data_date[:10]) + timedelta(45)}T00:00:00Z"
    assert prices.card("openai", "gpt-4.1", NOON, {}).valid_until == instant(stale)
    found = cost(prices, "openai", "gpt-4.1", stale, input=10)
    assert (found.status, found.reasons) == ("estimated", ("stale_book",))
    assert found.effective_pico


@given(
    st.integers(min_value=0, max_value=2_000_000_000),
    st.sets(st.integers(min_value=0, max_value=6)),
    st.integers(min_value=0, max_value=1439),
    st.integers(min_value=1, max_value=1440),
    st.sampled_from(["UTC", "+08:00", "-03:30", "Europe/Berlin", "America/New_York"]),
)
def test_a_window_holds_through_its_whole_span(seconds: int, days: set[int], start: int, end: int, name: str) -> None:
    window = Window(frozenset(days), start, end, zone(name))
    at = seconds * 10**9
    span = window.span(at)
    assert span.start_ns <= at < span.end_ns
    for inside in (span.start_ns, (span.start_ns + span.end_ns) // 2, span.end_ns - 1):
        assert window.span(inside).active == span.active


def test_wrapping_window_belongs_to_the_day_it_starts_on() -> None:
    window = Window(frozenset({4}), minutes_of_day("22:00"), minutes_of_day("02:00"), zone("UTC"))
    opened = [
        at
        for at in (
            "2026-11-20T21:59Z",
            "2026-11-20T22:00Z",
            "2026-11-21T01:59Z",
            "2026-11-21T02:00Z",
            "2026-11-21T22:00Z",
        )
        if window.span(instant(at)).active
    ]
    assert opened == ["2026-11-20T22:00Z", "2026-11-21T01:59Z"]


# --- statuses -----------------------------------------------------------------------------------------
def test_a_bucket_without_a_price_makes_the_cost_partial_and_is_named() -> None:
    found = cost(PRICES, "openai", "gpt-4-turbo", input=1000, web_search=10)
    assert (found.status, found.reasons) == ("partial", ("unpriced_bucket:web_search",))
    assert [line.bucket for line in found.lines] == ["input"]
    alone = cost(PRICES, "openai", "gpt-4-turbo", web_search=10)
    assert (alone.status, alone.effective_pico) == ("unpriced", None)
    assert cost(PRICES, "openai", "gpt-4-turbo", input=1000, web_search=0).status == "exact"


def test_audio_at_a_text_rate_is_an_assumption() -> None:
    found = cost(PRICES, "openai", "gpt-4o-mini-audio-preview", input_audio=1000)
    assert (found.status, found.reasons) == ("estimated", ("rate_assumed:input_audio",))
    listed_audio = cost(PRICES, "openai", "gpt-4o-audio-preview", input_audio=1_000_000, output_audio=1_000_000)
    assert (listed(listed_audio), listed_audio.status) == (Decimal(120), "exact")


def test_inferred_usage_makes_the_cost_estimated() -> None:
    usage = Usage({"input": 10}, inferred=("cached_above_input",))
    found = PRICES.price("openai", "gpt-4.1", [usage], NOON, {})
    assert (found.status, found.reasons) == ("estimated", ("usage_inferred:cached_above_input",))


def test_free_has_a_source_and_no_usage_has_no_price() -> None:
    free = PRICES.price("openai", "omni-moderation-latest", [], NOON, {})
    assert (free.status, free.effective_pico) == ("free", 0)
    variant = cost(PRICES, "openrouter", "deepseek/deepseek-r1:free", input=100, output=10)
    assert (variant.status, variant.effective_pico) == ("free", 0)
    assert variant.lines[0].entries == ("openrouter-free-variants@2023-01-01#input",)
    unknown = PRICES.price("openai", "gpt-4.1", [], NOON, {})
    assert unknown == Cost("unpriced", (), None, None, PRICES.book_id, ("no_usage",))


def test_a_fee_for_each_request_is_a_line() -> None:
    found = cost(PRICES, "perplexity", "sonar", input=1000, output=100)
    assert [(line.bucket, line.list_pico) for line in found.lines] == [
        ("input", 1_000_000_000),
        ("output", 100_000_000),
        ("request", 12_000_000_000),
    ]


def test_several_models_of_one_call_are_priced_each_by_its_own_card() -> None:
    usages = [
        Usage({"input": 1000, "output": 100}),
        Usage({"input": 2000}, model="claude-haiku-4-5"),
        Usage({"input": 5}, model="no-such-model"),
    ]
    found = PRICES.price("anthropic", "claude-opus-5-5", usages, NOON, {})
    assert [(line.model, line.bucket, line.list_pico) for line in found.lines] == [
        ("claude-opus-5-5", "input", 4_000_000_000),
        ("claude-opus-5-5", "output", 2_000_000_000),
        ("claude-haiku-4-5", "input", 2_000_000_000),
    ]
    assert (found.status, found.list_pico, found.reasons) == ("partial", 8_000_000_000, ("unknown_model",))


@pytest.mark.parametrize(
    ("statuses", "worst"),
    [
        (("exact", "estimated"), "estimated"),
        (("exact", "free"), "exact"),
        (("free", "free"), "free"),
        (("partial", "estimated"), "partial"),
        (("unpriced", "exact"), "partial"),
        (("unpriced", "unpriced"), "unpriced"),
    ],
)
def test_the_worst_status_wins(statuses: tuple[Any, ...], worst: str) -> None:
    parts = [Cost(s, (), None if s == "unpriced" else 5, None if s == "unpriced" else 4) for s in statuses]
    whole = add_costs(parts)
    priced = sum(s != "unpriced" for s in statuses)
    assert whole.status == worst
    assert (whole.list_pico, whole.effective_pico) == ((5 * priced, 4 * priced) if priced else (None, None))


def test_cost_compares_by_value() -> None:
    found = cost(PRICES, "openai", "gpt-4.1", input=10)
    line = Line("gpt-4.1", "input", 10, "2", 1_000_000, 20_000_000, 20_000_000, ("genai:openai/gpt-4.1@input",))
    same = Cost("exact", (line,), 20_000_000, 20_000_000, PRICES.book_id)
    assert found == same
    assert hash(found) == hash(same)
    assert found != Cost("exact", (), 20_000_000, 20_000_000, PRICES.book_id)


# --- properties ---------------------------------------------------------------------------------------
TOKEN_USAGE = st.dictionaries(
    st.sampled_from(
        ["input", "input_text", "cache_read", "cache_write_1h", "output", "output_reasoning", "web_search"]
    ),
    st.integers(min_value=1, max_value=10_000_000),
    min_size=1,
)
MODELS = st.sampled_from(
    [("openai", "gpt-6-sol"), ("anthropic", "claude-haiku-5-5"), ("anthropic", "claude-opus-5-5"), ("openai", "o3")]
)
CONTEXTS = st.sampled_from([{}, {"service_tier": "flex"}, {"processing": "batch"}, {"inference_geo": "us"}])


@given(MODELS, CONTEXTS, TOKEN_USAGE)
def test_the_lines_sum_to_the_total_in_any_order(
    model: tuple[str, str], context: dict[str, str], buckets: dict[str, int]
) -> None:
    found = PRICES.price(*model, [Usage(dict(buckets))], NOON, context)
    turned = PRICES.price(*model, [Usage(dict(reversed(buckets.items())))], NOON, context)
    assert sum(line.list_pico for line in found.lines) == found.list_pico == turned.list_pico
    assert sum(line.effective_pico for line in found.lines) == found.effective_pico == turned.effective_pico
    assert {line.bucket for line in found.lines} == set(buckets)


@given(MODELS, CONTEXTS, TOKEN_USAGE, st.sampled_from(["input", "cache_read", "output"]))
def test_more_usage_never_costs_less(
    model: tuple[str, str], context: dict[str, str], buckets: dict[str, int], bucket: str
) -> None:
    less = PRICES.price(*model, [Usage(dict(buckets))], NOON, context)
    more = PRICES.price(*model, [Usage({**buckets, bucket: buckets.get(bucket, 0) + 1})], NOON, context)
    assert less.list_pico is not None
    assert more.list_pico is not None
    assert more.list_pico > less.list_pico


@given(
    st.text(max_size=300),
    st.text(max_size=300),
    st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=3),
)
def test_no_name_breaks_pricing(provider: str, model: str, context: dict[str, str]) -> None:
    found = PRICES.price(provider, model, [Usage({"input": 1})], NOON, context)
    assert (found.effective_pico is None) == (found.status == "unpriced")


# --- caches, threads, files ---------------------------------------------------------------------------
def test_names_from_outside_cannot_fill_the_memory() -> None:
    prices = Resolver(shipped())
    for number in range(MAX_CARDS + 500):
        cost(prices, "anthropic", f"claude-opus-5-5-{number:08d}", input=1)
    assert len(prices.cards) <= MAX_CARDS


def test_threads_get_the_same_prices() -> None:
    prices = Resolver(shipped())
    wrong: list[str] = []
    expected = {
        ("openai", "gpt-4.1"): 28_000_000,
        ("anthropic", "claude-opus-5-5"): 60_000_000,
        ("openai", "gpt-6-sol"): 30_000_000,
    }

    def work() -> None:
        for number in range(300):
            for (provider, model), pico in expected.items():
                found = prices.price(
                    provider, model, [Usage({"input": 10, "output": 1})], NOON, {"account": str(number)}
                )
                if found.list_pico != pico:
                    wrong.append(f"{model}: {found}")

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_book_is_small_identified_and_checked(tmp_path: Path) -> None:
    book = shipped()
    assert book.book_id == f"pb1:genai-prices-0.2.3:{book.sha256[:12]}"
    assert book.data_date == "2026-11-10"
    from genai_meter.pricing.book import SHIPPED

    assert SHIPPED.stat().st_size <= 60_000
    for content in (b"", b"{}", b"[]", b"\x1f\x8bnonsense", json.dumps({"schema": "other/1"}).encode()):
        broken = tmp_path / "book.json.gz"
        broken.write_bytes(content)
        with pytest.raises(BookError):
            read_book(broken)
    with pytest.raises(BookError):
        read_book(tmp_path / "absent")
    with pytest.raises(BookError):
        Book(b"{")


def test_books_are_the_catalogue_of_models() -> None:
    card = PRICES.card("openai", "gpt-4.1", NOON, {})
    assert isinstance(card, RateCard)
    assert (card.context_window, card.max_output_tokens, card.deprecated) == (1_000_000, 32_768, False)
    old = PRICES.card("openai", "gpt-4-turbo", NOON, {})
    assert isinstance(old, RateCard)
    assert sum(row.deprecated for provider in shipped().providers for row in shipped().rows(provider)) > 50


def _python(program: str, **env: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **env},
    )


def test_importing_prices_reads_no_book_and_no_other_package() -> None:
    done = _python(
        "import sys, genai_meter.pricing\n"
        "bad = {'genai_prices', 'pydantic', 'yaml', 'json', 'gzip', 'genai_meter.pricing.book', 'zoneinfo'}\n"
        "print(sorted(bad & sys.modules.keys()))"
    )
    assert done.stdout == "[]\n", done.stderr


PROGRAM = (
    "from genai_meter import pricing\n"
    "from genai_meter.usage import Usage\n"
    f"c = pricing.price('openai', 'gpt-4.1', [Usage({{'input': 1000}})], {NOON}, {{}})\n"
    f"c = pricing.price('openai', 'gpt-4.1', [Usage({{'input': 1000}})], {NOON}, {{}})\n"
    "print(c.status, c.effective_pico, c.reasons, c.book_id)\n"
)


def _hashed(entries: Any) -> str:
    """An overlay whose hash is right and whose entries are none."""
    return json.dumps({"schema": overlay.SCHEMA, "sha256": overlay.digest(entries), "entries": entries})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "cannot read {}: JSONDecodeError"),
        ("{", "cannot read {}: JSONDecodeError"),
        ('{"schema":"genai-meter-overlay/1","sha256":"0","entries":[{}]}', "{}: its content is not what its hash says"),
        (_hashed([5]), "cannot read {}: ValueError"),
        (_hashed(5), "cannot read {}: TypeError"),
        (None, "cannot read {}: FileNotFoundError"),
    ],
    ids=["empty", "broken", "another hash", "entries of numbers", "a number", "absent"],
)
def test_an_overlay_that_cannot_be_read_is_logged_once_and_seen_on_every_price(
    tmp_path: Path, content: str | None, told: str
) -> None:
    path = tmp_path / "overlay.json"
    if content is not None:
        path.write_text(content)
    done = _python(PROGRAM, GENAI_METER_PRICE_OVERLAY=str(path))
    assert done.stdout == f"estimated 2000000000 ('overlay_unreadable',) {shipped().book_id}\n"
    assert done.stderr.count("genai_meter") == 1
    assert done.stderr.startswith(
        f"genai_meter: the price overlay is left out, costs are estimated: {told.format(path)}"
    )


def test_a_book_that_cannot_be_read_leaves_the_shipped_one(tmp_path: Path) -> None:
    absent = tmp_path / "absent.json.gz"
    done = _python(PROGRAM, GENAI_METER_PRICE_BOOK=str(absent))
    assert done.stdout == f"estimated 2000000000 ('book_unreadable',) {shipped().book_id}\n"
    assert done.stderr.startswith(
        f"genai_meter: the price book is left out, costs are estimated: cannot read {absent}: "
    )


def test_the_environment_names_the_overlay(tmp_path: Path) -> None:
    from genai_meter_exporter.prices.overlay_yaml import compile_texts, to_json
    from prices_kit import ACME

    path = tmp_path / "overlay.json"
    document = compile_texts([(ACME, "acme.yaml")])
    path.write_text(to_json(document))
    done = _python(PROGRAM, GENAI_METER_PRICE_OVERLAY=str(path))
    assert done.stdout == f"exact 1760000000 () {shipped().book_id}+ov:{document['sha256'][:8]}\n"
    assert effective(cost(resolver(), "openai", "gpt-4.1", input=1000)) == Decimal("0.002")
