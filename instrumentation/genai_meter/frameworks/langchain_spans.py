"""Spans that other instrumentations keep for the runs of LangChain's models.

Who follows LangChain's callbacks (OpenInference, OpenLLMetry) finds its span by the run, and makes it current nowhere.
The manager of a run knows who follows it. So the run is noted where it begins, in the context that sends next.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from types import ModuleType
from typing import Any, Final

from opentelemetry.trace import Span

from genai_meter import interop
from genai_meter.clients.patches import Patches
from genai_meter.safety import guarded

PATCHED: Final = (
    ("CallbackManager", ("on_chat_model_start", "on_llm_start")),
    ("AsyncCallbackManager", ("on_chat_model_start", "on_llm_start")),
)
"""Class of `langchain_core.callbacks.manager` and what begins the runs of a model."""

HANDLERS: Final = ("openinference.instrumentation.langchain", "opentelemetry.instrumentation.langchain")
"""Where the handlers come from that keep a span for each run; nobody else's is touched."""

_begun: Final[ContextVar[weakref.ref[Any] | None]] = ContextVar("genai_meter.langchain.run", default=None)
"""The manager of the run that began last, for as long as LangChain holds it."""


class Seam:
    """The patches of the managers."""

    def __init__(self, package: str) -> None:
        self.package = package
        self._patches: Patches | None = None

    def install(self, module: ModuleType) -> None:
        """Note each run of a model that begins; again is nothing."""
        if self._patches is not None:
            return
        self._patches = Patches()
        for (name, methods), make in zip(PATCHED, (_sync, _async), strict=True):
            for method in methods:
                if hasattr(module, name):
                    self._patches.put(getattr(module, name), method, make)
        interop.keepers.append(spans_of_run)

    def remove(self) -> None:
        """Put every original back."""
        if self._patches is not None:
            self._patches.remove()
            self._patches = None
            interop.keepers.remove(spans_of_run)


def _sync(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def on_start(*args: Any, **kwargs: Any) -> Any:
        runs = original(*args, **kwargs)
        guarded(_note, runs)
        return runs

    return on_start


def _async(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def on_start(*args: Any, **kwargs: Any) -> Any:
        runs = await original(*args, **kwargs)
        guarded(_note, runs)
        return runs

    return on_start


def _note(runs: list[Any]) -> None:
    # Which of several asks, nobody tells; nor which of them LangChain's cache answers.
    _begun.set(weakref.ref(runs[0]) if len(runs) == 1 else None)


def spans_of_run(model: str | None) -> list[Span]:
    """The spans that are kept for the run that began last here, if it is one of this model.

    The run may be another's that is still open, whose model is called by nobody that is metered: its usage is not ours.
    """
    begun = _begun.get()
    run: Any = begun() if begun is not None else None
    told: Any = getattr(run, "metadata", None) or {}
    if model is None or _bare(told.get("ls_model_name")) != _bare(model):
        return []
    spans = [guarded(_kept_by, handler, run.run_id) for handler in run.handlers]
    return [span for span in spans if isinstance(span, Span) and interop.unclaimed(span)]


def _bare(model: object) -> str:
    """Without the vendor, which routers have and some tell not (`openai/gpt-4o`)."""
    return str(model).rpartition("/")[2]


def _kept_by(handler: Any, run_id: Any) -> Any:
    if not type(handler).__module__.startswith(HANDLERS):
        return None
    if hasattr(handler, "get_span"):
        # OpenInference.
        return handler.get_span(run_id)
    # OpenLLMetry.
    return getattr(handler.spans.get(run_id), "span", None)
