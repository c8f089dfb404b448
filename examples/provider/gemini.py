"""Google's wire formats: generateContent, embeddings, `:predict`, and interactions; Gemini API and Vertex AI."""

from __future__ import annotations

import base64
import json
import re
from typing import Any, Final, cast

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
    pieces,
    prompt_text,
    sse,
    tell,
    tokens,
)

PATH: Final = re.compile(r"/v1(?:alpha|beta1?)?/(?:.+/)?(?:models|endpoints)/([^/:]+):(\w+)")
INTERACTIONS: Final = re.compile(r"/v1(?:alpha|beta1?)?/(?:.+/)?interactions(?:/([^/]+))?")
CACHED: Final = 64
"""Tokens of every cached content."""
STATUSES: Final = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}

ERROR_FRAME: Final = sse({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}})
INTERACTION_ERROR_FRAME: Final = sse(
    {"event_type": "error", "error": {"code": "internal_error", "message": "The server had an error."}}, "error"
)


def speaks(path: str) -> bool:
    """True for a path of one of these APIs."""
    return bool(PATH.fullmatch(path) or INTERACTIONS.fullmatch(path) or path.endswith("/cachedContents"))


def error(status: int, message: str) -> JSON:
    """The body of a refusal."""
    return {"error": {"code": status, "message": message, "status": STATUSES.get(status, "INTERNAL")}}


def answer(request: Request) -> Reply | None:
    """The answer of whatever lives at this path."""
    if request.path.endswith("/cachedContents"):
        return Reply("cache", content=dump({"name": "cachedContents/standin", "model": "models/gemini"}), metered=False)
    if INTERACTIONS.fullmatch(request.path):
        return _interactions(request)
    found = PATH.fullmatch(request.path)
    method = METHODS.get(found[2]) if found else None
    return method(request, found[1]) if found and method else None


def retrieve(request: Request) -> Reply | None:
    """A stored interaction, which is complete by the time it is asked for."""
    found = INTERACTIONS.fullmatch(request.path)
    with request.memory.lock:
        stored = request.memory.responses.get(found[1]) if found else None
    if stored is None:
        return None
    return Reply("interactions.get", stored["model"], stored["id"], content=dump(stored), metered=False)


# --- generateContent --------------------------------------------------------------------------------
def _generate(request: Request, model: str) -> Reply:
    whole, usage = _content(request, model)
    return Reply("generateContent", model, whole.get("responseId"), usage, dump(_told(request, whole)))


def _stream(request: Request, model: str) -> Reply:
    whole, usage = _content(request, model)
    candidate = whole["candidates"][0]
    parts: list[JSON] = candidate["content"]["parts"]
    told: list[JSON] = [{"text": word} for word in pieces(parts[0]["text"])] if "text" in parts[0] else parts
    frames: list[bytes] = []
    for place, part in enumerate(told, 1):
        # Each chunk counts what has been generated so far.
        so_far = usage["candidatesTokenCount"] if place == len(told) else place
        counted = {**usage, "candidatesTokenCount": so_far}
        counted["totalTokenCount"] = usage["totalTokenCount"] - usage["candidatesTokenCount"] + so_far
        chunk: JSON = {"content": {"parts": [part], "role": "model"}, "index": 0}
        if place == len(told):
            chunk["finishReason"] = candidate["finishReason"]
        frames.append(sse(_told(request, {**whole, "candidates": [chunk], "usageMetadata": counted})))
    reply = Reply("streamGenerateContent", model, whole.get("responseId"), usage, error_frame=ERROR_FRAME)
    reply.frames = frames
    return reply


