"""OpenAI Agents SDK: its current trace and spans, which it keeps whether or not they are exported anywhere.

trace               workflow, run; its group: conversation
agent span          agent
function span       tool
custom span         step
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any, Final
from weakref import WeakKeyDictionary

from genai_meter.clients.patches import Patches
from genai_meter.frameworks import frames
from genai_meter.frameworks.frames import Frame
from genai_meter.safety import guarded, logger

SCOPE: Final = "agents.tracing.scope"
PROVIDER: Final = "agents.tracing.provider"
PROVIDERS: Final = ("DefaultTraceProvider", "TraceProvider")
"""The class that makes traces; old versions have only the second."""
DISABLED: Final = "no-op"
"""Id of every trace and span that is not recorded."""

_FIELD: Final = {"agent": "agent", "function": "tool", "custom": "step"}
"""Type of a span → field of attribution that its name is."""


class Seam:
    """Reads the scope; notes what each trace was created for, because one that is disabled does not say."""

    def __init__(self, package: str) -> None:
        self.package = package
        self._scope: Any = None
        self._patches = Patches()

    def install(self, module: ModuleType) -> None:
        """`agents.tracing.scope` and `agents.tracing.provider`."""
        if module.__name__ == SCOPE and self._scope is None:
            self._scope = getattr(module, "Scope", None)
            if not hasattr(self._scope, "get_current_span"):
                logger.warning("genai_meter: %s is installed but tells no context: no Scope", self.package)
                return
            frames.add_source(self._current)
        elif module.__name__ == PROVIDER:
            providers = (getattr(module, name, object) for name in PROVIDERS)
            owner = next((owner for owner in providers if "create_trace" in vars(owner)), object)
            self._patches.put(owner, "create_trace", _create_trace)

    def remove(self) -> None:
        """Put the original back."""
        frames.remove_source(self._current)
        self._scope = None
        self._patches.remove()

    def _current(self) -> Frame | None:
        if self._scope is None:
            return None
        trace = self._scope.get_current_trace()
        if trace is None:
            return None
        frame = _traces.get(trace) or _frame_of(trace, trace.name, trace.trace_id, getattr(trace, "group_id", None))
        for span in reversed(_spans(self._scope.get_current_span())):
            data = span.span_data
            field = _FIELD.get(data.type)
            name = getattr(data, "name", None)
            # A disabled run is wrapped in a custom span of the SDK's own.
            if field is not None and name and not (field == "step" and span.span_id == DISABLED):
                frame = Frame(frame, **{field: name})
        return frame


_traces: Final[WeakKeyDictionary[Any, Frame]] = WeakKeyDictionary()


def _frame_of(trace: Any, name: Any, run_id: Any, group_id: Any) -> Frame:
    frame = _traces[trace] = Frame(None, "trace", workflow=name, run_id=run_id, conversation_id=group_id)
    return frame


def _create_trace(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def create_trace(provider: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        trace = original(provider, name, *args, **kwargs)
        guarded(_created, trace, name, args, kwargs)
        return trace

    return create_trace


def _created(trace: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    given = {**dict(zip(("trace_id", "group_id"), args, strict=False)), **kwargs}
    disabled = trace.trace_id == DISABLED
    run_id = given.get("trace_id") or (f"trace_{uuid.uuid4().hex}" if disabled else trace.trace_id)
    _frame_of(trace, name, run_id, given.get("group_id"))


def _spans(span: Any) -> list[Any]:
    """The current span and those around it, innermost first."""
    found: list[Any] = []
    while hasattr(span, "span_data") and len(found) < 64:
        found.append(span)
        token = getattr(span, "_prev_span_token", None)
        span = getattr(token, "old_value", None)
    return found
