"""OpenAI's formats in the words of others: what they tell beside the counts is billed, once, or named as unread."""

from __future__ import annotations

from typing import Any

import pytest
from dialect_kit import answered, buckets, streamed
from genai_meter import pricing
from genai_meter.dialects import RequestView, by_flavor, for_path, not_metered
from prices_kit import NOON


def chat(model: str = "m", **usage: Any) -> dict[str, Any]:
    return {"id": "c", "model": model, "choices": [], "usage": usage}


def counts(incoming: int, outgoing: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": incoming, "completion_tokens": outgoing, "total_tokens": incoming + outgoing, **more}


# --- Perplexity -------------------------------------------------------------------------------------
RESEARCH = counts(33, 7163, citation_tokens=20016, num_search_queries=18, reasoning_tokens=95305)
"""https://docs.perplexity.ai/getting-started/models/models/sonar-deep-research: thoughts and citations are beside."""


def test_research_bills_what_it_has_read_thought_and_searched() -> None:
    reading, [usage] = answered("openai_chat", chat("sonar-deep-research", **RESEARCH))
    assert usage.buckets == {
        "input": 33,
        "output": 7163,
        "output_citation": 20016,
        "output_reasoning": 95305,
        "web_search": 18,
    }
    cost = pricing.price("perplexity", "sonar-deep-research", [usage], NOON, reading.context)
    # https://docs.perplexity.ai/getting-started/pricing: $2, $8, $2, $3 a million, $5 a thousand searches.
    expected = 33 * 2_000_000 + 7163 * 8_000_000 + 20016 * 2_000_000 + 95305 * 3_000_000 + 18 * 5_000_000_000
    assert (cost.status, cost.list_pico) == ("exact", expected)


def test_a_total_may_include_what_is_beside() -> None:
    told = {**RESEARCH, "total_tokens": 33 + 7163 + 20016 + 95305}
    [usage] = answered("openai_chat", chat("sonar-deep-research", **told))[1]
    assert (usage.input_tokens, usage.output_tokens, usage.inferred) == (33, 7163 + 20016 + 95305, ())


def test_searches_of_the_other_models_are_in_their_fee() -> None:
    told = counts(10, 20, num_search_queries=3, citation_tokens=None, reasoning_tokens=None)
    assert buckets("openai_chat", chat("sonar-pro", **told)) == {"input": 10, "output": 20}


def test_an_agent_of_perplexity_counts_its_tools() -> None:
    usage = {
        "input_tokens": 1000,
        "output_tokens": 50,
        "total_tokens": 1050,
        "input_tokens_details": {"cache_read_input_tokens": 400},
        "tool_calls_details": {"search_web": {"invocation": 3}, "fetch_url": {"invocation": 2}},
    }
    [found] = answered("openai_responses", {"id": "r", "model": "perplexity/sonar", "output": [], "usage": usage})[1]
    assert found.buckets == {"cache_read": 400, "input": 600, "output": 50, "web_search": 3}
    assert found.inferred == ("unread_tool:fetch_url",)


# --- caches -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        pytest.param(
            counts(1000, 10, cache_read_input_tokens=400, reasoning_tokens=4),
            {"cache_read": 400, "input": 600, "output_reasoning": 4, "output": 6},
            id="Databricks: parts of the prompt and of the completion",
        ),
        pytest.param(
            # https://docs.litellm.ai/docs/completion/prompt_caching
            counts(
                1000,
                10,
                cache_read_input_tokens=400,
                cache_creation_input_tokens=500,
                prompt_tokens_details={
                    "cached_tokens": 400,
                    "cache_creation_tokens": 500,
                    "cache_creation_token_details": {
                        "ephemeral_5m_input_tokens": 200,
                        "ephemeral_1h_input_tokens": 300,
                    },
                },
                completion_tokens_details=None,
            ),
            {"cache_read": 400, "cache_write_5m": 200, "cache_write_1h": 300, "input": 100, "output": 10},
            id="LiteLLM: the same told twice is counted once",
        ),
        pytest.param(
            counts(
                1000,
                10,
                cache_creation_input_tokens=500,
                prompt_tokens_details={"cached_tokens": 0},
                completion_tokens_details={"reasoning_tokens": 0},
            ),
            {"cache_write": 500, "input": 500, "output": 10},
            id="a write beside details that tell none",
        ),
        pytest.param(
            # https://www.alibabacloud.com/help/en/model-studio/context-cache
            counts(
                2000,
                10,
                prompt_tokens_details={
                    "cached_tokens": 0,
                    "cache_creation_input_tokens": 1900,
                    "cache_creation": {"ephemeral_5m_input_tokens": 1900},
                    "cache_type": "ephemeral",
                },
            ),
            {"cache_write_5m": 1900, "input": 100, "output": 10},
            id="Alibaba: written for five minutes",
        ),
        pytest.param(
            {
                "prompt_tokens": 100,
                "completion_tokens": 10,
                "total_tokens": 1010,
                "cache_read_input_tokens": 400,
                "cache_creation_input_tokens": 500,
            },
            {"cache_read": 400, "cache_write": 500, "input": 100, "output": 10},
            id="a gateway to Claude that leaves the cache out of the prompt, and in the total",
        ),
    ],
)
def test_caches(usage: dict[str, Any], expected: dict[str, int]) -> None:
    [found] = answered("openai_chat", chat(**usage))[1]
    assert (found.buckets, found.inferred) == (expected, ())


