"""What our own records carry, and the events that are read."""

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
