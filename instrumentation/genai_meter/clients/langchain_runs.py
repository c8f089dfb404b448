"""Runs of LangChain's chat models, and the spans that other instrumentations keep for them.

Instrumentations that follow LangChain's callbacks (OpenInference, OpenLLMetry) find their span by the run, and make it
current nowhere. The manager of a run knows them; `invoke` hands it on to what sends, `stream` does not. So it is noted
where a run begins, in the context that sends next.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any, Final

from opentelemetry.trace import Span

from genai_meter import interop
from genai_meter.clients.patches import Patches
from genai_meter.safety import guarded

MANAGERS: Final = "langchain_core.callbacks.manager"
"""The module of the managers; who uses them has imported it."""

_begun: Final[ContextVar[weakref.ref[Any] | None]] = ContextVar("genai_meter.langchain.run", default=None)
"""The manager of the run that began last, for as long as LangChain holds it."""


def follow(patches: Patches) -> None:
    """Note each run of a chat model that begins."""
    module = sys.modules.get(MANAGERS)
    for owner, make in (("CallbackManager", _sync), ("AsyncCallbackManager", _async)):
        found = getattr(module, owner, None)
        if found is not None:
            patches.put(found, "on_chat_model_start", make)


def _sync(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def on_chat_model_start(*args: Any, **kwargs: Any) -> Any:
        runs = original(*args, **kwargs)
        guarded(_note, runs)
        return runs

    return on_chat_model_start


def _async(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def on_chat_model_start(*args: Any, **kwargs: Any) -> Any:
        runs = await original(*args, **kwargs)
        guarded(_note, runs)
        return runs

    return on_chat_model_start


def _note(runs: list[Any]) -> None:
    # Which of several asks next is told with the arguments.
    _begun.set(weakref.ref(runs[0]) if len(runs) == 1 else None)


def span_of(run: Any) -> Span | None:
    """The span that is kept for a run, or for the one that began last here, and that no call has claimed."""
    if run is None:
        begun = _begun.get()
        run = begun() if begun is not None else None
    for handler in getattr(run, "handlers", ()):
        span = guarded(_kept_by, handler, run.run_id)
        if isinstance(span, Span) and span.is_recording() and interop.CLAIMED not in getattr(span, "attributes", ()):
            return span
    return None


def _kept_by(handler: Any, run_id: Any) -> Any:
    if hasattr(handler, "get_span"):
        # OpenInference.
        return handler.get_span(run_id)
    # OpenLLMetry.
    spans = getattr(handler, "spans", None)
    return getattr(spans.get(run_id), "span", None) if isinstance(spans, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
