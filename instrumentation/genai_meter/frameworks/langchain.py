"""LangChain and LangGraph: an inherited callback handler that notes the runs, by LangChain's own global hook.

    root chain                  workflow, run
    thread of the configuration conversation; `session_id` of the configuration: session
    LangGraph node              step
    agent of `create_agent`     agent; of a subgraph without a name: the node it is
    tool run                    tool
    retriever run               number of documents

Which run a call is made in is read from the variable by which LangChain hands its configuration on. A model
that is called outside of any chain, node or tool belongs to no run.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import ModuleType
from typing import Any, Final

from genai_meter.frameworks import frames
from genai_meter.frameworks.frames import Frame, Frames
from genai_meter.safety import guarded, logger

BASE: Final = "langchain_core.callbacks.base"
HOOKS: Final = "langchain_core.tracers.context"
CONFIG: Final = "langchain_core.runnables.config"

REQUIRED: Final = (
    (BASE, "BaseCallbackHandler"),
    (HOOKS, "register_configure_hook"),
    (CONFIG, "var_child_runnable_config"),
)
"""Without these a run cannot be seen."""


class Seam:
    """The handler and where it is registered."""

    def __init__(self, package: str) -> None:
        self.package = package
        self._modules: dict[str, Any] = {}
        self._config: ContextVar[Any] | None = None
        self._variable: ContextVar[Any] | None = None

    def install(self, module: ModuleType) -> None:
        """Register the handler as soon as all modules are there."""
        self._modules[module.__name__] = module
        if self._config is not None or any(name not in self._modules for name, _ in REQUIRED):
            return
        missing = [f"{name}.{what}" for name, what in REQUIRED if not hasattr(self._modules[name], what)]
        if missing:
            logger.warning("genai_meter: %s is installed but tells no context: %s is missing", self.package, missing[0])
            return
        handler = _handler_of(self._modules[BASE].BaseCallbackHandler)
        self._config = self._modules[CONFIG].var_child_runnable_config
        self._variable = ContextVar("genai_meter.langchain", default=handler)
        self._modules[HOOKS].register_configure_hook(self._variable, True)
        frames.add_source(self._current)

    def remove(self) -> None:
        """Take the handler out of LangChain's list; runs that have it already go on telling, to nobody."""
        frames.remove_source(self._current)
        hooks: list[Any] = getattr(self._modules.get(HOOKS), "_configure_hooks", [])
        for entry in [entry for entry in hooks if entry[0] is self._variable]:
            hooks.remove(entry)
        self._config = self._variable = None

    def _current(self) -> Frame | None:
        config = self._config.get() if self._config is not None else None
        run_id = _asking.get() or (getattr(config.get("callbacks"), "parent_run_id", None) if config else None)
        return None if run_id is None else _runs.get(run_id)


_runs: Final = Frames()
_asking: Final[ContextVar[Any]] = ContextVar("genai_meter.langchain.asking", default=None)
"""The run that a model is being asked for: `batch` hands the configuration on as an argument only."""
_handler: Any = None


def _restored() -> Any:
    """The handler of this process, for a pickled one."""
    return _handler


class _Handler:
    """What becomes a subclass of LangChain's `BaseCallbackHandler`, which we do not import."""

    run_inline = True

    def on_chain_start(
        self, serialized: Any, _inputs: Any, *, run_id: Any, parent_run_id: Any = None, **told: Any
    ) -> None:
        guarded(_chain, serialized, run_id, parent_run_id, told)

    def on_tool_start(
        self, serialized: Any, _input: Any, *, run_id: Any, parent_run_id: Any = None, **told: Any
    ) -> None:
        guarded(_runs.begin, run_id, parent_run_id, "tool", tool=_name(serialized, told))

    def on_retriever_start(
        self, _serialized: Any, _query: Any, *, run_id: Any, parent_run_id: Any = None, **_told: Any
    ) -> None:
        guarded(_runs.begin, run_id, parent_run_id, "retriever")

    def on_retriever_end(self, documents: Any, *, run_id: Any, **_told: Any) -> None:
        guarded(_retrieved, run_id, documents)

    def on_chat_model_start(self, _model: Any, _messages: Any, *, parent_run_id: Any = None, **_told: Any) -> None:
        guarded(_ask, parent_run_id)

    def on_llm_start(self, _model: Any, _prompts: Any, *, parent_run_id: Any = None, **_told: Any) -> None:
        guarded(_ask, parent_run_id)

    def on_llm_end(self, _response: Any, *, parent_run_id: Any = None, **_told: Any) -> None:
        guarded(_ask, None)
        guarded(_answered, parent_run_id)

    def on_llm_error(self, _error: Any, **_told: Any) -> None:
        guarded(_ask, None)

    def __copy__(self) -> _Handler:
        return self

    def __deepcopy__(self, _memo: object) -> _Handler:
        return self

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return _restored, ()


def _handler_of(base: type) -> Any:
    global _handler
    if _handler is None:
        _handler = type("GenaiMeterHandler", (_Handler, base), {})()
    return _handler


def _chain(serialized: Any, run_id: Any, parent_run_id: Any, told: Mapping[str, Any]) -> None:
    metadata: Mapping[str, Any] = told.get("metadata") or {}
    fields: dict[str, Any] = {
        "conversation_id": metadata.get("thread_id") or metadata.get("conversation_id"),
        "session_id": metadata.get("session_id"),
        "agent": metadata.get("lc_agent_name") or _enclosing_node(metadata),
        "step": metadata.get("langgraph_node"),
    }
    if parent_run_id is None:
        fields.update(workflow=_name(serialized, told), run_id=run_id)
    _runs.begin(run_id, parent_run_id, "chain", **fields)


def _enclosing_node(metadata: Mapping[str, Any]) -> str | None:
    """The node that is the subgraph this node is in: `research:<id>|model:<id>` is `model` in `research`."""
    space = metadata.get("langgraph_checkpoint_ns")
    parts = space.split("|") if isinstance(space, str) else []
    return parts[-2].partition(":")[0] if len(parts) > 1 else None


def _name(serialized: Any, told: Mapping[str, Any]) -> Any:
    name = told.get("name")
    if name is None and isinstance(serialized, Mapping):
        name = serialized.get("name") or (serialized.get("id") or [None])[-1]  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    return name  # pyright: ignore[reportUnknownVariableType]


def _retrieved(run_id: Any, documents: Any) -> None:
    frame = _runs.get(run_id)
    # A retriever made of others hands on what they found.
    if frame is not None and not (frame.parent is not None and frame.parent.within("retriever")):
        frame.root.documents += len(documents)


def _ask(run_id: Any) -> None:
    # Not for a model on its own: the consumer of its stream would be taken for a part of a run.
    _asking.set(run_id)


def _answered(parent_run_id: Any) -> None:
    frame = None if parent_run_id is None else _runs.get(parent_run_id)
    if frame is not None:
        frame.root.documents = 0
