"""OpenAI's formats: requests, answers and streams, as plain JSON and as parsed objects."""

from __future__ import annotations

from typing import Any

import openai.types.chat
import openai.types.responses
import pytest
from dialect_kit import answered, parsed, streamed
from genai_meter.dialects import Reading, RequestView, by_name
from genai_meter.usage import Quantity, Usage

CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-5.2-2025-12-11",
    "service_tier": "flex",
    "system_fingerprint": "fp_1",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "four"}, "finish_reason": "stop"},
        {
            "index": 1,
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            "finish_reason": "tool_calls",
        },
    ],
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 30,
        "total_tokens": 130,
        "prompt_tokens_details": {"cached_tokens": 40, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": 0},
    },
}
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "gpt-6-sol",
    "status": "completed",
    "service_tier": "default",
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "output": [
        {"type": "reasoning", "id": "rs", "summary": []},
        {"type": "web_search_call", "id": "ws1", "status": "completed", "action": {"type": "search", "query": "q"}},
        {"type": "web_search_call", "id": "ws2", "status": "completed", "action": {"type": "open_page", "url": "u"}},
        {"type": "file_search_call", "id": "fs", "status": "completed", "queries": []},
        {"type": "code_interpreter_call", "id": "ci1", "status": "completed", "container_id": "c", "outputs": None},
        {"type": "code_interpreter_call", "id": "ci2", "status": "completed", "container_id": "c", "outputs": None},
        {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": "{}"},
        {
            "type": "message",
            "id": "m",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "four", "annotations": []}],
        },
    ],
    "usage": {
        "input_tokens": 500,
        "input_tokens_details": {
            "cached_tokens": 100,
            "cache_write_tokens": 60,
            "cache_write_tokens_details": {"ttl_30m_tokens": 20, "ttl_12h_tokens": 30},
        },
        "output_tokens": 40,
        "output_tokens_details": {"reasoning_tokens": 15},
        "total_tokens": 540,
    },
}
RESPONSE_BUCKETS: dict[str, Quantity] = {
    "cache_read": 100,
    "cache_write_30m": 20,
    "cache_write_12h": 30,
    "cache_write": 10,
    "input": 340,
    "output_reasoning": 15,
    "output": 25,
    "web_search": 1,
    "file_search": 1,
    "code_exec": 1,
}


# --- openai chat ------------------------------------------------------------------------------------
@pytest.mark.parametrize("payload", [CHAT, parsed(openai.types.chat.ChatCompletion, CHAT)], ids=["json", "parsed"])
def test_chat_answer(payload: Any) -> None:
    reading, usages = answered("openai_chat", payload)
    assert usages == [Usage({"cache_read": 40, "input": 60, "output_reasoning": 20, "output": 10})]
    assert (reading.response_id, reading.model) == ("chatcmpl-1", "gpt-5.2-2025-12-11")
    assert reading.finish_reasons == ["stop", "tool_calls"]
    assert reading.context == {"service_tier": "flex"}
    assert (reading.service_tier, reading.system_fingerprint) == ("flex", "fp_1")
    assert (reading.fidelity, reading.terminal) == ("final", True)
    assert (reading.tool_call_count, reading.output_chars) == (1, 6)


def chunk(choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"id": "chatcmpl-2", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o", **more} | {
        "choices": choices
    }


