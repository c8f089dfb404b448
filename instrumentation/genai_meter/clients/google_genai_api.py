"""`google-genai` below its models, chats, caches, files and all that: `BaseApiClient._request`.

One `_request` is one HTTP exchange and its retries, so that each step of automatic function calling is
a call of its own. The answer comes as JSON text, or as an object that yields the parsed chunks and that
no caller ever sees: its `segments` are observed. Which HTTP library is below makes no difference.

    _request, _async_request              the call
    _request_once, _async_request_once    each attempt (older versions have none and never repeat)
"""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable
from functools import partial, wraps
from types import ModuleType
from typing import Any, Final

from genai_meter import dialects
from genai_meter.clients import lifecycle, rest
from genai_meter.clients.google_genai import route_of, target_of
from genai_meter.clients.observers import AsyncObserver, SyncObserver
from genai_meter.clients.patches import OneModule, Patches
from genai_meter.clients.streams import Chunks
from genai_meter.safety import guarded

_EXCHANGE: Final = "_genai_meter_exchange"
"""On the library's own request object, which is handed to every attempt."""
_ENDING: Final = "_genai_meter_ending"
"""On the library's own response object, until its chunks are asked for."""


class Seam(OneModule):
    """The patches of `google.genai._api_client`."""

    _counts_attempts = False

    def unsupported(self, module: ModuleType) -> str | None:
        """Why this version cannot be metered; None when it can."""
        client, response = _client_of(module), getattr(module, "HttpResponse", None)
        for owner, name in ((client, "_request"), (client, "_async_request"), (response, "segments")):
            if name not in vars(owner or object):
                return f"{name} is missing"
        for name in ("_request", "_async_request"):
            parameters = list(inspect.signature(getattr(client, name)).parameters)
            if parameters[1:2] != ["http_request"] or "stream" not in parameters:
                return f"{name} has other parameters"
        return None

    def patch(self, module: ModuleType, patches: Patches) -> None:
        """Put ours in the place of the library's."""
        client = _client_of(module)
        self._counts_attempts = "_request_once" in vars(client) and "_async_request_once" in vars(client)
        patches.put(client, "_request", partial(self._request, patches))
        patches.put(client, "_async_request", partial(self._request_async, patches))
        if self._counts_attempts:
            patches.put(client, "_request_once", _once)
            patches.put(client, "_async_request_once", _once_async)
        patches.put(module.HttpResponse, "segments", partial(_segments, SyncObserver))
        patches.put(module.HttpResponse, "async_segments", partial(_segments, AsyncObserver))

    def _request(self, patches: Patches, original: Callable[..., Any]) -> Callable[..., Any]:
        streams = _flag(original)

        @wraps(original)
        def request(client: Any, *args: Any, **kwargs: Any) -> Any:
            exchange = guarded(self._exchange, client, args, kwargs, streams(args, kwargs)) if patches.active else None
            if exchange is None:
                return original(client, *args, **kwargs)
            if lifecycle.decide(exchange.call):
                guarded(exchange.change)
            guarded(exchange.enter)
            try:
                response = original(client, *args, **kwargs)
            except BaseException as error:
                guarded(exchange.failed, error)
                raise
            finally:
                guarded(exchange.release)
            guarded(exchange.returned, response)
            return response

        return request

    def _request_async(self, patches: Patches, original: Callable[..., Any]) -> Callable[..., Any]:
        streams = _flag(original)

        @wraps(original)
        async def request(client: Any, *args: Any, **kwargs: Any) -> Any:
            exchange = None
            if patches.active:
                exchange = guarded(self._exchange, client, args, kwargs, streams(args, kwargs), asynchronous=True)
            if exchange is None:
                return await original(client, *args, **kwargs)
            if await lifecycle.decide_async(exchange.call):
                guarded(exchange.change)
            guarded(exchange.enter)
            try:
                response = await original(client, *args, **kwargs)
            except BaseException as error:
                guarded(exchange.failed, error)
                raise
            finally:
                guarded(exchange.release)
            guarded(exchange.returned, response)
            return response

        return request

    def _exchange(
        self, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any], stream: bool, *, asynchronous: bool = False
    ) -> Exchange | None:
        """What the library is about to do, when it is a call that is metered."""
        request = _request_of(args, kwargs)
        body: Any = request.data
        if type(body) is not dict or _EXCHANGE in request.__dict__:
            return None
        route = route_of(request.url.partition("?")[0])
        dialect = dialects.for_path(request.method, route.path)
        if dialect is None or lifecycle.is_nested(dialect):
            return None
        view = dialect.request(body)  # pyright: ignore[reportUnknownArgumentType]
        view.model, view.stream = route.model, stream
        target = target_of(client, route, asynchronous=asynchronous)
        call = lifecycle.prepare(target, dialect, view, body)  # pyright: ignore[reportUnknownArgumentType]
        exchange = Exchange(call)
        exchange.request, exchange.counts_attempts = request, self._counts_attempts
        setattr(request, _EXCHANGE, exchange)
        return exchange


def _client_of(module: ModuleType) -> Any:
    """Called `ApiClient` in the first versions."""
    return getattr(module, "BaseApiClient", None) or getattr(module, "ApiClient", None)


