"""One provider call, from `prepare` to `settle`. Clients write it, `emit` reads it."""

# ruff: noqa: PIE807 - as a factory `dict[str, str]` is ten times slower than a lambda, and `dict` has no type.

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from genai_meter import environment, identity, pricing
from genai_meter.dialects.base import Dialect, Reading, RequestView
from genai_meter.guard import ALLOW, Decision
from genai_meter.safety import guarded
from genai_meter.semconv import INFERENCE_OPERATIONS
from genai_meter.usage import Quantity, Usage

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from genai_meter.pricing import RateCard

CHARS_PER_TOKEN: Final = 3
"""Worst case of ordinary text; four is the usual mean."""

TOKENS_PER_MESSAGE: Final = 8
"""Worst case of what a chat format adds around one message."""

_REGIONAL_HOSTS: Final = ".api.openai.com"
"""How the hosts of one region end (`eu.api.openai.com`), which have a price of their own; the global one does not."""

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
    _dimensions: dict[str, str] | None = None
    _key: tuple[Any, ...] | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """All that tells this place from another at the end of a call."""
        known = self._key
        if known is None:
            place = (self.provider, self.host, self.port, self.account, self.sdk)
            known = self._key = (*place, *self.dimensions.items())
        return known

    @property
    def dimensions(self) -> Mapping[str, str]:
        """What the place itself says of the price: region, deployment, account, key, host."""
        known = self._dimensions
        if known is None:
            host = self.host if self.host.endswith(_REGIONAL_HOSTS) else None
            told = {
                "region": self.region,
                "deployment": self.deployment,
                "account": self.account,
                "api_key": identity.fingerprint(self.api_key) if self.api_key else None,
                "host": host,
            }
            known = self._dimensions = {name: value for name, value in told.items() if value}
        return known


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
    at_ns: int
    """When the call was prepared; the prices in force then hold."""
    hashes: Mapping[str, str] = field(default_factory=lambda: {})
    """Keyed hashes of the request, by field of `schema`: what `identity.request_hashes(body)` made."""
    text_tokens: int | None = None
    """Tokens of the request's texts, where a tokenizer counted them."""

    @property
    def rate_card(self) -> RateCard | None:
        """Looked up when asked for; None when the model has no price."""
        model = self.request.model
        if model is None:
            return None
        context = {**self.target.dimensions, **self.request.context}
        model = environment.model_behind(self.target.host, model) or model
        # Without a price the call is still counted.
        return guarded(pricing.rate_card, self.target.provider, model, self.at_ns, context)

    @property
    def estimate(self) -> Usage:
        """Worst case, worked out when asked for: input by size, output by the caller's bound or the model's limit."""
        request = self.request
        buckets: dict[str, Quantity] = {}
        chars = sum(request.chars_by_role.values())
        size = chars // CHARS_PER_TOKEN + TOKENS_PER_MESSAGE * (request.message_count or 0)
        if size:
            buckets["input"] = size
        if self.dialect.operation in INFERENCE_OPERATIONS:
            bound = request.max_tokens
            if not bound:
                card = self.rate_card
                bound = card.max_output_tokens if card is not None else None
            if bound:
                buckets["output"] = bound * (request.choice_count or 1)
        return Usage(buckets)


@dataclass(slots=True)
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

    @staticmethod
    def begun(prepared: Prepared, call_id: bytes, start_ns: int) -> Call:
        """`Call(…)`, whose factories take as long as the rest of it."""
        call = object.__new__(Call)
        call.prepared, call.call_id, call.start_ns = prepared, call_id, start_ns
        call.end_ns = call.first_chunk_ns = call.status = call.error_type = call.span = call.span_told = None
        call.context = call.gate = None
        call.chunk_count, call.decision = 0, ALLOW
        call.injected_usage = call.span_is_ours = False
        call.span_complete = True
        call.reading = Reading.blank()
        call.attempts, call.earlier = [], []
        call.attributes, call.open = {}, [True]
        return call

    def usages(self) -> list[Usage]:
        """Billed usage of every answer of the call; those of another answer than the last name their model."""
        dialect, request = self.prepared.dialect, self.prepared.request
        found = dialect.usages(self.reading, request)
        for reading in self.earlier:
            for usage in dialect.usages(reading, request):
                usage.model = usage.model or reading.model
                found.append(usage)
        return found
