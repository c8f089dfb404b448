"""The attributes that any normaliser reads. Parsers look at nothing else, so content stays outside."""

from __future__ import annotations

from typing import Final

from genai_meter import schema, semconv
from genai_meter.usage import BUCKETS

EVENT_DETAILS: Final = "gen_ai.client.inference.operation.details"
"""The conventions' own event, with the attributes of the span."""

EVENTS: Final = frozenset({semconv.EVENT_USAGE, semconv.EVENT_COST, semconv.EVENT_OUTCOME, EVENT_DETAILS})

EVENT_NAME_ATTRIBUTE: Final = "event.name"
"""Where the event name was before it became a field of the log record."""

OWN: Final = (
    frozenset(f.attribute for f in schema.FIELDS)
    | {semconv.USAGE_PREFIX + bucket for bucket in BUCKETS}
    | {semconv.COST_WHAT, semconv.COST_QUANTITY, semconv.COST_UNIT}
    | {semconv.OUTCOME_ID, semconv.OUTCOME_NAME, semconv.OUTCOME_SUCCESS, semconv.OUTCOME_VALUE}
)

OTEL_GENAI: Final = frozenset(
    {
        semconv.SYSTEM,
        semconv.USAGE_CACHE_CREATION_INPUT_TOKENS,
        semconv.OPENAI_REQUEST_SERVICE_TIER,
        semconv.OPENAI_RESPONSE_SERVICE_TIER,
        semconv.USAGE_COST_AMOUNT,
        semconv.USAGE_COST_CURRENCY,
        semconv.USAGE_COST_SOURCE,
        "gen_ai.usage.prompt_tokens",
        "gen_ai.usage.completion_tokens",
        "gen_ai.usage.total_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "gen_ai.usage.reasoning_tokens",
        "llm.usage.total_tokens",
        "llm.usage.cache_read_input_tokens",
        "llm.usage.cache_creation_input_tokens",
        "llm.usage.reasoning_tokens",
        "llm.request.type",
        "gen_ai.openai.request.service_tier",
        "gen_ai.openai.response.service_tier",
        "traceloop.span.kind",
        "deployment.environment",
    }
)

OPENINFERENCE: Final = frozenset(
    {
        "openinference.span.kind",
        "llm.model_name",
        "llm.provider",
        "llm.system",
        "llm.token_count.prompt",
        "llm.token_count.completion",
        "llm.token_count.total",
        "llm.token_count.prompt_details.cache_read",
        "llm.token_count.prompt_details.cache_write",
        "llm.token_count.completion_details.reasoning",
        "embedding.model_name",
    }
)

WANTED: Final = OWN | OTEL_GENAI | OPENINFERENCE

WANTED_RESOURCE: Final = frozenset(f.attribute for f in schema.FIELDS) | {"deployment.environment", "service.namespace"}
