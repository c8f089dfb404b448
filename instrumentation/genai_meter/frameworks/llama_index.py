"""LlamaIndex: a span handler and an event handler at its root dispatcher, which is its own instrumentation API.

    outermost span (query engine, chat engine, workflow …)     workflow, run
    step of a workflow                                         step
    agent of a workflow                                        agent
    tool call                                                  tool
    retrieval                                                  number of documents
    tags `conversation_id` and `session_id`                    conversation, session

The current span is read from LlamaIndex's own variable. A model that is called on its own belongs to no run.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import ModuleType
from typing import Any, ClassVar, Final

from genai_meter.frameworks import frames
from genai_meter.frameworks.frames import Frame, Frames
from genai_meter.safety import guarded, logger

REQUIRED: Final = ("root_dispatcher", "span", "span_handlers", "event_handlers")
"""What the module of the instrumentation API must have."""

_ANSWERS: Final = frozenset({"LLMChatEndEvent", "LLMCompletionEndEvent"})
_ID: Final = 36
"""Characters of the UUID that a span's id ends with."""


class Seam:
    """The two handlers."""

    def __init__(self, package: str) -> None:
        self.package = package
        self._dispatcher: Any = None
        self._active: ContextVar[str | None] | None = None
        self._handlers: tuple[Any, Any] | None = None

    def install(self, module: ModuleType) -> None:
        """Add the handlers to the root dispatcher; only the first of the two names of that module counts."""
        if self._handlers is not None or not all(hasattr(module, name) for name in REQUIRED):
            return
        active = getattr(getattr(module, "span", None), "active_span_id", None)
        if not isinstance(active, ContextVar):
            logger.warning("genai_meter: %s is installed but tells no context: no active_span_id", self.package)
            return
        dispatcher = self._dispatcher = getattr(module, REQUIRED[0])
        self._active = active
        spans = _subclass(getattr(module, "span_handlers").BaseSpanHandler, _SpanHandler)  # noqa: B009
        events = _subclass(getattr(module, "event_handlers").BaseEventHandler, _EventHandler)  # noqa: B009
        self._handlers = (spans(), events())
        dispatcher.add_span_handler(self._handlers[0])
        dispatcher.add_event_handler(self._handlers[1])
        frames.add_source(self._current)

    def remove(self) -> None:
        """Take the handlers away."""
        frames.remove_source(self._current)
        if self._handlers is not None:
            for ours, there in zip(self._handlers, ("span_handlers", "event_handlers"), strict=True):
                kept = [handler for handler in getattr(self._dispatcher, there) if handler is not ours]
                setattr(self._dispatcher, there, kept)
            self._handlers = None

    def _current(self) -> Frame | None:
        span_id = None if self._active is None else self._active.get()
        return None if span_id is None else _open(span_id)


_spans: Final = Frames()


def _subclass(base: type, ours: type) -> Any:
    return type(base)(ours.__name__, (ours, base), {"__module__": __name__})


class _SpanHandler:
    """What becomes a subclass of LlamaIndex's `BaseSpanHandler`, which we do not import."""

    def span_enter(
        self, id_: str, bound_args: Any, instance: Any = None, parent_id: Any = None, tags: Any = None, **_: Any
    ) -> None:
        guarded(_begin, id_, bound_args, instance, parent_id, tags)

    def span_exit(self, id_: str, *_args: Any, **_kwargs: Any) -> None:
        guarded(_end, id_)

    def span_drop(self, id_: str, *_args: Any, **_kwargs: Any) -> None:
        guarded(_end, id_)

    def new_span(self, *_args: Any, **_kwargs: Any) -> None:
        """Not called: `span_enter` is ours."""

    def prepare_to_exit_span(self, *_args: Any, **_kwargs: Any) -> None:
        """Not called."""

    def prepare_to_drop_span(self, *_args: Any, **_kwargs: Any) -> None:
        """Not called."""


class _EventHandler:
    """What becomes a subclass of LlamaIndex's `BaseEventHandler`."""

    handles: ClassVar[frozenset[str]] = _ANSWERS | {"RetrievalEndEvent"}

    def handle(self, event: Any, **_kwargs: Any) -> None:
        kind = type(event).__name__
        if kind in self.handles:
            guarded(_happened, kind, event)


def _begin(id_: str, bound_args: Any, instance: Any, parent_id: Any, tags: Any) -> None:
    method, run_id = id_[: -_ID - 1].rpartition(".")[2], id_[-_ID:]
    made_by: Any = instance.__class__
    names = {base.__name__ for base in made_by.__mro__}
    fields: dict[str, Any] = {}
    if isinstance(tags, Mapping):
        fields = {name: tags.get(name) for name in ("conversation_id", "session_id")}  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    outer = None if parent_id is None else _open(parent_id)
    if outer is None and "NoneType" not in names and not names & {"BaseLLM", "BaseEmbedding", "LLM"}:
        fields.update(workflow=made_by.__name__, run_id=run_id)
    kind = ""
    if "Workflow" in names and method == "run":
        kind = "workflow"
    elif outer is not None and outer.kind == "workflow":
        # A step may be told without its workflow, as a function that has the workflow's name in its own.
        fields["step"], fields["agent"] = method, _agent_of(bound_args)
    if "BaseWorkflowAgent" in names:
        fields["agent"] = instance.name
    elif "BaseTool" in names:
        kind, fields["tool"] = "tool", instance.metadata.name
    elif "BaseRetriever" in names:
        kind = "retriever"
    _spans.begin(id_, None if outer is None else parent_id, kind, **fields)


def _open(span_id: str) -> Frame | None:
    """The frame of a span. What an engine left running belongs to it even when it is over.

    A workflow is started as a future, and its span may stay the current one of whoever started it.
    """
    frame = _spans.get(span_id)
    return None if frame is not None and frame.root.ended else frame


def _end(span_id: str) -> None:
    frame = _spans.get(span_id)
    if frame is not None and frame.kind == "workflow":
        frame.ended = True


def _agent_of(bound_args: Any) -> Any:
    """The agent that the event of a step names."""
    found = (getattr(value, "current_agent_name", None) for value in bound_args.arguments.values())
    return next((name for name in found if name), None)


def _happened(kind: str, event: Any) -> None:
    frame = _spans.get(event.span_id)
    if frame is None:
        return
    if kind in _ANSWERS:
        frame.root.documents = 0
    # A retriever made of others hands on what they found.
    elif not (frame.parent is not None and frame.parent.within("retriever")):
        frame.root.documents += len(event.nodes)
