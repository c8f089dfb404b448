"""What frameworks say of the work going on here: frames, one inside the other, from the run down to the tool.

A framework makes no span and no charge of ours. Its hooks note where a unit of its work begins; who asks for
the attribution of a call looks up in which unit the call is made. Either the framework itself keeps the current
unit in the context (`Frames`: its id → our frame), or ours is entered around the unit (`enter`, `leave`).
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from contextvars import ContextVar
from typing import Any, Final, TypeAlias

from genai_meter import attribution, environment
from genai_meter.safety import guarded

OUTERMOST: Final = frozenset({"workflow", "run_id", "conversation_id", "session_id"})
"""Fields that belong to the whole run: a run inside another is part of it. The others are the innermost one's."""

DOCUMENTS: Final = "retrieved_documents"

KEPT: Final = 4096
"""Units of work remembered for a framework; the one that was asked for least lately makes room."""

_orders: Final = itertools.count()


class Frame:
    """One unit of a framework's work: a run, an agent's turn, a step, a tool call."""

    __slots__ = ("documents", "ended", "fields", "kind", "order", "owner", "parent", "root")

    def __init__(self, parent: Frame | None = None, kind: str = "", owner: object = None, **fields: object) -> None:
        self.kind = kind
        """The framework's own word, for its hooks."""
        self.owner = owner
        """The framework's own object, until it has told its name."""
        self.fields: dict[str, str] = {}
        """Field of attribution → value."""
        self.parent = parent
        self.root: Frame = self if parent is None else parent.root
        self.order = next(_orders)
        self.ended = False
        self.documents = 0
        """Of the root: documents retrieved in this run since its last answer."""
        self.tell(**fields)

    def tell(self, **fields: object) -> None:
        """What is known of it, perhaps later than its beginning."""
        self.fields.update((name, environment.clean(value)) for name, value in fields.items() if value)

    def within(self, kind: str) -> bool:
        """True when this frame, or one around it, is of that kind."""
        frame: Frame | None = self
        while frame is not None:
            if frame.kind == kind:
                return True
            frame = frame.parent
        return False


Source: TypeAlias = Callable[[], Frame | None]
"""Tells the innermost frame of one framework in the current context."""

_sources: tuple[Source, ...] = ()


def add_source(source: Source) -> None:
    """Ask `source` for each call from now on."""
    global _sources
    if source not in _sources:
        _sources = (*_sources, source)
    attribution.use_frameworks(told)


def remove_source(source: Source) -> None:
    """Ask it no more."""
    global _sources
    _sources = tuple(other for other in _sources if other != source)


def told() -> Mapping[str, Any]:
    """What all frameworks say of a call made now: field → value."""
    found: dict[str, Any] = {}
    innermost = [frame for frame in map(guarded, _sources) if frame is not None]
    if len(innermost) > 1:
        innermost.sort(key=lambda frame: frame.root.order)
    for frame in innermost:
        guarded(_merge, found, frame)
    return found


def _merge(found: dict[str, Any], innermost: Frame) -> None:
    chain: list[Frame] = []
    frame: Frame | None = innermost
    while frame is not None:
        chain.append(frame)
        frame = frame.parent
    for frame in reversed(chain):
        for name, value in frame.fields.items():
            if name not in OUTERMOST or name not in found:
                found[name] = value
    if innermost.root.documents:
        found[DOCUMENTS] = found.get(DOCUMENTS, 0) + innermost.root.documents


# --- the framework keeps the current unit -------------------------------------------------------------
class Frames:
    """Frames by the framework's own ids."""

    def __init__(self) -> None:
        self._frames: OrderedDict[Hashable, Frame] = OrderedDict()
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        # Another thread of the parent may have held it.
        self._lock = threading.Lock()

    def begin(self, key: Hashable, parent: Hashable | None, kind: str = "", **fields: object) -> Frame:
        """A unit has begun, in another one when that is known."""
        outer = None if parent is None else self.get(parent)
        frame = Frame(outer, kind, **fields)
        with self._lock:
            self._frames[key] = frame
            if len(self._frames) > KEPT:
                self._frames.popitem(last=False)
        return frame

    def get(self, key: Hashable) -> Frame | None:
        """The unit of that id; also one that has ended: what it left running still belongs to it."""
        with self._lock:
            frame = self._frames.get(key)
            if frame is not None:
                self._frames.move_to_end(key)
            return frame


# --- we keep the current unit -------------------------------------------------------------------------
_entered: Final[ContextVar[Frame | None]] = ContextVar("genai_meter.frame", default=None)


def entered() -> Frame | None:
    """The innermost frame entered here that is not over: tasks and threads may have inherited one that is."""
    frame = _entered.get()
    while frame is not None and frame.ended:
        frame = frame.parent
    return frame


def enter(kind: str, owner: object = None, **fields: object) -> Frame:
    """Calls made from here on, in this context and in those made of it, belong to a new frame."""
    frame = Frame(entered(), kind, owner, **fields)
    _entered.set(frame)
    return frame


def leave(frame: Frame | None) -> None:
    """The unit is over, in whatever context this is told."""
    if frame is None:
        return
    frame.ended = True
    if _entered.get() is frame:
        _entered.set(entered())
