"""What every wire format of the stand-in shares: requests, replies, and how tokens are counted."""

from __future__ import annotations

import email
import json
import math
import secrets
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import Any, Final, TypeAlias, cast

JSON: TypeAlias = dict[str, Any]

ANSWERS: Final = (
    "The meter reads what was used, the book says what it costs, and the owner learns of it the same minute.",
    "Three shelves are full and one is empty, so the next delivery should go to the north warehouse first.",
    "A short answer is often cheaper than a long one, but only when it still answers the question that was asked.",
    "Your refund was approved this morning and the amount will be on your account within five working days.",
)
"""Canned answers; the prompt chooses one, so equal prompts get equal answers."""

SNAPSHOTS: Final = {
    "gpt-6.2-sol": "gpt-6.2-sol",
    "gpt-5.5": "gpt-5.5-2026-04-23",
    "gpt-5.2": "gpt-5.2-2025-12-11",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "o4-mini": "o4-mini-2025-04-16",
    "gpt-3.5-turbo-instruct": "gpt-3.5-turbo-instruct",
    "text-embedding-3-small": "text-embedding-3-small",
    "text-embedding-3-large": "text-embedding-3-large",
    "omni-moderation-latest": "omni-moderation-2024-09-26",
    "gpt-image-1.5": "gpt-image-1.5",
    "gpt-4o-mini-tts": "gpt-4o-mini-tts",
    "gpt-4o-transcribe": "gpt-4o-transcribe",
    "whisper-1": "whisper-1",
    "claude-sonnet-5-5": "claude-sonnet-5-5",
    "claude-haiku-5-5": "claude-haiku-5-5",
    "claude-opus-4-5": "claude-opus-4-5-20251101",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
}
"""Model asked for → model that answers. A name that is not here is served under itself."""

NO_TEXT: Final = frozenset(
    {"type", "role", "id", "call_id", "tool_call_id", "tool_use_id", "url", "data", "image_url", "media_type"}
    | {"cache_control", "status", "signature"}
)
"""Keys whose strings are no prompt text."""


@dataclass(slots=True)
class Memory:
    """What the stand-in remembers between requests."""

    lock: threading.Lock = field(default_factory=threading.Lock)

    prefixes: set[int] = field(default_factory=set[int])
    """Checksums of the prompt prefixes that are in the cache."""

    responses: dict[str, JSON] = field(default_factory=dict[str, JSON])
    """Stored answers of the Responses API by id."""

    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    """Uploaded files and results of batches by id."""

    batches: dict[str, JSON] = field(default_factory=dict[str, JSON])
    """Batches by id."""

    polls: Counter[str] = field(default_factory=Counter[str])
    """How often a stored answer was asked for, by its id."""

    def clear(self) -> None:
        with self.lock:
            self.prefixes.clear()
            self.responses.clear()
            self.files.clear()
            self.batches.clear()
            self.polls.clear()


