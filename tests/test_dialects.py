"""Paths, names, the write side and the formats that have no seam yet."""

from __future__ import annotations

from typing import Any

import pytest
from dialect_kit import buckets, check_apply, streamed
from genai_meter.dialects import Dialect, Reading, RequestView, by_name, for_path, not_metered
from genai_meter.usage import Usage


@pytest.mark.parametrize(
    ("name", "body", "change", "expected"),
    [
        ("openai_chat", {"model": "gpt-5"}, {"max_tokens": 9}, {"model": "gpt-5", "max_completion_tokens": 9}),
        (
            "openai_chat",
            {"model": "openai/o4-mini"},
            {"max_tokens": 9},
            {"model": "openai/o4-mini", "max_completion_tokens": 9},
        ),
        ("openai_chat", {"model": "llama"}, {"max_tokens": 9}, {"model": "llama", "max_tokens": 9}),
        ("openai_chat", {"model": "gpt-4", "max_tokens": 5}, {"max_tokens": 9}, {"model": "gpt-4", "max_tokens": 5}),
        ("openai_chat", {"max_completion_tokens": 50}, {"max_tokens": 9}, {"max_completion_tokens": 9}),
        ("openai_chat", {"model": "a", "max_tokens": None}, {"max_tokens": 9}, {"model": "a", "max_tokens": 9}),
        ("openai_chat", {"model": "a"}, {"model": "b"}, {"model": "b"}),
        ("openai_completions", {}, {"max_tokens": 9}, {"max_tokens": 9}),
        ("openai_completions", {}, {"max_tokens": 90}, {"max_tokens": 16}),
        ("openai_responses", {"model": "a"}, {"model": "b", "max_tokens": 9}, {"model": "b", "max_output_tokens": 9}),
        ("openai_responses", {"max_output_tokens": 5}, {"max_tokens": 9}, {"max_output_tokens": 5}),
        ("anthropic_messages", {"max_tokens": 50}, {"max_tokens": 9, "model": "b"}, {"max_tokens": 9, "model": "b"}),
        ("anthropic_messages", {"max_tokens": 5}, {"max_tokens": 9}, {"max_tokens": 5}),
        (
            "anthropic_messages",
            {"max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 8000}},
            {"max_tokens": 4000},
            {"max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 3999}},
        ),
        (
            "anthropic_messages",
            {"max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 8000}},
            {"max_tokens": 500},
            {"max_tokens": 500, "thinking": {"type": "disabled"}},
        ),
    ],
)
def test_apply_changes_a_copy_and_never_raises_a_bound(
    name: str, body: dict[str, Any], change: dict[str, Any], expected: dict[str, Any]
) -> None:
    check_apply(name, body, change, expected)


# --- paths ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("post", "/chat/completions", "openai_chat"),
        ("POST", "/openai/deployments/prod/chat/completions?api-version=1", "openai_chat"),
        ("POST", "/completions", "openai_completions"),
        ("POST", "/v1/responses", "openai_responses"),
        ("POST", "/responses/compact", "openai_responses"),
        ("POST", "/v1/messages?beta=true", "anthropic_messages"),
        ("POST", "/images/edits", "openai_images"),
        ("POST", "/audio/translations", "openai_translations"),
        ("POST", "/v1beta/models/gemini-3:streamGenerateContent?alt=sse", "gemini"),
        ("POST", "/model/us.anthropic.claude%3A0/converse-stream", "bedrock_converse"),
        ("POST", "/v2/rerank", "cohere_rerank"),
    ],
)
def test_paths(method: str, path: str, name: str) -> None:
    dialect = for_path(method, path)
    assert dialect is by_name(name)
    assert not_metered(method, path) is None


@pytest.mark.parametrize(
    ("method", "path", "word"),
    [
        ("GET", "/responses/resp_1", "reads"),
        ("GET", "/chat/completions", "reads"),
        ("DELETE", "/files/file-1", "deletes"),
        ("POST", "/v1/messages/count_tokens?beta=true", "counts"),
        ("POST", "/responses/input_tokens", "counts"),
        ("POST", "/v1/messages/batches", "batches"),
        ("POST", "/batches", "batches"),
        ("POST", "/threads/t/messages", "assistants"),
        ("POST", "/v1/threads/t/runs", "assistants"),
        ("POST", "/files", "files"),
        ("POST", "/responses/resp_1/cancel", "stored"),
        ("POST", "/vector_stores", "storage"),
        ("POST", "/fine_tuning/jobs", "training"),
        ("POST", "/realtime/client_secrets", "session"),
        ("POST", "/videos", "background"),
    ],
)
def test_what_is_never_metered(method: str, path: str, word: str) -> None:
    assert for_path(method, path) is None
    assert word in str(not_metered(method, path))


def test_an_unknown_path_is_neither() -> None:
    for path in ("/telepathy", "/my-chain/invoke", "/chat"):
        assert (for_path("POST", path), not_metered("POST", path)) == (None, None)


def test_every_dialect_says_what_it_is() -> None:
    from genai_meter.dialects.paths import MODULES, SUFFIXES

    # Others are chosen by name: events of sessions, bodies behind one path of a cloud.
    assert set(SUFFIXES.values()) <= set(MODULES)
    for name in MODULES:
        dialect: Dialect = by_name(name)
        assert dialect.name == name
        assert dialect.operation
        assert dialect.id_family
    injecting = {name for name in MODULES if by_name(name).injects_usage}
    assert injecting == {"openai_chat", "openai_completions"}


# --- Google, Bedrock and others -----------------------------------------------------------------------
def test_gemini() -> None:
    first = {
        "responseId": "r1",
        "modelVersion": "gemini-3-flash",
        "candidates": [{"content": {"parts": [{"text": "fo"}]}}],
        "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 2, "totalTokenCount": 11},
    }
    last = {
        "modelVersion": "gemini-3-flash",
        "candidates": [
            {
                "content": {"parts": [{"text": "ur"}, {"functionCall": {"name": "f"}}]},
                "finishReason": "STOP",
                "groundingMetadata": {"webSearchQueries": ["a", "b", "a"]},
            }
        ],
        "usageMetadata": {
            "promptTokenCount": 87,
            "cachedContentTokenCount": 20,
            "toolUsePromptTokenCount": 11,
            "candidatesTokenCount": 8,
            "thoughtsTokenCount": 70,
            "totalTokenCount": 176,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 37},
                {"modality": 4, "tokenCount": 40},
                {"modality": "DOCUMENT", "tokenCount": 10},
            ],
            "trafficType": "ON_DEMAND_FLEX",
        },
    }
    reading, [found] = streamed("gemini", first, last)
    assert found.buckets == {
        "cache_read": 20,
        "input_text": 27,  # 10 of the cached tokens are the document's, which has no modality of its own, 10 are text
        "input_audio": 40,
        "tool_prompt": 11,
        "output_reasoning": 70,
        "output": 8,
        "web_search": 2,
    }
    assert (found.input_tokens, found.output_tokens) == (98, 78)
    assert (reading.response_id, reading.model, reading.finish_reasons) == ("r1", "gemini-3-flash", ["STOP"])
    assert (reading.context, reading.output_chars, reading.tool_call_count) == ({"service_tier": "flex"}, 4, 1)


