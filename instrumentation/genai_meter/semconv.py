"""Every attribute, metric and event name, once.

Names of the OpenTelemetry GenAI conventions as of open-telemetry/semantic-conventions-genai
(Development; no release yet). They are own constants because `opentelemetry.semconv._incubating`
is frozen at the deprecated set. `genai_meter.*` is ours, where no convention exists.
"""

from __future__ import annotations

from typing import Final

# --- gen_ai: the call -------------------------------------------------------------------------
OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
SYSTEM: Final = "gen_ai.system"
"""The old name of `gen_ai.provider.name` (conventions ≤ 1.36); read, never written."""
CONVERSATION_ID: Final = "gen_ai.conversation.id"
OUTPUT_TYPE: Final = "gen_ai.output.type"
AGENT_NAME: Final = "gen_ai.agent.name"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
PROMPT_NAME: Final = "gen_ai.prompt.name"
PROMPT_VERSION: Final = "gen_ai.prompt.version"

REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
REQUEST_REASONING_LEVEL: Final = "gen_ai.request.reasoning.level"
REQUEST_PREVIOUS_RESPONSE_ID: Final = "gen_ai.request.previous_response.id"
REQUEST_ENCODING_FORMATS: Final = "gen_ai.request.encoding_formats"
EMBEDDINGS_DIMENSION_COUNT: Final = "gen_ai.embeddings.dimension.count"

RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"

OPENAI_API_TYPE: Final = "openai.api.type"
OPENAI_REQUEST_SERVICE_TIER: Final = "openai.request.service_tier"
OPENAI_RESPONSE_SERVICE_TIER: Final = "openai.response.service_tier"
OPENAI_RESPONSE_SYSTEM_FINGERPRINT: Final = "openai.response.system_fingerprint"

# --- gen_ai: usage, inclusive as the conventions want it ------------------------------------------
USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_WRITE_INPUT_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
USAGE_CACHE_CREATION_INPUT_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
"""The old name of `cache_write`; read, never written."""
USAGE_REASONING_OUTPUT_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
USAGE_MODALITY_INPUT_TOKENS: Final = "gen_ai.usage.{modality}.input_tokens"
USAGE_MODALITY_OUTPUT_TOKENS: Final = "gen_ai.usage.{modality}.output_tokens"

# Open proposal semantic-conventions-genai#443.
USAGE_COST_AMOUNT: Final = "gen_ai.usage.cost.amount"
USAGE_COST_CURRENCY: Final = "gen_ai.usage.cost.currency"
USAGE_COST_SOURCE: Final = "gen_ai.usage.cost.source"

TOKEN_TYPE: Final = "gen_ai.token.type"
TOKEN_MODALITY: Final = "gen_ai.token.modality"

# --- general names ----------------------------------------------------------------------------------
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
USER_ID: Final = "user.id"
SESSION_ID: Final = "session.id"
DEPLOYMENT_ENVIRONMENT_NAME: Final = "deployment.environment.name"
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
HTTP_REQUEST_RESEND_COUNT: Final = "http.request.resend_count"
SERVICE_NAME: Final = "service.name"
SERVICE_VERSION: Final = "service.version"
SERVICE_INSTANCE_ID: Final = "service.instance.id"
CLOUD_REGION: Final = "cloud.region"

