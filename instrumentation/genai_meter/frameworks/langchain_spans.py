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

_begun: Final[ContextVar[tuple[weakref.ref[Any], ...]]] = ContextVar("genai_meter.langchain.runs", default=())
"""The managers of the runs that began last, several of a `generate`, for as long as LangChain holds them."""


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
    _begun.set(tuple(weakref.ref(run) for run in runs))


def spans_of_run() -> list[Span]:
    """The spans that are kept for the run that asks: of those that began last here, the first that has not asked."""
    for begun in _begun.get():
        run: Any = begun()
        spans = [guarded(_kept_by, handler, run.run_id) for handler in getattr(run, "handlers", ())]
        if found := [span for span in spans if isinstance(span, Span) and interop.unclaimed(span)]:
            return found
    return []


def _kept_by(handler: Any, run_id: Any) -> Any:
    if hasattr(handler, "get_span"):
        # OpenInference.
        return handler.get_span(run_id)
    # OpenLLMetry.
    spans = getattr(handler, "spans", None)
    return getattr(spans.get(run_id), "span", None) if isinstance(spans, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
