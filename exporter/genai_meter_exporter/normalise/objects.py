"""Usage as a provider's answer has it, carried whole inside one attribute: JSON, or Python's way to print it."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any, Final, cast

import orjson
from genai_meter.usage import Usage

from genai_meter_exporter.normalise import foreign, read
from genai_meter_exporter.normalise.foreign import Counts, first
from genai_meter_exporter.normalise.record import Unreadable

MAX_OBJECT: Final = 65_536
"""Characters; more has no usage, and what a provider says beside it seldom."""

_INPUT: Final = ("prompt_tokens", "input_tokens", "promptTokens", "inputTokens", "input")
_OUTPUT: Final = ("completion_tokens", "output_tokens", "completionTokens", "outputTokens", "output")
_TOTAL: Final = ("total_tokens", "totalTokens", "total")
_INPUT_DETAILS: Final = ("prompt_tokens_details", "input_tokens_details")
_OUTPUT_DETAILS: Final = ("completion_tokens_details", "output_tokens_details")
_WRITTEN_IN: Final = ("cache_creation_tokens", "cache_write_tokens", "cache_creation_input_tokens")
"""Among the details of the input: part of it."""
_SERVER_TOOLS: Final = ("server_tool_use",)
_TTL_IN: Final = ("cache_creation_token_details", "cache_creation")
_READ_BESIDE: Final = ("cache_read_input_tokens", "cacheReadInputTokens", "input_cached_tokens", "input_cache_read")
"""Beside the input, not part of it: Anthropic, Bedrock, and details that add up."""
_WRITTEN_BESIDE: Final = ("cache_creation_input_tokens", "cacheWriteInputTokens", "input_cache_creation")
_ITERATIONS_BESIDE: Final = frozenset({"advisor_message", "compaction"})
"""Kinds of Anthropic's iterations that its counts leave out; an advisor is billed as its own model."""
_REASONING_BESIDE: Final = ("output_reasoning_tokens", "output_reasoning")


CARRIED: Final = frozenset(
    {
        "gen_ai.usage.raw",
        "langfuse.observation.usage_details",
        "langfuse.observation.model.parameters",
        "metadata.usage_object",
        "ai.response.providerMetadata",
    }
)
"""Attributes that hold such objects; some hold other things too."""


def numbers(value: Any) -> str:
    """The object again, with nothing but its numbers, as JSON."""
    return json.dumps(_numbers(mapping(value) or printed(value)))


def _numbers(of: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in of.items():
        if isinstance(value, dict):
            if inner := _numbers(cast("Mapping[str, Any]", value)):
                kept[str(name)] = inner
        elif isinstance(value, int | float) and not isinstance(value, bool):
            kept[str(name)] = value
    return kept


def mapping(value: Any) -> Mapping[str, Any]:
    """The object that a text holds; empty when there is none."""
    if isinstance(value, dict):
        return cast("Mapping[str, Any]", value)
    if not isinstance(value, str) or len(value) > MAX_OBJECT:
        return {}
    try:
        found: Any = orjson.loads(value)
    except orjson.JSONDecodeError:
        return {}
    return cast("Mapping[str, Any]", found) if isinstance(found, dict) else {}


def printed(value: Any) -> Mapping[str, Any]:
    """The object that Python has printed into a text; empty when there is none."""
    if not isinstance(value, str) or not value.startswith("{") or len(value) > MAX_OBJECT:
        return {}
    try:
        found: Any = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {}
    return cast("Mapping[str, Any]", found) if isinstance(found, dict) else {}


def counts_of(usage: Mapping[str, Any], name: str) -> tuple[Counts, bool | None]:
    """What an object tells, and whether its cached tokens are beside its input; `name` is its attribute."""

    def count(of: Mapping[str, Any], *names: str) -> int | None:
        value = first(of, names)
        if value is None:
            return None
        try:
            return read.count(value)
        except ValueError as error:
            raise Unreadable(f"{name} {error}") from None

    inside, answered = _part(usage, _INPUT_DETAILS), _part(usage, _OUTPUT_DETAILS)
    ttl = _part(usage, ("cache_creation",)) or _part(inside, _TTL_IN)
    beside: bool | None = False if "cached_tokens" in inside else None
    if beside is None and first(usage, (*_READ_BESIDE, *_WRITTEN_BESIDE)) is not None:
        beside = True
    written = count(usage, *_WRITTEN_BESIDE) if beside else count(inside, *_WRITTEN_IN)
    if written is None and beside is False:
        # LiteLLM repeats both of Anthropic's names beside details that tell the reads alone; all of it is in the input.
        written = count(usage, *_WRITTEN_BESIDE)
    output, reasoning = count(usage, *_OUTPUT), count(answered, "reasoning_tokens", "thinking_tokens")
    if (apart := count(usage, *_REASONING_BESIDE)) is not None:
        output, reasoning = (output or 0) + apart, apart
    counts = Counts(
        input=count(usage, *_INPUT),
        output=output,
        cache_read=count(usage, *_READ_BESIDE) if beside else count(inside, "cached_tokens"),
        cache_write=written,
        reasoning=reasoning,
        total=count(usage, *_TOTAL),
        cache_write_5m=count(ttl, "ephemeral_5m_input_tokens"),
        cache_write_1h=count(ttl, "ephemeral_1h_input_tokens"),
        audio_input=count(inside, "audio_tokens"),
        audio_output=count(answered, "audio_tokens"),
        image_input=count(inside, "image_tokens"),
        image_output=count(answered, "image_tokens"),
        web_search=count(_part(usage, _SERVER_TOOLS), "web_search_requests"),
    )
    return counts, beside


def beside_of(usage: Mapping[str, Any], name: str) -> list[Usage]:
    """What Anthropic bills beside the counts of an answer; `name` is the attribute."""
    told = usage.get("iterations")
    found: list[Usage] = []
    for entry in cast("list[Any]", told) if isinstance(told, list) else ():
        iteration = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
        if iteration.get("type") in _ITERATIONS_BESIDE:
            counts, _ = counts_of(iteration, name)
            if part := foreign.usage(counts, cached_beside=True):
                part.model = read.named_text(name, iteration.get("model"))
                found.append(part)
    return found


def _part(of: Mapping[str, Any], names: tuple[str, ...]) -> Mapping[str, Any]:
    found = first(of, names)
    return cast("Mapping[str, Any]", found) if isinstance(found, dict) else {}
