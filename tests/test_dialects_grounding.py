"""What models look up by themselves, and counts told in unusual ways: Gemini, Claude, Bedrock, OpenAI's drawings."""

from __future__ import annotations

from typing import Any

import pytest
from dialect_kit import answered, buckets, streamed
from genai_meter import pricing
from genai_meter.dialects import Reading, RequestView, by_name
from prices_kit import NOON


# --- Gemini -----------------------------------------------------------------------------------------
def gemini(model: str, **grounding: Any) -> dict[str, Any]:
    candidate = {"content": {"parts": [{"text": "Here."}]}, "finishReason": "STOP", "groundingMetadata": grounding}
    usage = {"promptTokenCount": 100, "candidatesTokenCount": 10, "totalTokenCount": 110}
    return {"responseId": "r", "modelVersion": model, "candidates": [candidate], "usageMetadata": usage}


@pytest.mark.parametrize(
    ("model", "grounding", "looked_up"),
    [
        ("gemini-3.5-flash", {"webSearchQueries": ["a", "b", "a"]}, {"web_search": 2}),
        ("gemini-2.5-flash", {"webSearchQueries": ["a", "b"]}, {"web_search": 1}),
        ("gemini-3.1-flash-image", {"webSearchQueries": ["a"], "imageSearchQueries": ["c"]}, {"web_search": 2}),
        ("gemini-3.5-flash", {"groundingChunks": [{"maps": {"uri": "u"}}, {"web": {"uri": "u"}}]}, {"maps_search": 1}),
        ("gemini-2.5-flash", {"googleMapsWidgetContextToken": "t"}, {"maps_search": 1}),
        ("gemini-3.5-flash", {"groundingChunks": [{"retrievedContext": {"uri": "u"}}]}, {}),
        ("gemini-3.5-flash", {}, {}),
    ],
)
def test_grounding(model: str, grounding: dict[str, Any], looked_up: dict[str, int]) -> None:
    """https://ai.google.dev/gemini-api/docs/pricing: a fee for each query, before Gemini 3 for each prompt."""
    assert buckets("gemini", gemini(model, **grounding)) == {"input": 100, "output": 10, **looked_up}


def test_maps_have_no_price_and_are_not_free() -> None:
    reading, usages = answered("gemini", gemini("gemini-3.5-flash", googleMapsWidgetContextToken="t"))
    cost = pricing.price("gcp.gemini", "gemini-3.5-flash", usages, NOON, reading.context)
    assert (cost.status, cost.reasons) == ("partial", ("unpriced_bucket:maps_search",))
    assert cost.list_pico == 100 * 1_500_000 + 10 * 9_000_000


@pytest.mark.parametrize(("model", "searches"), [("gemini-3.8-live", 2), ("gemini-2.5-flash-native-audio", 1)])
def test_a_live_turn_bills_its_searches(model: str, searches: int) -> None:
    """The request names the model; https://ai.google.dev/gemini-api/docs/live-tools has the messages."""
    dialect, reading = by_name("gemini_live"), Reading()
    told = {"web_search_queries": ["a", "b"], "grounding_chunks": None, "google_maps_widget_context_token": None}
    dialect.chunk(reading, {"server_content": {"grounding_metadata": told}})
    count = {"prompt_token_count": 5, "response_token_count": 3, "total_token_count": 8}
    dialect.chunk(reading, {"server_content": {"turn_complete": True}, "usage_metadata": count})
    [usage] = dialect.usages(reading, dialect.request({"model": model}))
    assert usage.buckets == {"input": 5, "output": 3, "web_search": searches}


# --- Claude -----------------------------------------------------------------------------------------
def claude(**usage: Any) -> dict[str, Any]:
    return {"type": "message", "id": "msg", "model": "claude-opus-5-5", "content": [], "usage": usage}


TTLS = {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 40}


@pytest.mark.parametrize(
    ("usage", "expected", "rules"),
    [
        (
            {"cache_creation": TTLS, "cache_creation_input_tokens": None},
            {"cache_write_5m": 30, "cache_write_1h": 40},
            (),
        ),
        ({"cache_creation": TTLS}, {"cache_write_5m": 30, "cache_write_1h": 40}, ()),
        ({"cache_creation": TTLS, "cache_creation_input_tokens": 0}, {}, ()),
        ({"sandbox_tokens": 9}, {}, ("unread_count:sandbox_tokens",)),
        ({"sandbox_tokens": 0, "fallback_credit": None}, {}, ()),
        ({"fallback_credit": {"type": "redeemed"}}, {}, ("fallback_credit",)),
        ({"fallback_credit": {"type": "not_applied", "reason": "expired"}}, {}, ()),
    ],
)
def test_unusual_counts_of_claude(usage: dict[str, Any], expected: dict[str, int], rules: tuple[str, ...]) -> None:
    """https://platform.claude.com/docs/en/api/messages; `redeemed`: billed otherwise than the counts say."""
    [found] = answered("anthropic_messages", claude(input_tokens=10, output_tokens=5, **usage))[1]
    assert (found.buckets, found.inferred) == ({"input": 10, "output": 5, **expected}, rules)


