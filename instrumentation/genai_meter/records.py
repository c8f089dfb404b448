"""Attributes of the span and of the usage event."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from genai_meter import identity, interop, schema, semconv
from genai_meter.guard import ALLOW
from genai_meter.pricing.cost import PICO
from genai_meter.usage import BUCKETS

if TYPE_CHECKING:
    from genai_meter.call import Attempt, Call, Target
    from genai_meter.dialects.base import Dialect
    from genai_meter.metrics import Account
    from genai_meter.settle import Outcome
    from genai_meter.usage import Quantity

_LONGEST: Final = 256
"""Characters of a model name or another value of the request that the caller chooses."""

_ATTRIBUTE: Final = {f.name: f.attribute for f in schema.FIELDS}
_BUCKET: Final = {bucket: semconv.USAGE_PREFIX + bucket for bucket in BUCKETS}

_CALL_ID: Final = _ATTRIBUTE["call_id"]
_ID_FAMILY: Final = _ATTRIBUTE["id_family"]
_SDK: Final = _ATTRIBUTE["sdk"]
_STATUS: Final = _ATTRIBUTE["status"]
_USAGE_SOURCE: Final = _ATTRIBUTE["usage_source"]
_COST_STATUS: Final = _ATTRIBUTE["cost_status"]
_COST: Final = _ATTRIBUTE["cost"]
_LIST_COST: Final = _ATTRIBUTE["list_cost"]
_BOOK_ID: Final = _ATTRIBUTE["book_id"]
_TIER: Final = _ATTRIBUTE["tier"]
_START: Final = _ATTRIBUTE["start"]
_END: Final = _ATTRIBUTE["end"]
_ESTIMATED_INPUT: Final = _ATTRIBUTE["estimated_input_tokens"]
_ESTIMATED_OUTPUT: Final = _ATTRIBUTE["estimated_output_tokens"]
_MESSAGES: Final = _ATTRIBUTE["message_count"]
_CHARS: Final = _ATTRIBUTE["input_chars"]
_REQUEST_ID: Final = _ATTRIBUTE["request_id"]

_PLACE: Final = {name: _ATTRIBUTE[name] for name in ("region", "account", "deployment", "api_key")}
"""Dimension of the target → attribute of the event."""

_API_TYPES: Final = {"openai_chat": "chat_completions", "openai_responses": "responses"}


dump: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
"""Compact JSON."""

_quoted: dict[str, str] = {}
_MAX_QUOTED: Final = 256


def _quote(text: str) -> str:
    """A role as JSON: there are few, unless a caller makes them up."""
    if len(_quoted) >= _MAX_QUOTED:
        _quoted.clear()
    quoted = _quoted[text] = dump(text)
    return quoted


def _sizes(by_role: Mapping[str, int]) -> str:
    """Characters by role as JSON."""
    text = ""
    for role, size in by_role.items():
        text += f",{_quoted.get(role) or _quote(role)}:{size}"
    return f"{{{text[1:]}}}"


# --- at the start -----------------------------------------------------------------------------------
class Start(NamedTuple):
    """What all calls of one dialect to one place for one model say at their start."""

    name: str
    """Of the span."""
    shared: Mapping[str, Any]
    """On span and event."""
    span: Mapping[str, Any]
    """On the span alone."""


_starts: dict[tuple[Any, ...], Start] = {}


def start_of(call: Call) -> Start:
    """What the call says at its start as others do."""
    prepared = call.prepared
    target, dialect, model = prepared.target, prepared.dialect, prepared.request.model
    key = (dialect.name, target.provider, target.host, target.port, model)
    known = _starts.get(key)
    if known is None:
        if len(_starts) >= _MAX_KINDS:
            _starts.clear()
        known = _starts[key] = _start(target, dialect, model)
    return known


def _start(target: Target, dialect: Dialect, model: str | None) -> Start:
    shared: dict[str, Any] = {
        semconv.OPERATION_NAME: dialect.operation,
        semconv.PROVIDER_NAME: target.provider,
        semconv.SERVER_ADDRESS: target.host,
        _ID_FAMILY: dialect.id_family,
    }
    name, span = dialect.operation, dict[str, Any]()
    if model:
        shared[semconv.REQUEST_MODEL] = model[:_LONGEST]
        name = f"{name} {model[:_LONGEST]}"
    if target.port is not None:
        span[semconv.SERVER_PORT] = target.port
    if dialect.name in _API_TYPES:
        span[semconv.OPENAI_API_TYPE] = _API_TYPES[dialect.name]
    return Start(name, shared, span)


def at_start(call: Call, start: Start) -> dict[str, Any]:
    """What span and event both say of the request: all that a sampler may want to know."""
    prepared = call.prepared
    request = prepared.request
    attributes = {**start.shared, _CALL_ID: identity.text(call.call_id)}
    if request.stream:
        attributes[semconv.REQUEST_STREAM] = True
    if request.max_tokens is not None:
        attributes[semconv.REQUEST_MAX_TOKENS] = request.max_tokens
    if request.conversation_id:
        attributes[semconv.CONVERSATION_ID] = request.conversation_id[:_LONGEST]
    if prepared.attribution:
        attributes.update({_ATTRIBUTE[name]: value for name, value in prepared.attribution.items()})
    return attributes


def span_at_start(call: Call, start: Start) -> dict[str, Any]:
    """What the span says of the request."""
    told, request = {**call.attributes, **start.span}, call.prepared.request
    # One by one: most are not set, and a table takes three times as long.
    if request.temperature is not None:
        told[semconv.REQUEST_TEMPERATURE] = request.temperature
    if request.top_p is not None:
        told[semconv.REQUEST_TOP_P] = request.top_p
    if request.top_k is not None:
        told[semconv.REQUEST_TOP_K] = request.top_k
    if request.seed is not None:
        told[semconv.REQUEST_SEED] = request.seed
    if request.frequency_penalty is not None:
        told[semconv.REQUEST_FREQUENCY_PENALTY] = request.frequency_penalty
    if request.presence_penalty is not None:
        told[semconv.REQUEST_PRESENCE_PENALTY] = request.presence_penalty
    if request.choice_count is not None and request.choice_count != 1:
        told[semconv.REQUEST_CHOICE_COUNT] = request.choice_count
    if request.reasoning_level is not None:
        told[semconv.REQUEST_REASONING_LEVEL] = request.reasoning_level
    if request.output_type is not None:
        told[semconv.OUTPUT_TYPE] = request.output_type
    if request.previous_response_id is not None:
        told[semconv.REQUEST_PREVIOUS_RESPONSE_ID] = request.previous_response_id
    if request.embedding_dimensions is not None:
        told[semconv.EMBEDDINGS_DIMENSION_COUNT] = request.embedding_dimensions
    if request.encoding_format:
        told[semconv.REQUEST_ENCODING_FORMATS] = [request.encoding_format]
    tier = request.service_tier
    if tier is not None and tier != "auto" and semconv.OPENAI_API_TYPE in told:
        told[semconv.OPENAI_REQUEST_SERVICE_TIER] = tier
    return told


# --- at the end: what calls have in common ------------------------------------------------------------
class Kind:
    """Calls that end alike: what all of them say is put together once, and copied for each."""

    __slots__ = ("accounts", "event", "span")

    def __init__(self) -> None:
        self.span: dict[str, Any] = {}
        self.event: dict[str, Any] = {}
        self.accounts: dict[tuple[Any, ...], Account] = {}
        """Owner labels → where the metrics count; written by them."""


_kinds: dict[tuple[Any, ...], Kind] = {}
_MAX_KINDS: Final = 1024
"""Model names and fingerprints come from outside, so the cache is emptied when it is full."""


def kind_of(call: Call, outcome: Outcome) -> Kind:
    """The kind of a finished call."""
    prepared, reading, cost, context = call.prepared, call.reading, outcome.cost, outcome.context
    status = call.attempts[-1].status if call.attempts else None
    reasons = tuple(reading.finish_reasons)
    if not reasons and call.chunk_count and call.status != "ok":
        reasons = ("error",)  # the conventions' word for a choice that was cut off
    key = (
        prepared.target.key,
        prepared.dialect.name,
        prepared.request.model,
        reading.model,
        reading.service_tier,
        reading.system_fingerprint,
        call.status,
        status,
        outcome.source,
        tuple(context.items()),
        reasons,
        (cost.status, cost.book_id, cost.reasons) if cost is not None else None,
    )
    known = _kinds.get(key)
    if known is None:
        if len(_kinds) >= _MAX_KINDS:
            _kinds.clear()
        known = _kinds[key] = _kind(call, outcome, status, reasons)
    return known


def _kind(call: Call, outcome: Outcome, status: int | None, reasons: tuple[str, ...]) -> Kind:
    """Only of what is in the key of `kind_of`."""
    kind, reading, cost = Kind(), call.reading, outcome.cost
    shared: dict[str, Any] = {_USAGE_SOURCE: outcome.source}
    if call.status is not None and call.status != "ok":
        shared[_STATUS] = call.status
    if reading.model:
        shared[semconv.RESPONSE_MODEL] = reading.model[:_LONGEST]
    if cost is not None:
        shared[_COST_STATUS] = cost.status
    kind.span.update(shared)
    kind.event.update({_ATTRIBUTE["schema_version"]: semconv.SCHEMA_VERSION, _STATUS: call.status, **shared})
    if reasons:
        kind.span[semconv.RESPONSE_FINISH_REASONS] = reasons
        kind.event[semconv.RESPONSE_FINISH_REASONS] = dump(reasons)
    if call.prepared.dialect.name in _API_TYPES:
        if reading.service_tier:
            kind.span[semconv.OPENAI_RESPONSE_SERVICE_TIER] = reading.service_tier
        if reading.system_fingerprint:
            kind.span[semconv.OPENAI_RESPONSE_SYSTEM_FINGERPRINT] = reading.system_fingerprint
    if status is not None:
        kind.event[semconv.HTTP_RESPONSE_STATUS_CODE] = status
    _put_target(kind.event, call)
    _put_terms(kind.event, call, outcome)
    return kind


def _put_target(attributes: dict[str, Any], call: Call) -> None:
    target = call.prepared.target
    attributes[_SDK] = target.sdk
    for name, value in target.dimensions.items():
        attribute = _PLACE.get(name)
        if attribute is not None:
            attributes[attribute] = value


def _put_terms(attributes: dict[str, Any], call: Call, outcome: Outcome) -> None:
    """What decided the price."""
    tier, context, cost = call.reading.service_tier, outcome.context, outcome.cost
    if tier:
        attributes[_TIER] = tier
    for name in ("processing", "speed"):
        value = context.get(name)
        if value:
            attributes[_ATTRIBUTE[name]] = value
    if cost is None:
        return
    if cost.book_id:
        attributes[_BOOK_ID] = cost.book_id
    if cost.reasons:
        attributes[_ATTRIBUTE["cost_reasons"]] = dump(cost.reasons)
    if context and not (len(context) == 1 and context.get("service_tier") == tier):
        attributes[_ATTRIBUTE["price_context"]] = dump(dict(context))


# --- at the end: one call -----------------------------------------------------------------------------
_TOLD_BY_TOTALS: Final = frozenset({"input", "cache_read", "output", "output_reasoning"})
"""Buckets that follow from the inclusive counts of the conventions."""


def at_end(call: Call, outcome: Outcome) -> dict[str, Any]:
    """What span and event both say of this one answer, and its kind does not."""
    reading = call.reading
    attributes: dict[str, Any] = {}
    if reading.response_id:
        attributes[semconv.RESPONSE_ID] = reading.response_id[:_LONGEST]
    if call.error_type:
        attributes[semconv.ERROR_TYPE] = call.error_type
    if call.first_chunk_ns is not None:
        attributes[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] = (call.first_chunk_ns - call.start_ns) / 1e9
    if outcome.source != "unknown":
        put_tokens(attributes, outcome, exact_input=outcome.exact_input, exact_output=outcome.exact_output)
        if outcome.source != "provider" or outcome.others or not _TOLD_BY_TOTALS.issuperset(outcome.own):
            _put_buckets(attributes, outcome.own)
    return attributes


def _put_buckets(attributes: dict[str, Any], buckets: Mapping[str, Quantity]) -> None:
    """The exclusive buckets of the call's own model."""
    for bucket, quantity in buckets.items():
        if quantity:
            attributes[_BUCKET[bucket]] = quantity if type(quantity) is int else float(quantity)


