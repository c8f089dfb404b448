"""The seam of `lm15`, by itself or as `dspy` brings it along: providers' HTTP APIs, and a transport of its own.

Its adapters build whole HTTP requests and read the body that comes back: whatever they send passes
`StdlibTransport.stream` or `StdlibAsyncTransport._do_stream`, which are patched. An attempt more is a call more there,
as the library itself never repeats one that was answered.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from types import ModuleType
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from genai_meter import guard
from genai_meter.call import Target
from genai_meter.clients import lifecycle, raw
from genai_meter.clients.litellm import AWS_SIGNATURE, MODEL, dialect_of, key_of
from genai_meter.clients.observers import AsyncObserver, SyncObserver
from genai_meter.clients.patches import Patches
from genai_meter.clients.rest import Exchange
from genai_meter.clients.targets import provider_of
from genai_meter.dialects.base import fields
from genai_meter.safety import guarded, logger

TRANSPORTS: Final = (("StdlibTransport", "stream"), ("StdlibAsyncTransport", "_do_stream"))
"""Class and method that every request passes, sync and async; each has a module of its own."""
NATIVE: Final = {"anthropic_messages": "anthropic", "gemini": "gcp.gemini", "gemini_embeddings": "gcp.gemini"}
"""Wire format → the provider behind a host that says nothing."""
STREAMS: Final = (":streamGenerateContent", "/converse-stream")
"""How paths end whose body does not say that the answer is streamed."""


class Head(NamedTuple):
    """Status and headers of an answer, as the other libraries have them."""

    status_code: int
    headers: Mapping[str, str]


class Seam:
    """The patches of both transports."""

    def __init__(self, package: str) -> None:
        self.package = package
        self._patches: Patches | None = None

    def install(self, module: ModuleType) -> None:
        """Patch the transport of a module; again is nothing."""
        patches = self._patches = self._patches or Patches()
        for (owner, name), make in zip(TRANSPORTS, (_sync, _async), strict=True):
            # The modules import each other's names: a class is patched where it is made.
            transport = getattr(module, owner, None)
            if not isinstance(transport, type) or transport.__module__ != module.__name__:
                continue
            if name not in vars(transport):
                logger.warning("genai_meter: %s is installed but not metered: %s.%s is missing", module, owner, name)
                continue
            patches.put(transport, name, lambda original, make=make: make(original, patches))

    def remove(self) -> None:
        """Put every original back."""
        if self._patches is not None:
            self._patches.remove()
            self._patches = None


def _sync(original: Callable[..., Any], patches: Patches) -> Callable[..., Any]:
    @wraps(original)
    def stream(transport: Any, request: Any) -> Any:
        exchange = guarded(_exchange, request) if patches.active else None
        if exchange is None:
            return original(transport, request)
        if lifecycle.decide(exchange.call):
            request = guarded(_changed, exchange, request) or request
        guarded(_send, exchange)
        try:
            response = original(transport, request)
        except BaseException as error:
            guarded(exchange.failed, error)
            raise
        finally:
            guarded(exchange.release)
        guarded(_returned, exchange, response)
        return response

    return stream


def _async(original: Callable[..., Any], patches: Patches) -> Callable[..., Any]:
    @wraps(original)
    async def do_stream(transport: Any, request: Any) -> Any:
        exchange = guarded(_exchange, request) if patches.active else None
        if exchange is None:
            return await original(transport, request)
        if await lifecycle.decide_async(exchange.call):
            request = guarded(_changed, exchange, request) or request
        guarded(_send, exchange)
        try:
            response = await original(transport, request)
        except BaseException as error:
            guarded(exchange.failed, error)
            raise
        finally:
            guarded(exchange.release)
        guarded(_returned, exchange, response)
        return response

    return do_stream


def _exchange(request: Any) -> Exchange | None:
    """What is about to be sent, when it is a call that is metered."""
    url = urlsplit(str(request.url))
    dialect = dialect_of(url.path) if request.method == "POST" else None
    if dialect is None or lifecycle.is_nested(dialect):
        return None
    body = fields(json.loads(request.body))
    view = dialect.request(body)
    if view.background:
        # The answer comes with a later retrieval.
        return None
    view.stream = view.stream or url.path.endswith(STREAMS)
    if view.model is None and (found := MODEL.search(url.path)):
        view.model = unquote(found[1])
    host = url.hostname or ""
    target = Target(
        provider=provider_of(host, "", NATIVE.get(dialect.name, "openai"), url.port, url.path),
        host=host,
        port=url.port,
        api_key=key_of(dict(request.headers)),
        sdk="lm15",
    )
    return Exchange(lifecycle.prepare(target, dialect, view, body))


def _changed(exchange: Exchange, request: Any) -> Any:
    """The request with what the guard decided; None where it cannot be done: a signed body, a model in the path."""
    call = exchange.call
    changes: dict[str, Any] = dict(call.decision.change or {})
    signed = any(str(value).startswith(AWS_SIGNATURE) for _, value in request.headers)
    if signed or ("model" in changes and MODEL.search(urlsplit(str(request.url)).path)):
        call.decision = guard.ALLOW
        return None
    body = call.prepared.dialect.apply(fields(json.loads(request.body)), **changes)
    return replace(request, body=json.dumps(body).encode())


def _send(exchange: Exchange) -> None:
    guarded(exchange.enter)
    guarded(exchange.begin)
    guarded(exchange.activate)


def _returned(exchange: Exchange, response: Any) -> None:
    head = Head(response.status, {name.lower(): value for name, value in response.headers})
    guarded(exchange.answered, head)
    if head.status_code >= 400:
        lifecycle.settle(exchange.call, "error", str(head.status_code))
        return
    # The transport has undone the encoding already.
    body = raw.Bytes(exchange.call, {"content-type": head.headers.get("content-type", "")}, None)
    body.watch(response)
    kind = AsyncObserver if hasattr(response, "__aiter__") else SyncObserver
    response._chunks = kind(response._chunks, body)
    release = response._release

    def released(body_consumed: bool) -> Any:
        guarded(body.closed)
        return release(body_consumed)

    response._release = released
