"""What is billed beside the tokens: each unit is priced, or named as what has no price. Never silently nothing."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from emission_kit import START_NS
from genai_meter import dialects, pricing
from genai_meter.dialects import Reading, RequestView
from genai_meter.pricing import Cost
from genai_meter.usage import Usage

OPENAI: Any = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}
CLAUDE: Any = {"input_tokens": 1000, "output_tokens": 100}


def read(dialect: str, answer: Mapping[str, Any]) -> tuple[Reading, list[Usage]]:
    """An answer as the dialect reads it whole."""
    spoken, reading = dialects.by_name(dialect), Reading()
    spoken.response(reading, answer)
    return reading, spoken.usages(reading, RequestView())


def told(usages: list[Usage]) -> list[tuple[str | None, dict[str, Any]]]:
    return [(usage.model, usage.buckets) for usage in usages]


def price(provider: str, model: str, usages: list[Usage], reading: Reading) -> Cost:
    return pricing.price(provider, model, usages, START_NS, reading.context)


def lines(cost: Cost) -> dict[tuple[str, str], int]:
    return {(line.model, line.bucket): line.effective_pico for line in cost.lines}


# --- OpenAI -------------------------------------------------------------------------------------------
def response(*output: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "resp_1", "model": "gpt-5.2", "status": "completed", "output": output, "usage": OPENAI, **more} | {
        "output": list(output)
    }


TOKENS = {"input": 1000, "output": 100}
SEARCH = {"type": "web_search_call", "action": {"type": "search"}}
CODE = {"type": "code_interpreter_call", "container_id": "cntr_1"}


@pytest.mark.parametrize(
    ("output", "buckets", "status", "reasons"),
    [
        (
            [SEARCH, SEARCH, {"type": "web_search_call", "action": {"type": "open_page"}}],
            {"web_search": 2},
            "exact",
            (),
        ),
        ([{"type": "file_search_call"}] * 3, {"file_search": 3}, "exact", ()),
        ([CODE, CODE], {"code_exec": 1}, "partial", ("unpriced_bucket:code_exec",)),
        ([CODE, {**CODE, "container_id": "cntr_2"}], {"code_exec": 2}, "partial", ("unpriced_bucket:code_exec",)),
        (
            [{"type": "shell_call", "environment": {"type": "container_reference", "container_id": "cntr_1"}}, CODE],
            {"code_exec": 1},
            "partial",
            ("unpriced_bucket:code_exec",),
        ),
        ([{"type": "shell_call", "environment": {"type": "local"}}, {"type": "local_shell_call"}], {}, "exact", ()),
        (
            [{"type": kind} for kind in ("computer_call", "mcp_call", "mcp_list_tools", "tool_search_call")],
            {},
            "exact",
            (),
        ),
        ([{"type": kind} for kind in ("apply_patch_call", "program", "compaction", "reasoning")], {}, "exact", ()),
    ],
)
def test_tools_of_a_response(
    output: list[dict[str, Any]], buckets: dict[str, int], status: str, reasons: tuple[str, ...]
) -> None:
    reading, usages = read("openai_responses", response(*output))
    assert told(usages) == [(None, {**TOKENS, **buckets})]
    cost = price("openai", "gpt-5.2", usages, reading)
    assert (cost.status, cost.reasons) == (status, reasons)
    fees = {"web_search": 10_000_000_000, "file_search": 2_500_000_000}
    assert lines(cost) == {
        ("gpt-5.2", "input"): 1000 * 1_750_000,
        ("gpt-5.2", "output"): 100 * 14_000_000,
        **{("gpt-5.2", bucket): n * fees[bucket] for bucket, n in buckets.items() if bucket in fees},
    }


def test_the_searches_that_are_billed_win_over_those_that_are_seen() -> None:
    hosted = {
        "web_search": {"num_requests": 5},
        "image_gen": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0},
    }
    assert told(read("openai_responses", response(SEARCH, tool_usage=hosted))[1]) == [
        (None, {**TOKENS, "web_search": 5})
    ]
    hosted["web_search"] = {"num_requests": 0}
    assert told(read("openai_responses", response(SEARCH, tool_usage=hosted))[1]) == [(None, TOKENS)]


IMAGE: Any = {
    "input_tokens": 50,
    "input_tokens_details": {"text_tokens": 30, "image_tokens": 20},
    "output_tokens": 1056,
    "output_tokens_details": {"image_tokens": 1056, "text_tokens": 0},
    "total_tokens": 1106,
}
DRAWN = {"type": "image_generation_call", "status": "completed", "quality": "high", "size": "1024x1024"}
PAINTER = {"type": "image_generation", "model": "gpt-image-1.5"}


def test_an_image_is_billed_by_its_own_model() -> None:
    answer = response(DRAWN, tools=[{"type": "function"}, PAINTER], tool_usage={"image_gen": IMAGE})
    reading, usages = read("openai_responses", answer)
    assert told(usages) == [
        (None, TOKENS),
        ("gpt-image-1.5", {"input_text": 30, "input_image": 20, "output_image": 1056}),
    ]
    cost = price("openai", "gpt-5.2", usages, reading)
    assert cost.status == "exact"
    # 5 USD a million text tokens, 8 in and 32 out for images.
    assert lines(cost) == {
        ("gpt-5.2", "input"): 1000 * 1_750_000,
        ("gpt-5.2", "output"): 100 * 14_000_000,
        ("gpt-image-1.5", "input_text"): 30 * 5_000_000,
        ("gpt-image-1.5", "input_image"): 20 * 8_000_000,
        ("gpt-image-1.5", "output_image"): 1056 * 32_000_000,
    }


@pytest.mark.parametrize(
    ("answer", "drawn", "reason"),
    [
        (response(DRAWN, tools=[PAINTER]), ("gpt-image-1.5", {"images": 1}), "unpriced_bucket:images"),
        (response(DRAWN, DRAWN), ("image_generation", {"images": 2}), "unknown_model"),
        (
            response(DRAWN, tools=[{"type": "image_generation"}], tool_usage={"image_gen": IMAGE}),
            ("image_generation", {"input_text": 30, "input_image": 20, "output_image": 1056}),
            "unknown_model",
        ),
    ],
    ids=["tokens not told", "neither tokens nor model told", "model not told"],
)
def test_an_image_whose_cost_cannot_be_known_is_named(
    answer: dict[str, Any], drawn: tuple[str, dict[str, int]], reason: str
) -> None:
    reading, usages = read("openai_responses", answer)
    assert told(usages) == [(None, TOKENS), drawn]
    cost = price("openai", "gpt-5.2", usages, reading)
    assert (cost.status, cost.reasons) == ("partial", (reason,))
    assert cost.effective_pico == 1000 * 1_750_000 + 100 * 14_000_000


def test_a_streamed_response_tells_the_same() -> None:
    answer = response(
        SEARCH, DRAWN, tools=[PAINTER], tool_usage={"image_gen": IMAGE, "web_search": {"num_requests": 1}}
    )
    spoken, reading = dialects.by_name("openai_responses"), Reading()
    for event in (
        {"type": "response.output_item.done", "item": SEARCH},
        {"type": "response.completed", "response": answer},
    ):
        spoken.chunk(reading, event)
    assert told(spoken.usages(reading, RequestView())) == told(read("openai_responses", answer)[1])


UNPRICED = ("partial", ("unpriced_bucket:web_search",))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gpt-4o-search-preview", UNPRICED),
        ("gpt-5-search-api", UNPRICED),
        ("gpt-4o-mini-search-preview-2025-03-11", ("exact", ())),
    ],
)
def test_a_search_model_searches_in_every_call(model: str, expected: tuple[str, tuple[str, ...]]) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    reading, usages = read("openai_chat", {"id": "chatcmpl-1", "model": model, "choices": [], "usage": usage})
    assert told(usages) == [(None, {**TOKENS, "web_search": 1})]
    cost = price("openai", model, usages, reading)
    assert (cost.status, cost.reasons) == expected


# --- xAI ----------------------------------------------------------------------------------------------
def test_tools_of_xai() -> None:
    details = {
        "web_search_calls": 2,
        "x_search_calls": 3,
        "code_interpreter_calls": 1,
        "document_search_calls": 1,
        "file_search_calls": 1,
        "mcp_calls": 9,
    }
    usage = {**OPENAI, "server_side_tool_usage_details": details}
    reading, usages = read("openai_responses", {**response(SEARCH, SEARCH), "model": "grok-4.3", "usage": usage})
    extra = {"web_search": 2, "social_search": 3, "code_exec": 1, "file_search": 2}
    assert told(usages) == [(None, {**TOKENS, **extra})]
    cost = price("x_ai", "grok-4.3", usages, reading)
    assert cost.status == "partial"
    named = {f"unpriced_bucket:{bucket}" for bucket in ("social_search", "code_exec", "file_search")}
    assert set(cost.reasons) == named
    assert lines(cost)["grok-4.3", "web_search"] == 2 * 5_000_000_000


def test_recorded_searches_of_xai_cost_what_xai_reports(traffic: Path) -> None:
    found = 0
    with gzip.open(traffic / "dev.jsonl.gz") as file:
        for line in file:
            if b'"server_side_tool_usage_details' not in line and b"web_search_calls" not in line:
                continue
            recorded = json.loads(line)
            if recorded["provider"] != "x_ai" or not recorded["usage_truth"].get("cost_reported"):
                continue
            reading, usages = read("openai_responses", json.loads(recorded["response_body_text"]))
            if "web_search" not in usages[0].buckets:
                continue
            cost = price("x_ai", reading.model or "", usages, reading)
            assert cost.effective_pico is not None
            assert Decimal(cost.effective_pico) == Decimal(reading.reported_cost_usd or "") * 10**12
            found += 1
    assert found == 2


# --- Anthropic ----------------------------------------------------------------------------------------
def message(*names: str, **usage: Any) -> dict[str, Any]:
    content = [{"type": "server_tool_use", "name": name} for name in names]
    return {
        "id": "msg_1",
        "type": "message",
        "model": "claude-opus-5-5",
        "content": content,
        "usage": {**CLAUDE, **usage},
    }


CODE_NAMED = ("unpriced_bucket:code_exec",)


@pytest.mark.parametrize(
    ("answer", "buckets", "status", "reasons"),
    [
        (message("web_search", server_tool_use={"web_search_requests": 2}), {"web_search": 2}, "exact", ()),
        (message("web_fetch", server_tool_use={"web_fetch_requests": 2, "web_search_requests": 0}), {}, "exact", ()),
        (message("code_execution"), {"code_exec": 1}, "partial", CODE_NAMED),
        (message("bash_code_execution", "text_editor_code_execution"), {"code_exec": 1}, "partial", CODE_NAMED),
        (
            message("code_execution", "web_search", server_tool_use={"web_search_requests": 1}),
            {"web_search": 1},
            "exact",
            (),
        ),
        (message("code_execution", "web_fetch", server_tool_use={"web_fetch_requests": 1}), {}, "exact", ()),
        (message("tool_search_tool_regex"), {}, "exact", ()),
    ],
)
def test_server_tools_of_claude(
    answer: dict[str, Any], buckets: dict[str, int], status: str, reasons: tuple[str, ...]
) -> None:
    """Searches cost 10 USD a thousand, fetches nothing; code alone is billed by the hour, and no answer tells hours."""
    reading, usages = read("anthropic_messages", answer)
    assert told(usages) == [(None, {**TOKENS, **buckets})]
    cost = price("anthropic", "claude-opus-5-5", usages, reading)
    assert (cost.status, cost.reasons) == (status, reasons)
    assert lines(cost).get(("claude-opus-5-5", "web_search"), 0) == buckets.get("web_search", 0) * 10_000_000_000


def test_a_streamed_message_tells_the_same() -> None:
    spoken, reading = dialects.by_name("anthropic_messages"), Reading()
    head = {"id": "msg_1", "model": "claude-opus-5-5", "usage": {"input_tokens": 1000, "output_tokens": 1}}
    block = {"type": "server_tool_use", "name": "bash_code_execution"}
    for event in (
        {"type": "message_start", "message": head},
        {"type": "content_block_start", "content_block": block},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 100}},
        {"type": "message_stop"},
    ):
        spoken.chunk(reading, event)
    assert told(spoken.usages(reading, RequestView())) == [(None, {**TOKENS, "code_exec": 1})]
    assert reading.tool_call_count == 1


RATES = {"input": 4_000_000, "output": 20_000_000, "cache_write_1h": 8_000_000, "cache_read": 200_000}


@pytest.mark.parametrize(
    ("usage", "factor"),
    [
        ({}, Decimal(1)),
        ({"inference_geo": "us"}, Decimal("1.1")),
        ({"inference_geo": "global"}, Decimal(1)),
        ({"speed": "standard"}, Decimal(1)),
        ({"service_tier": "batch"}, Decimal("0.5")),
    ],
)
def test_geography_and_processing_of_claude(usage: dict[str, str], factor: Decimal) -> None:
    written: Any = {"cache_creation_input_tokens": 10, "cache_creation": {"ephemeral_1h_input_tokens": 10}}
    reading, usages = read("anthropic_messages", message(**written, cache_read_input_tokens=20, **usage))
    assert told(usages) == [(None, {**TOKENS, "cache_write_1h": 10, "cache_read": 20})]
    cost = price("anthropic", "claude-opus-5-5", usages, reading)
    amounts = {"input": 1000, "output": 100, "cache_write_1h": 10, "cache_read": 20}
    assert lines(cost) == {
        ("claude-opus-5-5", bucket): int(amount * RATES[bucket] * factor) for bucket, amount in amounts.items()
    }


def test_fast_mode_has_its_own_rates() -> None:
    reading, usages = read("anthropic_messages", message(speed="fast"))
    assert reading.context == {"speed": "fast"}
    cost = price("anthropic", "claude-opus-5-5", usages, reading)
    assert cost.status == "exact"
    assert (cost.effective_pico or 0) > 1000 * RATES["input"] + 100 * RATES["output"]


def test_every_model_of_an_answer_is_billed() -> None:
    """A compaction beside, an advisor under its own model, and a fallback that took over."""
    iterations = [
        {"type": "compaction", "input_tokens": 300, "output_tokens": 30},
        {"type": "message", "model": "claude-opus-5-5", "input_tokens": 400, "output_tokens": 40},
        {"type": "advisor_message", "model": "claude-sonnet-5-5", "input_tokens": 50, "output_tokens": 5},
        {"type": "fallback_message", "model": "claude-haiku-5-5", "input_tokens": 600, "output_tokens": 60},
    ]
    _, usages = read("anthropic_messages", message(iterations=iterations))
    assert told(usages) == [
        (None, {"input": 400, "output": 40}),
        ("claude-haiku-5-5", {"input": 600, "output": 60}),
        (None, {"input": 300, "output": 30}),
        ("claude-sonnet-5-5", {"input": 50, "output": 5}),
    ]
