"""Cohere's API under `/cohere`, both versions.

Billed are the tokens of the prompt by the stand-in's rule; processed are 500 more, of which 112 are cached.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any, Final, cast

from .wire import JSON, Reply, Request, answer_words, dump, new_id, prompt_text, sse, tokens

ROOT: Final = "/cohere/"
LINES: Final = "application/stream+json"
TEMPLATE: Final = 500
"""Tokens that the API puts around a prompt and does not bill."""


def speaks(path: str) -> bool:
    """Whether a path is one of Cohere's."""
    return path.startswith(ROOT)


def error(status: int, message: str) -> JSON:
    """Body of an error."""
    return {"message": f"{message} ({status})"}


def answer(request: Request) -> Reply | None:
    """The answer to any of the paths."""
    found = re.fullmatch(r"/cohere/(v[12])/([a-z]+)", request.path)
    api = APIS.get(found[2]) if found else None
    return api(request, found[1] == "v2") if found and api else None


def _identity(request: Request) -> str:
    """A UUID, as the real one has them."""
    made = str(new_id(request, ""))
    return str(uuid.UUID(f"{made}00000000")) if len(made) == 24 else made


def line(value: JSON) -> bytes:
    """One event of version 1."""
    return dump(value) + b"\n"


def _meta(billed: JSON, processed: JSON | None = None) -> JSON:
    told: JSON = {"api_version": {"version": "1"}, "billed_units": billed}
    return told | {"tokens": processed} if processed else told


def _usage(prompt: str, words: int) -> JSON:
    count = tokens(prompt)
    return {
        "billed_units": {"input_tokens": count, "output_tokens": words},
        "tokens": {"input_tokens": count + TEMPLATE, "output_tokens": words + 2},
        "cached_tokens": 112,
    }


def _chat(request: Request, v2: bool) -> Reply:
    body = request.body
    prompt = prompt_text(body.get("messages")) if v2 else str(body["message"])
    words, cut = answer_words(prompt, body.get("max_tokens"))
    usage = _usage(prompt, len(words))
    finish = "MAX_TOKENS" if cut else "COMPLETE"
    identity = _identity(request)
    reply = Reply("cohere.chat", str(body.get("model") or "command-r"), identity, usage)
    hidden = request.scenario == "no_usage"
    if v2:
        told: JSON = {} if hidden else {"usage": usage}
        if not request.stream:
            message = {"role": "assistant", "content": [{"type": "text", "text": "".join(words)}]}
            reply.content = dump({"id": identity, "finish_reason": finish, "message": message} | told)
            return reply
        reply.frames = [sse(event, event["type"]) for event in _events(identity, words, finish, told)]
        reply.frames.append(b"data: [DONE]\n\n")
        reply.error_frame = sse(
            {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "failed"}}, "message-end"
        )
        return reply
    whole: JSON = {
        "response_id": identity,
        "generation_id": "gen_standin",
        "text": "".join(words),
        "chat_history": [],
        "finish_reason": finish,
    }
    if not hidden:
        whole["meta"] = _meta(usage["billed_units"], usage["tokens"])
    if not request.stream:
        reply.content = dump(whole)
        return reply
    events: list[JSON] = [{"is_finished": False, "event_type": "stream-start", "generation_id": "gen_standin"}]
    events += [{"is_finished": False, "event_type": "text-generation", "text": word} for word in words]
    events.append({"is_finished": True, "event_type": "stream-end", "finish_reason": finish, "response": whole})
    reply.frames, reply.content_type = [line(event) for event in events], LINES
    reply.error_frame = line(
        {"is_finished": True, "event_type": "stream-end", "finish_reason": "ERROR", "response": {}}
    )
    return reply


def _events(identity: str, words: list[str], finish: str, told: JSON) -> list[JSON]:
    start: JSON = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    return [
        {"id": identity, "type": "message-start", "delta": {"message": start}},
        {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
        *({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": word}}}} for word in words),
        {"type": "content-end", "index": 0},
        {"type": "message-end", "delta": {"finish_reason": finish} | told},
    ]


def _generate(request: Request, _v2: bool) -> Reply:
    body = request.body
    prompt = str(body["prompt"])
    words, cut = answer_words(prompt, body.get("max_tokens"))
    billed = {"input_tokens": tokens(prompt), "output_tokens": len(words)}
    identity, finish = _identity(request), "MAX_TOKENS" if cut else "COMPLETE"
    reply = Reply("cohere.generate", str(body.get("model") or "command"), identity, {"billed_units": billed})
    generation = {"id": identity, "text": "".join(words), "finish_reason": finish}
    whole: JSON = {"id": identity, "prompt": prompt, "generations": [generation], "meta": _meta(billed)}
    if request.stream:
        events: list[JSON] = [{"event_type": "text-generation", "text": word, "is_finished": False} for word in words]
        events.append({"event_type": "stream-end", "is_finished": True, "finish_reason": finish, "response": whole})
        reply.frames, reply.content_type = [line(event) for event in events], LINES
    else:
        reply.content = dump(whole)
    return reply


def _embed(request: Request, v2: bool) -> Reply:
    body = request.body
    texts = cast(list[str], body.get("texts") or [])
    billed = {"input_tokens": sum(map(tokens, texts))}
    vectors: Any = [[0.25] * 4 for _ in texts]
    typed = v2 or body.get("embedding_types")
    kind = "embeddings_by_type" if typed else "embeddings_floats"
    identity = _identity(request)
    whole = {
        "id": identity,
        "response_type": kind,
        "texts": texts,
        "embeddings": {"float": vectors} if typed else vectors,
        "meta": _meta(billed),
    }
    reply = Reply("cohere.embed", str(body.get("model") or "embed-english-v3.0"), identity, {"billed_units": billed})
    reply.content = dump(whole)
    return reply


def _rerank(request: Request, _v2: bool) -> Reply:
    documents = cast(list[Any], request.body["documents"])
    billed = {"search_units": 1 + len(documents) // 100}
    results = [{"index": i, "relevance_score": 1 / (i + 2)} for i in range(len(documents))]
    identity = _identity(request)
    reply = Reply("cohere.rerank", str(request.body.get("model")), identity, {"billed_units": billed})
    reply.content = dump({"id": identity, "results": results, "meta": _meta(billed)})
    return reply


def _classify(request: Request, _v2: bool) -> Reply:
    inputs = cast(list[str], request.body["inputs"])
    billed = {"classifications": len(inputs)}
    identity = _identity(request)
    told: list[JSON] = [
        {
            "id": str(i),
            "input": text,
            "prediction": "a",
            "predictions": ["a"],
            "confidence": 0.5,
            "confidences": [0.5],
            "labels": {"a": {"confidence": 0.5}},
            "classification_type": "single-label",
        }
        for i, text in enumerate(inputs)
    ]
    reply = Reply("cohere.classify", str(request.body.get("model") or "embed"), identity, {"billed_units": billed})
    reply.content = dump({"id": identity, "classifications": told, "meta": _meta(billed)})
    return reply


def _tokenize(request: Request, _v2: bool) -> Reply:
    text = str(request.body["text"])
    whole = {"tokens": list(range(tokens(text))), "token_strings": [text], "meta": _meta({})}
    return Reply("cohere.tokenize", content=dump(whole), metered=False)


APIS: Final[dict[str, Callable[[Request, bool], Reply]]] = {
    "chat": _chat,
    "generate": _generate,
    "embed": _embed,
    "rerank": _rerank,
    "classify": _classify,
    "tokenize": _tokenize,
}
"""Path after the version → what answers it."""
