"""What a call is priced with: served dimensions, the host's region, the deployment."""

from __future__ import annotations

import json
from decimal import Context, Inexact, Rounded, localcontext
from typing import Any

import pytest
from emission_kit import call, telemetry
from genai_meter import emit
from genai_meter.settle import settle

USAGE = {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010}


@pytest.mark.parametrize(
    ("asked", "served", "context", "pico", "status", "reasons"),
    [
        ("priority", "default", {"service_tier": "default"}, 2_080_000_000, "exact", ()),
        ("priority", None, {"requested_service_tier": "priority"}, 3_640_000_000, "estimated", ("tier_unknown",)),
        (None, "priority", {"service_tier": "priority"}, 3_640_000_000, "exact", ()),
    ],
)
def test_the_served_tier_is_priced_and_a_requested_one_is_an_estimate(
    asked: str | None, served: str | None, context: dict[str, str], pico: int, status: str, reasons: tuple[str, ...]
) -> None:
    body: dict[str, Any] = {"model": "gpt-4.1", "messages": [], **({"service_tier": asked} if asked else {})}
    answer: dict[str, Any] = {"model": "gpt-4.1", "choices": [], "usage": USAGE, "service_tier": served}
    made = call("openai_chat", body, answer=answer)
    made.status = "ok"
    outcome = settle(made)
    assert outcome.context == context
    assert outcome.cost is not None
    assert (outcome.cost.effective_pico, outcome.cost.status, outcome.cost.reasons) == (pico, status, reasons)


def test_a_regional_host_and_a_deployment_are_part_of_the_price() -> None:
    body: dict[str, Any] = {"model": "gpt-6-sol", "messages": []}
    made = call("openai_chat", body, host="eu.api.openai.com", answer={"model": "gpt-6-sol", "usage": USAGE})
    made.prepared.target.deployment = "prod"
    made.status = "ok"
    outcome = settle(made)
    assert outcome.context == {"host": "eu.api.openai.com", "deployment": "prod"}
    assert outcome.cost is not None
    assert outcome.cost.effective_pico == 1000 * 2_200_000 + 10 * 11_000_000


def test_account_and_key_reach_the_overlay_and_the_exporter() -> None:
    with telemetry(HASH_KEY="k:0123456789abcdef") as pipeline:
        made = call("openai_chat", {"model": "gpt-4.1", "messages": []}, answer={"model": "gpt-4.1", "usage": USAGE})
        made.prepared.target.account, made.prepared.target.api_key = "org-1", "sk-secret"
        emit.finish(made, "ok")
        (event,) = pipeline.events
    fingerprint = event.attributes["genai_meter.api_key.fingerprint"]
    assert fingerprint.startswith("k:")
    assert json.loads(event.attributes["genai_meter.price.context"]) == {"account": "org-1", "api_key": fingerprint}
    assert event.attributes["genai_meter.cost.status"] == "exact"


def test_the_callers_decimal_context_rounds_no_money() -> None:
    made = call("openai_chat", {"model": "gpt-4.1", "messages": []}, answer={"model": "gpt-4.1", "usage": USAGE})
    made.status, made.reading.reported_cost_usd = "ok", "12.345678901235"
    with localcontext(Context(prec=3, traps=[Inexact, Rounded])):
        assert settle(made).reported_pico == 12_345_678_901_235


@pytest.mark.parametrize(
    ("asked", "served", "pico"),
    [
        ("global.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-haiku-4-5-20251001", 1050 * 1_000_000),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-haiku-4-5-20251001", 1050 * 1_100_000),
        ("global.anthropic.claude-haiku-4-5-20251001-v1:0", None, 1050 * 1_000_000),
    ],
)
def test_on_bedrock_the_inference_profile_decides_the_price(asked: str, served: str | None, pico: int) -> None:
    body: dict[str, Any] = {"model": asked, "max_tokens": 10, "messages": []}
    answer = {"type": "message", "model": served, "usage": {"input_tokens": 1000, "output_tokens": 10}}
    made = call("anthropic_messages", body, provider="aws.bedrock", answer=answer)
    made.status = "ok"
    outcome = settle(made)
    assert outcome.model == (served or asked)
    assert outcome.cost is not None
    # A million tokens cost 1 USD in and 5 USD out, a tenth more where they must stay in a region.
    assert (outcome.cost.effective_pico, outcome.cost.status) == (pico, "exact")
