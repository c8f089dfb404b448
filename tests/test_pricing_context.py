"""Which rates a call gets: its context, the spellings of its provider and model, and what stays uncertain."""

from __future__ import annotations

from decimal import Decimal

import pytest
from genai_meter import pricing
from genai_meter.pricing import Cost, RateCard
from prices_kit import DISCOUNT, NOON, cost, listed, resolver

PRICES = resolver()


# --- context ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("provider", "model", "context", "usd_per_million", "status", "reasons"),
    [
        ("openai", "gpt-4.1", {}, "2", "exact", ()),
        ("openai", "gpt-4.1", {"service_tier": "default"}, "2", "exact", ()),
        ("openai", "gpt-4.1", {"service_tier": "priority"}, "3.5", "exact", ()),
        ("openai", "gpt-4.1", {"service_tier": "default", "requested_service_tier": "priority"}, "2", "exact", ()),
        ("openai", "gpt-4.1", {"requested_service_tier": "priority"}, "3.5", "estimated", ("tier_unknown",)),
        ("openai", "gpt-4.1", {"requested_service_tier": "auto"}, "2", "exact", ()),
        (
            "openai",
            "gpt-4.1",
            {"service_tier": "Priority"},
            "2",
            "estimated",
            ("context_unmatched:service_tier=Priority",),
        ),
        ("openai", "gpt-4.1", {"service_tier": "scale"}, "2", "estimated", ("context_unmatched:service_tier=scale",)),
        ("openai", "gpt-4.1", {"service_teir": "flex"}, "2", "estimated", ("context_unmatched:service_teir",)),
        ("openai", "gpt-4.1", {"processing": "batch", "service_tier": "default"}, "1", "exact", ()),
        ("anthropic", "claude-opus-5-5", {"service_tier": "standard"}, "4", "exact", ()),
        ("anthropic", "claude-opus-5-5", {"service_tier": "batch"}, "2", "exact", ()),
        ("anthropic", "claude-opus-5-5", {"speed": "fast"}, "8", "exact", ()),
        ("anthropic", "claude-opus-5-5", {"inference_geo": "us"}, "4.4", "exact", ()),
        ("anthropic", "claude-opus-5-5", {"inference_geo": "global"}, "4", "exact", ()),
        ("anthropic", "claude-opus-5-5", {"inference_geo": "us", "speed": "fast"}, "8.8", "exact", ()),
        ("anthropic", "claude-opus-5-5", {"inference_geo": "eu"}, "4", "estimated", ("geo_unknown",)),
        ("openai", "gpt-6-sol", {"host": "eu.api.openai.com"}, "2.2", "exact", ()),
        ("openai", "gpt-6-sol", {"host": "api.openai.com"}, "2", "exact", ()),
        ("openai", "gpt-4.1", {"host": "eu.api.openai.com"}, "2", "exact", ()),
        ("gcp.vertex_ai", "claude-sonnet-4-5@20250929", {"region": "europe-west1"}, "3.3", "exact", ()),
        ("gcp.vertex_ai", "claude-sonnet-4-5@20250929", {"region": "global"}, "3", "exact", ()),
        ("gcp.vertex_ai", "gemini-2.5-flash", {"region": "us-central1"}, "0.3", "estimated", ("geo_unknown",)),
        ("azure.ai.openai", "gpt-4o", {"sku": "GlobalStandard"}, "2.5", "exact", ()),
        ("azure.ai.openai", "gpt-4o", {}, "2.5", "estimated", ("sku_unknown",)),
        (
            "azure.ai.openai",
            "gpt-4o",
            {"sku": "DataZoneStandard"},
            "2.5",
            "estimated",
            ("context_unmatched:sku=DataZoneStandard",),
        ),
    ],
)
def test_context_decides_the_price_or_says_that_it_could_not(
    provider: str, model: str, context: dict[str, str], usd_per_million: str, status: str, reasons: tuple[str, ...]
) -> None:
    found = cost(PRICES, provider, model, context=context, input=1_000)
    assert (listed(found), found.status, found.reasons) == (Decimal(usd_per_million) / 1000, status, reasons)


def test_a_variant_before_its_first_row_prices_as_standard_and_says_so() -> None:
    found = cost(PRICES, "openai", "gpt-4.1", "2026-10-01T00:00:00Z", {"processing": "batch"}, input=1_000_000)
    assert (listed(found), found.status) == (Decimal(2), "estimated")
    assert found.reasons == ("context_before_first_row:processing=batch",)


