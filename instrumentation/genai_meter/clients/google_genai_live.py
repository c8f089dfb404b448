"""Live sessions of `google-genai`: each turn of the model is one call.

    AsyncLive.connect          the model, and where the guard decides
    AsyncSession.send…         when the client spoke last: the beginning of a turn
    AsyncSession._receive      each message of the server

A turn is opened by the first message that is part of it, and ends with `turn_complete`; the usage comes in
the same message or in the one after it. What is still open when the session is left ends with it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial, wraps
from types import ModuleType
from typing import Any, Final
from weakref import WeakKeyDictionary

from genai_meter import dialects, emit
from genai_meter.call import Call, Target
from genai_meter.clients import lifecycle
from genai_meter.clients.google_genai import route_of, target_of
from genai_meter.clients.patches import OneModule, Patches
from genai_meter.dialects.base import Dialect, RequestView, fields
from genai_meter.guard import ALLOW
from genai_meter.safety import guarded

SENDS: Final = ("send", "send_client_content", "send_realtime_input", "send_tool_response", "send_context_update")


class Seam(OneModule):
    """The patches of `google.genai.live`."""

    left_alone = logging.INFO, "Live sessions of %s are not metered: %s"

    def unsupported(self, module: ModuleType) -> str | None:
        """Why this version cannot be metered; None when it can."""
        for owner, name in (("AsyncLive", "connect"), ("AsyncSession", "_receive")):
            if name not in vars(getattr(module, owner, object)):
                return f"{owner}.{name} is missing"
        message = getattr(getattr(module, "types", None), "LiveServerMessage", None)
        if "usage_metadata" not in getattr(message, "model_fields", ()):
            return "its messages tell no usage"
        return None

    def patch(self, module: ModuleType, patches: Patches) -> None:
        """Put ours in the place of the library's."""
        patches.put(module.AsyncLive, "connect", partial(_connect, patches))
        patches.put(module.AsyncSession, "_receive", _receive)
        for name in SENDS:
            patches.put(module.AsyncSession, name, _send)


class Turns:
    """The calls of one session."""

    def __init__(self, target: Target, dialect: Dialect, request: RequestView) -> None:
        self.target = target
        self.dialect = dialect
        self.request = request
        self.decision = ALLOW
        """What the guard decided of the session."""
        self.call: Call | None = None
        """The turn that is on its way, or complete but for its usage."""
        self._sent_ns: int | None = None

    def sent(self) -> None:
        """The client has said something."""
        self._sent_ns = time.time_ns()

    def received(self, message: Any) -> None:
        """One message of the server."""
        told = fields(message)
        content, usage = told.get("server_content"), told.get("usage_metadata")
        call = self.call
        if call is not None and call.reading.terminal and (content is not None or usage is None):
            # The usage of the turn before did not come.
            self.end(call)
            call = None
        if content is None and usage is None and told.get("tool_call") is None:
            # Set-up, resumption, a warning that the connection will end: no part of a turn.
            return
        if call is None:
            call = self._begin()
        now = time.time_ns()
        call.chunk_count += 1
        if call.first_chunk_ns is None:
            call.first_chunk_ns = now
        self.dialect.chunk(call.reading, message)
        if call.reading.terminal and call.reading.usage is not None:
            self.end(call)

    def prepared(self) -> Call:
        """A call of this session, not begun."""
        call = lifecycle.prepare(self.target, self.dialect, replace(self.request), {})
        call.decision = self.decision
        # What is said in a session is nowhere as a whole.
        call.prepared.hashes = {}
        return call

    def _begin(self) -> Call:
        call = self.call = self.prepared()
        if self._sent_ns is not None:
            call.start_ns = self._sent_ns
            self._sent_ns = None
        lifecycle.begin_attempt(call)
        guarded(emit.open_span, call)
        return call

    def end(self, call: Call) -> None:
        """A turn is complete."""
        self.call = None
        lifecycle.settle_read(call)

    def left(self, error: BaseException | None = None) -> None:
        """The session is over, or broken."""
        call, self.call = self.call, None
        if call is None:
            return
        if call.reading.terminal:
            lifecycle.settle_read(call)
        elif error is None:
            lifecycle.settle(call, "closed_early")
        else:
            lifecycle.settle_error(call, error)


_turns: Final[WeakKeyDictionary[Any, Turns]] = WeakKeyDictionary()
"""Session → its turns."""


def _connect(patches: Patches, original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    @asynccontextmanager
    async def connect(live: Any, *args: Any, **kwargs: Any) -> AsyncGenerator[Any]:
        turns = guarded(_session, live, kwargs) if patches.active else None
        call = guarded(turns.prepared) if turns is not None else None
        if turns is not None and call is not None:
            changed = await lifecycle.decide_async(call)
            turns.decision = call.decision
            if changed:
                kwargs = guarded(_changed, call, turns, kwargs) or kwargs
        async with original(live, *args, **kwargs) as session:
            if turns is not None:
                guarded(_turns.__setitem__, session, turns)
            try:
                yield session
            finally:
                if turns is not None:
                    guarded(turns.left)

    return connect


def _session(live: Any, kwargs: dict[str, Any]) -> Turns:
    """What is known of a session before it is opened."""
    client = live._api_client
    target = target_of(client, route_of(str(client._http_options.base_url or "")), asynchronous=True)
    dialect = dialects.by_name("gemini_live")
    return Turns(target, dialect, dialect.request({"model": str(kwargs["model"]).rpartition("/")[2]}))


def _changed(call: Call, turns: Turns, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Other arguments, as the guard decided."""
    changes = call.decision.change or {}
    changed: dict[str, Any] = turns.dialect.apply({"model": kwargs["model"]}, **changes)  # pyright: ignore[reportArgumentType]
    turns.request.model = str(changed["model"]).rpartition("/")[2]
    return {**kwargs, **changed}


def _send(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def send(session: Any, *args: Any, **kwargs: Any) -> Any:
        turns = _turns.get(session)
        if turns is not None:
            guarded(turns.sent)
        return await original(session, *args, **kwargs)

    return send


def _receive(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def receive(session: Any) -> Any:
        turns = _turns.get(session)
        if turns is None:
            return await original(session)
        try:
            message = await original(session)
        except Exception as error:
            # Not a cancellation: whoever waited no longer may ask again.
            guarded(turns.left, error)
            raise
        guarded(turns.received, message)
        return message

    return receive