def chat_chunks() -> list[dict[str, Any]]:
    function = {"name": "f", "arguments": "{}"}
    return [
        chunk([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]),
        chunk([{"index": 0, "delta": {"content": "fo"}, "finish_reason": None}]),
        chunk([{"index": 1, "delta": {"content": "our"}, "finish_reason": None}]),
        chunk([{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c", "function": function}]}}]),
        chunk([{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]),
        chunk([{"index": 1, "delta": {}, "finish_reason": "stop"}]),
        chunk([], usage=CHAT["usage"], service_tier="default"),
    ]


@pytest.mark.parametrize("as_objects", [False, True], ids=["json", "parsed"])
def test_chat_stream(as_objects: bool) -> None:
    events: list[Any] = chat_chunks()
    if as_objects:
        events = [parsed(openai.types.chat.ChatCompletionChunk, event) for event in events]
    dialect, reading = by_name("openai_chat"), Reading()
    ends: list[bool] = []
    for event in events:
        dialect.chunk(reading, event)
        ends.append(reading.terminal)
    assert ends == [False, False, False, False, False, True, True]
    assert dialect.usages(reading, RequestView()) == [
        Usage({"cache_read": 40, "input": 60, "output_reasoning": 20, "output": 10})
    ]
    assert reading.finish_reasons == ["tool_calls", "stop"]
    assert (reading.output_chars, reading.tool_call_count) == (7, 1)
    assert reading.context == {"service_tier": "default"}


def test_chat_stream_without_usage_tells_nothing() -> None:
    reading, usages = streamed("openai_chat", *chat_chunks()[:-1])
    assert usages == []
    assert (reading.fidelity, reading.output_chars) == ("none", 7)


def test_azures_first_chunk_has_no_model() -> None:
    first: dict[str, Any] = {"id": "", "model": "", "object": "", "choices": [], "prompt_filter_results": []}
    reading, _ = streamed("openai_chat", first, *chat_chunks())
    assert (reading.response_id, reading.model) == ("chatcmpl-2", "gpt-4o")


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        pytest.param(
            {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14, "prompt_cache_hit_tokens": 4},
            {"input": 5, "cache_read": 4, "output": 5},
            id="deepseek",
        ),
        pytest.param(
            {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14, "num_cached_tokens": 4},
            {"input": 5, "cache_read": 4, "output": 5},
            id="mistral",
        ),
        pytest.param(
            {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "total_tokens": 450,
                "completion_tokens_details": {"reasoning_tokens": 300},
            },
            {"input": 100, "output": 50, "output_reasoning": 300},
            id="xai: reasoning beside the output",
        ),
        pytest.param(
            {
                "prompt_tokens": 9,
                "completion_tokens": 1,
                "total_tokens": 385,
                "prompt_tokens_details": {"audio_tokens": 375},
            },
            {"input": 9, "input_audio": 375, "output": 1},
            id="voxtral: audio beside the input",
        ),
        pytest.param(
            {
                "prompt_tokens": 100,
                "completion_tokens": 90,
                "total_tokens": 190,
                "prompt_tokens_details": {"text_tokens": 30, "audio_tokens": 70, "cached_tokens": 20},
                "completion_tokens_details": {"text_tokens": 10, "audio_tokens": 80},
            },
            {"cache_read": 20, "input_text": 10, "input_audio": 70, "output_audio": 80, "output_text": 10},
            id="audio preview",
        ),
        pytest.param(
            {"prompt_tokens": 7, "completion_tokens": None, "total_tokens": 7}, {"input": 7}, id="null completion"
        ),
        pytest.param({"total_tokens": 12}, {"input": 12}, id="total only"),
        pytest.param(
            {"prompt_tokens": 5, "completion_tokens": 1, "server_tool_use": {"web_search_requests": 2}},
            {"input": 5, "output": 1, "web_search": 2},
            id="openrouter search",
        ),
    ],
)
def test_chat_variants(usage: dict[str, Any], expected: dict[str, int]) -> None:
    reading, [found] = answered("openai_chat", CHAT | {"usage": usage})
    assert (found.buckets, found.inferred) == (expected, ())
    assert reading.fidelity == "final"


@pytest.mark.parametrize(
    ("usage", "expected", "rule"),
    [
        (
            {
                "prompt_tokens": 29,
                "completion_tokens": 6,
                "total_tokens": 35,
                "prompt_tokens_details": {"cached_tokens": 157},
            },
            {"cache_read": 29, "output": 6},
            "cached_over_input",
        ),
        (
            {"prompt_tokens": 5, "completion_tokens": 10, "completion_tokens_details": {"reasoning_tokens": 11}},
            {"input": 5, "output_reasoning": 10},
            "reasoning_over_output",
        ),
        (
            {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"audio_tokens": 9}},
            {"input": 5, "output": 1},
            "input_modalities_over_total",
        ),
        (
            {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 60},
            {"input": 5, "output": 5},
            "total_over_parts",
        ),
        (
            {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 6},
            {"input": 5, "output": 5},
            "total_below_parts",
        ),
    ],
)
def test_contradictions_are_cut_to_the_total_and_named(
    usage: dict[str, Any], expected: dict[str, int], rule: str
) -> None:
    [found] = answered("openai_chat", CHAT | {"usage": usage})[1]
    assert (found.buckets, found.inferred) == (expected, (rule,))


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        ({"prompt_tokens": 1, "completion_tokens": 1, "cost": 1.25e-06}, "0.00000125"),
        ({"prompt_tokens": 1, "completion_tokens": 1, "cost": 0}, "0"),
        ({"prompt_tokens": 1, "completion_tokens": 1, "cost": {"total_cost": 0.006}}, "0.006"),
        ({"prompt_tokens": 1, "completion_tokens": 1, "cost_in_usd_ticks": 6306000}, "0.0006306000"),
        ({"prompt_tokens": 1, "completion_tokens": 1, "estimated_cost": 2e-7}, "0.0000002"),
        ({"prompt_tokens": 1, "completion_tokens": 1, "cost": "many"}, None),
        ({"prompt_tokens": 1, "completion_tokens": 1}, None),
    ],
)
def test_a_reported_cost_is_kept_as_decimal_text(usage: dict[str, Any], cost: str | None) -> None:
    assert answered("openai_chat", CHAT | {"usage": usage})[0].reported_cost_usd == cost


