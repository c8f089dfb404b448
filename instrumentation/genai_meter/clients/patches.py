"""Methods replaced on the classes of a client library, and put back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Patches:
    """What one installation has replaced. A later installation makes another one."""

    def __init__(self) -> None:
        self.active = True
        """Ours that could not be taken away, because somebody wrapped it, lets pass when this is False."""
        self._originals: list[tuple[type, str, Any, Any]] = []

    def put(self, owner: type, name: str, make: Callable[[Any], Any]) -> None:
        """Replace `name` of the class `owner` by what `make` makes of it; nothing where it is not defined."""
        original = vars(owner).get(name)
        if original is not None:
            ours = make(original)
            self._originals.append((owner, name, original, ours))
            setattr(owner, name, ours)

    def remove(self) -> None:
        """Put every original back. Where another one has wrapped ours, it stays."""
        self.active = False
        for owner, name, original, ours in reversed(self._originals):
            if vars(owner).get(name) is ours:
                setattr(owner, name, original)
        self._originals.clear()
