"""Bedrock InvokeModel: each vendor's own body. Told apart by its fields, the headers being the last resort."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from genai_meter.dialects import bedrock_converse, openai_usage
from genai_meter.dialects.anthropic_messages import AnthropicMessages
from genai_meter.dialects.base import Dialect, Json, Reading, RequestView, fields
from genai_meter.dialects.buckets import Tally, count
from genai_meter.dialects.requests import chars, lower, number, strings, text, whole
from genai_meter.usage import Usage

HEADER: Final = "x-amzn-bedrock-{}-token-count"
HEADERS: Final = {kind: HEADER.format(kind) for kind in ("input", "output", "cache-read-input", "cache-write-input")}
METRICS: Final = "amazon-bedrock-invocationMetrics"
ANTHROPIC_VERSION: Final = "anthropic_version"
_CLAUDE: Final = AnthropicMessages()
_CONVERSE: Final = bedrock_converse.BedrockConverse()
_BOUNDS: Final = (
    "max_tokens",
    "max_gen_len",
    "maxTokens",
    "max_tokens_to_sample",
    "max_completion_tokens",
    "maxTokenCount",
    "max_new_tokens",
)
"""What vendors call the bound on output tokens."""
_CONFIGS: Final = ("textGenerationConfig", "inferenceConfig")
"""Where Titan and Nova have it."""
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
            claude = ANTHROPIC_VERSION in body
            view = _CLAUDE.request(body) if claude else _CONVERSE.request(body)
        else:
            view = RequestView.blank()
            prompt = body.get("prompt", body.get("inputText", body.get("message", body.get("texts"))))
            view.chars_by_role["user"] = chars(prompt)
        view.model = text(body, "modelId") or view.model
        for part in (body, *(fields(body.get(name)) for name in _CONFIGS)):
            if view.max_tokens is None:
                view.max_tokens = next((bound for name in _BOUNDS if (bound := whole(part, name)) is not None), None)
            if view.temperature is None:
                view.temperature = number(part, "temperature")
            if view.stop_sequences is None:
                view.stop_sequences = strings(part, "stopSequences") or strings(part, "stop_sequences")
        bedrock_converse.ask(view, text(body, "serviceTier"), text(body, "performanceConfigLatency"))
        return view

    def headers(self, reading: Reading, headers: Mapping[str, str]) -> None:
        told = {kind: int(value) for kind, name in HEADERS.items() if (value := headers.get(name, "")).isdecimal()}
        if told:
            reading.scratch["headers"] = told
            if reading.fidelity == "none":
                reading.fidelity = "final"

    def response(self, reading: Reading, payload: Json) -> None:
        told = fields(payload)
        self.chunk(reading, told)
        for result in told.get("results") or ():
            # Titan text: output counted by result.
            part = fields(result)
            reading.scratch["output"] = reading.scratch.get("output", 0) + count(part.get("tokenCount"))
            _say(reading, part)
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
            return [_beside(*(told.get(kind, 0) for kind in HEADERS))]
        return []

    def apply(
        self, body: Mapping[str, Json], *, model: str | None = None, max_tokens: int | None = None
    ) -> dict[str, Json]:
        changed = dict(body)
        asked = text(body, "modelId") or ""
        # Another vendor's model would not understand the body.
        if model is not None and vendor(model) == vendor(asked):
            changed["modelId"] = model
        if max_tokens is None:
            return changed
        if ANTHROPIC_VERSION in body and "messages" in body:
            return _CLAUDE.apply(changed, max_tokens=max_tokens)
        for name in _CONFIGS:
            part = dict(fields(body.get(name)))
            if lower(part, _BOUNDS, max_tokens):
                changed[name] = part
                return changed
        if not lower(changed, _BOUNDS, max_tokens):
            _bound(changed, vendor(asked), max_tokens)
        return changed


class BedrockText(BedrockInvoke):
    """The same, where the body has a prompt and no messages."""

    name = "bedrock_text"
    operation = "text_completion"


class BedrockClaude(BedrockInvoke):
    """Claude in its own words: the ids of its answers are Anthropic's."""

    name = "bedrock_claude"
    id_family = _CLAUDE.id_family


def vendor(model: str) -> str:
    """Who made a model: `anthropic` for `us.anthropic.claude-…` and for the ARN of a profile of it."""
    parts = model.rpartition("/")[2].split(".")
    return parts[1] if len(parts) > 2 and parts[0] in bedrock_converse.GEOGRAPHIES else parts[0]


def _bound(body: dict[str, Json], maker: str, max_tokens: int) -> None:
    """Set the bound where the vendor looks for it."""
    if "inputText" in body:
        body["textGenerationConfig"] = {**fields(body.get("textGenerationConfig")), "maxTokenCount": max_tokens}
    elif maker == "amazon":
        body["inferenceConfig"] = {**fields(body.get("inferenceConfig")), "maxTokens": max_tokens}
    else:
        body["max_gen_len" if maker == "meta" else "max_tokens"] = max_tokens


def _native(reading: Reading, told: Mapping[str, Json]) -> None:
    """Vendors without a common shape: Titan, Llama, Mistral, OpenAI-like imports, Cohere, AI21, DeepSeek."""
    usage = told.get("usage")
    if usage is not None:
        reading.usage = usage
        reading.fidelity = "final"
    reading.response_id = reading.response_id or text(told, "id") or text(told, "response_id") or None
    for bucket, names in (
        ("input", ("inputTextTokenCount", "prompt_token_count")),
        ("output", ("totalOutputTextTokenCount", "generation_token_count")),
    ):
        for name in names:
            tokens = count(told.get(name))
            if tokens:
                reading.scratch[bucket] = tokens
                reading.fidelity = "final"
    _say(reading, told)
    for name in ("choices", "outputs", "generations", "completions"):
        for part in told.get(name) or ():
            choice = fields(part)
            _say(reading, choice)
            said = fields(choice.get("message", choice.get("delta", choice.get("data"))))
            reading.output_chars += chars(said.get("content", said.get("text")))
            reading.tool_call_count += len(said.get("tool_calls") or ())
    if told.get("is_finished") is True:
        reading.terminal = True


def _say(reading: Reading, part: Mapping[str, Json]) -> None:
    """Text and finish reason of an answer, or of one of several."""
    for name in ("generation", "outputText", "text", "completion"):
        said = part.get(name)
        if type(said) is str:
            reading.output_chars += len(said)
    for name in ("stop_reason", "completionReason", "finish_reason"):
        reason = part.get(name)
        if type(reason) is str:
            reading.finish_reasons = [reason]


def _beside(incoming: int, outgoing: int, cache_read: int, cache_write: int) -> Usage:
    result = Tally()
    result.add("input", incoming)
    result.add("cache_read", cache_read)
    result.add("cache_write", cache_write)
    result.add("output", outgoing)
    return result.usage()
