"""The Anthropic Messages API: buffered and streamed, with the prompt cache, thinking and tool use."""

from __future__ import annotations

import json
import zlib
from typing import cast

from .openai_chat import call_tool
from .wire import (
    JSON,
    Memory,
    Reply,
    Request,
    answer_words,
    dump,
    entries,
    example_of,
    member,
    new_id,
    pieces,
    prompt_text,
    served_model,
    sse,
    tell,
    tokens,
)

ERROR_FRAME = sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "error")
THOUGHT = "The question is about a plain fact, so a plain answer is enough and no tool is needed for it at all."
CACHE_MINIMUM = 1024
"""A shorter prefix is not cached, marked or not."""


def messages(request: Request, model: str) -> Reply:
    usage = _input_usage(request.body, request.memory)
    content, stop, output, thinking = _answer(request.body)
    usage |= {"output_tokens": output, "service_tier": "standard"}
    if thinking:
        usage["output_tokens_details"] = {"thinking_tokens": thinking}
    message: JSON = {
        "id": new_id(request, "msg_"),
        "type": "message",
        "role": "assistant",
        "model": served_model(model),
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": usage,
    }
    reply = Reply("messages", message["model"], message["id"], usage, error_frame=ERROR_FRAME)
    if request.stream:
        reply.frames = [sse(tell(request, event), event["type"]) for event in _events(message)]
    else:
        reply.content = dump(tell(request, message))
    return reply


def count_tokens(request: Request, model: str) -> Reply:
    counted = sum(tokens(text) for text, _ in _blocks(request.body))
    return Reply("count_tokens", served_model(model), content=dump({"input_tokens": counted}), metered=False)


def error(status: int, message: str) -> JSON:
    kinds = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "overloaded_error" if status == 529 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_standin"}


def _blocks(body: JSON) -> list[tuple[str, JSON | None]]:
    """The blocks of a prompt in cache order (tools, system, messages) with their cache mark."""
    blocks: list[tuple[str, JSON | None]] = [
        (json.dumps({k: v for k, v in tool.items() if k != "cache_control"}), tool.get("cache_control"))
        for tool in entries(body, "tools")
    ]
    for part in [body.get("system"), *(turn.get("content") for turn in entries(body, "messages"))]:
        parts: list[JSON] = cast(list[JSON], part) if isinstance(part, list) else [{"text": part or ""}]
        blocks += [(prompt_text(block), block.get("cache_control")) for block in parts]
    return blocks


def _input_usage(body: JSON, memory: Memory) -> JSON:
    """The first time a marked prefix is seen it is written to the cache, afterwards it is read."""
    total = covered = read = 0
    written = {"5m": 0, "1h": 0}
    prefix = ""
    for text, mark in _blocks(body):
        total += tokens(text)
        prefix += text
        if mark is None or total < CACHE_MINIMUM:
            continue
        with memory.lock:
            known = zlib.crc32(prefix.encode()) in memory.prefixes
            memory.prefixes.add(zlib.crc32(prefix.encode()))
        if known:
            read = total
            written = dict.fromkeys(written, 0)
        else:
            written[str(mark.get("ttl") or "5m")] += total - covered
        covered = total
    return {
        "input_tokens": total - covered,
        "cache_creation_input_tokens": sum(written.values()),
        "cache_read_input_tokens": read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": written["5m"],
            "ephemeral_1h_input_tokens": written["1h"],
        },
    }


def _answer(body: JSON) -> tuple[list[JSON], str, int, int]:
    """Content blocks, the reason to stop, and the tokens of the answer with those of thinking among them."""
    content: list[JSON] = []
    thinking = 0
    if member(body, "thinking").get("type") in ("enabled", "adaptive"):
        content.append({"type": "thinking", "thinking": THOUGHT, "signature": "c3RhbmQtaW4="})
        thinking = len(pieces(THOUGHT))
    turns = entries(body, "messages")
    tools = [tool for tool in entries(body, "tools") if "input_schema" in tool]
    prompt = prompt_text([body.get("system"), turns])
    if tools and not _has_tool_result(turns) and member(body, "tool_choice").get("type") != "none":
        tool = call_tool(tools)
        block = {
            "type": "tool_use",
            "id": "toolu_standin",
            "name": tool["name"],
            "input": json.loads(tool["arguments"]),
        }
        count = tokens(tool["name"] + tool["arguments"])
        return [*content, block], "tool_use", count + thinking, thinking
    form = member(member(body, "output_config"), "format") or member(body, "output_format")
    if form:
        words, cut = pieces(json.dumps(example_of(form["schema"]))), False
    else:
        words, cut = answer_words(prompt, int(body.get("max_tokens") or 1024) - thinking)
    content.append({"type": "text", "text": "".join(words), "citations": None})
    return content, "max_tokens" if cut else "end_turn", len(words) + thinking, thinking


def _has_tool_result(turns: list[JSON]) -> bool:
    last = turns[-1].get("content") if turns else None
    return isinstance(last, list) and any(part.get("type") == "tool_result" for part in cast(list[JSON], last))


def _events(message: JSON) -> list[JSON]:
    usage = cast(JSON, message["usage"])
    first = {k: v for k, v in usage.items() if k != "output_tokens_details"} | {"output_tokens": 1}
    begun: JSON = message | {"content": [], "stop_reason": None, "usage": first}
    events: list[JSON] = [{"type": "message_start", "message": begun}]
    for index, block in enumerate(message["content"]):
        empty, deltas = _deltas(block)
        events.append({"type": "content_block_start", "index": index, "content_block": block | empty})
        if index == 0:
            events.append({"type": "ping"})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    last = {k: v for k, v in usage.items() if k not in ("cache_creation", "service_tier")}
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": delta, "usage": last})
    return [*events, {"type": "message_stop"}]


def _deltas(block: JSON) -> tuple[JSON, list[JSON]]:
    """How a block begins, and the deltas that fill it."""
    if block["type"] == "thinking":
        deltas: list[JSON] = [{"type": "thinking_delta", "thinking": word} for word in pieces(block["thinking"])]
        return {"thinking": "", "signature": ""}, [
            *deltas,
            {"type": "signature_delta", "signature": block["signature"]},
        ]
    if block["type"] == "tool_use":
        parts = pieces(json.dumps(block["input"]))
        return {"input": {}}, [{"type": "input_json_delta", "partial_json": part} for part in parts]
    return {"text": ""}, [{"type": "text_delta", "text": word} for word in pieces(block["text"])]