def _content(request: Request, model: str) -> tuple[JSON, JSON]:
    """A whole answer and its usage."""
    body = request.body
    contents, config = entries(body, "contents"), member(body, "generationConfig")
    system = prompt_text(body.get("systemInstruction") or "")
    prompt = system + prompt_text(contents)
    thought = 8 if "pro" in model else 0
    part, told, cut = _part(body, contents, config, prompt, thought)
    cached = CACHED if body.get("cachedContent") else 0
    asked = cached + tokens(system) + sum(tokens(prompt_text(content)) for content in contents)
    usage: JSON = {"promptTokenCount": asked, "candidatesTokenCount": told}
    usage["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": asked}]
    if cached:
        usage["cachedContentTokenCount"] = cached
    if thought:
        usage["thoughtsTokenCount"] = thought
    usage["totalTokenCount"] = usage["promptTokenCount"] + told + thought
    if "/projects/" in request.path:
        usage["trafficType"] = "ON_DEMAND"
    elif body.get("serviceTier"):
        usage["serviceTier"] = body["serviceTier"]
    candidate = {"content": {"parts": [part], "role": "model"}, "finishReason": "MAX_TOKENS" if cut else "STOP"}
    whole: JSON = {"candidates": [{**candidate, "index": 0}], "usageMetadata": usage, "modelVersion": model}
    identifier = new_id(request, "gid-")
    return (whole | {"responseId": identifier} if identifier else whole), usage


def _part(body: JSON, contents: list[JSON], config: JSON, prompt: str, thought: int) -> tuple[JSON, int, bool]:
    """What the model says, its tokens, and whether the limit cut it short."""
    declared = [one for tool in entries(body, "tools") for one in entries(tool, "functionDeclarations")]
    steps = sum("functionResponse" in part for content in contents for part in entries(content, "parts"))
    if declared and steps < len(declared):
        function = declared[steps]
        schema = _schema_of(function) or _lower_types(member(function, "parameters"))
        call: JSON = {"name": function["name"], "args": example_of(schema) or {}}
        return {"functionCall": call}, tokens(json.dumps(call)), False
    schema = config.get("responseJsonSchema") or config.get("responseSchema")
    if schema:
        words, cut = pieces(json.dumps(example_of(_lower_types(schema)))), False
    else:
        limit = config.get("maxOutputTokens")
        words, cut = answer_words(prompt, None if limit is None else int(limit) - thought)
    return {"text": "".join(words)}, len(words), cut


def _schema_of(function: JSON) -> JSON | None:
    """The client library spells the newer field in two ways."""
    return function.get("parametersJsonSchema") or function.get("parameters_json_schema")


def _lower_types(schema: Any) -> Any:
    """Google's schemas have their types in capitals."""
    if isinstance(schema, dict):
        known = cast(JSON, schema)
        return {k: v.lower() if k == "type" and isinstance(v, str) else _lower_types(v) for k, v in known.items()}
    return schema


def _told(request: Request, value: JSON) -> JSON:
    return {k: v for k, v in value.items() if not (k == "usageMetadata" and request.scenario == "no_usage")}


# --- other methods of a model -------------------------------------------------------------------------
def _embed(request: Request, model: str) -> Reply:
    counted = tokens(prompt_text(request.body.get("content")))
    usage: JSON = {"promptTokenCount": counted}
    vector = {"values": [0.25, -0.5, 0.125]}
    return Reply("embedContent", model, None, usage, dump({"embedding": vector, "usageMetadata": usage}))


def _batch_embed(request: Request, model: str) -> Reply:
    several = entries(request.body, "requests")
    counted = sum(tokens(prompt_text(one.get("content"))) for one in several)
    usage: JSON = {"promptTokenCount": counted, "promptTokenDetails": [{"modality": "TEXT", "tokenCount": counted}]}
    vectors = [{"values": [0.25, -0.5, 0.125]} for _ in several]
    return Reply("batchEmbedContents", model, None, usage, dump({"embeddings": vectors, "usageMetadata": usage}))


