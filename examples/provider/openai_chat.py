"""OpenAI chat completions and legacy completions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

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

ERROR_FRAME = sse({"error": {"message": "The server had an error.", "type": "server_error", "code": None}})
DONE = b"data: [DONE]\n\n"
FINGERPRINT = "fp_standin"
REASONING = {"none": 0, "minimal": 0, "low": 32, "medium": 64, "high": 192, "xhigh": 384}
"""Reasoning tokens by effort, for models that reason."""


@dataclass(slots=True)
class Choice:
    """One answer of the model before it is put on the wire."""

    words: list[str]
    finish: str
    tool: JSON | None = None
    """Function name and arguments (a JSON text), when the model calls a tool."""


def reasons(model: str) -> bool:
    """Whether a model spends tokens on reasoning."""
    return model.startswith(("o1", "o3", "o4", "gpt-5", "gpt-6"))


def reasoning_tokens(model: str, effort: Any) -> int:
    return REASONING.get(str(effort or "medium"), 64) if reasons(model) else 0


def cached_tokens(system: str) -> int:
    """A system prompt of 1,024 tokens or more comes from the cache, in whole blocks of 128."""
    size = tokens(system)
    return size // 128 * 128 if size >= 1024 else 0


def call_tool(tools: list[JSON]) -> JSON:
    """The call of the first function, with the smallest arguments that fit its schema."""
    function = cast(JSON, tools[0].get("function", tools[0]))
    schema = function.get("parameters") or function.get("input_schema") or {"type": "object"}
    return {"name": function["name"], "arguments": json.dumps(example_of(schema))}


def chat(request: Request, model: str, azure: bool = False) -> Reply:
    body = request.body
    messages, tools = entries(body, "messages"), entries(body, "tools")
    prompt = prompt_text(messages)
    prompt_tokens = sum(tokens(prompt_text(m)) for m in messages) + (tokens(json.dumps(tools)) if tools else 0)
    thought = reasoning_tokens(model, body.get("reasoning_effort"))
    choice = _choice(body, messages, tools, prompt, thought)
    count = int(body.get("n") or 1)
    system = "".join(prompt_text(m) for m in messages if m.get("role") in ("system", "developer"))
    told = len(choice.words) if choice.tool is None else tokens(choice.tool["name"] + choice.tool["arguments"])
    usage = _usage(prompt_tokens, (told + thought) * count, cached_tokens(system), thought * count)
    head: JSON = {
        "id": new_id(request, "chatcmpl-"),
        "object": "chat.completion.chunk" if request.stream else "chat.completion",
        "created": now(),
        "model": served_model(model),
        "service_tier": _tier(body),
        "system_fingerprint": FINGERPRINT,
    }
    reply = Reply("chat", head["model"], head["id"], usage, error_frame=ERROR_FRAME)
    if request.stream:
        asked = bool(member(body, "stream_options").get("include_usage"))
        reply.frames = _chat_frames(request, head, choice, count, usage if asked else None, azure)
        reply.usage = usage if asked else None
    else:
        answers = [_message(i, choice) for i in range(count)]
        reply.content = dump(tell(request, head | {"choices": answers, "usage": usage}))
    return reply


def _choice(body: JSON, messages: list[JSON], tools: list[JSON], prompt: str, thought: int) -> Choice:
    after_tool = bool(messages) and messages[-1].get("role") == "tool"
    if tools and not after_tool and body.get("tool_choice") != "none":
        return Choice([], "tool_calls", call_tool(tools))
    form = member(body, "response_format")
    if form.get("type") == "json_schema":
        return Choice(pieces(json.dumps(example_of(form["json_schema"]["schema"]))), "stop")
    if form.get("type") == "json_object":
        return Choice(pieces('{"answer": "north"}'), "stop")
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    words, cut = answer_words(prompt, None if limit is None else int(limit) - thought)
    return Choice(words, "length" if cut else "stop")


def _usage(prompt: int, completion: int, cached: int, thought: int) -> JSON:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": thought,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _tier(body: JSON) -> str:
    asked = body.get("service_tier")
    return asked if asked in ("flex", "priority") else "default"


def _message(index: int, choice: Choice) -> JSON:
    message: JSON = {"role": "assistant", "content": "".join(choice.words), "refusal": None, "annotations": []}
    if choice.tool is not None:
        call = {"id": f"call_standin{index}", "type": "function", "function": choice.tool}
        message |= {"content": None, "tool_calls": [call]}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": choice.finish}


def _chat_frames(
    request: Request, head: JSON, choice: Choice, count: int, usage: JSON | None, azure: bool
) -> list[bytes]:
    """The chunks of a stream. With usage asked for, all but the last say `"usage": null`, as OpenAI does."""
    null = {} if usage is None else {"usage": None}

    def chunk(index: int, delta: JSON, finish: str | None = None) -> bytes:
        entry = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return sse(tell(request, head | {"choices": [entry]} | null))

    frames: list[bytes] = []
    if azure:
        filters: JSON = {"choices": [], "created": 0, "id": "", "model": "", "object": ""}
        filters["prompt_filter_results"] = [{"prompt_index": 0, "content_filter_results": {}}]
        frames.append(sse(filters))
    first = {"role": "assistant", "content": None if choice.tool else "", "refusal": None}
    frames += [chunk(index, first) for index in range(count)]
    for delta in _tool_deltas(choice.tool) if choice.tool else [{"content": word} for word in choice.words]:
        frames += [chunk(index, delta) for index in range(count)]
    frames += [chunk(index, {}, choice.finish) for index in range(count)]
    if usage is not None:
        frames.append(sse(tell(request, head | {"choices": [], "usage": usage})))
    # One piece, or two that may arrive apart.
    return [*frames[:-1], frames[-1] + DONE] if request.scenario == "done_with_last" else [*frames, DONE]


def _tool_deltas(tool: JSON) -> list[JSON]:
    function = {"name": tool["name"], "arguments": ""}
    first: JSON = {"index": 0, "id": "call_standin0", "type": "function", "function": function}
    parts = [{"index": 0, "function": {"arguments": part}} for part in pieces(tool["arguments"])]
    return [{"tool_calls": [call]} for call in [first, *parts]]


def completions(request: Request, model: str) -> Reply:
    """The legacy API: a prompt (or several), text back."""
    body = request.body
    given = body.get("prompt") or ""
    prompts = [str(p) for p in cast(list[Any], given)] if isinstance(given, list) else [str(given)]
    limit = int(body.get("max_tokens") or 16)
    answers = [answer_words(prompt, limit) for prompt in prompts]
    prompt_tokens = sum(tokens(prompt) for prompt in prompts)
    completion_tokens = sum(len(words) for words, _ in answers)
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    head: JSON = {
        "id": new_id(request, "cmpl-"),
        "object": "text_completion",
        "created": now(),
        "model": served_model(model),
    }
    reply = Reply("completions", head["model"], head["id"], usage, error_frame=ERROR_FRAME)

    def choice(index: int, text: str, finish: str | None) -> JSON:
        return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}

    finishes = ["length" if cut else "stop" for _, cut in answers]
    if not request.stream:
        choices = [choice(i, "".join(words), finishes[i]) for i, (words, _) in enumerate(answers)]
        reply.content = dump(tell(request, head | {"choices": choices, "usage": usage}))
        return reply
    asked = bool(member(body, "stream_options").get("include_usage"))
    null: JSON = {"usage": None} if asked else {}
    reply.frames = []
    for i, (words, _) in enumerate(answers):
        texts: list[tuple[str, str | None]] = [*((word, None) for word in words), ("", finishes[i])]
        reply.frames += [sse(tell(request, head | {"choices": [choice(i, t, f)]} | null)) for t, f in texts]
    if asked:
        reply.frames.append(sse(tell(request, head | {"choices": [], "usage": usage})))
    reply.frames.append(DONE)
    reply.usage = usage if asked else None
    return reply
