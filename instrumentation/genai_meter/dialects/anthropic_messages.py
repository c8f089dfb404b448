"""Anthropic messages and beta messages, directly or through Bedrock, Vertex and gateways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from genai_meter.dialects.base import Dialect, Json, Reading, RequestView, fields
from genai_meter.dialects.buckets import Tally, count
from genai_meter.dialects.requests import (
    NUMBER,
    TEXT,
    WHOLE,
    Parameters,
    bound,
    by_role,
    chars,
    for_model,
    items,
    read_parameters,
    size,
    strings,
    text,
)
from genai_meter.usage import Usage

_INSIDE: Final = frozenset({"message", "fallback_message"})
"""Iterations that the top level of the usage includes."""
_BESIDE: Final = frozenset({"compaction", "advisor_message"})
"""Iterations that are billed and that the top level leaves out."""
_MIN_THINKING: Final = 1024
"""The smallest thinking budget the API takes."""
_PARAMETERS: Final[Parameters] = {
    "model": ("model", TEXT),
    "stream": ("stream", (bool,)),
    "max_tokens": ("max_tokens", WHOLE),
    "service_tier": ("service_tier", TEXT),
    "temperature": ("temperature", NUMBER),
    "top_p": ("top_p", NUMBER),
    "top_k": ("top_k", WHOLE),
}
_TOTALS: Final = ("input_tokens", "output_tokens")
_TTLS: Final = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
_KNOWN: Final = frozenset(
    {
        *(*_TOTALS, "output_tokens_details", "cache_creation", "cache_creation_input_tokens"),
        *("cache_read_input_tokens", "server_tool_use", "service_tier", "speed", "inference_geo", "iterations"),
        "fallback_credit",
    }
)
"""Fields of a usage whose meaning is known."""
_TOOL_USE: Final = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})


class AnthropicMessages(Dialect):
    """`POST /v1/messages`. `input_tokens` leaves cached tokens out: the gross input is the sum."""

    name = "anthropic_messages"
    operation = "chat"
    id_family = "anthropic.message"

    def request(self, body: Mapping[str, Json]) -> RequestView:
        view = RequestView.blank()
        read_parameters(view, body, _PARAMETERS)
        if "stop_sequences" in body:
            view.stop_sequences = strings(body, "stop_sequences")
        if "tools" in body:
            view.tool_count = size(body, "tools")
        output = fields(body.get("output_config"))
        if output or "thinking" in body:
            view.reasoning_level = text(output, "effort") or text(fields(body.get("thinking")), "type")
        if body.get("output_format") is not None or output.get("format") is not None:
            view.output_type = "json"
        for key in ("speed", "inference_geo"):
            if key in body and type(body[key]) is str:
                view.context[key] = body[key]
        system, messages = body.get("system"), items(body, "messages")
        if system is not None:
            view.chars_by_role["system"] = chars(system)
        if messages is not None:
            view.message_count = len(messages)
            by_role(messages, view.chars_by_role)
        return view

    def response(self, reading: Reading, payload: Json) -> None:
        answer = fields(payload)
        _head(reading, answer)
        reason = answer.get("stop_reason")
        if type(reason) is str:
            reading.finish_reasons = [reason]
        for block in answer.get("content") or ():
            told = fields(block)
            if told.get("type") in _TOOL_USE:
                reading.tool_call_count += 1
                _server_tool(reading, told)
            for key in ("text", "thinking"):
                said = told.get(key)
                if type(said) is str:
                    reading.output_chars += len(said)
        usage = answer.get("usage")
        if usage is not None:
            reading.usage = usage
            reading.fidelity = "final"
            _evidence(reading, usage)
        if answer.get("type") == "error":
            _error(reading, answer)
        reading.terminal = True

    def chunk(self, reading: Reading, event: Json) -> None:
        told = event if event.__class__ is dict else event.__dict__
        kind = told.get("type")
        if kind == "content_block_delta":
            delta = told["delta"]
            delta = delta if delta.__class__ is dict else delta.__dict__
            said = delta.get("text")
            if said is None:
                said = delta.get("partial_json") or delta.get("thinking")
            if said:
                reading.output_chars += len(said)
        elif kind == "message_start":
            message = fields(told.get("message"))
            _head(reading, message)
            usage = message.get("usage")
            if usage is not None:
                reading.usage = usage
                # Input and cache are right, the output is a placeholder.
                reading.fidelity = "partial"
                _evidence(reading, usage)
        elif kind == "content_block_start":
            block = fields(told.get("content_block"))
            if block.get("type") in _TOOL_USE:
                reading.tool_call_count += 1
                _server_tool(reading, block)
        elif kind == "message_delta":
            _delta(reading, told)
        elif kind == "message_stop":
            reading.terminal = True
        elif kind == "error":
            _error(reading, told)

    def billed(self, reading: Reading) -> list[Usage]:
        if reading.usage is None:
            return []
        told = fields(reading.usage)
        if told.get("input_tokens") is None and told.get("output_tokens") is None:
            return []
        total, tools = _tally(told), _tools(told, reading)
        if not total.buckets and any(told.get(name) for name in _TOTALS):
            return []  # counts that are none
        if not _KNOWN.issuperset(told) or told.get("fallback_credit") is not None:
            _unread(total, told)
        iterations = told.get("iterations")
        if not iterations or iterations.__class__ is not list:
            total.buckets.update(tools)
            return [total.usage()]
        found = _iterations(total.usage(), [fields(entry) for entry in iterations], reading.model)
        found[0].buckets.update(tools)
        return found

    def apply(
        self, body: Mapping[str, Json], *, model: str | None = None, max_tokens: int | None = None
    ) -> dict[str, Json]:
        changed = for_model(body, model)
        if max_tokens is not None:
            bound(changed, "max_tokens", max_tokens)
            _lower_thinking(changed)
        return changed


def _head(reading: Reading, answer: Mapping[str, Json]) -> None:
    if not reading.response_id:
        reading.response_id = text(answer, "id") or None
    if not reading.model:
        reading.model = text(answer, "model") or None


def _delta(reading: Reading, told: Mapping[str, Json]) -> None:
    """Counts of a `message_delta` are cumulative: what it tells replaces what `message_start` told."""
    delta = fields(told.get("delta"))
    reason = delta.get("stop_reason")
    if type(reason) is str:
        reading.finish_reasons = [reason]
    usage = told.get("usage")
    if usage is not None:
        newer = {name: value for name, value in fields(usage).items() if value is not None}
        reading.usage = {**fields(reading.usage), **newer}
        if "output_tokens" in newer:
            reading.fidelity = "final"
        _evidence(reading, newer)


def _evidence(reading: Reading, usage: Json) -> None:
    """Tier, speed and geography as served."""
    told = fields(usage)
    tier = told.get("service_tier")
    if type(tier) is str:
        if tier == "batch":
            reading.context["processing"] = "batch"
        else:
            reading.service_tier = tier
            reading.context["service_tier"] = tier
    for key in ("speed", "inference_geo"):
        value = told.get(key)
        if type(value) is str and value != "not_available":
            reading.context[key] = value


def _server_tool(reading: Reading, block: Mapping[str, Json]) -> None:
    """Note that code ran in a container of the provider."""
    name = block.get("name")
    if block.get("type") == "server_tool_use" and type(name) is str and name.endswith("code_execution"):
        reading.scratch["code"] = True


def _tools(told: Mapping[str, Json], reading: Reading) -> dict[str, int]:
    """Server tools that are billed beside the tokens.

    Code execution is billed by the hour of its container, which no answer tells; with web search or web
    fetch it is free.
    """
    used = told.get("server_tool_use")
    if used is None and "code" not in reading.scratch:
        return {}
    requests = fields(used)
    searches, fetches = count(requests.get("web_search_requests")), count(requests.get("web_fetch_requests"))
    if searches:
        return {"web_search": searches}
    return {"code_exec": 1} if "code" in reading.scratch and not fetches else {}


def _error(reading: Reading, told: Mapping[str, Json]) -> None:
    kind = fields(told.get("error")).get("type")
    reading.error_type = kind[:64] if type(kind) is str and kind else "_OTHER"


def _tally(told: Mapping[str, Json]) -> Tally:
    """Buckets of one usage or one iteration: every count of the input is beside the others."""
    result = Tally()
    result.add("input", count(told.get("input_tokens")))
    cached = told.get("cache_read_input_tokens")
    if cached:
        result.add("cache_read", count(cached))
    written = told.get("cache_creation_input_tokens")
    if written:
        _add_written(result, count(written), told.get("cache_creation"))
    elif written is None and told.get("cache_creation") is not None:
        ttls = fields(told["cache_creation"])
        _add_written(result, sum(count(ttls.get(name)) for name in _TTLS), ttls)
    outgoing = count(told.get("output_tokens"))
    details = told.get("output_tokens_details")
    if details is None:
        result.add("output", outgoing)
    else:
        result.output(outgoing, reasoning=count(fields(details).get("thinking_tokens")))
    return result


def _add_written(result: Tally, written: int, ttls: Json) -> None:
    """Cache writes by lifetime, as far as told."""
    by_ttl = fields(ttls)
    if by_ttl:
        short, long = (count(by_ttl.get(name)) for name in _TTLS)
        if short + long > written:
            result.rule("cache_ttls_over_written")
        else:
            result.add("cache_write_5m", short)
            result.add("cache_write_1h", long)
            written -= short + long
    result.add("cache_write", written)


def _unread(result: Tally, told: Mapping[str, Json]) -> None:
    """Name what looks like something billed and has no meaning here, and a price that was changed afterwards."""
    if fields(told.get("fallback_credit")).get("type") == "redeemed":
        result.rule("fallback_credit")
    for name, value in told.items():
        if name not in _KNOWN and name.endswith(("_tokens", "_requests")) and count(value):
            result.rule(f"unread_count:{name[:40]}")


def _iterations(top: Usage, entries: list[Mapping[str, Json]], served: str | None) -> list[Usage]:
    """The top level, and beside it what it leaves out: compactions, and advisors under their own model.

    When a fallback model took over after another model had worked, each is billed its own part; hops
    that declined are not in the top level and not billed.
    """
    inside = [(text(entry, "model"), _tally(entry)) for entry in entries if entry.get("type") in _INSIDE]
    beside = [_tally(entry).usage(text(entry, "model")) for entry in entries if entry.get("type") in _BESIDE]
    if any(entry.get("type") not in _INSIDE | _BESIDE for entry in entries):
        top.inferred = (*top.inferred, "unknown_iteration")
    models = {model or served for model, _ in inside}
    parts = [tally.usage(None if model == served else model) for model, tally in inside]
    split = len(models) > 1 and (
        sum(part.input_tokens for part in parts) == top.input_tokens
        and sum(part.output_tokens for part in parts) == top.output_tokens
    )
    return [*(parts if split else [top]), *beside]


def _lower_thinking(body: dict[str, Json]) -> None:
    """A thinking budget must stay under `max_tokens`, else the API refuses the request."""
    thinking = fields(body.get("thinking"))
    budget, bound = thinking.get("budget_tokens"), body["max_tokens"]
    if type(budget) is int and type(bound) is int and budget >= bound:
        if bound > _MIN_THINKING:
            body["thinking"] = {**thinking, "budget_tokens": bound - 1}
        else:
            body["thinking"] = {"type": "disabled"}
