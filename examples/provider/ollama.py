"""Ollama's own API: `/api/chat`, `/api/generate`, `/api/embed`; JSON lines for a stream."""

from __future__ import annotations

import json
from typing import Any, cast

from .wire import JSON, Reply, Request, answer_words, dump, entries, member, prompt_text, tell, tokens

NDJSON = "application/x-ndjson"
ERROR_FRAME = b'{"error":"the model runner has stopped"}\n'
CREATED = "2026-01-02T03:04:05.678901Z"


def chat(request: Request, model: str) -> Reply:
    """A conversation."""
    return _answer(request, model, prompt_text(entries(request.body, "messages")), chat=True)


def generate(request: Request, model: str) -> Reply:
    """A prompt."""
    return _answer(request, model, str(request.body.get("prompt") or ""), chat=False)


def embed(request: Request, model: str) -> Reply:
    """Vectors of one text or several."""
    given = request.body.get("input") or ""
    texts = cast(list[Any], given) if isinstance(given, list) else [given]
    counted = sum(tokens(str(text)) for text in texts)
    usage = {"prompt_eval_count": counted}
    body = {"model": model, "embeddings": [[0.25, -0.5] for _ in texts], "total_duration": 1000, **usage}
    return Reply("ollama", model, None, usage, content=dump(tell(request, body)))


def _answer(request: Request, model: str, prompt: str, *, chat: bool) -> Reply:
    words, cut = answer_words(prompt, member(request.body, "options").get("num_predict"))
    usage = {"prompt_eval_count": tokens(prompt), "eval_count": len(words)}
    told = {} if request.scenario == "no_usage" else usage
    last = {"done": True, "done_reason": "length" if cut else "stop", "total_duration": 1000, **told}
    reply = Reply("ollama", model, None, usage, content_type=NDJSON, error_frame=ERROR_FRAME)

    def part(text: str, more: JSON) -> JSON:
        said = {"message": {"role": "assistant", "content": text}} if chat else {"response": text}
        return {"model": model, "created_at": CREATED, **said, "done": False, **more}

    if request.body.get("stream") is False:
        reply.content, reply.content_type = dump(part("".join(words), last)), "application/json"
        return reply
    reply.frames = [_line(part(word, {})) for word in words] + [_line(part("", last))]
    return reply


def _line(value: JSON) -> bytes:
    return json.dumps(value).encode() + b"\n"
