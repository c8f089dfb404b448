"""CrewAI: the events of its bus, noted where they are emitted; which unit is open here, CrewAI itself keeps.

    flow, crew          workflow, run; the outermost one
    flow method, task   step
    agent               agent
    tool                tool
    knowledge query     -

The bus calls its listeners on threads of its own, after the fact; so `emit` is wrapped.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any, Final

from genai_meter.clients.patches import Patches
from genai_meter.frameworks import frames
from genai_meter.frameworks.frames import Frame, Frames
from genai_meter.safety import guarded, logger

BUS: Final = "crewai.events.event_bus"
CONTEXT: Final = "crewai.events.event_context"

_LONGEST: Final = 80
"""Characters of a task's description, which stands in for its name."""


class Seam:
    """The bus and the context of its events."""

    def __init__(self, package: str) -> None:
        self.package = package
        self._parent_id: Callable[[], str | None] | None = None
        self._patches = Patches()

    def install(self, module: ModuleType) -> None:
        """`crewai.events.event_context` and `crewai.events.event_bus`."""
        if module.__name__ == CONTEXT:
            self._parent_id = getattr(module, "get_current_parent_id", None)
            frames.add_source(self._current)
            return
        bus = getattr(module, "CrewAIEventsBus", object)
        if "emit" not in vars(bus):
            logger.warning("genai_meter: %s is installed but tells no context: no emit", self.package)
            return
        self._patches.put(bus, "emit", _emit)

    def remove(self) -> None:
        """Put the original back."""
        frames.remove_source(self._current)
        self._parent_id = None
        self._patches.remove()

    def _current(self) -> Frame | None:
        event_id = self._parent_id() if self._parent_id is not None else None
        return None if event_id is None else _events.get(event_id)


_events: Final = Frames()


def _emit(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def emit(bus: Any, source: Any, event: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(bus, source, event, *args, **kwargs)
        guarded(_happened, source, event)
        return result

    return emit


def _happened(source: Any, event: Any) -> None:
    if event.type.endswith("_started"):
        tells = _TELLS.get(event.type)
        _events.begin(event.event_id, event.parent_event_id, event.type, **(tells(source, event) if tells else {}))


def _crew(source: Any, event: Any) -> dict[str, Any]:
    return {"workflow": event.crew_name or getattr(source, "name", None), "run_id": event.event_id}


def _flow(source: Any, event: Any) -> dict[str, Any]:
    return {"workflow": event.flow_name, "run_id": getattr(source, "flow_id", None) or event.event_id}


def _task(source: Any, event: Any) -> dict[str, Any]:
    task = getattr(event, "task", None) or source
    return {"step": getattr(task, "name", None) or str(getattr(task, "description", ""))[:_LONGEST]}


def _method(_source: Any, event: Any) -> dict[str, Any]:
    return {"step": event.method_name}


def _agent(_source: Any, event: Any) -> dict[str, Any]:
    return {"agent": event.agent.role}


def _lite_agent(_source: Any, event: Any) -> dict[str, Any]:
    return {"agent": event.agent_info.get("role")}


def _tool(_source: Any, event: Any) -> dict[str, Any]:
    return {"tool": event.tool_name}


_TELLS: Final[dict[str, Callable[[Any, Any], dict[str, Any]]]] = {
    "crew_kickoff_started": _crew,
    "flow_started": _flow,
    "task_started": _task,
    "method_execution_started": _method,
    "agent_execution_started": _agent,
    "lite_agent_execution_started": _lite_agent,
    "tool_usage_started": _tool,
}
"""Type of an event → what it tells."""