def test_bedrock_converse() -> None:
    usage = {
        "inputTokens": 100,
        "outputTokens": 50,
        "cacheReadInputTokens": 2000,
        "cacheWriteInputTokens": 1000,
        "cacheDetails": [{"ttl": "1h", "inputTokens": 600}],
    }
    expected = {"input": 100, "cache_read": 2000, "cache_write_1h": 600, "cache_write": 400, "output": 50}
    answer = {"stopReason": "end_turn", "output": {"message": {"content": [{"text": "four"}]}}, "usage": usage}
    assert buckets("bedrock_converse", answer) == expected
    reading, [found] = streamed(
        "bedrock_converse",
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"delta": {"text": "four"}, "contentBlockIndex": 0}},
        {"messageStop": {"stopReason": "end_turn"}},
        {"metadata": {"usage": usage, "metrics": {}}},
    )
    assert found.buckets == expected
    assert (reading.finish_reasons, reading.output_chars, reading.terminal) == (["end_turn"], 4, True)


INVOKED: list[tuple[list[dict[str, Any]], dict[str, int]]] = [
    ([{"inputTextTokenCount": 5, "results": [{"tokenCount": 10, "outputText": "x"}]}], {"input": 5, "output": 10}),
    ([{"generation": "hi", "prompt_token_count": 6, "generation_token_count": 18}], {"input": 6, "output": 18}),
    (
        [{"text": "a"}, {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 40, "outputTokenCount": 20}}],
        {"input": 40, "output": 20},
    ),
    ([{"type": "message", "id": "m", "usage": {"input_tokens": 3, "output_tokens": 4}}], {"input": 3, "output": 4}),
    ([{"metadata": {"usage": {"inputTokens": 13, "outputTokens": 114}}}], {"input": 13, "output": 114}),
    (
        [{"choices": [], "usage": {"prompt_tokens": 6, "completion_tokens": 9, "total_tokens": 15}}],
        {"input": 6, "output": 9},
    ),
]


