"""What a seam has put in the place of what, and how to take it back."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import ModuleType
from typing import Any

from genai_meter.safety import logger


class Patches:
    """The patches of one client library."""

    def __init__(self) -> None:
        self.active = True
        """False once they are removed: what could not be taken away, because somebody wrapped it, lets pass."""
        self.layer: object = object()
        """The patches in force; those of an earlier installation let everything pass."""
        self._originals: list[tuple[Any, str, Any, Any]] = []

    def has(self, owner: Any, name: str) -> bool:
        """True when `owner.name` is patched already."""
        return any(known is owner and called == name for known, called, _, _ in self._originals)

    def put(self, owner: Any, name: str, make: Callable[[Any], Any]) -> bool:
        """Put `make(original)` in the place of an attribute of a class or a module; False when there is none."""
        original: Any = owner.__dict__.get(name)
        if original is None or self.has(owner, name):
            return False
        ours = make(original)
        setattr(owner, name, ours)
        self._originals.append((owner, name, original, ours))
        return True

    def remove(self) -> None:
        """Put every original back. Where another one has wrapped our patch, it stays and lets pass."""
        self.active = False
        self.layer = object()
        for owner, name, original, ours in reversed(self._originals):
            if owner.__dict__.get(name) is ours:
                setattr(owner, name, original)
        self._originals.clear()


class OneModule(ABC):
    """A seam that has one module to patch."""

    left_alone = logging.WARNING, "%s is installed but not metered: %s"
    """How loud it is told that the module is not patched, and how: package, reason."""

    def __init__(self, package: str) -> None:
        self.package = package
        self._patches: Patches | None = None

    @abstractmethod
    def unsupported(self, module: ModuleType) -> str | None:
        """Why it cannot be patched; None when it can."""

    @abstractmethod
    def patch(self, module: ModuleType, patches: Patches) -> None:
        """Put ours in the place of the library's."""

    def install(self, module: ModuleType) -> None:
        """Patch the module; one that we do not understand is left alone."""
        if self._patches is not None:
            return
        reason = self.unsupported(module)
        if reason is not None:
            level, text = self.left_alone
            logger.log(level, f"genai_meter: {text}", self.package, reason)
            return
        self._patches = Patches()
        self.patch(module, self._patches)

    def remove(self) -> None:
        """Put every original back."""
        if self._patches is not None:
            self._patches.remove()
            self._patches = None