def test_groq_tells_usage_in_its_extension() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "queue_time": 0.1}
    last = chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}], x_groq={"id": "r", "usage": usage})
    for event in (last, parsed(openai.types.chat.ChatCompletionChunk, last)):
        reading, usages = streamed("openai_chat", event)
        assert usages == [Usage({"input": 3, "output": 2})]
        assert reading.terminal


def test_an_error_inside_a_stream() -> None:
    reading, usages = streamed("openai_chat", {"error": {"code": "tool_use_failed", "message": "secret"}})
    assert (reading.error_type, usages) == ("tool_use_failed", [])


def test_chat_request() -> None:
    view = by_name("openai_chat").request(
        {
            "model": "gpt-5.2",
            "stream": True,
            "service_tier": "priority",
            "max_completion_tokens": 100,
            "max_tokens": 200,
            "temperature": 1,
            "top_p": 0.5,
            "seed": 7,
            "n": 2,
            "stop": "END",
            "reasoning_effort": "low",
            "response_format": {"type": "json_schema"},
            "tools": [{"type": "function"}],
            "messages": [
                {"role": "developer", "content": "be brief"},
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "12345"}, {"type": "image_url", "image_url": {}}],
                },
                {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
                {"role": "tool", "content": "42"},
                {"role": "no such role", "content": "x"},
            ],
        }
    )
    assert view == RequestView(
        model="gpt-5.2",
        stream=True,
        service_tier="priority",
        max_tokens=100,
        temperature=1.0,
        top_p=0.5,
        seed=7,
        choice_count=2,
        stop_sequences=("END",),
        reasoning_level="low",
        output_type="json",
        tool_count=1,
        message_count=5,
        chars_by_role={"system": 8, "user": 5, "assistant": 2, "tool": 2, "other": 1},
        context={"service_tier": "priority"},
    )


# --- openai, the others -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    "payload", [RESPONSE, parsed(openai.types.responses.Response, RESPONSE)], ids=["json", "parsed"]
)
def test_responses_answer(payload: Any) -> None:
    reading, usages = answered("openai_responses", payload)
    assert usages == [Usage(RESPONSE_BUCKETS)]
    assert (reading.response_id, reading.model, reading.finish_reasons) == ("resp_1", "gpt-6-sol", ["completed"])
    assert (reading.tool_call_count, reading.output_chars, reading.terminal) == (1, 6, True)
    assert reading.context == {"service_tier": "default"}