GARBAGE: list[Any] = [None, {}, "none", [1]]


@pytest.mark.parametrize("usage", [*GARBAGE, {"input_tokens": "many", "output_tokens": -3}])
def test_claude_without_counts_has_no_usage(usage: Any) -> None:
    assert answered("anthropic_messages", claude() | {"usage": usage})[1] == []


# --- Bedrock ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("usage", [*GARBAGE, {"inputTokens": "many", "outputTokens": -3}])
def test_converse_without_counts_has_no_usage(usage: Any) -> None:
    assert answered("bedrock_converse", {"output": {}, "stopReason": "end_turn", "usage": usage})[1] == []


CONVERSED = {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}
LOOKED_UP = {"toolUse": {"toolUseId": "t", "name": "nova_grounding", "type": "server_tool_use"}}
CALLED = {"toolUse": {"toolUseId": "u", "name": "nova_grounding"}}
"""A tool of the caller's, whatever it is called."""


def test_nova_looks_things_up_for_a_fee() -> None:
    """https://docs.aws.amazon.com/nova/latest/nova2-userguide/web-grounding.html"""
    message = {"role": "assistant", "content": [LOOKED_UP, CALLED, {"text": "Yes."}]}
    reading, [usage] = answered("bedrock_converse", {"output": {"message": message}, "usage": CONVERSED})
    assert usage.buckets == {"input": 10, "output": 5, "web_search": 1}
    assert reading.tool_call_count == 2
    events = [{"contentBlockStart": {"start": start, "contentBlockIndex": 0}} for start in (LOOKED_UP, CALLED)]
    assert streamed("bedrock_converse", *events, {"metadata": {"usage": CONVERSED}})[1] == [usage]


# --- OpenAI's drawings --------------------------------------------------------------------------------
def test_vector_graphics_are_billed_by_the_model_that_writes_them() -> None:
    """https://developers.openai.com/api/reference/resources/responses: `svg_usage` of an image generation call."""
    written = {"model": "gpt-6-luna", "input_tokens": 20, "output_tokens": 30, "reasoning_tokens": 10}
    call = {"type": "image_generation_call", "id": "ig", "status": "completed", "result": "…"}
    drawing = {"input_tokens": 8, "output_tokens": 2, "total_tokens": 10}
    answer: dict[str, Any] = {
        "id": "r",
        "model": "gpt-6-sol",
        "status": "completed",
        "output": [{**call, "svg_usage": {**written, "total_tokens": 50}}, {**call, "svg_usage": None}],
        "tools": [{"type": "image_generation", "model": "gpt-image-2"}],
        "tool_usage": {"image_gen": drawing},
        "usage": {"input_tokens": 5, "output_tokens": 4, "total_tokens": 9},
    }
    found = [(usage.model, usage.buckets) for usage in answered("openai_responses", answer, RequestView())[1]]
    assert found == [
        (None, {"input": 5, "output": 4}),
        ("gpt-6-luna", {"input": 20, "output_reasoning": 10, "output": 20}),
        ("gpt-image-2", {"input": 8, "output_image": 2}),
    ]


# --- counts that are none -----------------------------------------------------------------------------
@pytest.mark.parametrize("count", ["many", -3, True, float("nan"), 1e300, [1], {"n": 1}])
@pytest.mark.parametrize(
    ("name", "root", "field"),
    [
        ("gemini", "usageMetadata", "promptTokenCount"),
        ("gemini_embeddings", "usageMetadata", "promptTokenCount"),
        ("google_interactions", "usage", "total_input_tokens"),
        ("mistral_conversations", "usage", "prompt_tokens"),
        ("anthropic_messages", "usage", "output_tokens"),
        ("bedrock_converse", "usage", "inputTokens"),
    ],
)
def test_what_is_no_count_is_not_taken_for_zero(name: str, root: str, field: str, count: Any) -> None:
    assert answered(name, {root: {field: count}})[1] == []


@pytest.mark.parametrize("details", [5, True, "x", {"modality": "TEXT"}, [None, 1, "x"]])
def test_details_that_are_none_cost_no_count(details: Any) -> None:
    told = {"promptTokenCount": 7, "candidatesTokenCount": 2, "promptTokensDetails": details}
    assert buckets("gemini", {"usageMetadata": told}) == {"input": 7, "output": 2}
    conversed = {"inputTokens": 7, "outputTokens": 2, "cacheDetails": details}
    assert buckets("bedrock_converse", {"usage": conversed}) == {"input": 7, "output": 2}
    answer = claude(input_tokens=7, output_tokens=2, iterations=None if isinstance(details, list) else details)
    assert buckets("anthropic_messages", answer) == {"input": 7, "output": 2}