@pytest.mark.parametrize(("events", "expected"), INVOKED, ids=["titan", "llama", "metrics", "claude", "nova", "openai"])
def test_bedrock_invoke(events: list[dict[str, Any]], expected: dict[str, int]) -> None:
    dialect, reading = by_name("bedrock_invoke"), Reading()
    if len(events) == 1 and "metadata" not in events[0]:
        dialect.response(reading, events[0])
    else:
        for event in events:
            dialect.chunk(reading, event)
    assert [usage.buckets for usage in dialect.usages(reading, RequestView())] == [expected]


def test_bedrock_headers_are_the_last_resort() -> None:
    dialect, reading = by_name("bedrock_invoke"), Reading()
    dialect.response(reading, {"embeddings": {"float": [[0.1]]}})
    dialect.headers(reading, {"x-amzn-bedrock-input-token-count": "5", "x-amzn-bedrock-cache-read-token-count": "no"})
    assert dialect.usages(reading, RequestView()) == [Usage({"input": 5})]


def test_cohere_bills_its_units() -> None:
    usage = {"billed_units": {"input_tokens": 5.0, "output_tokens": 7.0}, "tokens": {"input_tokens": 71.0}}
    answer = {"id": "c1", "finish_reason": "COMPLETE", "message": {"content": [{"text": "four"}]}, "usage": usage}
    assert buckets("cohere", answer) == {"input": 5, "output": 7}
    reading, [found] = streamed(
        "cohere",
        {"type": "message-start", "id": "c2"},
        {"type": "content-delta", "delta": {"message": {"content": {"text": "four"}}}},
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": usage}},
    )
    assert found.buckets == {"input": 5, "output": 7}
    assert (reading.response_id, reading.output_chars, reading.finish_reasons) == ("c2", 4, ["COMPLETE"])
    assert buckets("cohere_rerank", {"meta": {"billed_units": {"search_units": 1}}}) == {"rerank_search": 1}
    images = {"meta": {"billed_units": {"input_tokens": 7, "image_tokens": 3}}}
    assert buckets("cohere_embed", images) == {"input": 7, "input_image": 3}


def test_ollama_and_ocr() -> None:
    last = {"model": "m", "message": {"content": ""}, "done": True, "done_reason": "stop", "eval_count": 50}
    reading, [found] = streamed("ollama", {"message": {"content": "Why"}}, last | {"prompt_eval_count": 17})
    assert (found.buckets, reading.finish_reasons) == ({"input": 17, "output": 50}, ["stop"])
    assert buckets("mistral_ocr", {"model": "o", "usage_info": {"pages_processed": 3}}) == {"pages": 3}
    embedded = {"usageMetadata": {"promptTokenCount": 7, "promptTokenDetails": [{"modality": "TEXT", "tokenCount": 7}]}}
    assert buckets("gemini_embeddings", embedded) == {"input_text": 7}
    predicted = {"predictions": [{"embeddings": {"statistics": {"token_count": n}}} for n in (3, 1)]}
    assert buckets("gemini_embeddings", predicted) == {"input": 4}
