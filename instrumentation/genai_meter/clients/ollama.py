"""The seam of `ollama`: its own API, whoever runs the server.

All public methods end in `_request`, which gives the parsed answer or, for a stream, a generator. Before 0.4 it gives
the HTTP response, and streams come from `_stream`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from types import ModuleType
from typing import Any, Final

from genai_meter import dialects
from genai_meter.call import Call
from genai_meter.clients import lifecycle
from genai_meter.clients.generators import follow, follow_async
from genai_meter.clients.patches import OneModule, Patches
from genai_meter.clients.raw import http_response_of
from genai_meter.clients.rest import Exchange
from genai_meter.clients.targets import target_of
from genai_meter.dialects.base import fields
from genai_meter.safety import guarded

METHODS: Final = ("_request", "_stream")


class Seam(OneModule):
    """The patches of `ollama._client`."""

    def unsupported(self, module: ModuleType) -> str | None:
        """Why this version cannot be metered; None when it can."""
        clients = getattr(module, "Client", None), getattr(module, "AsyncClient", None)
        known = all(isinstance(client, type) and "_request" in vars(client) for client in clients)
        return None if known else "Client._request is missing"

    def patch(self, module: ModuleType, patches: Patches) -> None:
        """Put ours in the place of `METHODS`."""
        for name in METHODS:
            patches.put(module.Client, name, lambda original: self._sync(original, patches))
            patches.put(module.AsyncClient, name, lambda original: self._async(original, patches))

    def _sync(self, original: Callable[..., Any], patches: Patches) -> Callable[..., Any]:
        streams = original.__name__ == "_stream"

        @wraps(original)
        def request(client: Any, *args: Any, **kwargs: Any) -> Any:
            exchange = guarded(self._exchange, client, args, kwargs, streams) if patches.active else None
            if exchange is None:
                return original(client, *args, **kwargs)
            if lifecycle.decide(exchange.call):
                kwargs = guarded(_changed, exchange.call, kwargs) or kwargs
            if exchange.call.prepared.request.stream:
                source = original(client, *args, **kwargs)
                return (guarded(follow, source, exchange) or source) if inspect.isgenerator(source) else source
            guarded(_send, exchange)
            try:
                answer = original(client, *args, **kwargs)
            except BaseException as error:
                guarded(exchange.failed, error)
                raise
            finally:
                guarded(exchange.release)
            guarded(_returned, exchange, answer)
            return answer

        return request

    def _async(self, original: Callable[..., Any], patches: Patches) -> Callable[..., Any]:
        streams = original.__name__ == "_stream"

        @wraps(original)
        async def request(client: Any, *args: Any, **kwargs: Any) -> Any:
            exchange = guarded(self._exchange, client, args, kwargs, streams) if patches.active else None
            if exchange is None:
                return await original(client, *args, **kwargs)
            if await lifecycle.decide_async(exchange.call):
                kwargs = guarded(_changed, exchange.call, kwargs) or kwargs
            if exchange.call.prepared.request.stream:
                source = await original(client, *args, **kwargs)
                return (guarded(follow_async, source, exchange) or source) if inspect.isasyncgen(source) else source
            guarded(_send, exchange)
            try:
                answer = await original(client, *args, **kwargs)
            except BaseException as error:
                guarded(exchange.failed, error)
                raise
            finally:
                guarded(exchange.release)
            guarded(_returned, exchange, answer)
            return answer

        return request

    def _exchange(
        self, client: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], streams: bool
    ) -> Exchange | None:
        """What the library is about to send, when it is a call that is metered."""
        method, path = [value for value in (*args, kwargs.get("method"), kwargs.get("url")) if isinstance(value, str)][
            :2
        ]
        dialect, body = dialects.for_path(method, path), fields(kwargs.get("json"))
        if dialect is None or not body or lifecycle.is_nested(dialect):
            return None
        request = dialect.request(body)
        request.stream = streams or bool(kwargs.get("stream"))
        target = target_of(client._client, self.package, path)
        return Exchange(lifecycle.prepare(target, dialect, request, body))


def _changed(call: Call, kwargs: dict[str, Any]) -> dict[str, Any]:
    changes: dict[str, Any] = dict(call.decision.change or {})
    return {**kwargs, "json": call.prepared.dialect.apply(kwargs["json"], **changes)}


def _send(exchange: Exchange) -> None:
    guarded(exchange.enter)
    guarded(exchange.begin)
    guarded(exchange.activate)


def _returned(exchange: Exchange, answer: Any) -> None:
    call = exchange.call
    response = http_response_of(answer)
    if response is not None:
        exchange.returned(response)
        return
    # The library lets only 2xx through; Ollama knows one of them.
    guarded(lifecycle.answered, call, 200, None)
    guarded(call.prepared.dialect.response, call.reading, answer)
    lifecycle.settle_read(call)
