"""What a seam has put in the place of what, and how to take it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


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
