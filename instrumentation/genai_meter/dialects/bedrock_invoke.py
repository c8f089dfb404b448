"""Bedrock InvokeModel: each vendor's own body. Told apart by its fields, the headers being the last resort."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from genai_meter.dialects import bedrock_converse, openai_usage
from genai_meter.dialects.anthropic_messages import AnthropicMessages
from genai_meter.dialects.base import Dialect, Json, Reading, RequestView, fields
from genai_meter.dialects.buckets import Tally, count
from genai_meter.dialects.requests import chars, text, whole
from genai_meter.usage import Usage

HEADER: Final = "x-amzn-bedrock-{}-token-count"
METRICS: Final = "amazon-bedrock-invocationMetrics"
_CLAUDE: Final = AnthropicMessages()
_CONVERSE: Final = bedrock_converse.BedrockConverse()
_BOUNDS: Final = ("max_tokens", "max_gen_len", "maxTokens", "max_tokens_to_sample", "max_completion_tokens")
_CLAUDE_EVENTS: Final = frozenset(
    {
        "message",
        "message_start",
        "message_delta",
        "message_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
    }
)


class BedrockInvoke(Dialect):
    """`POST /model/{modelId}/invoke` and `/invoke-with-response-stream`."""

    name = "bedrock_invoke"
    operation = "chat"
    id_family = "bedrock.invoke"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        if "messages" in body:
            claude = "anthropic_version" in body
            view = _CLAUDE.request(body) if claude else _CONVERSE.request(body)
        else:
            view = RequestView()
            prompt = body.get("prompt", body.get("inputText", body.get("texts")))
            view.chars_by_role["user"] = chars(prompt)
        if view.max_tokens is None:
            generation = fields(body.get("textGenerationConfig"))
            bounds = (*(whole(body, name) for name in _BOUNDS), whole(generation, "maxTokenCount"))
            view.max_tokens = next((bound for bound in bounds if bound is not None), None)
        return view

    def headers(self, reading: Reading, headers: Mapping[str, str]) -> None:
        told = {
            kind: int(value)
            for kind in ("input", "output", "cache-read", "cache-write")
            if (value := headers.get(HEADER.format(kind), "")).isdecimal()
        }
        if told:
            reading.scratch["headers"] = told
            if reading.fidelity == "none":
                reading.fidelity = "final"

    def response(self, reading: Reading, payload: Json) -> None:
        told = fields(payload)
        self.chunk(reading, told)
        for result in told.get("results") or ():
            # Titan text: output counted by result.
            tokens = count(fields(result).get("tokenCount"))
            reading.scratch["output"] = reading.scratch.get("output", 0) + tokens
        reading.terminal = True

    def chunk(self, reading: Reading, event: Json) -> None:
        told = fields(event)
        kind = told.get("type")
        if type(kind) is str and kind in _CLAUDE_EVENTS:
            (_CLAUDE.response if kind == "message" else _CLAUDE.chunk)(reading, told)
        elif "contentBlockDelta" in told or "messageStop" in told or "metadata" in told or "stopReason" in told:
            (_CONVERSE.response if "output" in told else _CONVERSE.chunk)(reading, told)
        else:
            _native(reading, told)
        metrics = told.get(METRICS)
        if metrics is not None:
            reading.scratch["metrics"] = fields(metrics)
            reading.fidelity = "final"
            reading.terminal = True

    def billed(self, reading: Reading) -> list[Usage]:
        if reading.usage is not None:
            told = fields(reading.usage)
            if told.get("input_tokens") is not None and told.get("total_tokens") is None:
                return _CLAUDE.billed(reading)
            result = bedrock_converse.tally(told) or openai_usage.tally(told)
            if result is not None:
                return [result.usage()]
        scratch = reading.scratch
        if "metrics" in scratch:
            metrics = scratch["metrics"]
            names = ("inputTokenCount", "outputTokenCount", "cacheReadInputTokenCount", "cacheWriteInputTokenCount")
            return [_beside(*(count(metrics.get(name)) for name in names))]
        if "input" in scratch:
            return [_beside(scratch["input"], scratch.get("output", 0), 0, 0)]
        if "headers" in scratch:
            told = scratch["headers"]
            return [_beside(*(told.get(kind, 0) for kind in ("input", "output", "cache-read", "cache-write")))]
        return []


def _native(reading: Reading, told: Mapping[str, Json]) -> None:
    """Vendors without a common shape: Titan, Llama, OpenAI-like imports, Cohere, AI21."""
    usage = told.get("usage")
    if usage is not None:
        reading.usage = usage
        reading.fidelity = "final"
    reading.response_id = reading.response_id or text(told, "id") or None
    for bucket, names in (
        ("input", ("inputTextTokenCount", "prompt_token_count")),
        ("output", ("totalOutputTextTokenCount", "generation_token_count")),
    ):
        for name in names:
            tokens = count(told.get(name))
            if tokens:
                reading.scratch[bucket] = tokens
                reading.fidelity = "final"
    for name in ("generation", "outputText", "text"):
        said = told.get(name)
        if type(said) is str:
            reading.output_chars += len(said)
    for name in ("stop_reason", "completionReason", "finish_reason"):
        reason = told.get(name)
        if type(reason) is str:
            reading.finish_reasons = [reason]


def _beside(incoming: int, outgoing: int, cache_read: int, cache_write: int) -> Usage:
    result = Tally()
    result.add("input", incoming)
    result.add("cache_read", cache_read)
    result.add("cache_write", cache_write)
    result.add("output", outgoing)
    return result.usage()
