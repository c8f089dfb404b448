"""Anthropic's formats: requests, answers and streams, as plain JSON and as parsed objects."""

from __future__ import annotations

from typing import Any

import anthropic.types
import pytest
from dialect_kit import answered, parsed, streamed
from genai_meter.dialects import RequestView, by_name
from genai_meter.usage import Usage

MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-5-5",
    "content": [{"type": "text", "text": "four"}, {"type": "tool_use", "id": "t", "name": "f", "input": {}}],
    "stop_reason": "tool_use",
    "usage": {
        "input_tokens": 10,
        "cache_read_input_tokens": 200,
        "cache_creation_input_tokens": 70,
        "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 40},
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 35},
        "service_tier": "priority",
        "inference_geo": "us",
        "speed": "fast",
        "server_tool_use": {"web_search_requests": 2},
    },
}


# --- anthropic --------------------------------------------------------------------------------------
@pytest.mark.parametrize("payload", [MESSAGE, parsed(anthropic.types.Message, MESSAGE)], ids=["json", "parsed"])
def test_message_answer(payload: Any) -> None:
    reading, usages = answered("anthropic_messages", payload)
    assert usages == [
        Usage(
            {
                "input": 10,
                "cache_read": 200,
                "cache_write_5m": 30,
                "cache_write_1h": 40,
                "output_reasoning": 35,
                "output": 15,
                "web_search": 2,
            }
        )
    ]
    assert (reading.response_id, reading.model, reading.finish_reasons) == ("msg_1", "claude-opus-5-5", ["tool_use"])
    assert reading.context == {"service_tier": "priority", "inference_geo": "us", "speed": "fast"}
    assert (reading.tool_call_count, reading.output_chars, reading.fidelity) == (1, 4, "final")


def message_events() -> list[dict[str, Any]]:
    start: dict[str, Any] = MESSAGE | {"content": [], "stop_reason": None}
    start["usage"] = {"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 1, "service_tier": "standard"}
    return [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "f"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "four"}},
        {"type": "content_block_stop", "index": 1},
        {"type": "ping"},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 20}},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"input_tokens": None, "output_tokens": 42, "server_tool_use": {"web_search_requests": 1}},
        },
        {"type": "message_stop"},
    ]


def test_message_stream_counts_are_cumulative() -> None:
    reading, usages = streamed("anthropic_messages", *message_events())
    assert usages == [Usage({"input": 10, "cache_read": 5, "output": 42, "web_search": 1})]
    assert (reading.fidelity, reading.terminal, reading.finish_reasons) == ("final", True, ["end_turn"])
    assert (reading.output_chars, reading.tool_call_count) == (6, 1)


def test_an_aborted_message_stream_has_only_its_input_right() -> None:
    reading, usages = streamed("anthropic_messages", *message_events()[:4])
    assert usages == [Usage({"input": 10, "cache_read": 5, "output": 1})]
    assert (reading.fidelity, reading.terminal, reading.output_chars) == ("partial", False, 6)


def test_batch_results_and_errors() -> None:
    batch = MESSAGE | {"usage": {"input_tokens": 1, "output_tokens": 1, "service_tier": "batch"}}
    reading, _ = answered("anthropic_messages", batch)
    assert (reading.context, reading.service_tier) == ({"processing": "batch"}, None)
    reading, _ = streamed("anthropic_messages", {"type": "error", "error": {"type": "overloaded_error"}})
    assert reading.error_type == "overloaded_error"


def entry(kind: str, incoming: int, outgoing: int, **more: Any) -> dict[str, Any]:
    return {"type": kind, "input_tokens": incoming, "output_tokens": outgoing} | more


@pytest.mark.parametrize(
    ("iterations", "expected"),
    [
        ([entry("message", 30, 4)], [Usage({"input": 30, "output": 4})]),
        (
            [entry("compaction", 900, 80, cache_read_input_tokens=7), entry("message", 30, 4)],
            [Usage({"input": 30, "output": 4}), Usage({"input": 900, "cache_read": 7, "output": 80})],
        ),
        (
            [entry("message", 20, 3), entry("advisor_message", 64, 9, model="claude-fable-5"), entry("message", 10, 1)],
            [Usage({"input": 30, "output": 4}), Usage({"input": 64, "output": 9}, "claude-fable-5")],
        ),
        (  # the first model worked, then a fallback served: each its own part
            [
                entry("message", 20, 3, model="claude-haiku-5"),
                entry("fallback_message", 10, 1, model="claude-opus-5-5"),
            ],
            [Usage({"input": 20, "output": 3}, "claude-haiku-5"), Usage({"input": 10, "output": 1})],
        ),
        (  # a declined hop is not in the total, and not billed
            [
                entry("message", 500, 1, model="claude-haiku-5"),
                entry("fallback_message", 30, 4, model="claude-opus-5-5"),
            ],
            [Usage({"input": 30, "output": 4})],
        ),
        ([entry("daydream", 1, 1)], [Usage({"input": 30, "output": 4}, inferred=("unknown_iteration",))]),
    ],
)
def test_iterations(iterations: list[dict[str, Any]], expected: list[Usage]) -> None:
    usage = {"input_tokens": 30, "output_tokens": 4, "iterations": iterations}
    assert answered("anthropic_messages", MESSAGE | {"usage": usage})[1] == expected


def test_message_request() -> None:
    view = by_name("anthropic_messages").request(
        {
            "model": "claude-opus-5-5",
            "max_tokens": 1000,
            "stream": True,
            "system": [{"type": "text", "text": "brief"}],
            "speed": "fast",
            "inference_geo": "us",
            "top_k": 5,
            "stop_sequences": ["END"],
            "thinking": {"type": "enabled", "budget_tokens": 500},
            "tools": [{}, {}],
            "messages": [
                {"role": "user", "content": "12345"},
                {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": "67"}]}]},
            ],
        }
    )
    assert view == RequestView(
        model="claude-opus-5-5",
        max_tokens=1000,
        stream=True,
        top_k=5,
        stop_sequences=("END",),
        reasoning_level="enabled",
        tool_count=2,
        message_count=2,
        chars_by_role={"system": 5, "user": 7},
        context={"speed": "fast", "inference_geo": "us"},
    )


def test_anthropic_completions_report_nothing() -> None:
    payload = {"type": "completion", "id": "compl_1", "completion": " hi", "stop_reason": "stop_sequence", "model": "c"}
    reading, usages = answered("anthropic_completions", payload)
    assert (usages, reading.response_id, reading.finish_reasons) == ([], "compl_1", ["stop_sequence"])