def put_tokens(attributes: dict[str, Any], outcome: Outcome, *, exact_input: bool, exact_output: bool) -> None:
    """The inclusive counts of the conventions."""
    if exact_input:
        attributes[semconv.USAGE_INPUT_TOKENS] = outcome.input_tokens
        if outcome.cache_read_tokens:
            attributes[semconv.USAGE_CACHE_READ_INPUT_TOKENS] = outcome.cache_read_tokens
        if outcome.cache_write_tokens:
            attributes[semconv.USAGE_CACHE_WRITE_INPUT_TOKENS] = outcome.cache_write_tokens
    if exact_output and (outcome.output_tokens or outcome.generates):
        attributes[semconv.USAGE_OUTPUT_TOKENS] = outcome.output_tokens
        if outcome.reasoning_tokens:
            attributes[semconv.USAGE_REASONING_OUTPUT_TOKENS] = outcome.reasoning_tokens


def span_at_end(call: Call, outcome: Outcome, kind: Kind, shared: Mapping[str, Any]) -> dict[str, Any]:
    """What the span says at its end: of the usage only what the provider counted."""
    attributes = {**kind.span, **shared}
    if len(call.attempts) > 1:
        attributes[semconv.HTTP_REQUEST_RESEND_COUNT] = len(call.attempts) - 1
    reported, cost = outcome.reported_pico, outcome.cost
    told = reported if reported is not None or cost is None else cost.effective_pico
    if told is not None:
        attributes[semconv.USAGE_COST_AMOUNT] = told / PICO
        attributes[semconv.USAGE_COST_CURRENCY] = "USD"
        attributes[semconv.USAGE_COST_SOURCE] = "local" if reported is None else "provider"
    return attributes