@dataclass(slots=True)
class Request:
    """One request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""

    raw: bytes
    memory: Memory
    body: JSON = field(default_factory=dict[str, Any])
    """The JSON object, or the fields of a form (a file field is its bytes)."""

    query: str = ""

    @property
    def scenario(self) -> str:
        return self.headers.get("x-scenario", "")

    @property
    def stream(self) -> bool:
        return self.body.get("stream") in (True, "true")

    def parse(self) -> None:
        content_type = self.headers.get("content-type", "")
        if content_type.startswith("multipart/form-data"):
            self.body = dict(_form(content_type, self.raw))
        elif self.raw:
            self.body = json.loads(self.raw)


@dataclass(slots=True)
class Reply:
    """One answer: a whole body, or the frames of an event stream."""

    api: str
    """Which API answered: `chat`, `completions`, `responses`, `embeddings`, `messages` ..."""

    model: str = ""
    response_id: str | None = None
    usage: JSON | None = None
    """The usage as the provider reports it in the last place where it does."""

    content: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict[str, str])
    """Headers beside those that all answers have."""

    frames: list[bytes] | None = None
    """Frames of the stream, in order; None for a buffered answer."""

    error_frame: bytes = b""
    """What this API sends when a stream fails in the middle."""

    metered: bool = True
    """False for what no provider charges for (a list of models, a count of tokens)."""


@dataclass(slots=True)
class Served:
    """One answer that was sent with status 200."""

    api: str
    path: str
    model: str
    response_id: str | None
    stream: bool
    usage: JSON | None
    """As the answer said it; None when it said nothing."""

    request: JSON
    """The body of the request as it arrived."""

    completed: bool = False
    """Whether the whole answer could be handed to the connection."""


def served_model(asked: str) -> str:
    return SNAPSHOTS.get(asked, asked)


def new_id(request: Request, prefix: str) -> str | None:
    """A fresh id, or what the scenario asks for."""
    if request.scenario == "no_id":
        return None
    return prefix + ("repeated" if request.scenario == "same_id" else secrets.token_hex(12))


def member(value: JSON, key: str) -> JSON:
    """An object inside an object; empty when it is absent or null."""
    return cast(JSON, value.get(key) or {})


def entries(value: JSON, key: str) -> list[JSON]:
    """A list of objects inside an object; empty when it is absent or null."""
    return cast(list[JSON], value.get(key) or [])


def now() -> int:
    return int(time.time())


def prompt_text(value: Any) -> str:
    """All text in a part of a request, whatever its shape."""
    return "".join(_strings(value))


def tokens(text: str) -> int:
    """One token for every four characters, rounded up."""
    return math.ceil(len(text) / 4)


def answer_words(prompt: str, limit: int | None) -> tuple[list[str], bool]:
    """The words of the answer to a prompt, each one token, and whether the limit cut it short."""
    words = pieces(ANSWERS[zlib.crc32(prompt.encode()) % len(ANSWERS)])
    if limit is None or limit >= len(words):
        return words, False
    return words[: max(limit, 0)], True


def pieces(text: str) -> list[str]:
    """A text cut into words that together are the text."""
    words = text.split(" ")
    return [word + " " for word in words[:-1]] + words[-1:]


def example_of(schema: JSON, definitions: JSON | None = None) -> Any:
    """The smallest value that fits a JSON schema, for structured outputs."""
    known = cast(JSON, schema.get("$defs") or definitions or {})
    if "$ref" in schema:
        return example_of(known[str(schema["$ref"]).rsplit("/", 1)[-1]], known)
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return example_of(schema["anyOf"][0], known)
    kind = schema.get("type")
    if kind == "object":
        return {name: example_of(part, known) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [example_of(schema.get("items", {}), known)]
    return {"integer": 7, "number": 2.5, "boolean": True, "null": None}.get(str(kind), "north")


def dump(value: JSON) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def sse(value: JSON, event: str | None = None) -> bytes:
    """One frame of an event stream."""
    head = f"event: {event}\n".encode() if event else b""
    return head + b"data: " + dump(value) + b"\n\n"


def tell(request: Request, value: JSON) -> JSON:
    """The object as it goes out: without its id or its usage when the scenario says so."""
    hidden = {"no_id": "id", "no_usage": "usage"}.get(request.scenario)
    if hidden:
        for part in (value, value.get("message"), value.get("response")):
            if isinstance(part, dict):
                cast(JSON, part).pop(hidden, None)
    return value


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in cast(list[Any], value):
            yield from _strings(item)
    elif isinstance(value, dict):
        for key, item in cast(JSON, value).items():
            if key not in NO_TEXT:
                yield from _strings(item)


def _form(content_type: str, raw: bytes) -> Iterator[tuple[str, str | bytes]]:
    message: Message = email.message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + raw)
    for part in cast(list[Message], message.get_payload()):
        name = str(part.get_param("name", header="content-disposition"))
        data = cast(bytes, part.get_payload(decode=True))
        yield name.removesuffix("[]"), data if part.get_filename() else data.decode()
