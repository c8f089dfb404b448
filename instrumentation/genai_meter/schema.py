"""The usage event: every field, once. One ledger column each.

A field says where it travels (attribute of the `genai_meter.usage` log record or of its resource),
whether it may become a metric label, and whether it may be carried to other processes by baggage.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from genai_meter import semconv

Kind: TypeAlias = Literal["text", "int", "float", "bool", "time", "json", "pico_usd"]
"""`time`: Unix nanoseconds, UTC. `json`: JSON text. `pico_usd`: integer 1e-12 USD (an int64 on the wire)."""

Group: TypeAlias = Literal[
    "identity", "time", "process", "attribution", "request", "response", "usage", "cost", "guard"
]


class Field(NamedTuple):
    """One field of the usage event."""

    name: str
    """Column of the ledger, key of configuration and of `attribute(...)`."""
    attribute: str
    """Attribute that carries it over OTLP."""
    kind: Kind
    group: Group
    doc: str
    label: bool = False
    """May be a metric label (its values are bounded)."""
    baggage: bool = False
    """May travel in W3C baggage, when the configured allow-list has it."""
    resource: bool = False
    """Read from the resource when the record itself does not carry it."""


FIELDS: Final[tuple[Field, ...]] = (
    # --- identity
    Field("call_id", "genai_meter.call.id", "text", "identity", "UUIDv7 of the call: the ledger's primary key"),
    Field("schema_version", "genai_meter.schema_version", "text", "identity", "Version of this schema"),
    Field("trace_id", "genai_meter.trace.id", "text", "identity", "Trace of the inference span, hex"),
    Field("span_id", "genai_meter.span.id", "text", "identity", "The inference span the event belongs to, hex"),
    Field("span_scope", "genai_meter.span.scope", "text", "identity", "Scope of that span, when another made it"),
    Field(
        "span_complete",
        "genai_meter.span.complete",
        "bool",
        "identity",
        "False when another's span had ended before the call did: it lacks cost and call id",
    ),
    Field("source", "genai_meter.source", "text", "identity", "Producer the record came from"),
    Field("source_rank", "genai_meter.source.rank", "int", "identity", "How good the source is; the lower rank wins"),
    Field("revision", "genai_meter.revision", "int", "identity", "0 at first; re-pricing adds revisions"),
    Field("links", "genai_meter.links", "json", "identity", "Ids of other records of the same call, never added"),
    # --- time
    Field("start", "genai_meter.start", "time", "time", "Entry into the client library"),
    Field("end", "genai_meter.end", "time", "time", "Last byte, error, close or drop"),
    Field("time_to_first_chunk", semconv.RESPONSE_TIME_TO_FIRST_CHUNK, "float", "time", "Seconds, streams only"),
    # --- process
    Field("service", semconv.SERVICE_NAME, "text", "process", "Service that made the call", label=True, resource=True),
    Field("version", semconv.SERVICE_VERSION, "text", "process", "Version of the service", resource=True),
    Field(
        "environment",
        semconv.DEPLOYMENT_ENVIRONMENT_NAME,
        "text",
        "process",
        "dev, staging, prod …",
        label=True,
        resource=True,
    ),
    Field("instance", semconv.SERVICE_INSTANCE_ID, "text", "process", "Instance of the service", resource=True),
    # --- attribution: who pays
    Field("tenant", "genai_meter.tenant", "text", "attribution", "Customer the call is for", label=True, baggage=True),
    Field("tenant_segment", "genai_meter.tenant.segment", "text", "attribution", "Plan or size class", baggage=True),
    Field("team", "genai_meter.team", "text", "attribution", "Team that owns the spend", label=True, baggage=True),
    Field("project", "genai_meter.project", "text", "attribution", "Project or cost centre", label=True, baggage=True),
    Field("feature", "genai_meter.feature", "text", "attribution", "Product feature", label=True, baggage=True),
    Field("route", "genai_meter.route", "text", "attribution", "Route or job that led to the call", baggage=True),
    Field("owner", "genai_meter.owner", "text", "attribution", "Who is asked about the spend", baggage=True),
    Field("user", semconv.USER_ID, "text", "attribution", "End user; hashed when configured", baggage=True),
    Field("user_tier", "genai_meter.user.tier", "text", "attribution", "free, pro, enterprise …", baggage=True),
    Field("priority", "genai_meter.priority", "text", "attribution", "Of the request", baggage=True),
    Field("criticality", "genai_meter.criticality", "text", "attribution", "Of the feature", baggage=True),
    Field("workflow", semconv.WORKFLOW_NAME, "text", "attribution", "Workflow name", label=True, baggage=True),
    Field("run_id", "genai_meter.run.id", "text", "attribution", "One run of the workflow", baggage=True),
    Field("parent_run_id", "genai_meter.run.parent_id", "text", "attribution", "The run that started it", baggage=True),
    Field("step", "genai_meter.step", "text", "attribution", "Step or stage in the run", baggage=True),
    Field("agent", semconv.AGENT_NAME, "text", "attribution", "Agent name", baggage=True),
    Field("tool", "genai_meter.tool", "text", "attribution", "Tool that made the call", baggage=True),
    Field("conversation_id", semconv.CONVERSATION_ID, "text", "attribution", "A real conversation id", baggage=True),
    Field("session_id", semconv.SESSION_ID, "text", "attribution", "User session", baggage=True),
    Field("experiment", "genai_meter.experiment", "text", "attribution", "Experiment name", baggage=True),
    Field("variant", "genai_meter.experiment.variant", "text", "attribution", "Experiment variant", baggage=True),
    Field("prompt_name", semconv.PROMPT_NAME, "text", "attribution", "Prompt template", baggage=True),
    Field("prompt_version", semconv.PROMPT_VERSION, "text", "attribution", "Version of the template", baggage=True),
    Field("release", "genai_meter.release", "text", "attribution", "Release the caller belongs to", baggage=True),
    # --- request
    Field("provider", semconv.PROVIDER_NAME, "text", "request", "Who is paid", label=True),
    Field("id_family", "genai_meter.id_family", "text", "request", "Name space of the response id"),
    Field("operation", semconv.OPERATION_NAME, "text", "request", "chat, embeddings …", label=True),
    Field("host", semconv.SERVER_ADDRESS, "text", "request", "Host called"),
    Field("region", semconv.CLOUD_REGION, "text", "request", "Region or geography that served"),
    Field("account", "genai_meter.provider.account", "text", "request", "Account, project or workspace", label=True),
    Field("deployment", "genai_meter.deployment", "text", "request", "Deployment or inference profile"),
    Field("api_key", "genai_meter.api_key.fingerprint", "text", "request", "HMAC fingerprint of the API key"),
    Field("sdk", "genai_meter.sdk", "text", "request", "Client library and class"),
    Field("request_model", semconv.REQUEST_MODEL, "text", "request", "Model asked for"),
    Field("model", semconv.RESPONSE_MODEL, "text", "response", "Model that served", label=True),
    Field("request_tier", "genai_meter.request.tier", "text", "request", "Service tier asked for"),
    Field("tier", "genai_meter.tier", "text", "response", "Service tier that served", label=True),
    Field("processing", "genai_meter.processing", "text", "request", "`batch` when a batch API"),
    Field("speed", "genai_meter.speed", "text", "response", "`fast` when the provider's fast mode"),
    Field("stream", semconv.REQUEST_STREAM, "bool", "request", "Streamed"),
    Field("max_tokens", semconv.REQUEST_MAX_TOKENS, "int", "request", "Bound on output tokens"),
    Field("message_count", "genai_meter.request.messages", "int", "request", "Messages in the request"),
    Field("tool_count", "genai_meter.request.tools", "int", "request", "Tools offered"),
    Field("input_chars", "genai_meter.request.chars", "json", "request", "Characters of text by role"),
    Field("system_hash", "genai_meter.request.system_hash", "text", "request", "Keyed hash of the system prompt"),
    Field("request_hash", "genai_meter.request.hash", "text", "request", "Keyed hash of the request"),
    # --- response
    Field("response_id", semconv.RESPONSE_ID, "text", "response", "Provider's id of the answer"),
    Field("request_id", "genai_meter.request.id", "text", "response", "Provider's id of the HTTP exchange"),
    Field("finish_reasons", semconv.RESPONSE_FINISH_REASONS, "json", "response", "One per choice"),
    Field("status", "genai_meter.status", "text", "response", "ok, error, cancelled, closed_early …", label=True),
    Field("error_type", semconv.ERROR_TYPE, "text", "response", "Type or code of the error"),
    Field("http_status", semconv.HTTP_RESPONSE_STATUS_CODE, "int", "response", "Of the last attempt"),
    Field("attempt_count", "genai_meter.attempts.count", "int", "response", "HTTP exchanges; retries = attempts - 1"),
    Field("attempts", "genai_meter.attempts", "json", "response", "Status, latency and error of each, when several"),
    Field("tool_call_count", "genai_meter.response.tool_calls", "int", "response", "Tool calls in the answer"),
    Field("chunk_count", "genai_meter.response.chunks", "int", "response", "Chunks of the stream the caller was given"),
    # --- usage
    Field(
        "usage",
        "genai_meter.usage.models",
        "json",
        "usage",
        "Buckets by model; on the wire `genai_meter.usage.<bucket>`, or the inclusive counts where they tell as much",
    ),
    Field("usage_source", "genai_meter.usage.source", "text", "usage", "provider, estimated or unknown", label=True),
    Field("input_tokens", semconv.USAGE_INPUT_TOKENS, "int", "usage", "Gross input tokens"),
    Field("output_tokens", semconv.USAGE_OUTPUT_TOKENS, "int", "usage", "Gross output tokens"),
    Field("cache_read_tokens", semconv.USAGE_CACHE_READ_INPUT_TOKENS, "int", "usage", "Part of the input"),
    Field("cache_write_tokens", semconv.USAGE_CACHE_WRITE_INPUT_TOKENS, "int", "usage", "Part of the input"),
    Field("reasoning_tokens", semconv.USAGE_REASONING_OUTPUT_TOKENS, "int", "usage", "Part of the output"),
    Field(
        "estimated_input_tokens", "genai_meter.estimate.input_tokens", "int", "usage", "Cheap estimate beside the count"
    ),
    Field(
        "estimated_output_tokens",
        "genai_meter.estimate.output_tokens",
        "int",
        "usage",
        "Cheap estimate beside the count",
    ),
    Field("processed_input_tokens", "genai_meter.processed.input_tokens", "int", "usage", "Read, where not billed so"),
    Field("processed_output_tokens", "genai_meter.processed.output_tokens", "int", "usage", "Generated, likewise"),
    Field("processed_cache_read_tokens", "genai_meter.processed.cache_read_tokens", "int", "usage", "Cached, likewise"),
    Field(
        "context_ratio", "genai_meter.context_window.ratio", "float", "usage", "Input + output over the model's window"
    ),
    # --- cost
    Field(
        "cost_status",
        "genai_meter.cost.status",
        "text",
        "cost",
        "exact, estimated, partial, unpriced, free",
        label=True,
    ),
    Field("cost_reasons", "genai_meter.cost.reasons", "json", "cost", "Why the status is not exact"),
    Field("list_cost", "genai_meter.cost.list", "pico_usd", "cost", "At list price; absent when unpriced"),
    Field("cost", "genai_meter.cost.effective", "pico_usd", "cost", "After discounts; absent when unpriced"),
    Field("cost_lines", "genai_meter.cost.lines", "json", "cost", "Bucket × rate lines with their price source"),
    Field(
        "price_context",
        "genai_meter.price.context",
        "json",
        "cost",
        "Price dimensions the call was priced with (service_tier, processing, speed, inference_geo, region …), so that "
        "the exporter prices the same call; absent when there is none",
    ),
    Field("book_id", "genai_meter.cost.book", "text", "cost", "Price book the cost was computed from"),
    Field(
        "app_cost",
        "genai_meter.cost.application",
        "pico_usd",
        "cost",
        "What the application computed; the ledger keeps both",
    ),
    Field("app_book_id", "genai_meter.cost.application_book", "text", "cost", "The application's price book"),
    Field("reported_cost", "genai_meter.cost.reported", "pico_usd", "cost", "What the provider itself reported"),
    Field("cache_hit", "genai_meter.cache_hit", "bool", "cost", "Answered from the application's own cache"),
    Field("cost_avoided", "genai_meter.cost.avoided", "pico_usd", "cost", "What a cache hit did not cost"),
    Field("retrieved_documents", "genai_meter.retrieval.documents", "int", "cost", "Documents retrieved for the call"),
    # --- guard
    Field(
        "guard_action", "genai_meter.guard.action", "text", "guard", "allow, degrade, reroute, queue, block", label=True
    ),
    Field("guard_rule", "genai_meter.guard.rule", "text", "guard", "Rule that decided"),
    Field("policy_version", "genai_meter.guard.policy_version", "text", "guard", "Version of the policy"),
    Field("original_model", "genai_meter.guard.original_model", "text", "guard", "Model before the guard changed it"),
    Field("reserved", "genai_meter.guard.reserved", "pico_usd", "guard", "Reserved before the call"),
    Field("settled", "genai_meter.guard.settled", "pico_usd", "guard", "Settled after the call"),
)

BY_NAME: Final = {f.name: f for f in FIELDS}
BY_ATTRIBUTE: Final = {f.attribute: f for f in FIELDS}
ATTRIBUTION: Final = tuple(f for f in FIELDS if f.group == "attribution")
"""What `attribute(...)` accepts."""
