"""What every wire format must be able to tell: the request, the answer, the usage.

A dialect is pure functions over JSON-like values: plain dicts, or the client library's parsed
objects read attribute by attribute through `read` (never dumped). It imports no client library
and nothing of OpenTelemetry.
"""

# ruff: noqa: PIE807 - as a factory `dict[str, str]` is ten times slower than a lambda, and `dict` has no type.

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

from genai_meter.usage import Usage

Json: TypeAlias = Any
"""Foreign data: a dict, list or scalar, or a client library's parsed object of the same shape."""

Fidelity: TypeAlias = Literal["final", "partial", "none"]
"""How much of the usage the provider has told: all of it, a placeholder or part of it, nothing."""


def read(value: Json, key: str) -> Json:
    """The field `key` of a dict or of a parsed (pydantic) object; None when there is none."""
    if type(value) is dict:
        return value.get(key)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    try:
        return value.__dict__[key]
    except (AttributeError, KeyError):
        extra = getattr(value, "__pydantic_extra__", None)
        return extra.get(key) if extra else None


def fields(value: Json) -> Mapping[str, Json]:
    """All fields of a dict or of a parsed (pydantic) object, extras included; empty for anything else."""
    # Not by `__class__`, which takes a model of pydantic as long as all the rest.
    if type(value) is dict:
        return value  # pyright: ignore[reportUnknownVariableType]
    try:
        declared, extra = value.__dict__, value.__pydantic_extra__
    except AttributeError:
        return getattr(value, "__dict__", {})
    return {**declared, **extra} if extra else declared


@dataclass(slots=True)
class RequestView:
    """What of a request is metered: parameters and sizes, never content."""

    model: str | None = None
    stream: bool = False
    max_tokens: int | None = None
    """The caller's bound on output tokens, under whatever name the API gives it."""
    service_tier: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    stop_sequences: tuple[str, ...] | None = None
    choice_count: int | None = None
    reasoning_level: str | None = None
    output_type: str | None = None
    """`text`, `json`, `image` or `speech`, when the request asks for one."""
    previous_response_id: str | None = None
    conversation_id: str | None = None
    background: bool = False
    message_count: int | None = None
    tool_count: int | None = None
    chars_by_role: dict[str, int] = field(default_factory=lambda: {})
    """Role → characters of text in the request (the size, not the text)."""
    embedding_dimensions: int | None = None
    encoding_format: str | None = None
    context: dict[str, str] = field(default_factory=lambda: {})
    """Price dimensions asked for (`service_tier`, `speed`, `inference_geo`, `processing` …)."""

    @staticmethod
    def blank() -> RequestView:
        """`RequestView()`, whose factories take as long as the rest of it."""
        view = object.__new__(RequestView)
        view.model = view.max_tokens = view.service_tier = view.temperature = view.top_p = view.top_k = None
        view.seed = view.frequency_penalty = view.presence_penalty = view.stop_sequences = view.choice_count = None
        view.reasoning_level = view.output_type = view.previous_response_id = view.conversation_id = None
        view.message_count = view.tool_count = view.embedding_dimensions = view.encoding_format = None
        view.stream = view.background = False
        view.chars_by_role, view.context = {}, {}
        return view


@dataclass(slots=True)
class Reading:
    """What an answer has told so far; one object accumulates a whole stream."""

    response_id: str | None = None
    model: str | None = None
    """The model that served the call, as the provider names it."""
    finish_reasons: list[str] = field(default_factory=lambda: [])
    usage: Json = None
    """The provider's own usage object, last one wins; turned into buckets once, at the end."""
    fidelity: Fidelity = "none"
    terminal: bool = False
    """The provider has said that this is the end (finish reason, message_stop, completed …)."""
    error_type: str | None = None
    """An error the provider reported inside a 200 stream."""
    service_tier: str | None = None
    """The tier that served the call (not the one asked for)."""
    system_fingerprint: str | None = None
    context: dict[str, str] = field(default_factory=lambda: {})
    """Price dimensions as served; they win over those of the request."""
    tool_call_count: int = 0
    output_chars: int = 0
    """Characters of generated text seen; the base of an estimate when no usage came."""
    reported_cost_usd: str | None = None
    """A cost the provider itself reported, as decimal text (OpenRouter, xAI …)."""
    processed: dict[str, int] | None = None
    """Tokens the model worked on, where something else is billed: field of the schema after `processed_` → tokens."""
    scratch: dict[str, Any] = field(default_factory=lambda: {})
    """Whatever else the dialect must carry from chunk to chunk."""

    @staticmethod
    def blank() -> Reading:
        """`Reading()`, whose factories take as long as the rest of it."""
        reading = object.__new__(Reading)
        reading.response_id = reading.model = reading.usage = reading.error_type = reading.service_tier = None
        reading.system_fingerprint = reading.reported_cost_usd = reading.processed = None
        reading.fidelity, reading.terminal = "none", False
        reading.tool_call_count = reading.output_chars = 0
        reading.finish_reasons, reading.context, reading.scratch = [], {}, {}
        return reading


class Dialect:
    """One wire format. Instances are stateless and shared; all state is in `Reading`."""

    name: ClassVar[str]
    """The file's name, and the `api_flavor` of `genai-meter prices calc`: `openai_chat`, …"""

    operation: ClassVar[str]
    """`gen_ai.operation.name`."""

    id_family: ClassVar[str]
    """Name space of the response ids (`openai.chat`, `anthropic.message` …), from the wire format alone."""

    injects_usage: ClassVar[bool] = False
    """True where a stream carries usage only when asked by `stream_options.include_usage`."""

    piece: ClassVar[re.Pattern[bytes] | None] = None
    """A whole event that tells a piece of text, its group, and nothing else that is new after the first event."""

    def request(self, body: Mapping[str, Json]) -> RequestView:
        """Read the metered part of a request body."""
        raise NotImplementedError

    def response(self, reading: Reading, payload: Json) -> None:
        """Read one whole answer into `reading`."""
        raise NotImplementedError

    def chunk(self, reading: Reading, event: Json) -> None:
        """Read one event of a stream into `reading`. Runs in the caller's loop: ≤ 2 µs."""
        raise NotImplementedError

    def headers(self, reading: Reading, headers: Mapping[str, str]) -> None:
        """Read what an API tells in its response headers (Bedrock's token counts); most tell nothing."""

    def usages(self, reading: Reading, request: RequestView) -> list[Usage]:
        """The billed usage, one entry a model; empty when the provider told nothing."""
        del request  # only what is billed by the request itself (speech) looks at it
        return self.billed(reading)

    def billed(self, reading: Reading) -> list[Usage]:
        """The usage that the answer alone tells; nothing for an API that reports none."""
        del reading
        return []

    def apply(
        self, body: Mapping[str, Json], *, model: str | None = None, max_tokens: int | None = None
    ) -> dict[str, Json]:
        """A copy of `body` with another model or a lower bound on output tokens (the guard's write side)."""
        raise NotImplementedError
