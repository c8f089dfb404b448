"""Bedrock Converse: one format for all models; the answer does not name the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from genai_meter.dialects.base import Dialect, Json, Reading, RequestView, fields
from genai_meter.dialects.buckets import Tally, count
from genai_meter.dialects.requests import bound_in, by_role, chars, items, number, size, strings, text, whole
from genai_meter.usage import BUCKETS, Usage

GEOGRAPHIES: Final = frozenset({"us", "eu", "apac", "jp", "au", "ca", "global", "us-gov"})
"""Prefixes of the ids of cross-region inference profiles."""

_ARN: Final = "arn:"


class BedrockConverse(Dialect):
    """`POST /model/{modelId}/converse` and `/converse-stream`."""

    name = "bedrock_converse"
    operation = "chat"
    id_family = "bedrock.converse"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        config = fields(body.get("inferenceConfig"))
        view = RequestView(
            model=text(body, "modelId"),
            max_tokens=whole(config, "maxTokens"),
            temperature=number(config, "temperature"),
            top_p=number(config, "topP"),
            stop_sequences=strings(config, "stopSequences"),
            tool_count=size(fields(body.get("toolConfig")), "tools"),
        )
        ask(view, text(fields(body.get("serviceTier")), "type"), text(fields(body.get("performanceConfig")), "latency"))
        system, messages = body.get("system"), items(body, "messages")
        if system is not None:
            view.chars_by_role["system"] = chars(system)
        if messages is not None:
            view.message_count = len(messages)
            by_role(messages, view.chars_by_role)
        return view

    def response(self, reading: Reading, payload: Json) -> None:
        answer = fields(payload)
        _stop(reading, answer)
        _metadata(reading, answer)
        for block in fields(fields(answer.get("output")).get("message")).get("content") or ():
            _block(reading, fields(block))
        reading.terminal = True

    def chunk(self, reading: Reading, event: Json) -> None:
        told = fields(event)
        delta = told.get("contentBlockDelta")
        if delta is not None:
            _block(reading, fields(fields(delta).get("delta")))
        elif "contentBlockStart" in told:
            started = fields(fields(told["contentBlockStart"]).get("start"))
            if "toolUse" in started:
                reading.tool_call_count += 1
                _server_tool(reading, fields(started["toolUse"]))
        elif "messageStop" in told:
            _stop(reading, fields(told["messageStop"]))
        elif "metadata" in told:
            _metadata(reading, fields(told["metadata"]))
            reading.terminal = True
        else:
            failed = next((name for name in told if name.endswith("Exception")), None)
            if failed is not None:
                reading.error_type = failed[:64]

    def billed(self, reading: Reading) -> list[Usage]:
        if reading.usage is None:
            return []
        result = tally(fields(reading.usage))
        if result is None:
            return []
        result.add("web_search", reading.scratch.get("searches", 0))
        return [result.usage()]

    def apply(
        self, body: Mapping[str, Json], *, model: str | None = None, max_tokens: int | None = None
    ) -> dict[str, Json]:
        changed = dict(body)
        if model is not None:
            changed["modelId"] = model
        if max_tokens is not None:
            bound_in(changed, "inferenceConfig", "maxTokens", max_tokens)
        return changed


def ask(view: RequestView, tier: str | None, latency: str | None) -> None:
    """The tier and the latency that are asked for."""
    if tier is not None:
        view.service_tier = tier
        if tier != "default":
            view.context["service_tier"] = tier
    if latency == "optimized":
        view.context["speed"] = latency


def serve(reading: Reading, tier: str | None, latency: str | None) -> None:
    """The tier and the latency as served."""
    if tier is not None:
        reading.service_tier = tier
        reading.context["service_tier"] = tier
    if latency is not None:
        reading.context["speed"] = latency


def tally(told: Mapping[str, Json]) -> Tally | None:
    """The buckets of Converse's (and Nova's) usage: cached tokens are beside `inputTokens`."""
    totals = told.get("inputTokens"), told.get("outputTokens")
    incoming, outgoing = map(count, totals)
    if not incoming and not outgoing and all(value is None or value != 0 for value in totals):
        return None
    result = Tally()
    result.add("input", incoming)
    result.add("output", outgoing)
    read, written = (
        count(told.get(f"cache{kind}InputTokens")) or count(told.get(f"cache{kind}InputTokenCount"))
        for kind in ("Read", "Write")
    )
    result.add("cache_read", read)
    for detail in items(told, "cacheDetails") or ():
        entry = fields(detail)
        bucket, tokens = f"cache_write_{entry.get('ttl')}", count(entry.get("inputTokens"))
        if bucket in BUCKETS and tokens <= written:
            result.add(bucket, tokens)
            written -= tokens
    result.add("cache_write", written)
    return result


def _block(reading: Reading, block: Mapping[str, Json]) -> None:
    said = block.get("text")
    if said is None:
        reasoning = fields(block.get("reasoningContent"))
        said = reasoning.get("text", fields(reasoning.get("reasoningText")).get("text"))
    if type(said) is str:
        reading.output_chars += len(said)
    use = fields(block.get("toolUse"))
    if "toolUseId" in use:
        reading.tool_call_count += 1
        _server_tool(reading, use)
    arguments = use.get("input")
    if type(arguments) is str:
        reading.output_chars += len(arguments)


def _server_tool(reading: Reading, use: Mapping[str, Json]) -> None:
    """Count what Amazon's models look up by themselves: billed beside the tokens."""
    if use.get("type") == "server_tool_use" and use.get("name") == "nova_grounding":
        reading.scratch["searches"] = reading.scratch.get("searches", 0) + 1


def _stop(reading: Reading, told: Mapping[str, Json]) -> None:
    reason = told.get("stopReason")
    if type(reason) is str:
        reading.finish_reasons = [reason]


def _metadata(reading: Reading, told: Mapping[str, Json]) -> None:
    usage = told.get("usage")
    if usage is not None:
        reading.usage = usage
        reading.fidelity = "final"
    serve(
        reading, text(fields(told.get("serviceTier")), "type"), text(fields(told.get("performanceConfig")), "latency")
    )
    routed = text(fields(fields(told.get("trace")).get("promptRouter")), "invokedModelId")
    if routed:
        # A prompt router chose the model.
        reading.model = routed.rpartition("/")[2] if routed.startswith(_ARN) else routed
