"""Attributes of the span and of the usage event."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from genai_meter import identity, interop, schema, semconv
from genai_meter.pricing.cost import PICO
from genai_meter.usage import BUCKETS

if TYPE_CHECKING:
    from genai_meter.call import Attempt, Call
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

_PLACE: Final = {name: _ATTRIBUTE[name] for name in ("region", "account", "deployment", "api_key")}
"""Dimension of the target → attribute of the event."""

_API_TYPES: Final = {"openai_chat": "chat_completions", "openai_responses": "responses"}


dump: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
"""Compact JSON."""

_dumped: dict[tuple[str, ...], str] = {}
_MAX_DUMPED: Final = 256


def dump_few(values: Iterable[str]) -> str:
    """Compact JSON of a list of texts of which there are few different ones."""
    key = tuple(values)
    known = _dumped.get(key)
    if known is None:
        if len(_dumped) >= _MAX_DUMPED:
            _dumped.clear()
        known = _dumped[key] = dump(key)
    return known


_contexts: dict[tuple[tuple[str, str], ...], str] = {}


def _dump_context(context: Mapping[str, str]) -> str:
    key = tuple(context.items())
    known = _contexts.get(key)
    if known is None:
        if len(_contexts) >= _MAX_DUMPED:
            _contexts.clear()
        known = _contexts[key] = dump(dict(context))
    return known


_quoted: dict[str, str] = {}


def _quote(text: str) -> str:
    """A role as JSON: there are few, unless a caller makes them up."""
    if len(_quoted) >= _MAX_DUMPED:
        _quoted.clear()
    quoted = _quoted[text] = dump(text)
    return quoted


def _sizes(by_role: Mapping[str, int]) -> str:
    """Characters by role as JSON."""
    return "{" + ",".join([f"{_quoted.get(role) or _quote(role)}:{size}" for role, size in by_role.items()]) + "}"


# --- at the start -----------------------------------------------------------------------------------
def at_start(call: Call) -> dict[str, Any]:
    """What span and event both say of the request: all that a sampler may want to know."""
    prepared = call.prepared
    target, request, dialect = prepared.target, prepared.request, prepared.dialect
    attributes: dict[str, Any] = {
        semconv.OPERATION_NAME: dialect.operation,
        semconv.PROVIDER_NAME: target.provider,
        semconv.SERVER_ADDRESS: target.host,
        _CALL_ID: identity.text(call.call_id),
        _ID_FAMILY: dialect.id_family,
    }
    if request.model:
        attributes[semconv.REQUEST_MODEL] = request.model[:_LONGEST]
    if request.stream:
        attributes[semconv.REQUEST_STREAM] = True
    if request.max_tokens is not None:
        attributes[semconv.REQUEST_MAX_TOKENS] = request.max_tokens
    if request.conversation_id:
        attributes[semconv.CONVERSATION_ID] = request.conversation_id[:_LONGEST]
    for name, value in prepared.attribution.items():
        attributes[_ATTRIBUTE[name]] = value
    return attributes


_PARAMETERS: Final = tuple(
    {
        "temperature": semconv.REQUEST_TEMPERATURE,
        "top_p": semconv.REQUEST_TOP_P,
        "top_k": semconv.REQUEST_TOP_K,
        "seed": semconv.REQUEST_SEED,
        "frequency_penalty": semconv.REQUEST_FREQUENCY_PENALTY,
        "presence_penalty": semconv.REQUEST_PRESENCE_PENALTY,
        "reasoning_level": semconv.REQUEST_REASONING_LEVEL,
        "output_type": semconv.OUTPUT_TYPE,
        "previous_response_id": semconv.REQUEST_PREVIOUS_RESPONSE_ID,
        "embedding_dimensions": semconv.EMBEDDINGS_DIMENSION_COUNT,
    }.items()
)
"""Field of the request view → attribute of the span."""
_parameters: Final = attrgetter(*(name for name, _ in _PARAMETERS))


def span_only(call: Call) -> dict[str, Any]:
    """Parameters of the request that only the span carries."""
    prepared = call.prepared
    request, api_type = prepared.request, _API_TYPES.get(prepared.dialect.name)
    told: dict[str, Any] = {
        name: value for (_, name), value in zip(_PARAMETERS, _parameters(request), strict=True) if value is not None
    }
    if prepared.target.port is not None:
        told[semconv.SERVER_PORT] = prepared.target.port
    if request.choice_count is not None and request.choice_count != 1:
        told[semconv.REQUEST_CHOICE_COUNT] = request.choice_count
    if request.encoding_format:
        told[semconv.REQUEST_ENCODING_FORMATS] = [request.encoding_format]
    if api_type is not None:
        told[semconv.OPENAI_API_TYPE] = api_type
        if request.service_tier is not None and request.service_tier != "auto":
            told[semconv.OPENAI_REQUEST_SERVICE_TIER] = request.service_tier
    return told


# --- at the end -------------------------------------------------------------------------------------
def at_end(call: Call, outcome: Outcome) -> dict[str, Any]:
    """What span and event both say of the answer, its usage and its cost."""
    reading, cost = call.reading, outcome.cost
    attributes: dict[str, Any] = {_USAGE_SOURCE: outcome.source}
    if call.status is not None and call.status != "ok":
        attributes[_STATUS] = call.status
    if reading.response_id:
        attributes[semconv.RESPONSE_ID] = reading.response_id[:_LONGEST]
    if reading.model:
        attributes[semconv.RESPONSE_MODEL] = reading.model[:_LONGEST]
    if call.error_type:
        attributes[semconv.ERROR_TYPE] = call.error_type
    if call.first_chunk_ns is not None:
        attributes[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] = (call.first_chunk_ns - call.start_ns) / 1e9
    if cost is not None:
        attributes[_COST_STATUS] = cost.status
    return attributes


_TOLD_BY_TOTALS: Final = frozenset({"input", "cache_read", "output", "output_reasoning"})
"""Buckets that follow from the inclusive counts of the conventions."""


def put_buckets(attributes: dict[str, Any], outcome: Outcome) -> None:
    """The exclusive buckets of the call's own model."""
    if outcome.source != "unknown":
        for bucket, quantity in outcome.own.items():
            if quantity:
                attributes[_BUCKET[bucket]] = quantity if type(quantity) is int else float(quantity)