def test_cached_images_of_the_image_tool_keep_their_modality() -> None:
    """https://developers.openai.com/api/reference/resources/responses: `tool_usage.image_gen`."""
    drawing = {
        "input_tokens": 1000,
        "input_tokens_details": {"image_tokens": 900, "text_tokens": 100},
        "cached_tokens": 600,
        "cached_tokens_details": {"cached_image_tokens": 550, "cached_text_tokens": 50},
        "output_tokens": 300,
        "output_tokens_details": {"image_tokens": 280, "text_tokens": 20},
        "total_tokens": 1300,
    }
    answer = {
        "id": "r",
        "model": "gpt-6-sol",
        "output": [],
        "tools": [{"type": "image_generation", "model": "gpt-image-2"}],
        "tool_usage": {"image_gen": drawing},
        "usage": {"input_tokens": 5, "output_tokens": 5, "total_tokens": 10},
    }
    drawn = answered("openai_responses", answer)[1][1]
    assert (drawn.model, drawn.inferred) == ("gpt-image-2", ())
    assert drawn.buckets == {
        "cache_read_image": 550,
        "cache_read_text": 50,
        "input_image": 350,
        "input_text": 50,
        "output_image": 280,
        "output_text": 20,
    }


# --- systems of several models ------------------------------------------------------------------------
PARTS = [
    {"model": "llama-3.3-70b-versatile", "usage": counts(10, 3)},
    {"model": "openai/gpt-oss-120b", "usage": counts(20, 4)},
    {"model": "llama-3.3-70b-versatile", "usage": counts(5, 2)},
]
"""https://console.groq.com/docs/compound: each model that the system asks is billed at its own price."""
SPLIT = [
    ("llama-3.3-70b-versatile", {"input": 15, "output": 5}),
    ("openai/gpt-oss-120b", {"input": 20, "output": 4}),
]


def test_a_compound_system_bills_the_models_it_asked() -> None:
    answer = {**chat("groq/compound", **counts(35, 9)), "usage_breakdown": {"models": PARTS}}
    reading, usages = answered("openai_chat", answer)
    assert [(usage.model, usage.buckets) for usage in usages] == SPLIT
    cost = pricing.price("groq", "groq/compound", usages, NOON, reading.context)
    # https://groq.com/pricing: $0.59 and $0.79, $0.15 and $0.60 a million.
    assert (cost.status, cost.list_pico) == ("exact", 15 * 590_000 + 5 * 790_000 + 20 * 150_000 + 4 * 600_000)