def event(call: Call, outcome: Outcome, kind: Kind, shared: Mapping[str, Any]) -> dict[str, Any]:
    """The usage event: every field of the schema that is known; buckets that the inclusive counts tell are left out."""
    request, attempts, cost = call.prepared.request, call.attempts, outcome.cost
    attributes: dict[str, Any] = {
        **kind.event,
        **call.attributes,
        **shared,
        _START: call.start_ns,
        _END: call.end_ns,
        _ESTIMATED_INPUT: outcome.estimated_input,
        _ESTIMATED_OUTPUT: outcome.estimated_output,
    }
    if request.message_count is not None:
        attributes[_MESSAGES] = request.message_count
    if request.chars_by_role:
        attributes[_CHARS] = _sizes(request.chars_by_role)
    if attempts and attempts[-1].request_id:
        attributes[_REQUEST_ID] = attempts[-1].request_id
    if cost is not None and cost.effective_pico is not None:
        attributes[_COST] = cost.effective_pico
        if cost.list_pico != cost.effective_pico:
            attributes[_LIST_COST] = cost.list_pico
    _put_rest(attributes, call, outcome)
    return attributes


def _put_rest(attributes: dict[str, Any], call: Call, outcome: Outcome) -> None:
    """What most events have not."""
    prepared, reading, attempts = call.prepared, call.reading, call.attempts
    request = prepared.request
    if request.service_tier:
        attributes[_ATTRIBUTE["request_tier"]] = request.service_tier[:_LONGEST]
    if request.tool_count:
        attributes[_ATTRIBUTE["tool_count"]] = request.tool_count
    if prepared.hashes:
        attributes.update({_ATTRIBUTE[name]: value for name, value in prepared.hashes.items()})
    if reading.processed is not None:
        for name, value in reading.processed.items():
            attributes[_ATTRIBUTE[f"processed_{name}"]] = value
    if reading.tool_call_count:
        attributes[_ATTRIBUTE["tool_call_count"]] = reading.tool_call_count
    if call.chunk_count:
        attributes[_ATTRIBUTE["chunk_count"]] = call.chunk_count
    if len(attempts) != 1:
        attributes[_ATTRIBUTE["attempt_count"]] = len(attempts)
        if attempts:
            attributes[_ATTRIBUTE["attempts"]] = dump([_attempt(attempt) for attempt in attempts])
    if outcome.source == "estimated":
        put_tokens(attributes, outcome, exact_input=True, exact_output=True)
    if outcome.others:
        attributes[_ATTRIBUTE["usage"]] = dump(_billed(outcome))
    if outcome.reported_pico is not None:
        attributes[_ATTRIBUTE["reported_cost"]] = outcome.reported_pico
    if call.decision is not ALLOW:
        _put_guard(attributes, call)
    if not call.span_is_ours and call.span is not None and call.span.get_span_context().is_valid:
        attributes[_ATTRIBUTE["span_scope"]] = interop.scope(call.span)
        attributes[_ATTRIBUTE["span_complete"]] = call.span_complete


