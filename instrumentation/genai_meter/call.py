"""One provider call, from `prepare` to `settle`. Clients write it, `emit` reads it."""

# ruff: noqa: PIE807 - as a factory `dict[str, str]` is ten times slower than a lambda, and `dict` has no type.

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from genai_meter.dialects.base import Dialect, Reading, RequestView
from genai_meter.guard import ALLOW, Decision

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from genai_meter.pricing import RateCard
    from genai_meter.usage import Usage

Status: TypeAlias = Literal["ok", "error", "cancelled", "closed_early", "abandoned", "blocked"]
"""How a call ended: normally, by an exception, by cancellation of the caller's task, by the caller
closing the stream before its end, by the caller dropping it, by our guard."""


@dataclass(slots=True)
class Target:
    """Where a call goes, as read from the client object."""

    provider: str
    """`gen_ai.provider.name`: a value of the conventions where one exists."""
    host: str
    port: int | None = None
    """None when it is the scheme's default."""
    region: str | None = None
    account: str | None = None
    """Provider account, organisation, project or workspace, when the client object knows it."""
    deployment: str | None = None
    api_key: str | None = None
    """The secret itself, only to be fingerprinted by `identity`; never emitted, never logged."""
    sdk: str = ""
    """Client library and class, e.g. `openai.AsyncAzureOpenAI`."""


@dataclass(slots=True)
class Attempt:
    """One HTTP exchange of a call; retries make several."""

    start_ns: int
    """Unix time, nanoseconds."""
    end_ns: int | None = None
    status: int | None = None
    """HTTP status; None when no answer came."""
    request_id: str | None = None
    error_type: str | None = None


@dataclass(slots=True)
class Prepared:
    """What the guard may look at, before anything has left the process."""

    target: Target
    dialect: Dialect
    request: RequestView
    attribution: Mapping[str, str]
    """Snapshot of who pays: field name of `schema` → value."""
    rate_card: RateCard | None
    """None when the model has no price."""
    estimate: Usage
    """Worst case: input by size, output by the caller's bound or the model's limit."""
    hashes: Mapping[str, str] = field(default_factory=lambda: {})
    """Keyed hashes of the request, by field of `schema`: what `identity.request_hashes(body)` made."""
    text_tokens: int | None = None
    """Tokens of the request's texts, where a tokenizer counted them."""


@dataclass(slots=True, weakref_slot=True)
class Call:
    """Everything known about one call. Ends exactly once, through `emit.finish`."""

    prepared: Prepared
    call_id: bytes
    """16 bytes, UUIDv7."""
    start_ns: int = field(default_factory=time.time_ns)
    end_ns: int | None = None
    first_chunk_ns: int | None = None
    chunk_count: int = 0
    attempts: list[Attempt] = field(default_factory=lambda: [])
    reading: Reading = field(default_factory=Reading)
    earlier: list[Reading] = field(default_factory=lambda: [])
    """Other answers received and billed within this call (a fallback retried a refusal), oldest first."""
    decision: Decision = ALLOW
    injected_usage: bool = False
    """We asked for the usage chunk and hide it from the caller."""
    status: Status | None = None
    error_type: str | None = None
    span: Span | None = None
    span_is_ours: bool = False
    span_complete: bool = True
    """False when a span of another instrumentation had ended before the usage of the call was known."""
    span_told: tuple[Any, ...] | None = None
    """The usage that such a span could be told when its owner ended it."""
    context: Context | None = None
    """The OpenTelemetry context of `span`: exemplars and the event belong to it."""
    attributes: dict[str, Any] = field(default_factory=lambda: {})
    """What span and event say of the request; made by `emit` when the span is opened."""
    gate: Callable[[Call, Status], bool] | None = None
    """Asked at the end whether the call is charged now; None is yes. A background response says no until it is over."""
    open: list[bool] = field(default_factory=lambda: [True])
    """Popped by whoever ends the call: a test-and-set that a finalizer on any thread can use without a lock."""

    def usages(self) -> list[Usage]:
        """Billed usage of every answer of the call; those of another answer than the last name their model."""
        dialect, request = self.prepared.dialect, self.prepared.request
        found = dialect.usages(self.reading, request)
        for reading in self.earlier:
            for usage in dialect.usages(reading, request):
                usage.model = usage.model or reading.model
                found.append(usage)
        return found