def test_a_streamed_breakdown_counts_when_it_makes_up_the_whole() -> None:
    def end(models: list[dict[str, Any]]) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "delta": {}, "finish_reason": "stop"}
        told = {"usage": counts(35, 9), "usage_breakdown": {"models": models}}
        return {"id": "c", "model": "groq/compound", "choices": [choice], "x_groq": told}

    usages = streamed("openai_chat", end(PARTS))[1]
    assert [(usage.model, usage.buckets) for usage in usages] == SPLIT
    # Seen in the wild: each model with the usage of the whole.
    [usage] = streamed("openai_chat", end([{**part, "usage": counts(35, 9)} for part in PARTS]))[1]
    assert (usage.model, usage.buckets) == (None, {"input": 35, "output": 9})


def test_usage_in_the_last_choice_of_a_stream() -> None:
    """https://platform.moonshot.ai/docs/api/chat: the last chunk's choice has the usage, asked or not."""
    choice: dict[str, Any] = {"index": 0, "delta": {}, "finish_reason": "stop", "usage": counts(9, 4, cached_tokens=5)}
    reading, [usage] = streamed("openai_chat", {"id": "c", "model": "kimi-k3", "choices": [choice]})
    assert usage.buckets == {"cache_read": 5, "input": 4, "output": 4}
    assert reading.fidelity == "final"


# --- what cannot be read ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("usage", "expected", "rules"),
    [
        (counts(10, 5, sandbox_tokens=7), {"input": 10, "output": 5}, ("unread_count:sandbox_tokens",)),
        (counts(10, 5, sandbox_tokens=0), {"input": 10, "output": 5}, ()),
        (counts(10, 5, tokens_per_second=93.5, total_time=1.5), {"input": 10, "output": 5}, ()),
        ({"prompt_tokens": "10", "completion_tokens": "5"}, {"input": 10, "output": 5}, ()),
        ({"prompt_tokens": 10.0, "completion_tokens": 5.0}, {"input": 10, "output": 5}, ()),
        ({"prompt_tokens": 10, "completion_tokens": None, "total_tokens": 10}, {"input": 10}, ()),
    ],
)
def test_what_looks_billed_and_has_no_meaning_here_is_named(
    usage: dict[str, Any], expected: dict[str, int], rules: tuple[str, ...]
) -> None:
    [found] = answered("openai_chat", chat(**usage))[1]
    assert (found.buckets, found.inferred) == (expected, rules)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"prompt_tokens": -5, "completion_tokens": -1},
        {"prompt_tokens": "many", "completion_tokens": "few"},
        {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None},
        {"prompt_tokens": float("nan"), "completion_tokens": float("inf")},
        {"prompt_tokens": 2**60, "completion_tokens": 2**70},
        {"prompt_tokens": [1], "completion_tokens": {"n": 1}},
        "none",
        [1, 2],
    ],
)
@pytest.mark.parametrize("name", ["openai_chat", "openai_responses", "openai_embeddings"])
def test_counts_that_are_none_are_not_taken_for_zero(name: str, usage: Any) -> None:
    """A call whose usage cannot be read has no usage; zero tokens would be a price of nothing."""
    assert answered(name, {"id": "c", "model": "m", "choices": [], "output": [], "data": [], "usage": usage})[1] == []


# --- decisions ----------------------------------------------------------------------------------------
DECISION = {
    "model": "gpt-6-luna",
    "answers": [{"type": "predicate", "probability": 0.9}],
    "usage": {
        "input_tokens": 1000,
        "input_tokens_details": {"cached_tokens": 400, "cache_write_tokens": 100},
        "output_tokens": 50,
        "output_tokens_details": {"reasoning_tokens": 20},
        "total_tokens": 1050,
    },
}


@pytest.mark.parametrize("path", ["/decisions", "/v1/decisions"])
def test_decisions_are_metered_wherever_they_are_asked_for(path: str) -> None:
    dialect = for_path("POST", path)
    assert dialect is not None
    assert dialect.operation == "decision"
    assert answered(dialect.name, DECISION)[1][0].buckets == {
        "cache_read": 400,
        "cache_write": 100,
        "input": 500,
        "output_reasoning": 20,
        "output": 30,
    }


