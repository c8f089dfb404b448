"""Mistral's own API under `/mistral`: texts, agents, conversations, embeddings, OCR, audio, classifiers.

A prompt that comes again is cached in whole blocks of 64 tokens. Every agent answers with `AGENTS_MODEL`; a
conversation with the tool `web_search` searches once, and what it finds is 1,000 connector tokens.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from typing import Any, Final, cast

from . import openai_responses
from .wire import JSON, Reply, Request, answer_words, dump, entries, member, new_id, now, prompt_text, sse, tell, tokens

ROOT: Final = "/mistral/"
AGENTS_MODEL: Final = "mistral-medium-2505"
DONE: Final = b"data: [DONE]\n\n"
ERROR_FRAME: Final = sse(
    {"object": "error", "message": "The model failed.", "type": "service_unavailable", "code": "3505"}
)
WHEN: Final = "2026-11-22T12:00:00Z"
VERTEX: Final = re.compile(r".*/models/([^/:]+):(rawPredict|streamRawPredict)")
SERVED: Final = {"mistral-small-latest": "mistral-small-2603", "mistral-large-latest": "mistral-large-2512"}


def speaks(path: str) -> bool:
    """Whether a path is one of Mistral's."""
    return path.startswith(ROOT) or "/publishers/mistralai/" in path


def error(status: int, message: str) -> JSON:
    """Body of an error."""
    if status == 422:
        return {"detail": [{"loc": ["body"], "msg": message, "type": "value_error"}]}
    return {"object": "error", "message": message, "type": "invalid_request", "param": None, "code": str(status)}


def answer(request: Request) -> Reply | None:
    """The answer to any of the paths."""
    path = request.path.removeprefix(ROOT).removeprefix("v1/").removeprefix("models/")
    if vertex := VERTEX.fullmatch(request.path):
        request.body["stream"] = vertex[2] == "streamRawPredict"
        path, request.body["model"] = "chat/completions", vertex[1]
    if path.startswith("conversations"):
        return _conversation(request, path)
    if path == "responses":
        return openai_responses.responses(request, str(request.body.get("model")))
    found = APIS.get(path)
    return found(request) if found is not None else None


