"""Amazon Bedrock: Converse, InvokeModel with the bodies of several vendors, agents; AWS's own event streams.

Answers and counts as everywhere in the stand-in. Header `x-amzn-bedrock-…-token-count` as the real one has
them: on InvokeModel that does not stream. A part of the prompt before a `cachePoint` is written to the cache
the first time and read from it afterwards.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from base64 import b64encode
from typing import Any, Final, cast
from urllib.parse import unquote

from . import anthropic_messages
from .wire import JSON, Reply, Request, answer_words, dump, entries, member, new_id, prompt_text, tokens

MODEL: Final = re.compile(r"/model/(.+)/(converse|converse-stream|invoke|invoke-with-response-stream)")
AGENT: Final = re.compile(r"/agents/[^/]+(?:/agentAliases/[^/]+/sessions/[^/]+/text)?")
AGENTS_MODEL: Final = "amazon.nova-pro-v1:0"
"""Behind every agent that does not name its own."""
HIDDEN: Final = "claude-haiku-4-5-20251001"
"""Behind every ARN that does not name its model."""
EVENT_STREAM: Final = "application/vnd.amazon.eventstream"
ERRORS: Final = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
}
PIXEL: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""A PNG of one pixel."""


def speaks(path: str) -> bool:
    """Whether a path is one of AWS's."""
    return path == "/rerank" or bool(MODEL.fullmatch(path) or AGENT.fullmatch(path))


def answer(request: Request) -> Reply | None:
    """The answer to any of the paths."""
    if request.path == "/rerank":
        results = [{"index": i, "relevanceScore": 1 / (i + 2)} for i in range(len(entries(request.body, "sources")))]
        return Reply("bedrock.rerank", content=dump({"results": results}))
    found = MODEL.fullmatch(request.path)
    if found is None:
        return _agent(request)
    model, verb = unquote(unquote(found[1])), found[2]
    reply = _converse(request, model) if verb.startswith("converse") else _invoke(request, model, "stream" in verb)
    if verb == "converse-stream":
        message = json.loads(reply.content)
        reply.frames = [frame(kind, payload) for kind, payload in _converse_events(message)]
    elif verb == "invoke" and reply.usage is not None:
        reply.headers = _headers(reply.usage)
    reply.content_type = "application/json" if reply.frames is None else EVENT_STREAM
    reply.error_frame = frame("modelStreamErrorException", {"message": "The model failed."}, "exception")
    return reply


def error(status: int, message: str) -> tuple[JSON, dict[str, str]]:
    """Body and headers of an error."""
    return {"message": message}, {"x-amzn-errortype": ERRORS.get(status, "InternalServerException")}


def frame(kind: str, payload: JSON, message_type: str = "event") -> bytes:
    """One event as AWS frames it: prelude, headers, payload, two checksums."""
    told = {
        f":{message_type}-type": kind,
        ":content-type": "application/json",
        ":message-type": message_type,
    }
    headers = b"".join(
        struct.pack(f">B{len(name)}sBH{len(value)}s", len(name), name.encode(), 7, len(value), value.encode())
        for name, value in told.items()
    )
    body = dump(payload)
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + body
    return message + struct.pack(">I", zlib.crc32(message))


def _chunks(events: list[JSON], usage: JSON) -> list[bytes]:
    """Events of a vendor's stream, the last one with what Bedrock adds."""
    metrics = {
        "inputTokenCount": usage["inputTokens"],
        "outputTokenCount": usage["outputTokens"],
        "invocationLatency": 100,
        "firstByteLatency": 10,
    }
    events = [*events[:-1], {**events[-1], "amazon-bedrock-invocationMetrics": metrics}]
    return [frame("chunk", {"bytes": b64encode(dump(event)).decode(), "p": "abc"}) for event in events]


def _headers(usage: JSON) -> dict[str, str]:
    names = {
        "inputTokens": "input",
        "outputTokens": "output",
        "cacheReadInputTokens": "cache-read-input",
        "cacheWriteInputTokens": "cache-write-input",
    }
    told = {f"x-amzn-bedrock-{name}-token-count": str(usage[key]) for key, name in names.items() if key in usage}
    return told | {"x-amzn-bedrock-invocation-latency": "100"}