@pytest.mark.parametrize(
    ("times", "rate"),
    [(1, 100_000), (300, 200_000)],  # https://developers.openai.com/api/docs/models/gpt-6-luna: twice above 272k
)
def test_a_decision_costs_its_input_alone(times: int, rate: int) -> None:
    """https://developers.openai.com/api/docs/guides/decisions: no separate charge for the cache, output is free."""
    dialect = by_flavor("openai", "decisions")
    request = dialect.request({"model": "gpt-6-luna", "input": "Is it?", "questions": [{"type": "predicate"}]})
    assert (request.message_count, request.chars_by_role) == (1, {"user": 6})
    usage: dict[str, Any] = DECISION["usage"]  # type: ignore[assignment]
    [found] = answered(dialect.name, DECISION, RequestView())[1]
    more = {bucket: int(amount) * times for bucket, amount in found.buckets.items()}
    found.buckets = dict(more)
    cost = pricing.price("openai", "gpt-6-luna", [found], NOON, request.context)
    assert (cost.status, cost.list_pico) == ("exact", usage["input_tokens"] * times * rate)


@pytest.mark.parametrize(
    ("provider", "model", "rate"),
    [
        ("perplexity", "pplx-decider-v1.2", 20_000),  # https://docs.perplexity.ai/docs/decisions/quickstart
        ("openrouter", "typesafe/jev-1.13", 42_000),  # https://openrouter.ai/typesafe/jev-1.13
    ],
)
def test_the_deciders_of_others_answer_for_free(provider: str, model: str, rate: int) -> None:
    [usage] = answered("openai_decisions", {"model": model, "usage": {"input_tokens": 1000, "output_tokens": 9}})[1]
    cost = pricing.price(provider, model, [usage], NOON, by_flavor(provider, "decisions").request({}).context)
    assert (cost.status, cost.list_pico) == ("exact", 1000 * rate)


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/v1/sessions/s/events", "later read"),
        ("/v1/dreams", "later read"),
        ("/agents", "later read"),
        ("/chatkit/sessions", "later read"),
        ("/vaults", "nothing is generated"),
        ("/content_provenance_checks", "nothing is generated"),
        ("/audio/voice_consents/c", "nothing is generated"),
    ],
)
def test_what_the_newest_clients_send_beside_has_a_reason(path: str, word: str) -> None:
    assert for_path("POST", path) is None
    assert word in str(not_metered("POST", path))


# --- voices -------------------------------------------------------------------------------------------
def test_a_voice_of_xai_is_billed_by_the_second_and_the_message() -> None:
    """https://docs.x.ai/developers/pricing: $0.08 a minute (since 2026-08-05), $4 a thousand text messages."""
    told = {
        "input_tokens": 156,
        "input_token_details": {"text_tokens": 10, "audio_tokens": 146, "grok_tokens": 0},
        "output_tokens": 185,
        "output_token_details": {"text_tokens": 15, "audio_tokens": 170, "grok_tokens": 0},
        "total_tokens": 341,
        "output_audio_seconds": 3.38,
        "billable_audio_seconds": 5,
        "input_text_messages": 2,
    }
    event: dict[str, Any] = {
        "type": "response.done",
        "response": {"id": "r", "status": "completed", "usage": {}},
        "usage": told,
    }
    reading, [usage] = streamed("openai_realtime", event)
    assert usage.buckets == {
        "input_text": 10,
        "input_audio": 146,
        "output_text": 15,
        "output_audio": 170,
        "audio_seconds": 5,
        "messages_in": 2,
    }
    cost = pricing.price("x_ai", "grok-voice-think-fast-2.0", [usage], NOON, reading.context)
    # 5 seconds of $4.80 an hour; 2 messages.
    assert cost.list_pico == 5 * 4_800_000_000_000 // 3600 + 2 * 4_000_000_000 + 1  # half-even to the next
