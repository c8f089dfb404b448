"""The seam of `openai`: the Stainless one, and the websockets beside it.

Each module that speaks over a websocket has classes for connections, with a method `recv_bytes` that every
other way of receiving ends in, and managers that make them. Nothing of the transport is touched.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any, Final

from genai_meter.clients import stainless, websockets
from genai_meter.clients.targets import target_of
from genai_meter.dialects.base import fields
from genai_meter.safety import guarded

MANAGER: Final = "ConnectionManager"
RECEIVE: Final = "recv_bytes"


class Seam(stainless.Seam):
    """The patches of `openai`."""

    def __init__(self, package: str) -> None:
        super().__init__(package)
        self._listening: set[str] = set()
        """Modules whose websockets are patched."""

    def install(self, module: ModuleType) -> None:
        """Patch `_base_client`, or a module with websockets."""
        if module.__name__.endswith("._base_client"):
            super().install(module)
        elif module.__name__ not in self._listening:
            self._listening.add(module.__name__)
            if self._layer is None:
                self._layer = object()
            for name, owner in list(vars(module).items()):
                if inspect.isclass(owner) and owner.__module__ == module.__name__:
                    self._patch_class(name, owner)

    def remove(self) -> None:
        """Put every original back."""
        self._listening.clear()
        super().remove()

    def _patch_class(self, name: str, owner: type) -> None:
        if RECEIVE in vars(owner):
            self._patch(owner, RECEIVE, self._receive)
        elif name.endswith(MANAGER):
            # `enter` is the same function under another name.
            for method in ("__enter__", "__aenter__", "enter"):
                self._patch(owner, method, self._enter)

    def _enter(self, original: Callable[..., Any]) -> Callable[..., Any]:
        layer = self._layer
        if inspect.iscoroutinefunction(original):

            @wraps(original)
            async def enter_async(manager: Any) -> Any:
                connection = await original(manager)
                if self._layer is layer:
                    guarded(_opened, self.package, manager, connection)
                return connection

            return enter_async

        @wraps(original)
        def enter(manager: Any) -> Any:
            connection = original(manager)
            if self._layer is layer:
                guarded(_opened, self.package, manager, connection)
            return connection

        return enter

    def _receive(self, original: Callable[..., Any]) -> Callable[..., Any]:
        layer = self._layer
        if inspect.iscoroutinefunction(original):

            @wraps(original)
            async def receive_async(connection: Any, *args: Any, **kwargs: Any) -> Any:
                message = await original(connection, *args, **kwargs)
                if self._layer is layer:
                    guarded(websockets.received, connection, message)
                return message

            return receive_async

        @wraps(original)
        def receive(connection: Any, *args: Any, **kwargs: Any) -> Any:
            message = original(connection, *args, **kwargs)
            if self._layer is layer:
                guarded(websockets.received, connection, message)
            return message

        return receive


def _opened(package: str, manager: Any, connection: Any) -> None:
    """Read client and model from the manager, which keeps them under mangled names."""
    state: dict[str, Any] = manager.__dict__
    kept = {name.rpartition("__")[2]: value for name, value in state.items()}
    client, model = kept["client"], kept.get("model")
    if not isinstance(model, str):
        asked = fields(kept.get("extra_query")).get("model")
        model = asked if isinstance(asked, str) else None
    url = getattr(client, "websocket_base_url", None)
    target = target_of(client, package, str(url) if url else "")
    websockets.opened(connection, target, model, responses="Responses" in type(manager).__name__)
