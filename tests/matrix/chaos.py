"""Breaks the meter on purpose."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NoReturn

RECORDING: Final = (
    ("genai_meter.emit", "open_span"),
    ("genai_meter.emit", "activate"),
    ("genai_meter.emit", "deactivate"),
    ("genai_meter.emit", "finish"),
    ("genai_meter.guard", "decide"),
    ("genai_meter.guard", "decide_async"),
    ("genai_meter.attribution", "current"),
    ("genai_meter.pricing", "rate_card"),
    ("genai_meter.clients.lifecycle", "answered"),
    ("genai_meter.clients.lifecycle", "attempt_failed"),
    ("genai_meter.clients.lifecycle", "begin_attempt"),
    ("genai_meter.clients.lifecycle", "settle"),
    ("genai_meter.clients.raw", "observe"),
    ("genai_meter.clients.raw", "read_buffered"),
    ("genai_meter.clients.raw", "listen"),
)
"""Everything that happens after a call was prepared."""


def install(mode: str, more: Iterable[tuple[str, str]] = (), prepares: Iterable[tuple[str, str]] = ()) -> None:
    """Break what the mode wants broken; `more` and `prepares` belong to the families that are run."""
    if mode == "chaos1":
        for module, name in (("genai_meter.dialects", "for_path"), *prepares):
            _break(module, name)
    elif mode == "chaos2":
        for module, name in (*RECORDING, *more):
            _break(module, name)
        _break_methods()


def _raise(*_args: Any, **_kwargs: Any) -> NoReturn:
    raise RuntimeError("chaos")


def _break(module: str, name: str) -> None:
    found = __import__(module, fromlist=[name])
    assert callable(getattr(found, name))
    setattr(found, name, _raise)


def _subclasses(kind: type) -> list[type]:
    return [found for direct in kind.__subclasses__() for found in (direct, *_subclasses(direct))]


def _break_methods() -> None:
    from genai_meter.clients.endings import Ending
    from genai_meter.dialects.base import Dialect

    for name in ("exhausted", "failed", "closed", "watch", "give_way"):
        setattr(Ending, name, _raise)
    for dialect in _subclasses(Dialect):
        for name in ("response", "chunk", "headers", "usages"):
            setattr(dialect, name, _raise)