def test_responses_stream() -> None:
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": RESPONSE | {"status": "in_progress", "usage": None, "output": []}},
        {"type": "response.output_text.delta", "delta": "four"},
        {"type": "response.function_call_arguments.delta", "delta": "{}"},
    ]
    reading, usages = streamed("openai_responses", *events)
    assert (usages, reading.fidelity, reading.output_chars) == ([], "none", 6)
    assert (reading.response_id, reading.terminal) == ("resp_1", False)
    reading, usages = streamed("openai_responses", *events, {"type": "response.completed", "response": RESPONSE})
    assert usages == [Usage(RESPONSE_BUCKETS)]
    assert (reading.fidelity, reading.output_chars, reading.terminal) == ("final", 6, True)


def test_responses_incomplete_and_failed() -> None:
    cut = RESPONSE | {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    assert answered("openai_responses", cut)[0].finish_reasons == ["max_output_tokens"]
    failed = RESPONSE | {"status": "failed", "error": {"code": "server_error", "message": "secret"}}
    reading, _ = streamed("openai_responses", {"type": "response.failed", "response": failed})
    assert (reading.error_type, reading.finish_reasons) == ("server_error", ["failed"])
    assert streamed("openai_responses", {"type": "error", "code": "ERR"})[0].error_type == "ERR"


def test_a_background_response_has_no_usage_yet() -> None:
    reading, usages = answered("openai_responses", RESPONSE | {"status": "queued", "usage": None, "output": []})
    assert (usages, reading.fidelity, reading.terminal) == ([], "none", False)


def test_responses_request() -> None:
    view = by_name("openai_responses").request(
        {
            "model": "gpt-6-sol",
            "instructions": "brief",
            "max_output_tokens": 77,
            "previous_response_id": "resp_0",
            "conversation": {"id": "conv_1"},
            "background": True,
            "reasoning": {"effort": "high"},
            "text": {"format": {"type": "json_object"}},
            "input": [
                {"role": "user", "content": "12345"},
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "678"}]},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": "sunny"},
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            ],
        }
    )
    assert view == RequestView(
        model="gpt-6-sol",
        max_tokens=77,
        previous_response_id="resp_0",
        conversation_id="conv_1",
        background=True,
        reasoning_level="high",
        output_type="json",
        message_count=5,
        chars_by_role={"system": 5, "user": 8, "assistant": 4, "tool": 5},
    )


def test_completions() -> None:
    payload = {
        "id": "cmpl-1",
        "model": "gpt-3.5-turbo-instruct",
        "choices": [{"index": 0, "text": "four", "finish_reason": "length"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 16, "total_tokens": 21},
    }
    for read in (answered, streamed):
        reading, usages = read("openai_completions", payload)
        assert usages == [Usage({"input": 5, "output": 16})]
        assert (reading.response_id, reading.finish_reasons, reading.output_chars) == ("cmpl-1", ["length"], 4)
        assert reading.terminal
    view = by_name("openai_completions").request({"model": "m", "prompt": ["abc", "de"], "max_tokens": 3})
    assert (view.message_count, view.chars_by_role, view.max_tokens) == (2, {"user": 5}, 3)
    assert by_name("openai_completions").request({"prompt": [1, 2, 3]}).message_count == 1


def test_embeddings_and_moderations() -> None:
    payload: dict[str, Any] = {
        "model": "text-embedding-3-small",
        "data": [],
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }
    reading, usages = answered("openai_embeddings", payload)
    assert (usages, reading.model, reading.response_id) == ([Usage({"input": 8})], "text-embedding-3-small", None)
    assert answered("openai_embeddings", {"usage": {"total_tokens": 3}})[1] == [Usage({"input": 3})]
    view = by_name("openai_embeddings").request({"model": "m", "input": ["ab", "c"], "dimensions": 256})
    assert (view.message_count, view.embedding_dimensions, view.chars_by_role) == (2, 256, {"user": 3})
    reading, usages = answered("openai_moderations", {"id": "modr-1", "model": "omni-moderation", "results": []})
    assert (usages, reading.fidelity, reading.response_id) == ([], "none", "modr-1")
