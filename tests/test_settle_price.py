"""What a call is priced with: served dimensions, the host's region, the deployment."""

from __future__ import annotations

from typing import Any

import pytest
from emission_kit import call
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
