"""`client.interactions` of `google-genai` after 2.0: a client of its own, generated, under `google.genai._gaos`.

BaseSDK.do_request, AsyncBaseSDK.do_request_async    the call; the response comes back, errors too
SDKHooks.before_request, AsyncSDKHooks               each attempt
SDKHooks.after_error                                 an attempt that got no answer
TemporaryError                                       an answer after which the request is repeated
"""

from __future__ import annotations

import inspect
import json
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import replace
from functools import partial, wraps
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from genai_meter import dialects
from genai_meter.call import Call, Status, Target
from genai_meter.clients import lifecycle, rest
from genai_meter.clients.google_genai import SDK, route_of
from genai_meter.clients.patches import OneModule, Patches
from genai_meter.clients.targets import provider_of
from genai_meter.safety import guarded

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_current: Final[ContextVar[Exchange | None]] = ContextVar("genai_meter_gaos", default=None)
"""The call whose attempts run in this context."""


class Exchange(rest.Exchange):
    """One call in the hands of the library."""

    __slots__ = ("_inner",)

    def enter(self) -> None:
        super().enter()
        self._inner = _current.set(self)

    def release(self) -> None:
        super().release()
        with suppress(ValueError):  # thrown away in another context
            _current.reset(self._inner)


class Order(Exchange):
    """An interaction that is ordered in the background, or asked for later. Its span is made when it is charged."""

    __slots__ = ()

    def begin(self, native: Span | None = None) -> None:
        del native  # the library makes no span
        lifecycle.begin_attempt(self.call)


_orders: Final[dict[str, Call]] = {}
"""Interaction that works in the background → the call that ordered it."""
MOST_ORDERS: Final = 10_000


def _ordered(call: Call, status: Status) -> bool:
    """The end of an order: a call by itself when it was refused, or is over already."""
    found = call.reading.response_id
    if found is None:
        return status in ("error", "blocked")
    if call.reading.terminal:
        return True
    _orders[found] = call
    if len(_orders) > MOST_ORDERS:
        with suppress(RuntimeError, StopIteration):  # another thread changed it between the two
            _orders.pop(next(iter(_orders)), None)
    return False


def _retrieved(call: Call, _status: Status) -> bool:
    """The end of a look at an order: charged when it is over, once."""
    ordered = _orders.pop(call.reading.response_id or "", None) if call.reading.terminal else None
    if ordered is None:
        return False
    call.prepared, call.start_ns, call.attempts = ordered.prepared, ordered.start_ns, ordered.attempts
    # How long somebody waited for what is told again is no time to the first chunk.
    call.first_chunk_ns = None
    return True


class Seam(OneModule):
    """The patches of one module of the client."""

    left_alone = logging.WARNING, "interactions of %s are not metered: %s"

    def unsupported(self, module: ModuleType) -> str | None:
        """Why a module cannot be patched; None when it can."""
        if not module.__name__.endswith(".basesdk"):
            return None
        for owner, name in (("BaseSDK", "do_request"), ("AsyncBaseSDK", "do_request_async")):
            method = vars(getattr(module, owner, object)).get(name)
            if method is None:
                return f"{owner}.{name} is missing"
            if not {"hook_ctx", "request", "stream"} <= inspect.signature(method).parameters.keys():
                return f"{owner}.{name} has other parameters"
        return None

    def patch(self, module: ModuleType, patches: Patches) -> None:
        """Put ours in the place of the client's."""
        for owner, name, make in (
            ("BaseSDK", "do_request", partial(_request, patches)),
            ("AsyncBaseSDK", "do_request_async", partial(_request_async, patches)),
            ("SDKHooks", "before_request", _before),
            ("SDKHooks", "after_error", _after_error),
            ("AsyncSDKHooks", "before_request", _before_async),
            ("AsyncSDKHooks", "after_error", _after_error_async),
            ("TemporaryError", "__init__", _repeated),
        ):
            # A class that a module has only imported is patched with its own.
            found = getattr(module, owner, None)
            if isinstance(found, type) and found.__module__ == module.__name__:
                patches.put(found, name, make)