def _attempt(attempt: Attempt) -> dict[str, Any]:
    told = {
        "status": attempt.status,
        "seconds": (attempt.end_ns - attempt.start_ns) / 1e9 if attempt.end_ns is not None else None,
        "request_id": attempt.request_id,
        "error_type": attempt.error_type,
    }
    return {name: value for name, value in told.items() if value is not None}


def _billed(outcome: Outcome) -> list[dict[str, Any]]:
    """The buckets of every model that was billed."""
    return [
        {"model": usage.model or outcome.model, "buckets": {k: _number(v) for k, v in usage.buckets.items()}}
        for usage in outcome.usages
    ]


def _number(quantity: Quantity) -> int | float:
    return float(quantity) if isinstance(quantity, Decimal) else quantity


def _put_guard(attributes: dict[str, Any], call: Call) -> None:
    decision = call.decision
    if decision.rule is None and decision.action == "allow":
        return
    attributes[_ATTRIBUTE["guard_action"]] = decision.action
    if decision.rule is not None:
        attributes[_ATTRIBUTE["guard_rule"]] = decision.rule
    if decision.policy_version is not None:
        attributes[_ATTRIBUTE["policy_version"]] = decision.policy_version


# --- labels of the cost counters --------------------------------------------------------------------
_OWNER_LABELS: Final = tuple(f.attribute for f in schema.ATTRIBUTION if f.label)
NOBODY: Final = (None,) * len(_OWNER_LABELS)

COST_LABELS: Final = (
    *_OWNER_LABELS,
    semconv.PROVIDER_NAME,
    semconv.OPERATION_NAME,
    semconv.RESPONSE_MODEL,
    _ATTRIBUTE["account"],
    _ATTRIBUTE["tier"],
    _COST_STATUS,
    _STATUS,
    _USAGE_SOURCE,
)
"""Attributes of the cost counters: the fields of the schema that may be labels."""


def owners(call: Call) -> tuple[Any, ...]:
    """Who pays, as far as it is a label; None is absent."""
    get = call.attributes.get
    return tuple([get(name) for name in _OWNER_LABELS])


def cost_key(call: Call, outcome: Outcome) -> tuple[Any, ...]:
    """Values of `COST_LABELS` for a call with a cost, in their order; None is absent."""
    target, cost = call.prepared.target, outcome.cost
    return (
        *owners(call),
        target.provider,
        call.prepared.dialect.operation,
        outcome.model,
        target.account,
        call.reading.service_tier,
        None if cost is None else cost.status,
        call.status,
        outcome.source,
    )
