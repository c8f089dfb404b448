"""Pydantic AI: a frame around each agent run and each function tool.

    agent       workflow (of the outermost run) and agent
    run         run, conversation
    tool        tool

Agents that are instrumented (`Agent.instrument_all()`) keep their spans; ours is their child.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any, Final

from genai_meter.clients.patches import Patches
from genai_meter.frameworks import frames
from genai_meter.frameworks.frames import Frame
from genai_meter.safety import guarded, logger

AGENT: Final = "pydantic_ai.agent"
RUN: Final = "pydantic_ai.run"
TOOLS: Final = "pydantic_ai.toolsets.function"

PATCHES: Final = {
    AGENT: ("Agent", "iter"),
    RUN: ("AgentRun", "__init__"),
    TOOLS: ("FunctionToolset", "call_tool"),
}
"""Module → the class and the method of it."""


class Seam:
    """The three patches."""

    def __init__(self, package: str) -> None:
        self.package = package
        self._patches = Patches()

    def install(self, module: ModuleType) -> None:
        """Patch one of the modules."""
        name = module.__name__
        owner, method = getattr(module, PATCHES[name][0], None), PATCHES[name][1]
        if not isinstance(owner, type) or method not in vars(owner):
            logger.warning("genai_meter: %s is installed but tells less: no %s", self.package, ".".join(PATCHES[name]))
            return
        if self._patches.put(owner, method, {AGENT: _iter, RUN: _init, TOOLS: _call_tool}[name]):
            frames.add_source(frames.entered)

    def remove(self) -> None:
        """Put every original back."""
        self._patches.remove()


def _iter(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def iter(agent: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: A001
        manager = original(agent, *args, **kwargs)
        guarded(_watch, manager, agent)
        return manager

    return iter


def _watch(manager: Any, agent: Any) -> None:
    """Let the context manager of a run enter a frame: it stays what it is, of a class with two methods more."""
    manager.__class__ = _entering(manager.__class__)
    manager.genai_meter_agent = agent


_classes: Final[dict[type, type]] = {}


def _entering(base: Any) -> Any:
    if base not in _classes:
        _classes[base] = _subclass(base)
    return _classes[base]


def _subclass(base: Any) -> type:
    class Entering(base):
        genai_meter_agent: Any = None
        genai_meter_frame: Frame | None = None

        def __aenter__(self) -> Any:
            # No coroutine of ours: the agent looks for its name in the frame that awaits this.
            agent, self.genai_meter_agent = self.genai_meter_agent, None
            self.genai_meter_frame = guarded(frames.enter, "pydantic_ai", agent)
            return base.__aenter__(self)

        async def __aexit__(self, *raised: Any) -> Any:
            try:
                return await base.__aexit__(self, *raised)
            finally:
                guarded(frames.leave, self.genai_meter_frame)

    Entering.__module__, Entering.__qualname__, Entering.__doc__ = base.__module__, base.__qualname__, base.__doc__
    Entering.__name__ = base.__name__
    return Entering


def _init(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def init(run: Any, *args: Any, **kwargs: Any) -> None:
        original(run, *args, **kwargs)
        guarded(_began, run)

    return init


def _began(run: Any) -> None:
    """The run is made: by now the agent has its name, and the run its id."""
    frame = frames.entered()
    if frame is None or frame.kind != "pydantic_ai" or frame.fields:
        return
    agent, frame.owner = frame.owner, None
    state = run.ctx.state
    name = getattr(agent, "name", None)
    frame.tell(
        workflow=name,
        agent=name,
        run_id=getattr(state, "run_id", None) or uuid.uuid4(),
        conversation_id=getattr(state, "conversation_id", None),
    )


def _call_tool(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def call_tool(toolset: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        frame = guarded(frames.enter, "tool", tool=name)
        try:
            return await original(toolset, name, *args, **kwargs)
        finally:
            guarded(frames.leave, frame)

    return call_tool