def _request(patches: Patches, original: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(original)

    @wraps(original)
    def do_request(sdk: Any, *args: Any, **kwargs: Any) -> Any:
        given = guarded(signature.bind, sdk, *args, **kwargs) if patches.active else None
        exchange = guarded(_exchange, given.arguments) if given is not None else None
        if given is None or exchange is None:
            return original(sdk, *args, **kwargs)
        if lifecycle.decide(exchange.call):
            guarded(_change, exchange, given.arguments)
        guarded(exchange.enter)
        try:
            response = original(*given.args, **given.kwargs)
        except BaseException as error:
            guarded(exchange.failed, error)
            raise
        finally:
            guarded(exchange.release)
        guarded(exchange.returned, response)
        return response

    return do_request


def _request_async(patches: Patches, original: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(original)

    @wraps(original)
    async def do_request_async(sdk: Any, *args: Any, **kwargs: Any) -> Any:
        given = guarded(signature.bind, sdk, *args, **kwargs) if patches.active else None
        exchange = guarded(_exchange, given.arguments, asynchronous=True) if given is not None else None
        if given is None or exchange is None:
            return await original(sdk, *args, **kwargs)
        if await lifecycle.decide_async(exchange.call):
            guarded(_change, exchange, given.arguments)
        guarded(exchange.enter)
        try:
            response = await original(*given.args, **given.kwargs)
        except BaseException as error:
            guarded(exchange.failed, error)
            raise
        finally:
            guarded(exchange.release)
        guarded(exchange.returned, response)
        return response

    return do_request_async


def _exchange(given: dict[str, Any], *, asynchronous: bool = False) -> Exchange | None:
    """What the library is about to do, when it is a call that is metered."""
    request = given["request"]
    route = route_of(str(request.url).partition("?")[0])
    dialect = dialects.for_path(request.method, route.path)
    if dialect is None:
        return _look(route.path, stream=bool(given.get("stream")))
    if lifecycle.is_nested(dialect):
        return None
    body = json.loads(request.content)
    view = dialect.request(body)
    view.stream = view.stream and bool(given.get("stream"))
    vertex = route.account is not None
    target = Target(
        provider=provider_of(route.host, "", "gcp.vertex_ai" if vertex else "gcp.gemini"),
        host=route.host,
        port=route.port,
        region=route.region,
        account=route.account,
        sdk=f"{SDK}.AsyncClient" if asynchronous else f"{SDK}.Client",
    )
    call = lifecycle.prepare(target, dialect, view, body)
    if not view.background:
        return Exchange(call)
    call.gate = _ordered
    return Order(call)


_STORED: Final = re.compile(r"/interactions/([^/]+)(?:/cancel)?")


def _look(path: str, *, stream: bool) -> Order | None:
    """The exchange of a request that may show an order as over; None for all others."""
    found = _STORED.search(path)
    ordered = _orders.get(found[1]) if found else None
    if ordered is None:
        return None
    call = Call(replace(ordered.prepared, request=replace(ordered.prepared.request, stream=stream)), ordered.call_id)
    call.gate = _retrieved
    return Order(call)


def _change(exchange: Exchange, given: dict[str, Any]) -> None:
    """Send another body, as the guard decided."""
    changes = exchange.call.decision.change
    if not changes:
        return
    request = given["request"]
    changed: dict[str, Any] = exchange.call.prepared.dialect.apply(json.loads(request.content), **changes)  # pyright: ignore[reportArgumentType]
    headers = [pair for pair in request.headers.multi_items() if pair[0].lower() != "content-length"]
    given["request"] = type(request)(
        request.method,
        request.url,
        headers=headers,
        content=json.dumps(changed).encode(),
        extensions=request.extensions,
    )


# --- each attempt -------------------------------------------------------------------------------------
def _before(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def before_request(hooks: Any, *args: Any, **kwargs: Any) -> Any:
        # What the hooks refuse is never sent, and no attempt.
        request = original(hooks, *args, **kwargs)
        guarded(_begin, request)
        return request

    return before_request


def _before_async(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def before_request(hooks: Any, *args: Any, **kwargs: Any) -> Any:
        request = await original(hooks, *args, **kwargs)
        guarded(_begin, request)
        return request

    return before_request


def _begin(request: Any) -> None:
    exchange = _current.get()
    if exchange is not None:
        # The hooks have set the key.
        exchange.call.prepared.target.api_key = request.headers.get("x-goog-api-key")
        exchange.begin()
        exchange.activate()


def _after_error(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def after_error(hooks: Any, *args: Any, **kwargs: Any) -> Any:
        guarded(_failed, args, kwargs)
        return original(hooks, *args, **kwargs)

    return after_error


def _after_error_async(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def after_error(hooks: Any, *args: Any, **kwargs: Any) -> Any:
        guarded(_failed, args, kwargs)
        return await original(hooks, *args, **kwargs)

    return after_error


def _failed(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    exchange = _current.get()
    # The library asks the same of an answer that is an error; that is no failed attempt.
    error = kwargs["error"] if "error" in kwargs else args[2]
    if exchange is not None and error is not None:
        lifecycle.attempt_failed(exchange.call)


def _repeated(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def init(error: Any, response: Any, *args: Any, **kwargs: Any) -> None:
        original(error, response, *args, **kwargs)
        guarded(_refused, response)

    return init


def _refused(response: Any) -> None:
    exchange = _current.get()
    if exchange is not None:
        exchange.answered(response)
        lifecycle.attempt_failed(exchange.call)