def put_tokens(attributes: dict[str, Any], outcome: Outcome, *, estimates: bool) -> None:
    """The inclusive counts of the conventions; on the span only what the provider counted."""
    if outcome.source == "unknown":
        return
    if outcome.exact_input or estimates:
        attributes[semconv.USAGE_INPUT_TOKENS] = outcome.input_tokens
        if outcome.cache_read_tokens:
            attributes[semconv.USAGE_CACHE_READ_INPUT_TOKENS] = outcome.cache_read_tokens
        if outcome.cache_write_tokens:
            attributes[semconv.USAGE_CACHE_WRITE_INPUT_TOKENS] = outcome.cache_write_tokens
    if (outcome.exact_output or estimates) and (outcome.output_tokens or outcome.generates):
        attributes[semconv.USAGE_OUTPUT_TOKENS] = outcome.output_tokens
        if outcome.reasoning_tokens:
            attributes[semconv.USAGE_REASONING_OUTPUT_TOKENS] = outcome.reasoning_tokens


def span_at_end(call: Call, outcome: Outcome, shared: Mapping[str, Any]) -> dict[str, Any]:
    """What the span says at its end."""
    reading, dialect = call.reading, call.prepared.dialect
    attributes = dict(shared)
    put_tokens(attributes, outcome, estimates=False)
    if outcome.source != "provider" or outcome.others or not _TOLD_BY_TOTALS.issuperset(outcome.own):
        put_buckets(attributes, outcome)
    reasons = _finish_reasons(call)
    if reasons:
        attributes[semconv.RESPONSE_FINISH_REASONS] = reasons
    if len(call.attempts) > 1:
        attributes[semconv.HTTP_REQUEST_RESEND_COUNT] = len(call.attempts) - 1
    if dialect.name in _API_TYPES:
        if reading.service_tier:
            attributes[semconv.OPENAI_RESPONSE_SERVICE_TIER] = reading.service_tier
        if reading.system_fingerprint:
            attributes[semconv.OPENAI_RESPONSE_SYSTEM_FINGERPRINT] = reading.system_fingerprint
    cost = outcome.cost
    amount = cost.effective_pico if cost is not None else None
    if outcome.reported_pico is not None or amount is not None:
        told = outcome.reported_pico if outcome.reported_pico is not None else amount
        attributes[semconv.USAGE_COST_AMOUNT] = (told or 0) / PICO
        attributes[semconv.USAGE_COST_CURRENCY] = "USD"
        attributes[semconv.USAGE_COST_SOURCE] = "provider" if outcome.reported_pico is not None else "local"
    return attributes


def _finish_reasons(call: Call) -> list[str]:
    reasons = call.reading.finish_reasons
    if not reasons and call.chunk_count and call.status != "ok":
        return ["error"]  # the conventions' word for a choice that was cut off
    return reasons


def event(call: Call, outcome: Outcome, shared: Mapping[str, Any]) -> dict[str, Any]:
    """The usage event: every field of the schema that is known."""
    attributes: dict[str, Any] = {
        _ATTRIBUTE["schema_version"]: semconv.SCHEMA_VERSION,
        _STATUS: call.status,
        **call.attributes,
        **shared,
        _ATTRIBUTE["start"]: call.start_ns,
        _ATTRIBUTE["end"]: call.end_ns,
        _ATTRIBUTE["estimated_input_tokens"]: outcome.estimated_input,
        _ATTRIBUTE["estimated_output_tokens"]: outcome.estimated_output,
    }
    put_buckets(attributes, outcome)
    put_tokens(attributes, outcome, estimates=True)
    _put_target(attributes, call)
    _put_request(attributes, call)
    _put_answer(attributes, call, outcome)
    _put_provenance(attributes, outcome)
    _put_guard(attributes, call)
    if call.span is not None and not call.span_is_ours and call.span.get_span_context().is_valid:
        attributes[_ATTRIBUTE["span_scope"]] = interop.scope(call.span)
        attributes[_ATTRIBUTE["span_complete"]] = call.span_complete
    return attributes