def test_twelve_hour_cache_writes_cost_twice_the_short_ones_in_every_tier() -> None:
    short = cost(PRICES, "openai", "gpt-6-sol", cache_write_30m=1_000_000 // 4)
    long = cost(PRICES, "openai", "gpt-6-sol", cache_write_12h=1_000_000 // 4)
    flex = cost(PRICES, "openai", "gpt-6-sol", context={"service_tier": "flex"}, cache_write_12h=1_000_000 // 4)
    assert (listed(short), listed(long), listed(flex)) == (Decimal("0.625"), Decimal("1.25"), Decimal("0.625"))
    assert long.lines[0].entries == ("genai:openai/gpt-6-sol@cache_write", "openai-cache-write-12h@2026-01-01")


# --- names --------------------------------------------------------------------------------------------
SONNET = "anthropic.claude-sonnet-4-5-20250929-v1:0"


@pytest.mark.parametrize(
    ("provider", "model", "row"),
    [
        ("openai", "gpt-5.2-2025-12-11", "openai/gpt-5.2"),
        ("openai", "gpt-5.2-20251211", "openai/gpt-5.2"),
        ("openai", "GPT-4.1", "openai/gpt-4.1"),
        ("openai", "openai/gpt-4.1", "openai/gpt-4.1"),
        ("openai", "ft:gpt-4o-2024-08-06:acme::abc", "openai/ft:gpt-4o"),
        ("anthropic", "claude-sonnet-4-5-20250929", "anthropic/claude-sonnet-4-5"),
        ("google", "models/gemini-2.5-flash", "google/gemini-2.5-flash"),
        ("gcp.gemini", "publishers/google/models/gemini-2.5-flash", "google/gemini-2.5-flash"),
        (
            "gcp.vertex_ai",
            "projects/p/locations/global/publishers/google/models/gemini-2.5-flash",
            "google/gemini-2.5-flash",
        ),
        ("gcp.vertex_ai", "claude-haiku-4-5@20251001", "google/claude-haiku-4-5"),
        ("aws.bedrock", f"us.{SONNET}", f"aws/regional.{SONNET}"),
        ("aws.bedrock", f"eu.{SONNET}", f"aws/regional.{SONNET}"),
        ("aws.bedrock", f"jp.{SONNET}", f"aws/regional.{SONNET}"),
        ("aws.bedrock", f"global.{SONNET}", f"aws/global.{SONNET}"),
        (
            "aws.bedrock",
            f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/global.{SONNET}",
            f"aws/global.{SONNET}",
        ),
        ("x_ai", "grok-4.3", "x-ai/grok-4.3"),
        ("mistral_ai", "mistral-embed", "mistral/mistral-embed"),
        ("litellm", "anthropic/claude-sonnet-4-5", "anthropic/claude-sonnet-4-5"),
    ],
)
def test_names_as_producers_spell_them(provider: str, model: str, row: str) -> None:
    card = PRICES.card(provider, model, NOON, {})
    assert isinstance(card, RateCard)
    assert card.row == row


def test_the_provider_is_the_one_that_was_called_not_the_one_whose_model_it_is() -> None:
    card = PRICES.card("azure.ai.openai", "gpt-4.1", NOON, {"sku": "GlobalStandard"})
    assert isinstance(card, RateCard)
    assert (card.provider, card.row) == ("azure", "openai/gpt-4.1")


@pytest.mark.parametrize(
    ("provider", "model", "reason"),
    [
        ("openai", "no-such-model", "unknown_model"),
        ("openai", "ft:gpt-4.1-2025-04-14:acme::abc", "unknown_model"),
        ("vllm", "gpt-4.1", "unknown_provider"),
        ("ollama", "llama3.3", "unknown_provider"),
        ("my-openai-proxy", "gpt-4.1", "unknown_provider"),
        ("aws.bedrock", "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc", "unknown_model"),
        ("openai", "", "unknown_model"),
        ("openai", "x" * 5000, "unknown_model"),
    ],
)
def test_what_has_no_price_is_unpriced_and_never_zero(provider: str, model: str, reason: str) -> None:
    found = cost(PRICES, provider, model, input=10)
    assert found == Cost("unpriced", (), None, None, PRICES.book_id, (reason,))
    assert pricing.rate_card(provider, model, NOON, {}) is None


@pytest.mark.parametrize(
    ("provider", "model", "at", "reason"),
    [
        ("mistral", "mistral-large-latest", NOON, "alias"),
        ("openrouter", "openai/gpt-4o:online", NOON, "model_suffix:online"),
        ("openai", "gpt-5.2-2026-09-09", NOON, "snapshot_unlisted"),
        ("openai", "gpt-4o-2024-08-06", "2024-07-01T00:00:00Z", "date_before_first_row"),
        ("openai", "gpt-4.1", "2025-01-01T00:00:00Z", "date_before_first_row"),
        ("", "gpt-4.1", NOON, "provider_inferred"),
    ],
)
def test_what_is_uncertain_is_estimated_with_its_reason(provider: str, model: str, at: str | int, reason: str) -> None:
    found = cost(PRICES, provider, model, at, input=10)
    assert found.status == "estimated"
    assert reason in found.reasons
    assert found.effective_pico


def test_accounts_and_keys_that_no_entry_names_share_a_card() -> None:
    plain = resolver()
    cards = {id(plain.card("openai", "gpt-4.1", NOON, {"account": f"org-{n}", "api_key": f"k:{n}"})) for n in range(9)}
    assert len(cards) == len(plain.cards) == 1
    own = resolver(DISCOUNT.replace("{provider: openai}", '{provider: openai, account: "org-1"}'))
    prices = {
        name: cost(own, "openai", "gpt-4.1", context={"account": name, "api_key": "k:1"}, input=1_000_000)
        for name in ("org-1", "org-2")
    }
    assert [price.effective_pico for price in prices.values()] == [1_800_000_000_000, 2_000_000_000_000]