def _predict(request: Request, model: str) -> Reply:
    if "imagen" not in model:
        return _predict_embeddings(request, model)
    count = int(member(request.body, "parameters").get("sampleCount") or 1)
    picture = {"bytesBase64Encoded": base64.b64encode(b"png").decode(), "mimeType": "image/png"}
    return Reply("predict", model, None, {"images": count}, dump({"predictions": [picture] * count}))


def _predict_embeddings(request: Request, model: str) -> Reply:
    counts = [tokens(str(one.get("content"))) for one in entries(request.body, "instances")]
    predictions = [
        {"embeddings": {"values": [0.25], "statistics": {"token_count": one, "truncated": False}}} for one in counts
    ]
    return Reply("predict", model, None, {"promptTokenCount": sum(counts)}, dump({"predictions": predictions}))


def _video(request: Request, model: str) -> Reply:
    identifier = f"models/{model}/operations/{new_id(request, 'gid-') or 'gid'}"
    return Reply("predictLongRunning", model, identifier, None, dump({"name": identifier}))


def _count(request: Request, model: str) -> Reply:
    counted = tokens(prompt_text(request.body.get("contents")))
    return Reply("countTokens", model, content=dump({"totalTokens": counted}), metered=False)


METHODS: Final = {
    "generateContent": _generate,
    "streamGenerateContent": _stream,
    "embedContent": _embed,
    "batchEmbedContents": _batch_embed,
    "predict": _predict,
    "predictLongRunning": _video,
    "countTokens": _count,
}


# --- interactions -------------------------------------------------------------------------------------
def _interactions(request: Request) -> Reply:
    body = request.body
    model, config = str(body.get("model") or body.get("agent")), member(body, "generation_config")
    prompt = str(body.get("system_instruction") or "") + prompt_text(body.get("input"))
    thought = 8 if "pro" in model else 0
    limit = config.get("max_output_tokens")
    words, cut = answer_words(prompt, None if limit is None else int(limit) - thought)
    usage: JSON = {
        "total_tokens": tokens(prompt) + len(words) + thought,
        "total_input_tokens": tokens(prompt),
        "input_tokens_by_modality": [{"modality": "text", "tokens": tokens(prompt)}],
        "total_cached_tokens": 0,
        "total_output_tokens": len(words),
        "total_tool_use_tokens": 0,
        "total_thought_tokens": thought,
    }
    whole: JSON = {
        "id": new_id(request, "v1_"),
        "object": "interaction",
        "model": model,
        "status": "incomplete" if cut else "completed",
        "created": "2026-11-22T12:00:00Z",
        "updated": "2026-11-22T12:00:00Z",
        "service_tier": body.get("service_tier") or "standard",
        "usage": usage,
        "steps": [{"type": "model_output", "content": [{"type": "text", "text": "".join(words)}]}],
    }
    reply = Reply("interactions", model, whole["id"], usage, error_frame=INTERACTION_ERROR_FRAME)
    if whole["id"]:
        with request.memory.lock:
            request.memory.responses[whole["id"]] = whole
    if request.stream:
        reply.frames = [*(sse(event, event["event_type"]) for event in _events(request, whole, words)), DONE]
    elif body.get("background"):
        begun = {k: v for k, v in whole.items() if k not in ("usage", "steps")} | {"status": "in_progress"}
        reply.content, reply.usage = dump(begun), None
    else:
        reply.content = dump(tell(request, whole))
    return reply


DONE: Final = b"event: done\ndata: [DONE]\n\n"


def _events(request: Request, whole: JSON, words: list[str]) -> list[JSON]:
    head = {k: v for k, v in whole.items() if k not in ("usage", "steps")}
    last = {k: v for k, v in whole.items() if k != "steps"}
    return [
        {"event_type": "interaction.created", "interaction": head | {"status": "in_progress"}},
        {"event_type": "step.start", "index": 0, "step": {"type": "model_output"}},
        *({"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": word}} for word in words),
        {"event_type": "step.stop", "index": 0},
        {"event_type": "interaction.completed", "interaction": tell(request, last)},
    ]
