"""OpenAI embeddings, moderations, images and audio, and the list of models."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any, cast

from .openai_chat import ERROR_FRAME
from .wire import ANSWERS, JSON, SNAPSHOTS, Reply, Request, dump, new_id, now, pieces, served_model, sse, tell, tokens

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""A PNG of one pixel."""

IMAGE_TOKENS = {"low": 272, "medium": 1056, "high": 4160}

CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)


def embeddings(request: Request, model: str) -> Reply:
    body = request.body
    given = body.get("input") or ""
    items = cast(list[Any], given) if isinstance(given, list) else [given]
    if items and isinstance(items[0], int):
        items = [items]
    count = sum(tokens(item) if isinstance(item, str) else len(item) for item in items)
    usage = {"prompt_tokens": count, "total_tokens": count}
    size = int(body.get("dimensions") or 8)
    data: list[JSON] = []
    for index in range(len(items)):
        vector: Any = [math.sin(index + place + 1) for place in range(size)]
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    answer = {"object": "list", "data": data, "model": served_model(model), "usage": usage}
    return Reply("embeddings", served_model(model), None, usage, dump(tell(request, answer)))


def moderations(request: Request, model: str) -> Reply:
    given = request.body.get("input") or ""
    items = cast(list[Any], given) if isinstance(given, list) else [given]
    result = {
        "flagged": False,
        "categories": dict.fromkeys(CATEGORIES, False),
        "category_scores": dict.fromkeys(CATEGORIES, 0.0001),
        "category_applied_input_types": {name: ["text"] for name in CATEGORIES},
    }
    served = served_model(model or "omni-moderation-latest")
    answer: JSON = {"id": new_id(request, "modr-"), "model": served, "results": [result] * len(items)}
    return Reply("moderations", served, answer["id"], None, dump(tell(request, answer)))


def images(request: Request, model: str) -> Reply:
    """Generations and edits; the older models do not report usage."""
    body = request.body
    count = int(body.get("n") or 1)
    text = tokens(str(body.get("prompt") or ""))
    picture = 194 if body.get("image") else 0
    quality = body.get("quality") if body.get("quality") in IMAGE_TOKENS else "medium"
    made = IMAGE_TOKENS[str(quality)] * count
    usage: JSON | None = {
        "input_tokens": text + picture,
        "input_tokens_details": {"text_tokens": text, "image_tokens": picture},
        "output_tokens": made,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": made},
        "total_tokens": text + picture + made,
    }
    shape = {"background": "opaque", "output_format": "png", "quality": quality, "size": "1024x1024"}
    answer: JSON = {"created": now(), "data": [{"b64_json": PIXEL}] * count}
    if model.startswith("dall-e"):
        usage = None
    else:
        answer |= shape | {"usage": usage}
    reply = Reply("images", served_model(model), None, usage, error_frame=ERROR_FRAME)
    if not request.stream:
        reply.content = dump(tell(request, answer))
        return reply
    kind = "image_edit" if request.path.endswith("edits") else "image_generation"
    begun: JSON = {
        "type": f"{kind}.partial_image",
        "partial_image_index": 0,
        "b64_json": PIXEL,
        "created_at": now(),
    } | shape
    done: JSON = {"type": f"{kind}.completed", "b64_json": PIXEL, "created_at": now(), "usage": usage} | shape
    reply.frames = [sse(tell(request, event), event["type"]) for event in (begun, done)]
    return reply


def speech(request: Request, model: str) -> Reply:
    """Audio bytes, which carry no usage; the event stream form does."""
    text = str(request.body.get("input") or "")
    audio = b"\xff\xf3\x64\xc4" + bytes(len(text) * 16)
    reply = Reply("speech", served_model(model), None, None, audio, "audio/mpeg", error_frame=ERROR_FRAME)
    if request.body.get("stream_format") == "sse":
        count = {"input_tokens": tokens(text), "output_tokens": len(text)}
        reply.usage = count | {"total_tokens": sum(count.values())}
        half = len(audio) // 2
        parts = [base64.b64encode(part).decode() for part in (audio[:half], audio[half:])]
        events: list[JSON] = [{"type": "speech.audio.delta", "audio": part} for part in parts]
        events.append({"type": "speech.audio.done", "usage": reply.usage})
        reply.frames = [sse(tell(request, event), event["type"]) for event in events]
    return reply


def transcriptions(request: Request, model: str) -> Reply:
    """Transcription: `whisper-1` is billed by the second, the newer models by token."""
    body = request.body
    audio = body.get("file") or b""
    text = ANSWERS[len(audio) % len(ANSWERS)]
    sound, prompt = math.ceil(len(audio) / 100), tokens(str(body.get("prompt") or ""))
    usage: JSON = {
        "type": "tokens",
        "input_tokens": sound + prompt,
        "input_token_details": {"text_tokens": prompt, "audio_tokens": sound},
        "output_tokens": len(pieces(text)),
        "total_tokens": sound + prompt + len(pieces(text)),
    }
    if model == "whisper-1":
        usage = {"type": "duration", "seconds": math.ceil(len(audio) / 1000)}
    reply = Reply("transcriptions", served_model(model), None, usage, error_frame=ERROR_FRAME)
    form = body.get("response_format") or "json"
    if request.stream:
        events: list[JSON] = [{"type": "transcript.text.delta", "delta": word} for word in pieces(text)]
        events.append({"type": "transcript.text.done", "text": text, "usage": usage})
        reply.frames = [sse(tell(request, event), event["type"]) for event in events] + [b"data: [DONE]\n\n"]
    elif form in ("text", "srt", "vtt"):
        reply.content, reply.content_type, reply.usage = text.encode() + b"\n", "text/plain; charset=utf-8", None
    elif form == "verbose_json":
        answer = {"task": "transcribe", "language": "english", "duration": len(audio) / 1000, "text": text}
        reply.content = dump(tell(request, answer | {"segments": [], "usage": usage}))
    else:
        reply.content = dump(tell(request, {"text": text, "usage": usage}))
    return reply


def translations(request: Request, model: str) -> Reply:
    """Translation to English, which reports no usage."""
    text = ANSWERS[len(request.body.get("file") or b"") % len(ANSWERS)]
    return Reply("translations", served_model(model), None, None, dump({"text": text}))


def models() -> Reply:
    entries = [{"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "standin"} for name in SNAPSHOTS]
    return Reply("models", content=dump({"object": "list", "data": entries}), metered=False)