# --- metrics, newest generation ---------------------------------------------------------------------
METRIC_INFERENCE_DURATION: Final = "gen_ai.client.inference.duration"
METRIC_INFERENCE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.client.inference.time_to_first_chunk"
METRIC_INFERENCE_TIME_PER_OUTPUT_CHUNK: Final = "gen_ai.client.inference.time_per_output_chunk"
METRIC_INFERENCE_INPUT_TOKENS: Final = "gen_ai.client.inference.usage.input_tokens"
METRIC_INFERENCE_OUTPUT_TOKENS: Final = "gen_ai.client.inference.usage.output_tokens"
METRIC_INFERENCE_CACHE_READ: Final = "gen_ai.client.inference.usage.cache_read.input_tokens"
METRIC_INFERENCE_CACHE_WRITE: Final = "gen_ai.client.inference.usage.cache_write.input_tokens"
METRIC_INFERENCE_REASONING: Final = "gen_ai.client.inference.usage.reasoning.output_tokens"
METRIC_INFERENCE_OPERATION_INPUT_TOKENS: Final = "gen_ai.client.inference.operation.input_tokens"
METRIC_INFERENCE_OPERATION_OUTPUT_TOKENS: Final = "gen_ai.client.inference.operation.output_tokens"
METRIC_EMBEDDINGS_DURATION: Final = "gen_ai.client.embeddings.duration"
METRIC_EMBEDDINGS_INPUT_TOKENS: Final = "gen_ai.client.embeddings.operation.input_tokens"
METRIC_OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
"""Legacy generation for inference; in the newest one only for operations that are neither inference nor embeddings."""
METRIC_TOKEN_USAGE: Final = "gen_ai.client.token.usage"
"""Legacy generation only."""
METRIC_OPERATION_TIME_TO_FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
"""Legacy generation only."""

# --- ours -------------------------------------------------------------------------------------------
SCOPE: Final = "genai_meter"
SCHEMA_VERSION: Final = "1"

EVENT_USAGE: Final = "genai_meter.usage"
EVENT_OUTCOME: Final = "genai_meter.outcome"
EVENT_COST: Final = "genai_meter.cost"

METRIC_COST: Final = "genai_meter.cost"
"""Counter, USD: effective cost, by the attributes of `schema` that may be labels."""
METRIC_LIST_COST: Final = "genai_meter.cost.list"
"""Counter, USD: the same calls at list price, a metric of its own so that nobody sums the two."""
METRIC_UNPRICED: Final = "genai_meter.unpriced.calls"
METRIC_ESTIMATE_DRIFT: Final = "genai_meter.estimate.drift"
"""Gauge: (estimated - counted) / counted tokens of a model's latest calls: which way the estimates lean."""
METRIC_ESTIMATE_ERROR: Final = "genai_meter.estimate.error"
"""Gauge: sum of the differences over the sum of the counts: how far the estimates are off, whichever way."""
METRIC_INTERNAL_ERRORS: Final = "genai_meter.internal.errors"
METRIC_SPOOL_EVENTS: Final = "genai_meter.spool.events"
"""Counter: events of the spool by `genai_meter.spool.state`; `given_up` are lost."""
METRIC_SPOOL_SIZE: Final = "genai_meter.spool.size"
"""Gauge, bytes: the spool directory, of all its processes."""
SPOOL_STATE: Final = "genai_meter.spool.state"

COST_WHAT: Final = "genai_meter.cost.what"
"""On `genai_meter.cost`: what was paid for (`vector_search`, `storage` …)."""
COST_QUANTITY: Final = "genai_meter.cost.quantity"
COST_UNIT: Final = "genai_meter.cost.unit"
OUTCOME_ID: Final = "genai_meter.outcome.id"
"""On `genai_meter.outcome`: counted once; the application's own id (a ticket number) or a new one."""
OUTCOME_NAME: Final = "genai_meter.outcome.name"
OUTCOME_SUCCESS: Final = "genai_meter.outcome.success"
OUTCOME_VALUE: Final = "genai_meter.outcome.value"
"""What it is worth: integer 1e-12 USD."""
CODE_FUNCTION_NAME: Final = "code.function.name"
METRIC_OVERFLOW: Final = "otel.metric.overflow"
"""The OpenTelemetry name of the attribute set that everything above a cardinality limit is folded into."""

USAGE_PREFIX: Final = "genai_meter.usage."
"""`genai_meter.usage.<bucket>`: the exclusive buckets of `usage`, on the usage event."""

DURATION_BOUNDARIES: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""Seconds; advised by the conventions."""
TOKEN_BOUNDARIES: Final = (
    1,
    4,
    16,
    64,
    256,
    1024,
    4096,
    16384,
    65536,
    262144,
    1048576,
    4194304,
    16777216,
    67108864,
)
"""Tokens; advised by the conventions."""

INFERENCE_OPERATIONS: Final = frozenset({"chat", "generate_content", "text_completion"})
"""Operations that the conventions call inference; others (embeddings, moderation, image, speech …) have their own."""
