"""Overlays: every field does what it says, every mistake is named by file, line and field."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from genai_meter.pricing import RateCard
from genai_meter.pricing.overlay import OverlayError, read_entries, read_overlay
from genai_meter.usage import Usage
from genai_meter_exporter.prices.overlay_yaml import compile_files, compile_texts, to_json
from prices_kit import DISCOUNT, HEAD, NOON, cost, effective, indented, listed, resolver


def _both(entries: str, provider: str, model: str, context: dict[str, str] | None = None, at: Any = NOON) -> Any:
    """(list, effective, status) of a million input tokens."""
    found = cost(resolver(entries), provider, model, at, context, input=1_000_000)
    return listed(found), effective(found), found.status


# --- kinds --------------------------------------------------------------------------------------------
def test_price_gives_a_model_of_ones_own_tiers_and_a_source() -> None:
    entries = """
        - id: selfhosted
          kind: price
          match: {provider: vllm, model: "meta-llama/Llama-3.3-70B-*"}
          effective_from: 2026-09-01T00:00:00Z
          currency: USD
          rates:
            input: {usd: "0.18", per: 1000000}
            output: {usd: "0.00054", per: 1000}
          tiers:
            - above_input_tokens: 200000
              rates: {input: {usd: "0.36", per: 1000000}}
          source: internal
    """
    prices = resolver(entries)
    found = cost(prices, "vllm", "meta-llama/Llama-3.3-70B-Instruct", input=200_000, output=1000)
    assert [(line.bucket, line.rate, line.per, line.entries) for line in found.lines] == [
        ("input", "0.18", 1_000_000, ("selfhosted@2026-09-01#input",)),
        ("output", "0.00054", 1000, ("selfhosted@2026-09-01#output",)),
    ]
    assert (listed(found), effective(found), found.status) == (Decimal("0.03654"), Decimal("0.03654"), "exact")
    over = cost(prices, "vllm", "meta-llama/Llama-3.3-70B-Instruct", input=200_001)
    assert listed(over) == 200_001 * Decimal("0.00000036")
    assert over.lines[0].entries == ("selfhosted@2026-09-01#input>200000",)
    assert cost(prices, "vllm", "mistral-7b", input=1).status == "unpriced"


def test_negotiated_price_leaves_the_list_price_unless_stacked_into_it() -> None:
    entry = """
        - id: deal
          kind: price
          match: {provider: openai, model: gpt-4.1}
          effective_from: 2026-01-01
          stack: after_list
          rates: {input: {usd: "1.5", per: 1000000}}
    """
    corrected = entry.replace("after_list", "list")
    assert _both(entry, "openai", "gpt-4.1") == (Decimal(2), Decimal("1.5"), "exact")
    assert _both(corrected, "openai", "gpt-4.1") == (Decimal("1.5"), Decimal("1.5"), "exact")
    found = cost(resolver(entry), "openai", "gpt-4.1", input=10, output=10)
    assert found.lines[0].entries == ("genai:openai/gpt-4.1@input", "deal@2026-01-01#input")
    assert found.lines[1].entries == ("genai:openai/gpt-4.1@output",)


def test_a_providers_surcharge_applies_to_a_negotiated_price_too() -> None:
    entry = """
        - id: deal
          kind: price
          match: {provider: anthropic, model: "claude-opus-5-5"}
          effective_from: 2026-01-01
          rates: {input: {usd: "3", per: 1000000}}
    """
    assert _both(entry, "anthropic", "claude-opus-5-5", {"inference_geo": "us"}) == (
        Decimal("4.4"),
        Decimal("3.3"),
        "exact",
    )


def test_discounts_stack_and_apply_to_what_they_say() -> None:
    entries = """
        - id: all-openai
          kind: discount
          match: {provider: openai}
          effective_from: 2026-01-01
          multiplier: "0.9"
          applies_to: [tokens, tool_calls]
        - id: output-only
          kind: discount
          match: {provider: openai, model: "gpt-4*"}
          effective_from: 2026-01-01
          multiplier: "0.5"
          applies_to: [output]
    """
    found = cost(resolver(entries), "openai", "gpt-4.1", input=1000, output=1000, web_search=10)
    assert [(line.bucket, line.list_pico, line.effective_pico) for line in found.lines] == [
        ("input", 2_000_000_000, 1_800_000_000),
        ("output", 8_000_000_000, 3_600_000_000),
        ("web_search", 100_000_000_000, 90_000_000_000),
    ]
    assert found.lines[1].entries == (
        "genai:openai/gpt-4.1@output",
        "all-openai@2026-01-01",
        "output-only@2026-01-01",
    )
    tokens_only = cost(resolver(DISCOUNT), "openai", "gpt-4.1", web_search=10)
    assert tokens_only.list_pico == tokens_only.effective_pico


def test_an_overlay_multiplier_for_the_same_context_replaces_the_shipped_one() -> None:
    entry = """
        - id: us
          kind: multiplier
          match: {provider: anthropic, model: "claude-*", inference_geo: us}
          effective_from: 2026-02-01T00:00:00Z
          multiplier: "1.2"
    """
    assert _both(entry, "anthropic", "claude-opus-5-5", {"inference_geo": "us"}) == (
        Decimal("4.8"),
        Decimal("4.8"),
        "exact",
    )


def test_commitment_has_no_marginal_cost_and_keeps_the_list_price() -> None:
    entry = """
        - id: ptu
          kind: commitment
          match: {provider: azure, deployment: chat-ptu-eu}
          effective_from: 2026-11-01T00:00:00Z
          effective_to: 2026-12-01T00:00:00Z
          unit: ptu-hour
          quantity: 50
          unit_usd: "1.00"
          allocate_by: list_cost
    """
    context = {"deployment": "chat-ptu-eu", "sku": "GlobalStandard"}
    assert _both(entry, "azure.ai.openai", "gpt-4.1", context) == (Decimal(2), Decimal(0), "exact")
    assert _both(entry, "azure.ai.openai", "gpt-4.1", {**context, "deployment": "other"}) == (
        Decimal(2),
        Decimal(2),
        "exact",
    )
    (kept,) = resolver(entry).overlay.entries  # type: ignore[union-attr]
    assert (kept.raw["unit"], kept.raw["quantity"], kept.raw["unit_usd"], kept.raw["allocate_by"]) == (
        "ptu-hour",
        "50",
        "1.00",
        "list_cost",
    )


def test_alias_gives_a_deployment_its_model_and_dimensions() -> None:
    entry = """
        - id: prod
          kind: alias
          match: {provider: azure, deployment: "chat-prod-*"}
          model: gpt-4.1
          set: {azure_sku: GlobalStandard}
          effective_from: 2026-01-01T00:00:00Z
    """
    assert _both(entry, "azure.ai.openai", "gpt-4", {"deployment": "chat-prod-eu"}) == (Decimal(2), Decimal(2), "exact")
    # On Azure the model that is asked for is the deployment's name.
    assert _both(entry, "azure.ai.openai", "chat-prod-eu") == (Decimal(2), Decimal(2), "exact")
    assert cost(resolver(entry), "azure.ai.openai", "chat-test", input=1).status == "unpriced"
    arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"
    profile = f"""
        - id: profile
          kind: alias
          match: {{provider: aws.bedrock, deployment: "{arn}"}}
          model: us.anthropic.claude-sonnet-4-5-20250929-v1:0
          effective_from: 2026-01-01
    """
    assert _both(profile, "aws.bedrock", arn) == (Decimal("3.3"), Decimal("3.3"), "exact")


def test_minimum_raises_the_billed_quantity_of_a_call_that_has_any() -> None:
    entry = """
        - id: least
          kind: minimum
          match: {provider: openai, model: gpt-4.1}
          effective_from: 2026-01-01
          minimum: {input: 1000}
    """
    found = cost(resolver(entry), "openai", "gpt-4.1", input=10, output=1)
    assert [(line.bucket, line.quantity, line.list_pico) for line in found.lines] == [
        ("input", 1000, 2_000_000_000),
        ("output", 1, 8_000_000),
    ]
    assert found.lines[0].entries == ("genai:openai/gpt-4.1@input", "least@2026-01-01")
    assert cost(resolver(entry), "openai", "gpt-4.1", input=5000).list_pico == 10_000_000_000


def test_free_allowance_makes_the_cost_an_estimate() -> None:
    entry = """
        - id: searches
          kind: free_allowance
          match: {provider: google, model: "gemini-*"}
          effective_from: 2026-01-01
          allowance: {web_search: 1500}
          period: day
    """
    found = cost(resolver(entry), "google", "gemini-2.5-flash", input=1_000_000)
    assert (listed(found), found.status, found.reasons) == (
        Decimal("0.3"),
        "estimated",
        ("free_allowance:searches",),
    )


# --- time and match -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("at", "paid"),
    [
        ("2026-09-30T23:59:59.999Z", "2"),
        ("2026-10-01T00:00:00Z", "1.8"),
        ("2026-11-30T23:59:59.999Z", "1.8"),
        ("2026-12-01T00:00:00Z", "2"),
    ],
)
def test_effective_from_is_inclusive_and_effective_to_exclusive(at: str, paid: str) -> None:
    prices = resolver(DISCOUNT)
    for _ in range(2):
        assert effective(cost(prices, "openai", "gpt-4.1", at, input=1_000_000)) == Decimal(paid)
        assert effective(cost(prices, "openai", "gpt-4.1", input=1_000_000)) == Decimal("1.8")


@pytest.mark.parametrize(
    ("key", "pattern", "given", "other"),
    [
        ("deployment", "chat-*", "chat-eu", "batch-eu"),
        ("region", "europe-*", "europe-west1", "us-east1"),
        ("sku", "DataZone*", "DataZoneStandard", "GlobalStandard"),
        ("geo", "eu", "eu", "us"),
        ("service_tier", "flex", "flex", "default"),
        ("processing", "batch", "batch", "sync"),
        ("speed", "fast", "fast", "standard"),
        ("account", "org-?", "org-1", "org-12"),
        ("project", "p[12]", "p1", "p3"),
        ("api_key", "ab*", "abcd", "cd"),
        ("host", "*.example.com", "a.example.com", "example.org"),
        ("search_type", "pro", "pro", ""),
        ("route", "mistral/eu", "mistral/eu", ""),
    ],
)
def test_every_dimension_of_a_match_decides(key: str, pattern: str, given: str, other: str) -> None:
    entry = f"""
        - id: e
          kind: price
          match: {{provider: local, model: m, {key}: "{pattern}"}}
          effective_from: 2026-01-01
          rates: {{input: {{usd: "1", per: 1000000}}}}
    """
    assert _both(entry, "local", "m", {key: given}) == (Decimal(1), Decimal(1), "exact")
    assert cost(resolver(entry), "local", "m", context={key: other}, input=1).status == "unpriced"
    assert cost(resolver(entry), "local", "m", input=1).status == "unpriced"


def test_provider_matches_under_any_of_its_names_and_lists_are_alternatives() -> None:
    entry = """
        - id: e
          kind: discount
          match: {provider: [azure.ai.openai, anthropic], model: ["gpt-*", "claude-*"]}
          effective_from: 2026-01-01
          multiplier: "0.5"
    """
    for provider, model in (("azure", "gpt-4.1"), ("azure.ai.openai", "gpt-4.1"), ("anthropic", "claude-opus-5-5")):
        found = cost(resolver(entry), provider, model, input=1000)
        assert found.effective_pico == (found.list_pico or 0) / 2
    other = cost(resolver(entry), "openai", "gpt-4.1", input=1000)
    assert other.effective_pico == other.list_pico


@pytest.mark.parametrize(
    ("at", "usd"),
    [
        ("2026-11-20T07:59:00Z", "2"),  # 08:59 in Berlin
        ("2026-11-20T08:00:00Z", "1"),
        ("2026-11-20T16:59:59Z", "1"),
        ("2026-11-20T17:00:00Z", "2"),
        ("2026-11-21T09:00:00Z", "2"),  # Saturday
        ("2026-07-17T07:00:00Z", "1"),  # summer time: 09:00
    ],
)
def test_weekdays_and_hours_are_on_the_local_clock(at: str, usd: str) -> None:
    entry = """
        - id: office
          kind: discount
          match: {provider: openai, weekday: [mon, tue, wed, thu, fri], window: "09:00-18:00", tz: Europe/Berlin}
          effective_from: 2026-01-01
          multiplier: "0.5"
    """
    assert effective(cost(resolver(entry), "openai", "gpt-4.1", at, input=1_000_000)) == Decimal(usd)


def test_the_higher_priority_and_the_later_file_win() -> None:
    def entry(identifier: str, usd: str, priority: int) -> str:
        return f"""
        - id: {identifier}
          kind: price
          match: {{provider: local, model: "m*"}}
          priority: {priority}
          effective_from: 2026-01-01
          rates: {{input: {{usd: "{usd}", per: 1000000}}}}
        """

    both = entry("low", "1", 0).rstrip() + entry("high", "2", 1)
    assert _both(both, "local", "m1")[1] == Decimal(2)
    document = compile_texts(
        [
            (HEAD + indented(entry("org", "3", 9)), "org.yaml"),
            (HEAD + indented(entry("project", "4", 0)), "project.yaml"),
        ]
    )
    entries = read_entries(document["entries"], 1)
    assert [(e.id, e.layer) for e in entries] == [("org", 1), ("project", 2)]
    from genai_meter.pricing.engine import Resolver
    from genai_meter.pricing.overlay import Overlay
    from prices_kit import shipped

    prices = Resolver(shipped(), Overlay(entries, document["sha256"]))
    assert effective(cost(prices, "local", "m", input=1_000_000)) == Decimal(4)


def test_other_currencies_need_a_rate_of_exchange_and_are_exact() -> None:
    entry = """
        - id: eur
          kind: price
          match: {provider: local, model: m}
          effective_from: 2026-01-01
          currency: EUR
          fx: {rate: "1.08", as_of: 2026-11-01, source: ecb}
          rates: {input: {amount: "0.50", per: 1000000}}
    """
    assert _both(entry, "local", "m")[0] == Decimal("0.54")
    (kept,) = resolver(entry).overlay.entries  # type: ignore[union-attr]
    assert kept.raw["fx"] == {"rate": "1.08", "as_of": "2026-11-01", "source": "ecb"}


def test_what_is_only_recorded_is_kept() -> None:
    entry = """
        - id: noted
          kind: discount
          match: {provider: openai}
          effective_from: 2026-10-01T02:00:00+02:00
          effective_to: null
          multiplier: "0.9"
          stack: after_list
          source: MSA
          recorded_at: 2026-09-28T09:12:00Z
          recorded_by: finops@acme
          expires_review: 2027-06-01
          note: renewed yearly
    """
    (kept,) = resolver(entry).overlay.entries  # type: ignore[union-attr]
    assert {key: kept.raw[key] for key in ("source", "recorded_at", "recorded_by", "expires_review", "note")} == {
        "source": "MSA",
        "recorded_at": "2026-09-28T09:12:00Z",
        "recorded_by": "finops@acme",
        "expires_review": "2027-06-01",
        "note": "renewed yearly",
    }
    assert kept.raw["effective_from"] == "2026-10-01T00:00:00Z"


# --- the compiled file ----------------------------------------------------------------------------------
def test_compiled_overlay_is_deterministic_hashed_and_checked(tmp_path: Path) -> None:
    source, target = tmp_path / "a.yaml", tmp_path / "a.json"
    source.write_text(HEAD + indented(DISCOUNT))
    document = compile_files([source])
    assert document == compile_files([source])
    target.write_text(to_json(document))
    read = read_overlay(target)
    assert read.sha256 == document["sha256"]
    changed: dict[str, Any] = json.loads(target.read_text())
    changed["entries"][0]["multiplier"] = "0.1"
    target.write_text(json.dumps(changed))
    with pytest.raises(OverlayError, match="not what its hash says"):
        read_overlay(target)


def test_the_overlay_is_part_of_the_books_name_and_of_every_line() -> None:
    prices = resolver(DISCOUNT)
    assert prices.overlay is not None
    assert prices.book_id == f"{prices.book.book_id}+ov:{prices.overlay.sha256[:8]}"
    card = prices.card("openai", "gpt-4.1", NOON, {})
    assert isinstance(card, RateCard)
    found = card.price(Usage({"input": 1}))
    assert found.book_id == prices.book_id
    assert found.lines[0].entries == ("genai:openai/gpt-4.1@input", "d@2026-10-01")