def _put_target(attributes: dict[str, Any], call: Call) -> None:
    target = call.prepared.target
    attributes[_SDK] = target.sdk
    for name, value in target.dimensions.items():
        attribute = _PLACE.get(name)
        if attribute is not None:
            attributes[attribute] = value


def _put_request(attributes: dict[str, Any], call: Call) -> None:
    prepared = call.prepared
    request = prepared.request
    if request.service_tier:
        attributes[_ATTRIBUTE["request_tier"]] = request.service_tier[:_LONGEST]
    if request.message_count is not None:
        attributes[_ATTRIBUTE["message_count"]] = request.message_count
    if request.tool_count:
        attributes[_ATTRIBUTE["tool_count"]] = request.tool_count
    if request.chars_by_role:
        attributes[_ATTRIBUTE["input_chars"]] = _sizes(request.chars_by_role)
    for name, value in prepared.hashes.items():
        attributes[_ATTRIBUTE[name]] = value


def _put_answer(attributes: dict[str, Any], call: Call, outcome: Outcome) -> None:
    reading = call.reading
    if reading.service_tier:
        attributes[_TIER] = reading.service_tier
    for name in ("processing", "speed"):
        value = outcome.context.get(name)
        if value:
            attributes[_ATTRIBUTE[name]] = value
    reasons = _finish_reasons(call)
    if reasons:
        attributes[semconv.RESPONSE_FINISH_REASONS] = dump_few(reasons)
    if reading.processed is not None:
        for name, value in reading.processed.items():
            attributes[_ATTRIBUTE[f"processed_{name}"]] = value
    if reading.tool_call_count:
        attributes[_ATTRIBUTE["tool_call_count"]] = reading.tool_call_count
    if call.chunk_count:
        attributes[_ATTRIBUTE["chunk_count"]] = call.chunk_count
    if call.attempts:
        last = call.attempts[-1]
        if last.status is not None:
            attributes[semconv.HTTP_RESPONSE_STATUS_CODE] = last.status
        if last.request_id:
            attributes[_ATTRIBUTE["request_id"]] = last.request_id
    if len(call.attempts) != 1:
        attributes[_ATTRIBUTE["attempt_count"]] = len(call.attempts)
    if len(call.attempts) > 1:
        attributes[_ATTRIBUTE["attempts"]] = dump([_attempt(attempt) for attempt in call.attempts])


def _attempt(attempt: Attempt) -> dict[str, Any]:
    told = {
        "status": attempt.status,
        "seconds": (attempt.end_ns - attempt.start_ns) / 1e9 if attempt.end_ns is not None else None,
        "request_id": attempt.request_id,
        "error_type": attempt.error_type,
    }
    return {name: value for name, value in told.items() if value is not None}


def _put_provenance(attributes: dict[str, Any], outcome: Outcome) -> None:
    if outcome.others:
        attributes[_ATTRIBUTE["usage"]] = dump(
            [
                {"model": usage.model or outcome.model, "buckets": {k: _number(v) for k, v in usage.buckets.items()}}
                for usage in outcome.usages
            ]
        )
    if outcome.reported_pico is not None:
        attributes[_ATTRIBUTE["reported_cost"]] = outcome.reported_pico
    cost = outcome.cost
    if cost is None:
        return
    if cost.effective_pico is not None:
        attributes[_COST] = cost.effective_pico
        if cost.list_pico != cost.effective_pico:
            attributes[_LIST_COST] = cost.list_pico
    if cost.book_id:
        attributes[_BOOK_ID] = cost.book_id
    if cost.reasons:
        attributes[_ATTRIBUTE["cost_reasons"]] = dump_few(cost.reasons)
    context = outcome.context
    if context and not (len(context) == 1 and context.get("service_tier") == attributes.get(_TIER)):
        attributes[_ATTRIBUTE["price_context"]] = _dump_context(context)


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


def cost_key(call: Call, outcome: Outcome) -> tuple[Any, ...]:
    """Values of `COST_LABELS`, in their order; None is absent. Empty for a call without a cost."""
    cost = outcome.cost
    if cost is None or cost.effective_pico is None:
        return ()
    prepared = call.prepared
    get = call.attributes.get
    return (
        *[get(name) for name in _OWNER_LABELS],
        prepared.target.provider,
        prepared.dialect.operation,
        outcome.model,
        prepared.target.account,
        call.reading.service_tier,
        cost.status,
        call.status,
        outcome.source,
    )