def _chat(request: Request) -> Reply:
    body = request.body
    asked = str(body.get("model") or AGENTS_MODEL)
    model = SERVED.get(asked, asked)
    if "prompt" in body:
        prompt = str(body["prompt"]) + str(body.get("suffix") or "")
    else:
        prompt = prompt_text(body.get("messages"))
    words, cut = answer_words(prompt, body.get("max_tokens"))
    tool = cast(JSON, entries(body, "tools")[0]["function"]) if entries(body, "tools") else None
    thoughts = "magistral" in model
    usage = _usage(request, prompt, 5 if tool else len(words) + (3 if thoughts else 0))
    head: JSON = {
        "id": new_id(request, ""),
        "object": "chat.completion.chunk" if request.stream else "chat.completion",
        "created": now(),
        "model": model,
    }
    reply = Reply("mistral.chat", model, head["id"], usage, error_frame=ERROR_FRAME)
    finish = "tool_calls" if tool else "length" if cut else "stop"
    content: list[Any] = list(words)
    if thoughts:
        thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Let me see."}]}
        content = [[thought], *([{"type": "text", "text": word}] for word in words)]
    calls = [_call(tool)] if tool else None
    if not request.stream:
        whole = [part for parts in content for part in parts] if thoughts else "".join(words)
        message = {"role": "assistant", "content": "" if tool else whole, "tool_calls": calls}
        choices = [{"index": 0, "message": message, "finish_reason": finish}]
        reply.content = dump(tell(request, head | {"choices": choices, "usage": usage}))
        return reply

    def chunk(delta: JSON, reason: str | None = None, told: JSON | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return sse(tell(request, head | {"choices": [choice]} | ({"usage": told} if told else {})))

    frames = [chunk({"role": "assistant", "content": ""})]
    frames += [] if tool else [chunk({"content": part}) for part in content]
    frames.append(chunk({"content": "", "tool_calls": calls} if tool else {"content": ""}, finish, usage))
    reply.frames = [*frames, DONE]
    return reply


def _call(tool: JSON) -> JSON:
    return {"id": "callstand", "type": "function", "function": {"name": tool["name"], "arguments": "{}"}, "index": 0}


def _usage(request: Request, prompt: str, completion: int) -> JSON:
    count = tokens(prompt)
    seen, known = zlib.crc32(prompt.encode()), request.memory.prefixes
    with request.memory.lock:
        cached = count // 64 * 64 if seen in known else 0
        known.add(seen)
    return {
        "prompt_tokens": count,
        "completion_tokens": completion,
        "total_tokens": count + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "num_cached_tokens": cached,
    }


def _conversation(request: Request, path: str) -> Reply | None:
    body = request.body
    found = re.fullmatch(r"conversations(?:/([^/]+)(?:/restart)?)?", path)
    if found is None:
        return None
    conversation, message = found[1] or "conv_standin", str(new_id(request, "msg_"))
    model = str(body.get("model") or AGENTS_MODEL)
    prompt = prompt_text(body.get("inputs"))
    words, _ = answer_words(prompt, member(body, "completion_args").get("max_tokens"))
    searches = any(tool.get("type") == "web_search" for tool in entries(body, "tools"))
    count, beside = tokens(prompt), 1000 if searches else 0
    usage: JSON = {
        "prompt_tokens": count,
        "completion_tokens": len(words),
        "total_tokens": count + len(words) + beside,
        "connector_tokens": beside or None,
        "connectors": {"web_search": 1} if searches else None,
    }
    reply = Reply("mistral.conversation", model, message, usage)
    told: JSON = {} if request.scenario == "no_usage" else {"usage": usage}
    if not request.stream:
        entry = {"object": "entry", "created_at": WHEN, "completed_at": WHEN}
        output = {"type": "message.output", "id": message, "model": model, "role": "assistant"}
        outputs: list[JSON] = [entry | output | {"content": "".join(words)}]
        if searches:
            outputs.insert(
                0, entry | {"type": "tool.execution", "name": "web_search", "arguments": "{}", "id": "tool_1"}
            )
        whole = {"object": "conversation.response", "conversation_id": conversation, "outputs": outputs}
        reply.content = dump(whole | told)
        return reply
    started: JSON = {"type": "conversation.response.started", "conversation_id": conversation}
    events = [started]
    events += [
        {"type": "message.output.delta", "id": message, "model": model, "role": "assistant", "content": word}
        for word in words
    ]
    events.append({"type": "conversation.response.done", **told})
    reply.frames = [sse(event, event["type"]) for event in events]
    failed = {"type": "conversation.response.error", "message": "The model failed.", "code": 3505}
    reply.error_frame = sse(failed, "conversation.response.error")
    return reply


def _embeddings(request: Request) -> Reply:
    given = request.body["input"]
    texts = [given] if isinstance(given, str) else cast(list[str], given)
    count = sum(map(tokens, texts))
    usage = {"prompt_tokens": count, "completion_tokens": 0, "total_tokens": count}
    data = [{"object": "embedding", "index": i, "embedding": [0.25] * 4} for i in range(len(texts))]
    model = str(request.body["model"])
    head: JSON = {"id": new_id(request, ""), "object": "list", "model": model, "data": data}
    reply = Reply("mistral.embeddings", model, head["id"], usage)
    reply.content = dump(tell(request, head | {"usage": usage}))
    return reply


def _ocr(request: Request) -> Reply:
    pages = entries(request.body, "pages") or [0, 1]
    usage = {"pages_processed": len(pages), "doc_size_bytes": 100}
    model = str(request.body["model"])
    told: list[JSON] = [{"index": i, "markdown": "# Page", "images": [], "dimensions": None} for i in range(len(pages))]
    return Reply("mistral.ocr", model, None, usage, dump({"pages": told, "model": model, "usage_info": usage}))


def _transcription(request: Request) -> Reply:
    model = str(request.body.get("model"))
    usage = {
        "prompt_audio_seconds": 3,
        "prompt_tokens": 5,
        "completion_tokens": 11,
        "total_tokens": 391,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 375},
    }
    reply = Reply("mistral.transcription", model, None, usage)
    whole: JSON = {"model": model, "text": "North first.", "language": "en", "segments": [], "usage": usage}
    if request.stream:
        events: list[JSON] = [{"type": "transcription.text.delta", "text": word} for word in ("North ", "first.")]
        events.append({"type": "transcription.done", **whole})
        reply.frames = [sse(event, event["type"]) for event in events]
    else:
        reply.content = dump(whole)
    return reply


def _speech(request: Request) -> Reply:
    model = str(request.body.get("model") or "voxtral-mini-tts")
    return Reply("mistral.speech", model, content=dump({"audio_data": "AAAA"}))


def _moderations(request: Request) -> Reply:
    model = str(request.body["model"])
    usage = {"prompt_tokens": tokens(json.dumps(request.body["input"])), "completion_tokens": 0}
    usage["total_tokens"] = usage["prompt_tokens"]
    results = [{"categories": {"sexual": False}, "category_scores": {"sexual": 0.01}}]
    head: JSON = {"id": new_id(request, ""), "model": model, "results": results, "usage": usage}
    return Reply("mistral.moderations", model, head["id"], usage, dump(head))


APIS: Final[dict[str, Callable[[Request], Reply]]] = {
    "chat/completions": _chat,
    "fim/completions": _chat,
    "agents/completions": _chat,
    "embeddings": _embeddings,
    "ocr": _ocr,
    "audio/transcriptions": _transcription,
    "audio/speech": _speech,
    "moderations": _moderations,
    "chat/moderations": _moderations,
}
"""Path after the version → what answers it."""