# --- Converse ---------------------------------------------------------------------------------------
def _converse(request: Request, model: str) -> Reply:
    body = request.body
    limit = member(body, "inferenceConfig").get("maxTokens")
    words, cut = answer_words(prompt_text([body.get("system"), body.get("messages")]), limit)
    usage = _usage(request, [*entries(body, "system"), *entries(body, "messages")], len(words))
    answered: JSON = {
        "output": {"message": {"role": "assistant", "content": [{"text": "".join(words)}]}},
        "stopReason": "max_tokens" if cut else "end_turn",
        "usage": usage,
        "metrics": {"latencyMs": 100},
    }
    tier = member(body, "serviceTier").get("type")
    if tier:
        answered["serviceTier"] = {"type": tier}
    if "prompt-router/" in model:
        answered["trace"] = {"promptRouter": {"invokedModelId": f"arn:aws:bedrock:::foundation-model/{AGENTS_MODEL}"}}
    if request.scenario == "no_usage":
        del answered["usage"]
    return Reply("bedrock.converse", model, None, usage, dump(answered))


def _usage(request: Request, parts: list[JSON], output: int) -> JSON:
    """Counts of a prompt; what is before its last `cachePoint` is cached."""
    blocks: list[JSON] = []
    for part in parts:
        content = part.get("content")
        blocks += cast(list[JSON], content) if isinstance(content, list) else [part]
    total = tokens("".join(prompt_text(block) for block in blocks))
    marks = [place for place, block in enumerate(blocks) if "cachePoint" in block]
    usage: JSON = {"inputTokens": total, "outputTokens": output, "totalTokens": total + output}
    if marks:
        prefix = "".join(prompt_text(block) for block in blocks[: marks[-1]])
        cached, key = tokens(prefix), zlib.crc32(prefix.encode())
        with request.memory.lock:
            known = key in request.memory.prefixes
            request.memory.prefixes.add(key)
        usage["inputTokens"] = total - cached
        usage["cacheReadInputTokens" if known else "cacheWriteInputTokens"] = cached
    return usage


def _converse_events(message: JSON) -> list[tuple[str, JSON]]:
    text: str = message["output"]["message"]["content"][0]["text"]
    metadata = {key: message[key] for key in ("usage", "metrics", "trace", "serviceTier") if key in message}
    deltas: list[tuple[str, JSON]] = [
        ("contentBlockDelta", {"delta": {"text": word}, "contentBlockIndex": 0}) for word in re.findall(r"\S+ ?", text)
    ]
    return [
        ("messageStart", {"role": "assistant"}),
        *deltas,
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": message["stopReason"]}),
        ("metadata", metadata),
    ]


# --- InvokeModel ------------------------------------------------------------------------------------
def _invoke(request: Request, model: str, stream: bool) -> Reply:
    body = request.body
    if "anthropic_version" in body:
        return _claude(request, model, stream)
    if "query" in body:
        results = [{"index": i, "relevance_score": 1 / (i + 2)} for i in range(len(body["documents"]))]
        return Reply("bedrock.rerank", model, content=dump({"results": results}))
    if "texts" in body:
        counted = sum(tokens(text) for text in body["texts"])
        vectors = [[0.5, 0.25, -0.125] for _ in cast(list[str], body["texts"])]
        told: JSON = {"id": new_id(request, ""), "embeddings": vectors, "response_type": "embeddings_floats"}
        return Reply("bedrock.embed", model, None, {"inputTokens": counted}, dump(told))
    if "message" in body:
        return _command(request, model, stream)
    if "taskType" in body:
        count = member(body, "imageGenerationConfig").get("numberOfImages") or 1
        return Reply("bedrock.images", model, content=dump({"images": [PIXEL] * count}))
    if "messages" in body:
        reply = _converse(request, model)
        if stream:
            events = [{kind: payload} for kind, payload in _converse_events(json.loads(reply.content))]
            reply.frames = _chunks(events, cast(JSON, reply.usage))
        return reply
    return _prompt(request, model, stream)


def _command(request: Request, model: str, stream: bool) -> Reply:
    """Cohere's Command models."""
    prompt = str(request.body["message"])
    words, _ = answer_words(prompt, request.body.get("max_tokens"))
    usage = {"inputTokens": tokens(prompt), "outputTokens": len(words)}
    told: JSON = {
        "response_id": new_id(request, ""),
        "text": "".join(words),
        "finish_reason": "COMPLETE",
        "chat_history": [],
    }
    reply = Reply("bedrock.command", model, None, usage, dump(told))
    if stream:
        events: list[JSON] = [{"is_finished": False, "event_type": "text-generation", "text": word} for word in words]
        events.append({"is_finished": True, "event_type": "stream-end", "finish_reason": "COMPLETE", "response": told})
        reply.frames = _chunks(events, usage)
    return reply


