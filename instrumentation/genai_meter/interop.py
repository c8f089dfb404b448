"""The inference span that another instrumentation already made for a call: found, claimed, enriched.

OpenTelemetry's genai packages, OpenLLMetry, OpenInference and the Anthropic SDK itself make their
span current before the request leaves. When the first attempt begins, the current span is looked
at: a span of this very call is enriched and no second one is made; an agent's, a tool's, a
workflow's or the application's own span becomes the parent of ours. Who follows a framework's
callbacks keeps its span, current nowhere, for the run that asks: `keepers` find it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace

from genai_meter import identity, schema, semconv
from genai_meter.safety import guarded

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from genai_meter.call import Call

_UTIL_GENAI: Final = "opentelemetry.util.genai.invocation"
_UTIL_GENAI_KEYS: Final = {
    "inference": "opentelemetry.genai.client.inference.context",
    "embeddings": "opentelemetry.genai.client.embedding.context",
}

_OPENINFERENCE_KIND: Final = "openinference.span.kind"
_OPENLLMETRY_KIND: Final = "llm.request.type"
_MODELS: Final = (semconv.REQUEST_MODEL, "llm.model_name", "embedding.model_name")
_KINDS: Final = {
    "LLM": "inference",
    "EMBEDDING": "embeddings",
    "chat": "inference",
    "completion": "inference",
    "embedding": "embeddings",
    "embeddings": "embeddings",
}
"""What OpenInference's and OpenLLMetry's own attributes call the kinds of the conventions."""

_UNNAMED: Final = ((semconv.SYSTEM, semconv.REQUEST_MODEL), ("llm.provider", "llm.model_name"))
"""Attributes of inference spans that tell their kind late or never: old conventions, OpenInference's of Bedrock."""

_ALL_CHAT: Final = frozenset({"aws.bedrock"})
"""Providers whose embeddings everybody calls chat."""

_LATE: Final = frozenset({"openinference.instrumentation.mistralai", "openinference.instrumentation.cohere"})
"""Scopes whose spans of inferences tell nothing of themselves before they end."""

_END: Final = "end"
_OURS: Final = "genai_meter."

CLAIMED: Final = schema.BY_NAME["call_id"].attribute
"""On a span: the one call it belongs to."""


keepers: Final[list[Callable[[str | None], Iterable[Span]]]] = []
"""Each finds the unclaimed inference spans that others keep for what asks this model here."""


def find(call: Call, context: Context) -> Span | None:
    """The inference span of this call and nobody else's: the current one, or one that is kept for it."""
    kind = _kind(call.prepared.dialect.operation)
    if kind is None:
        return None
    current = _current(call, context, kind)
    if not keepers or kind != "inference":
        return current
    model = call.prepared.request.model
    found = [*(() if current is None else (current,)), *(span for keeper in keepers for span in keeper(model))]
    for other in found[1:]:
        # One is enriched; who counts must know that the others tell of the same call.
        other.set_attribute(CLAIMED, identity.text(call.call_id))
    return found[0] if found else None


def unclaimed(span: Span) -> bool:
    """True for an open span that no call has claimed."""
    attributes = getattr(span, "attributes", None)
    return span.is_recording() and isinstance(attributes, Mapping) and CLAIMED not in attributes


def _current(call: Call, context: Context, kind: str) -> Span | None:
    span = trace.get_current_span(context)
    if not span.get_span_context().is_valid:
        return None
    attributes = getattr(span, "attributes", None)  # not in the API: an SDK's span has them, a proxy may
    if span.is_recording() and isinstance(attributes, Mapping):
        if kind == "inference" and CLAIMED not in attributes and scope(span) in _LATE:
            return span
        untold = kind == "embeddings" and call.prepared.target.provider in _ALL_CHAT
        kinds = (kind, "inference") if untold else (kind,)
        return span if _belongs(attributes, kinds, call.prepared.request.model) else None  # pyright: ignore[reportUnknownArgumentType]
    return span if _announced(call, context, kind) else None


def _kind(operation: str) -> str | None:
    if operation in semconv.INFERENCE_OPERATIONS:
        return "inference"
    return "embeddings" if operation == "embeddings" else None


def _belongs(attributes: Mapping[str, Any], kinds: tuple[str, ...], model: str | None) -> bool:
    if CLAIMED in attributes:
        return False
    operation = attributes.get(semconv.OPERATION_NAME)
    if operation is not None:
        found = _kind(operation)
    else:
        told = attributes.get(_OPENINFERENCE_KIND) or attributes.get(_OPENLLMETRY_KIND)
        if told is None and any(name in attributes and model in attributes for name, model in _UNNAMED):
            told = "chat"
        found = _KINDS.get(str(told))
    if found not in kinds:
        return False
    for name in _MODELS:
        asked = attributes.get(name)
        if asked is not None and model is not None:
            # Some drop the vendor prefix of a router's model (`openai/gpt-4o`).
            return str(asked) in model or model in str(asked)
    return True


def _announced(call: Call, context: Context, kind: str) -> bool:
    """An unsampled span tells nothing, but OpenTelemetry's genai packages say in the context what it is."""
    invocation = sys.modules.get(_UTIL_GENAI)
    if invocation is None:
        return False
    data = context.get(_UTIL_GENAI_KEYS[kind])
    expected = getattr(invocation, "InferenceData" if kind == "inference" else "EmbeddingData", None)
    if expected is None or not isinstance(data, expected):
        return False
    told: Any = data
    asked = told.request_model
    if CLAIMED in told.attributes or (asked is not None and asked != call.prepared.request.model):
        return False
    told.attributes[CLAIMED] = identity.text(call.call_id)
    return True


def before_end(span: Span, enrich: Callable[[], None]) -> None:
    """Run `enrich` when another instrumentation ends its span, which may be before we know the call's end."""
    end = span.end

    def ending(end_time: int | None = None) -> None:
        release(span)
        guarded(enrich)
        end(end_time)

    setattr(span, _END, ending)


def release(span: Span) -> None:
    """Undo `before_end`: the span's class has its `end` back."""
    with contextlib.suppress(AttributeError):
        delattr(span, _END)


def scope(span: Span) -> str:
    """Name of the instrumentation scope of a span, as far as it tells."""
    told = getattr(span, "instrumentation_scope", None)
    return str(getattr(told, "name", None) or "unknown")


def missing(span: Span, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What of `attributes` another's span lacks: its own account of the conventions stands, ours is added."""
    theirs = getattr(span, "attributes", None)
    if not isinstance(theirs, Mapping):
        return dict(attributes)
    return {name: value for name, value in attributes.items() if name not in theirs or name.startswith(_OURS)}
