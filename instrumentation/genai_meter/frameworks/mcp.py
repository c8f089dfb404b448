"""MCP: the tool that a call is made underneath, on both sides; and attribution that goes along with the tool call.

Version 2 of the SDK hands the OpenTelemetry context on by itself, baggage included. In version 1 we do it for
tool calls, in `_meta` as the protocol says, and only when some fields may leave (`GENAI_METER_BAGGAGE_OUT`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token
from functools import wraps
from types import ModuleType
from typing import Any, Final, cast

from opentelemetry import propagate
from opentelemetry.context import Context, attach

from genai_meter import environment
from genai_meter.attribution import leave
from genai_meter.frameworks import frames
from genai_meter.safety import guarded, logger

CLIENT: Final = "mcp.client.session"
SERVER: Final = "mcp.server.lowlevel.server"
TOOL_CALL: Final = "tools/call"


class Seam:
    """The patches of client and server."""

    def __init__(self, package: str) -> None:
        self.package = package
        self._patched: list[tuple[type, str, Any, Any]] = []
        self._done: set[str] = set()

    def install(self, module: ModuleType) -> None:
        """Patch one of the modules."""
        name = module.__name__
        if name in self._done:
            return
        owner = getattr(module, "ClientSession" if name == CLIENT else "Server", None)
        if not isinstance(owner, type) or not hasattr(owner, "call_tool" if name == CLIENT else "__init__"):
            logger.warning("genai_meter: %s is installed but tells no context: %s", self.package, name)
            return
        self._done.add(name)
        frames.add_source(frames.entered)
        if name == CLIENT:
            self._patch(owner, "call_tool", _call_tool)
            if not _propagates():
                self._patch(owner, "send_request", _send_request)
        elif hasattr(owner, "_handle_request"):
            self._patch(owner, "_handle_request", _handle_request)
        else:
            self._patch(owner, "__init__", _init)

    def remove(self) -> None:
        """Put every original back."""
        for owner, name, original, ours in reversed(self._patched):
            if vars(owner).get(name) is not ours:
                continue
            if original is None:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
        self._patched.clear()
        self._done.clear()

    def _patch(self, owner: type, name: str, make: Callable[[Any], Any]) -> None:
        ours = make(getattr(owner, name))
        self._patched.append((owner, name, vars(owner).get(name), ours))
        setattr(owner, name, ours)


def _propagates() -> bool:
    """The SDK hands the context on by itself."""
    from importlib.util import find_spec

    return find_spec("mcp.shared._otel") is not None


# --- client -------------------------------------------------------------------------------------------
def _call_tool(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def call_tool(session: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        frame = guarded(frames.enter, "tool", tool=name)
        try:
            return await original(session, name, *args, **kwargs)
        finally:
            guarded(frames.leave, frame)

    return call_tool


def _send_request(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def send_request(session: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        guarded(_inject, request)
        return await original(session, request, *args, **kwargs)

    return send_request


def _inject(request: Any) -> None:
    message = getattr(request, "root", request)
    if getattr(message, "method", None) != TOOL_CALL or not environment.settings().baggage_out:
        return
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    params = message.params
    # The request was made by `call_tool` for this one sending; a caller's own `meta` is in it, and wins.
    meta: dict[str, Any] = params.meta.model_dump(exclude_none=True) if params.meta is not None else {}
    made_of: Any = params.__class__
    params.meta = made_of.Meta(**{**carrier, **meta})


# --- server -------------------------------------------------------------------------------------------
def _handle_request(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def handle_request(server: Any, message: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(request, "method", None) != TOOL_CALL:
            return await original(server, message, request, *args, **kwargs)
        token = guarded(_received, getattr(message, "request_meta", None))
        frame = guarded(_tool_frame, getattr(request, "params", None))
        try:
            return await original(server, message, request, *args, **kwargs)
        finally:
            guarded(frames.leave, frame)
            if token is not None:
                guarded(leave, token)

    return handle_request


def _received(meta: Any) -> Token[Context] | None:
    """Take over the context that came with the request."""
    extra: dict[str, Any] = getattr(meta, "model_extra", None) or {}
    carrier: dict[str, str] = {name: value for name, value in extra.items() if type(value) is str}
    return attach(propagate.extract(carrier)) if carrier.keys() & {"traceparent", "baggage"} else None


def _tool_frame(params: Any) -> frames.Frame:
    told = cast("dict[str, Any]", params if isinstance(params, dict) else vars(params))
    return frames.enter("tool", tool=told.get("name"))


def _init(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def init(server: Any, *args: Any, **kwargs: Any) -> None:
        original(server, *args, **kwargs)
        guarded(_add_middleware, server)

    return init


def _add_middleware(server: Any) -> None:
    server.middleware.append(_middleware)


async def _middleware(context: Any, call_next: Callable[[Any], Any]) -> Any:
    if context.method != TOOL_CALL:
        return await call_next(context)
    frame = guarded(_tool_frame, context.params)
    try:
        return await call_next(context)
    finally:
        guarded(frames.leave, frame)