def _claude(request: Request, model: str, stream: bool) -> Reply:
    request.body["stream"] = stream
    named = model.rpartition("anthropic.")[2].partition("-v1")[0]
    reply = anthropic_messages.messages(request, named if named.startswith("claude-") else HIDDEN)
    told = cast(JSON, reply.usage)
    usage = {
        "inputTokens": told["input_tokens"],
        "outputTokens": told["output_tokens"],
        "cacheReadInputTokens": told["cache_read_input_tokens"],
        "cacheWriteInputTokens": told["cache_creation_input_tokens"],
    }
    reply.usage = usage
    if reply.frames is not None:
        events = [json.loads(sent.partition(b"data: ")[2]) for sent in reply.frames]
        reply.frames = _chunks([event for event in events if event["type"] != "ping"], usage)
    return reply


def _prompt(request: Request, model: str, stream: bool) -> Reply:
    """Titan (`inputText`) and Llama (`prompt`)."""
    body = request.body
    titan = "inputText" in body
    prompt = str(body["inputText"] if titan else body.get("prompt") or "")
    counted = tokens(prompt)
    if titan and "embed" in model:
        told = {"embedding": [0.5, 0.25, -0.125], "inputTextTokenCount": counted}
        return Reply("bedrock.embed", model, None, {"inputTokens": counted}, dump(told))
    limit = member(body, "textGenerationConfig").get("maxTokenCount") if titan else body.get("max_gen_len")
    words, cut = answer_words(prompt, limit)
    usage = {"inputTokens": counted, "outputTokens": len(words)}
    reply = Reply("bedrock.prompt", model, None, usage)
    if titan:
        result = {"tokenCount": len(words), "outputText": "".join(words), "completionReason": "FINISH"}
        whole: JSON = {"inputTextTokenCount": counted, "results": [result]}
        events = _titan_events(words, counted)
    else:
        reason = "length" if cut else "stop"
        whole = {"generation": "".join(words), "generation_token_count": len(words), "stop_reason": reason}
        whole["prompt_token_count"] = counted
        events = _llama_events(words, counted, reason)
    reply.content = dump(whole)
    reply.frames = _chunks(events, usage) if stream else None
    return reply


def _titan_events(words: list[str], counted: int) -> list[JSON]:
    last: JSON = {
        "outputText": "".join(words),
        "index": 0,
        "totalOutputTextTokenCount": len(words),
        "completionReason": "FINISH",
        "inputTextTokenCount": counted,
    }
    return [last]


def _llama_events(words: list[str], counted: int, reason: str) -> list[JSON]:
    events: list[JSON] = [
        {
            "generation": word,
            "prompt_token_count": None if place else counted,
            "generation_token_count": place + 1,
            "stop_reason": None,
        }
        for place, word in enumerate(words)
    ]
    return [*events, {**events[-1], "generation": "", "stop_reason": reason}]


# --- agents -----------------------------------------------------------------------------------------
def _agent(request: Request) -> Reply:
    """Two invocations of a model, told in the trace when there is to be one, and the answer."""
    body = request.body
    model = str(body.get("foundationModel") or AGENTS_MODEL)
    prompt = str(body.get("inputText") or "")
    words, _ = answer_words(prompt, None)
    frames: list[bytes] = []
    for step, output in (("preProcessingTrace", 3), ("orchestrationTrace", len(words))):
        usage = {"inputTokens": tokens(prompt), "outputTokens": output}
        asked = {"traceId": step, "foundationModel": model, "text": prompt}
        answered: JSON = {"traceId": step, "metadata": {"usage": usage}}
        told = ({"modelInvocationInput": asked}, {"modelInvocationOutput": answered})
        frames += [frame("trace", {"sessionId": "s", "trace": {step: part}}) for part in told]
    if not body.get("enableTrace"):
        frames.clear()
    frames.append(frame("chunk", {"bytes": b64encode("".join(words).encode()).decode()}))
    total: dict[str, Any] = {"inputTokens": 2 * tokens(prompt), "outputTokens": 3 + len(words)}
    reply = Reply("bedrock.agent", model, None, total if body.get("enableTrace") else None, frames=frames)
    reply.content_type = EVENT_STREAM
    reply.headers = {"x-amzn-bedrock-agent-content-type": "application/json"}
    reply.error_frame = frame("internalServerException", {"message": "The agent failed."}, "exception")
    return reply
