"""Attributes of the span and of the usage event."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from genai_meter import identity, interop, schema, semconv
from genai_meter.pricing.cost import PICO
from genai_meter.usage import BUCKETS

if TYPE_CHECKING:
    from genai_meter.call import Attempt, Call
    from genai_meter.pricing import Line
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

_API_TYPES: Final = {"openai_chat": "chat_completions", "openai_responses": "responses"}


def dump(value: Any) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


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


def span_only(call: Call) -> dict[str, Any]:
    """Parameters of the request that only the span carries."""
    prepared = call.prepared
    request, dialect = prepared.request, prepared.dialect
    choices = request.choice_count
    told: dict[str, Any] = {
        semconv.SERVER_PORT: prepared.target.port,
        semconv.REQUEST_TEMPERATURE: request.temperature,
        semconv.REQUEST_TOP_P: request.top_p,
        semconv.REQUEST_TOP_K: request.top_k,
        semconv.REQUEST_SEED: request.seed,
        semconv.REQUEST_FREQUENCY_PENALTY: request.frequency_penalty,
        semconv.REQUEST_PRESENCE_PENALTY: request.presence_penalty,
        semconv.REQUEST_CHOICE_COUNT: choices if choices != 1 else None,
        semconv.REQUEST_REASONING_LEVEL: request.reasoning_level,
        semconv.OUTPUT_TYPE: request.output_type,
        semconv.REQUEST_PREVIOUS_RESPONSE_ID: request.previous_response_id,
        semconv.EMBEDDINGS_DIMENSION_COUNT: request.embedding_dimensions,
        semconv.OPENAI_API_TYPE: _API_TYPES.get(dialect.name),
    }
    if request.encoding_format:
        told[semconv.REQUEST_ENCODING_FORMATS] = [request.encoding_format]
    if request.service_tier != "auto" and dialect.name in _API_TYPES:
        told[semconv.OPENAI_REQUEST_SERVICE_TIER] = request.service_tier
    return {name: value for name, value in told.items() if value is not None}


# --- at the end -------------------------------------------------------------------------------------
def at_end(call: Call, outcome: Outcome) -> dict[str, Any]:
    """What span and event both say of the answer, its usage and its cost."""
    reading = call.reading
    attributes: dict[str, Any] = {_STATUS: call.status, _USAGE_SOURCE: outcome.source}
    if reading.response_id:
        attributes[semconv.RESPONSE_ID] = reading.response_id[:_LONGEST]
    if reading.model:
        attributes[semconv.RESPONSE_MODEL] = reading.model[:_LONGEST]
    if call.error_type:
        attributes[semconv.ERROR_TYPE] = call.error_type
    if call.first_chunk_ns is not None:
        attributes[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] = (call.first_chunk_ns - call.start_ns) / 1e9
    if call.attempts and call.attempts[-1].status is not None:
        attributes[semconv.HTTP_RESPONSE_STATUS_CODE] = call.attempts[-1].status
    if outcome.source != "unknown":
        _put_buckets(attributes, outcome.own)
    _put_cost(attributes, outcome)
    return attributes


def _put_buckets(attributes: dict[str, Any], buckets: Mapping[str, Quantity]) -> None:
    for bucket, quantity in buckets.items():
        if quantity:
            attributes[_BUCKET[bucket]] = quantity if type(quantity) is int else float(quantity)


def _put_cost(attributes: dict[str, Any], outcome: Outcome) -> None:
    cost = outcome.cost
    if cost is not None:
        attributes[_COST_STATUS] = cost.status
        if cost.effective_pico is not None:
            attributes[_COST] = cost.effective_pico
        if cost.list_pico is not None:
            attributes[_LIST_COST] = cost.list_pico
        if cost.book_id:
            attributes[_BOOK_ID] = cost.book_id


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
    if outcome.exact_output or estimates:
        attributes[semconv.USAGE_OUTPUT_TOKENS] = outcome.output_tokens
        if outcome.reasoning_tokens:
            attributes[semconv.USAGE_REASONING_OUTPUT_TOKENS] = outcome.reasoning_tokens


def span_at_end(call: Call, outcome: Outcome, shared: Mapping[str, Any]) -> dict[str, Any]:
    """What the span says at its end."""
    reading, dialect = call.reading, call.prepared.dialect
    attributes = dict(shared)
    put_tokens(attributes, outcome, estimates=False)
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
        **call.attributes,
        **shared,
        _ATTRIBUTE["start"]: call.start_ns,
        _ATTRIBUTE["end"]: call.end_ns,
        _ATTRIBUTE["attempt_count"]: len(call.attempts),
        _ATTRIBUTE["estimated_input_tokens"]: outcome.estimated_input,
        _ATTRIBUTE["estimated_output_tokens"]: outcome.estimated_output,
    }
    put_tokens(attributes, outcome, estimates=True)
    _put_target(attributes, call)
    _put_request(attributes, call)
    _put_answer(attributes, call, outcome)
    _put_provenance(attributes, outcome)
    _put_guard(attributes, call)
    if call.span is not None and not call.span_is_ours:
        attributes[_ATTRIBUTE["span_scope"]] = interop.scope(call.span)
        attributes[_ATTRIBUTE["span_complete"]] = call.span_complete
    return attributes


def _put_target(attributes: dict[str, Any], call: Call) -> None:
    target = call.prepared.target
    attributes[_SDK] = target.sdk
    if target.region:
        attributes[semconv.CLOUD_REGION] = target.region
    if target.account:
        attributes[_ATTRIBUTE["account"]] = target.account
    if target.deployment:
        attributes[_ATTRIBUTE["deployment"]] = target.deployment
    if target.api_key:
        fingerprint = identity.fingerprint(target.api_key)
        if fingerprint:
            attributes[_ATTRIBUTE["api_key"]] = fingerprint


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
        attributes[_ATTRIBUTE["input_chars"]] = dump(request.chars_by_role)
    for name, value in prepared.hashes.items():
        attributes[_ATTRIBUTE[name]] = value


def _put_answer(attributes: dict[str, Any], call: Call, outcome: Outcome) -> None:
    reading = call.reading
    if reading.service_tier:
        attributes[_ATTRIBUTE["tier"]] = reading.service_tier
    for name in ("processing", "speed"):
        value = outcome.context.get(name)
        if value:
            attributes[_ATTRIBUTE[name]] = value
    reasons = _finish_reasons(call)
    if reasons:
        attributes[semconv.RESPONSE_FINISH_REASONS] = dump(reasons)
    if reading.tool_call_count:
        attributes[_ATTRIBUTE["tool_call_count"]] = reading.tool_call_count
    if call.chunk_count:
        attributes[_ATTRIBUTE["chunk_count"]] = call.chunk_count
    if call.attempts and call.attempts[-1].request_id:
        attributes[_ATTRIBUTE["request_id"]] = call.attempts[-1].request_id
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
    if outcome.context_ratio is not None:
        attributes[_ATTRIBUTE["context_ratio"]] = outcome.context_ratio
    if outcome.reported_pico is not None:
        attributes[_ATTRIBUTE["reported_cost"]] = outcome.reported_pico
    cost = outcome.cost
    if cost is None:
        return
    if cost.reasons:
        attributes[_ATTRIBUTE["cost_reasons"]] = dump(cost.reasons)
    if outcome.context:
        attributes[_ATTRIBUTE["price_context"]] = dump(dict(outcome.context))
    lines = cost.lines
    if lines:
        attributes[_ATTRIBUTE["cost_lines"]] = cost_lines(lines)


def _number(quantity: Quantity) -> int | float:
    return float(quantity) if isinstance(quantity, Decimal) else quantity


_line_heads: dict[tuple[Any, ...], str] = {}


def cost_lines(lines: Iterable[Line]) -> str:
    """Cost lines as JSON, one object a line, keys as in `Line`."""
    parts: list[str] = []
    for line in lines:
        key = (line.model, line.bucket, line.rate, line.per, line.entries)
        head = _line_heads.get(key)
        if head is None:
            if len(_line_heads) >= 1000:
                _line_heads.clear()
            told = dict(zip(("model", "bucket", "rate", "per", "entries"), key, strict=True))
            head = _line_heads[key] = dump(told)[:-1]
        quantity = line.quantity if type(line.quantity) is int else f'"{line.quantity:f}"'
        parts.append(
            f'{head},"quantity":{quantity},"list_pico":{line.list_pico},"effective_pico":{line.effective_pico}}}'
        )
    return f"[{','.join(parts)}]"


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
_COST_LABELS: Final = tuple(f.attribute for f in schema.ATTRIBUTION if f.label)


def cost_labels(call: Call, outcome: Outcome) -> dict[str, Any]:
    """Attributes of the cost counters: the fields of the schema that may be labels."""
    attributes = {name: call.attributes[name] for name in _COST_LABELS if name in call.attributes}
    attributes[semconv.PROVIDER_NAME] = call.prepared.target.provider
    attributes[semconv.OPERATION_NAME] = call.prepared.dialect.operation
    if outcome.model:
        attributes[semconv.RESPONSE_MODEL] = outcome.model[:_LONGEST]
    if call.prepared.target.account:
        attributes[_ATTRIBUTE["account"]] = call.prepared.target.account
    if call.reading.service_tier:
        attributes[_ATTRIBUTE["tier"]] = call.reading.service_tier
    if outcome.cost is not None:
        attributes[_COST_STATUS] = outcome.cost.status
    attributes[_STATUS] = call.status
    attributes[_USAGE_SOURCE] = outcome.source
    return attributes
