"""The seam of the Stainless family: `openai` and `anthropic`, all their clients, all their methods.

Every public way (create, stream helpers, parse, raw and streaming responses, beta namespaces, a
client's own `post`) ends in one method, `request`, of the package's `_base_client`. It is patched on
the base classes, once for sync and once for async clients, so that Azure, Bedrock and Vertex clients, and
clients made before the patch, are seen as well. Below it:

    _build_request              once for every attempt; the first one opens the span
    _process_response           the answer: HTTP status and request id
    _should_retry               the HTTP status of an attempt that will be repeated
    _calculate_retry_timeout    the end of an attempt that will be repeated

The parsed answer comes through `options.post_parser`, which the SDK calls in every mode, lazily for raw
responses, and before its own parser. The patches find their call through it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any, Final, TypeAlias

from genai_meter import dialects
from genai_meter.clients import later, lifecycle
from genai_meter.clients.exchange import Exchange, body_of
from genai_meter.clients.targets import target_of
from genai_meter.safety import guarded, logger, swallow

Metered: TypeAlias = tuple[Exchange, tuple[Any, ...], dict[str, Any]]
"""A call that is metered, and the arguments for the SDK."""

REQUIRED: Final = (
    ("BaseClient", "_build_request"),
    ("SyncAPIClient", "request"),
    ("AsyncAPIClient", "request"),
)
"""Without these a call cannot be metered."""


class Seam:
    """The patches of one package."""

    def __init__(self, package: str) -> None:
        self.package = package
        self._originals: list[tuple[type, str, Any, Any]] = []
        self._copy: Callable[[Any], Any] | None = None
        self._layer: object = None
        """The patches that are in force; those of an earlier installation let everything pass."""

    @property
    def installed(self) -> bool:
        """True while the package is patched."""
        return bool(self._originals)

    def install(self, module: ModuleType) -> None:
        """Patch `<package>._base_client`. A module that we do not understand is left alone."""
        if self.installed:
            return
        reason = unsupported(module)
        if reason is not None:
            logger.warning("genai_meter: %s is installed but not metered: %s", self.package, reason)
            return
        self._copy = _copier(module)
        self._layer = object()
        base, sync, asynchronous = module.BaseClient, module.SyncAPIClient, module.AsyncAPIClient
        self._patch(base, "_build_request", _build_request)
        self._patch(base, "_should_retry", _should_retry)
        self._patch(base, "_calculate_retry_timeout", _calculate_retry_timeout)
        self._patch(sync, "_process_response", _process_response)
        self._patch(asynchronous, "_process_response", _process_response)
        self._patch(sync, "request", self._request)
        self._patch(asynchronous, "request", self._request_async)
        self._patch_overrides(sync, self._request)
        self._patch_overrides(asynchronous, self._request_async)

    def remove(self) -> None:
        """Put every original back. Where another one has wrapped our patch, it stays and lets pass."""
        self._layer = None
        for owner, name, original, ours in reversed(self._originals):
            if vars(owner).get(name) is ours:
                setattr(owner, name, original)
        self._originals.clear()

    def _patch(self, owner: type, name: str, make: Callable[[Any], Any]) -> None:
        original = vars(owner).get(name)
        if original is not None:
            ours = make(original)
            self._originals.append((owner, name, original, ours))
            setattr(owner, name, ours)

    def _patch_overrides(self, base: type, make: Callable[[Any], Any]) -> None:
        """Another instrumentation may have put its own `request` on a client class, around the unpatched one."""
        for owner in _subclasses(base):
            if "request" in vars(owner):
                self._patch(owner, "request", lambda override: make(_bound(override)))

    def _request(self, original: Callable[..., Any]) -> Callable[..., Any]:
        layer = self._layer

        @wraps(original)
        def request(client: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                metered = self._exchange(client, args, kwargs) if self._layer is layer else None
            except Exception as error:  # noqa: BLE001 - as `guarded`, in place: every call comes by here
                swallow("Seam._exchange", error)
                metered = None
            if metered is None:
                visit = guarded(self._visit, client, args, kwargs) if self._layer is layer else None
                if visit is None:
                    return original(client, *args, **kwargs)
                args, kwargs = guarded(visit.arguments, args, kwargs) or (args, kwargs)
                result = original(client, *args, **kwargs)
                guarded(visit.returned, result)
                return result
            exchange, args, kwargs = metered
            if lifecycle.decide(exchange.call):
                guarded(exchange.change)
            if exchange.call.prepared.request.stream:
                guarded(exchange.ask_usage, kwargs.get("stream_cls"))
            outer = lifecycle.current.set(exchange.call)
            try:
                while True:
                    try:
                        result = original(client, *args, **kwargs)
                        break
                    except BaseException as error:
                        if not guarded(_goes_on, exchange, error):
                            raise
            finally:
                try:
                    exchange.release(outer)
                except Exception as error:  # noqa: BLE001 - as above
                    swallow("Exchange.release", error)
            try:
                exchange.returned(result)
            except Exception as error:  # noqa: BLE001 - as above
                swallow("Exchange.returned", error)
            return result

        return request

    def _request_async(self, original: Callable[..., Any]) -> Callable[..., Any]:
        layer = self._layer

        @wraps(original)
        async def request(client: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                metered = self._exchange(client, args, kwargs) if self._layer is layer else None
            except Exception as error:  # noqa: BLE001 - as `guarded`, in place: every call comes by here
                swallow("Seam._exchange", error)
                metered = None
            if metered is None:
                visit = guarded(self._visit, client, args, kwargs) if self._layer is layer else None
                if visit is None:
                    return await original(client, *args, **kwargs)
                args, kwargs = guarded(visit.arguments, args, kwargs) or (args, kwargs)
                result = await original(client, *args, **kwargs)
                guarded(visit.returned, result)
                return result
            exchange, args, kwargs = metered
            if await lifecycle.decide_async(exchange.call):
                guarded(exchange.change)
            if exchange.call.prepared.request.stream:
                guarded(exchange.ask_usage, kwargs.get("stream_cls"))
            outer = lifecycle.current.set(exchange.call)
            try:
                while True:
                    try:
                        result = await original(client, *args, **kwargs)
                        break
                    except BaseException as error:
                        if not guarded(_goes_on, exchange, error):
                            raise
            finally:
                try:
                    exchange.release(outer)
                except Exception as error:  # noqa: BLE001 - as above
                    swallow("Exchange.release", error)
            try:
                exchange.returned(result)
            except Exception as error:  # noqa: BLE001 - as above
                swallow("Exchange.returned", error)
            return result

        return request

    def _exchange(self, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Metered | None:
        """What the SDK is about to do, when it is a call that is metered, and the arguments for it."""
        options = kwargs["options"] if "options" in kwargs else args[1]
        dialect = dialects.for_path(options.method, options.url)
        if dialect is None or lifecycle.is_nested(dialect) or isinstance(options.post_parser, Exchange):
            return None
        body = body_of(options)
        request = dialect.request(body)
        request.stream = bool(kwargs.get("stream"))
        target = target_of(client, self.package, options.url)
        assert self._copy is not None
        if request.background:
            from genai_meter.clients import background

            exchange = background.order(target, self._copy(options), request, body)
        else:
            exchange = Exchange(lifecycle.prepare(target, dialect, request, body), self._copy(options))
        return exchange, *exchange.arguments(args, kwargs)

    def _visit(self, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> later.Visit | None:
        """A request that is no call, and may bring the usage of one that was made before."""
        options = kwargs["options"] if "options" in kwargs else args[1]
        if isinstance(options.post_parser, Exchange):
            return None
        assert self._copy is not None
        return later.visit(self.package, self._copy, client, options, kwargs)


def _subclasses(base: type) -> list[type]:
    return [found for owner in base.__subclasses__() for found in (owner, *_subclasses(owner))]


def _bound(override: Any) -> Callable[..., Any]:
    """A class attribute that may be a wrapper with a mind of its own about binding, as a plain function."""

    @wraps(override)
    def request(client: Any, *args: Any, **kwargs: Any) -> Any:
        return override.__get__(client, type(client))(*args, **kwargs)

    return request


def unsupported(module: ModuleType) -> str | None:
    """Why this `_base_client` cannot be metered; None when it can."""
    for owner, name in REQUIRED:
        if name not in vars(getattr(module, owner, object)):
            return f"{owner}.{name} is missing"
    for owner in ("SyncAPIClient", "AsyncAPIClient"):
        if list(inspect.signature(getattr(module, owner).request).parameters)[1:3] != ["cast_to", "options"]:
            return f"{owner}.request has other parameters"
    if "post_parser" not in getattr(getattr(module, "FinalRequestOptions", None), "__annotations__", ()):
        return "FinalRequestOptions.post_parser is missing"
    return None if callable(getattr(module, "model_copy", None)) else "model_copy is missing"


_KEPT_BY_PYDANTIC: Final = ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
"""Where a model of pydantic 2 keeps what is not in its `__dict__`."""
_new: Final[Callable[[type], Any]] = object.__new__


def _copier(module: ModuleType) -> Callable[[Any], Any]:
    """Copies request options: `model_copy` of the SDK, or at half its price what that comes down to with pydantic 2."""
    places: list[Any] = [getattr(module.FinalRequestOptions, name, None) for name in _KEPT_BY_PYDANTIC]
    if not all(map(inspect.ismemberdescriptor, places)):
        return module.model_copy
    keep_fields, keep_extra, keep_private = (place.__set__ for place in places)

    def copy(options: Any) -> Any:
        if options.__pydantic_extra__ is not None or options.__pydantic_private__ is not None:
            return module.model_copy(options)
        made = _new(options.__class__)
        made.__dict__.update(options.__dict__)
        keep_fields(made, options.__pydantic_fields_set__.copy())
        keep_extra(made, None)
        keep_private(made, None)
        return made

    return copy


def _goes_on(exchange: Exchange, error: BaseException) -> bool:
    """True when the request is sent once more; else the exception ends the call."""
    if guarded(exchange.withdraw, error):
        return True
    guarded(lifecycle.settle_error, exchange.call, error)
    return False


def _build_request(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def build_request(client: Any, *args: Any, **kwargs: Any) -> Any:
        # What cannot be built is never sent, and no attempt.
        request = original(client, *args, **kwargs)
        try:
            exchange = (args[0] if args else kwargs["options"]).post_parser
            if isinstance(exchange, Exchange):
                exchange.begin()
        except Exception as error:  # noqa: BLE001 - as `guarded`, in place: every call comes by here
            swallow("build_request", error)
        return request

    return build_request


def _process_response(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def process_response(client: Any, **kwargs: Any) -> Any:
        try:
            exchange = kwargs["options"].post_parser
            if isinstance(exchange, Exchange):
                exchange.answered(kwargs["response"])
        except Exception as error:  # noqa: BLE001 - as `guarded`, in place: every call comes by here
            swallow("process_response", error)
        return original(client, **kwargs)

    return process_response


def _should_retry(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def should_retry(client: Any, response: Any) -> Any:
        guarded(_refused, response)
        return original(client, response)

    return should_retry


def _refused(response: Any) -> None:
    call = lifecycle.current.get()
    if call is not None:
        lifecycle.answered(call, response.status_code, lifecycle.request_id_of(response.headers))


def _calculate_retry_timeout(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def calculate_retry_timeout(client: Any, *args: Any, **kwargs: Any) -> Any:
        call = lifecycle.current.get()
        if call is not None:
            guarded(lifecycle.attempt_failed, call)
        return original(client, *args, **kwargs)

    return calculate_retry_timeout