def _flag(original: Callable[..., Any]) -> Callable[[tuple[Any, ...], dict[str, Any]], bool]:
    """How to find out whether a stream is wanted: the argument has moved between versions."""
    place = list(inspect.signature(original).parameters).index("stream") - 1

    def stream(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        return bool(kwargs.get("stream", args[place] if len(args) > place else False))

    return stream


def _request_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return kwargs["http_request"] if "http_request" in kwargs else args[0]


def readdressed(url: str, model: str) -> str:
    """The address of the same method of another model."""
    address, mark, query = url.partition("?")
    head, _, verb = address.rpartition(":")
    collection = head.rpartition("/")[0]
    parent, _, last = collection.rpartition("/")
    # What takes the place of a model of one's own is one of Google's.
    if last == "endpoints":
        collection = f"{parent}/publishers/google/models"
    elif last == "tunedModels":
        collection = f"{parent}/models"
    return f"{collection}/{model.rpartition('/')[2]}:{verb}{mark}{query}"


class Exchange(rest.Exchange):
    """One call in the hands of the library."""

    __slots__ = ("counts_attempts", "request")

    request: Any
    """The library's own request; let go when the library has answered."""
    counts_attempts: bool
    """The library tells of each attempt."""

    def change(self) -> None:
        """Apply what the guard decided to the request; the caller's own objects stay as they are."""
        call, request = self.call, self.request
        changes = call.decision.change
        if not changes:
            return
        model = call.prepared.request.model
        changed: dict[str, Any] = call.prepared.dialect.apply({**request.data, "model": model}, **changes)  # pyright: ignore[reportArgumentType]
        other = changed.pop("model")
        if other != model:
            request.url = readdressed(request.url, other)
        request.data = changed

    def enter(self) -> None:
        super().enter()
        if not self.counts_attempts:
            self.begin()
            self.activate()

    def attempt_failed(self, error: BaseException) -> None:
        """An attempt raised; another one may follow."""
        attempt = self.call.attempts[-1]
        code = getattr(error, "code", None)
        if isinstance(code, int) and attempt.status is None:
            lifecycle.answered(self.call, code, None)
        attempt.error_type = type(error).__qualname__
        attempt.end_ns = time.time_ns()

    def failed(self, error: BaseException) -> None:
        self.request = None
        if self.call.attempts:
            self.attempt_failed(error)
        super().failed(error)

    def returned(self, response: Any) -> None:
        call, self.request = self.call, None
        if not call.attempts:
            # Sent past the place where attempts are counted.
            self.begin()
        lifecycle.answered(call, response.status_code, lifecycle.request_id_of(response.headers))
        if call.prepared.request.stream:
            observe(response, Segments(call))
            return
        guarded(self._read_text, response.response_stream)
        lifecycle.settle_read(call)

    def _read_text(self, texts: Any) -> None:
        if not texts or not texts[0]:
            return
        try:
            answer = json.loads(texts[0])
        except ValueError:
            # The library finds it out by itself, and says so.
            return
        self.call.prepared.dialect.response(self.call.reading, answer)


class Segments(Chunks):
    """The chunks of one stream.

    Python closes the library's generators when the caller drops them, and the library closes nothing by
    itself: dropping and closing cannot be told apart.
    """

    __slots__ = ()

    def take(self, item: Any) -> bool:
        super().take(item)
        if self.call.reading.error_type is not None:
            # The library raises it, above us, and reads no more.
            guarded(self.exhausted)
        return False

    def _abandon_latest(self) -> None:
        self._finalized("closed_early")


def observe(response: Any, ending: Segments) -> None:
    """Watch the chunks of a response, whichever way they are asked for, and its end unread."""
    setattr(response, _ENDING, ending)
    prepared: Any = response.__dict__.get("segment_iterator")
    if prepared is not None:
        # The first versions made the iterator together with the response.
        response.segment_iterator = SyncObserver(prepared, ending)
    ending.watch(response)


def _segments(observer: type[SyncObserver] | type[AsyncObserver], original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def segments(response: Any) -> Any:
        source = original(response)
        ending: Segments | None = response.__dict__.pop(_ENDING, None)
        return source if ending is None else guarded(observer, source, ending) or source

    return segments


def _once(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def request_once(client: Any, *args: Any, **kwargs: Any) -> Any:
        exchange = guarded(_begun, args, kwargs)
        if exchange is None:
            return original(client, *args, **kwargs)
        try:
            return original(client, *args, **kwargs)
        except BaseException as error:
            guarded(exchange.attempt_failed, error)
            raise

    return request_once


def _once_async(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def request_once(client: Any, *args: Any, **kwargs: Any) -> Any:
        exchange = guarded(_begun, args, kwargs)
        if exchange is None:
            return await original(client, *args, **kwargs)
        try:
            return await original(client, *args, **kwargs)
        except BaseException as error:
            guarded(exchange.attempt_failed, error)
            raise

    return request_once


def _begun(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Exchange | None:
    """The call that one more attempt belongs to."""
    exchange: Exchange | None = getattr(_request_of(args, kwargs), _EXCHANGE, None)
    if exchange is not None:
        exchange.begin()
        exchange.activate()
    return exchange
