"""The OpenAI Responses API: buffered, streamed, and in the background."""

from __future__ import annotations

import json
from typing import cast

from .openai_chat import cached_tokens, call_tool, reasoning_tokens
from .wire import (
    JSON,
    Reply,
    Request,
    answer_words,
    dump,
    entries,
    example_of,
    member,
    new_id,
    now,
    pieces,
    prompt_text,
    served_model,
    sse,
    tell,
    tokens,
)

ERROR_FRAME = sse(
    {
        "type": "error",
        "sequence_number": 3,
        "code": "server_error",
        "message": "The server had an error.",
        "param": None,
    },
    "error",
)


def responses(request: Request, model: str) -> Reply:
    body = request.body
    response = _response(request, model)
    usage = cast(JSON, response["usage"])
    reply = Reply("responses", response["model"], response["id"], usage, error_frame=ERROR_FRAME)
    if body.get("store", True) and response["id"]:
        with request.memory.lock:
            request.memory.responses[response["id"]] = response
    if request.stream:
        reply.frames = [sse(tell(request, event), event["type"]) for event in _events(response)]
    elif body.get("background"):
        reply.content = dump(tell(request, response | {"status": "queued", "output": [], "usage": None}))
        reply.usage = None
    else:
        reply.content = dump(tell(request, dict(response)))
    return reply


def retrieve(request: Request, response_id: str) -> Reply | None:
    """A stored answer; one from the background is at work for as many polls as its metadata say."""
    memory = request.memory
    with memory.lock:
        response = memory.responses.get(response_id)
        if response is None:
            return None
        memory.polls[response_id] += 1
        told = member(response, "metadata")
        working = memory.polls[response_id] <= int(told.get("polls", 0))
    changes: JSON = {}
    if working:
        changes = {"status": "in_progress", "output": [], "usage": None, "completed_at": None}
    elif "end" in told:
        changes = {"status": told["end"], "error": {"code": "server_error", "message": "It broke."}}
    response = response | changes
    reply = Reply("responses.retrieve", response["model"], response_id, metered=False, error_frame=ERROR_FRAME)
    if "stream=true" in request.query:
        reply.frames = [sse(event, event["type"]) for event in _events(response)]
    else:
        reply.content = dump(response)
    return reply


def cancel(request: Request, response_id: str) -> Reply | None:
    """Ends the work on a stored answer; what was generated is billed."""
    with request.memory.lock:
        response = request.memory.responses.get(response_id)
        if response is None:
            return None
        response["status"] = "cancelled"
    return Reply("responses.cancel", response["model"], response_id, content=dump(response), metered=False)


def _response(request: Request, model: str) -> JSON:
    body = request.body
    given = body.get("input") or ""
    items = cast(list[JSON], given) if isinstance(given, list) else [{"role": "user", "content": given}]
    instructions = str(body.get("instructions") or "")
    tools = entries(body, "tools")
    prompt = instructions + prompt_text(items)
    thought = reasoning_tokens(model, member(body, "reasoning").get("effort"))
    input_tokens = tokens(instructions) + sum(tokens(prompt_text(item)) for item in items)
    input_tokens += tokens(json.dumps(tools)) if tools else 0
    output, told, cut = _output(body, items, tools, prompt, thought)
    if thought:
        output.insert(0, {"id": "rs_standin", "type": "reasoning", "summary": []})
    usage = {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": cached_tokens(instructions)},
        "output_tokens": told + thought,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": input_tokens + told + thought,
    }
    return {
        "id": new_id(request, "resp_"),
        "object": "response",
        "created_at": now(),
        "completed_at": now(),
        "status": "incomplete" if cut else "completed",
        "background": bool(body.get("background")),
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "metadata": body.get("metadata") or {},
        "model": served_model(model),
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": body.get("previous_response_id"),
        "service_tier": body["service_tier"] if body.get("service_tier") in ("flex", "priority") else "default",
        "store": body.get("store", True),
        "temperature": 1.0,
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": tools,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage,
    }


def _output(
    body: JSON, items: list[JSON], tools: list[JSON], prompt: str, thought: int
) -> tuple[list[JSON], int, bool]:
    """Output items, their tokens, and whether the limit cut them short."""
    functions = [tool for tool in tools if tool.get("type") == "function"]
    if functions and items[-1].get("type") != "function_call_output" and body.get("tool_choice") != "none":
        tool = call_tool(functions)
        call = {"id": "fc_standin", "type": "function_call", "call_id": "call_standin", "status": "completed"} | tool
        return [call], tokens(tool["name"] + tool["arguments"]), False
    form = member(member(body, "text"), "format")
    if form.get("type") == "json_schema":
        words, cut = pieces(json.dumps(example_of(form["schema"]))), False
    else:
        limit = body.get("max_output_tokens")
        words, cut = answer_words(prompt, None if limit is None else int(limit) - thought)
    part: JSON = {"type": "output_text", "text": "".join(words), "annotations": [], "logprobs": []}
    message: JSON = {
        "id": "msg_standin",
        "type": "message",
        "role": "assistant",
        "status": "incomplete" if cut else "completed",
        "content": [part],
    }
    return [message], len(words), cut


def _events(response: JSON) -> list[JSON]:
    begun: JSON = response | {"status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    events: list[JSON] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, item in enumerate(response["output"]):
        events += _item_events(index, item)
    last = "response.incomplete" if response["status"] == "incomplete" else "response.completed"
    events.append({"type": last, "response": response})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def _item_events(index: int, item: JSON) -> list[JSON]:
    place: JSON = {"output_index": index, "item_id": item["id"]}
    empty: JSON = {"message": {"content": [], "status": "in_progress"}, "function_call": {"arguments": ""}}
    added: JSON = {"type": "response.output_item.added", "output_index": index}
    added["item"] = item | member(empty, item["type"])
    done: JSON = {"type": "response.output_item.done", "output_index": index, "item": item}
    middle: list[JSON] = []
    if item["type"] == "message":
        part = item["content"][0]
        spot = place | {"content_index": 0}
        middle = [{"type": "response.content_part.added", "part": part | {"text": ""}} | spot]
        for word in pieces(part["text"]):
            middle.append(spot | {"type": "response.output_text.delta", "delta": word, "logprobs": []})
        middle.append(spot | {"type": "response.output_text.done", "text": part["text"], "logprobs": []})
        middle.append({"type": "response.content_part.done", "part": part} | spot)
    elif item["type"] == "function_call":
        for text in pieces(item["arguments"]):
            middle.append({"type": "response.function_call_arguments.delta", "delta": text} | place)
        told = {"arguments": item["arguments"], "name": item["name"]}
        middle.append({"type": "response.function_call_arguments.done"} | told | place)
    return [added, *middle, done]
