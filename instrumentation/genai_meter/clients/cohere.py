"""The seam of `cohere`: both versions of its API, sync and async, and its clients for AWS and Oracle.

Every method ends in one class of `cohere.core.http_client`, sync and async:

    request     a call; a retry calls it again
    stream      a call whose answer is read in a `with` block, by a generator that the caller holds

and around an attempt that is repeated

    _should_retry                                 its answer
    _retry_timeout, _retry_timeout_from_retries   its end

Answers come as HTTP responses, errors of the provider too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextvars import ContextVar, copy_context
from functools import wraps
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import wrapt

from genai_meter import dialects
from genai_meter.call import Call, Target
from genai_meter.clients import lifecycle, raw, rest
from genai_meter.clients.endings import Ending
from genai_meter.clients.patches import Patches
from genai_meter.clients.targets import provider_of
from genai_meter.dialects.base import Dialect
from genai_meter.safety import guarded, logger

if TYPE_CHECKING:
    Proxy = wrapt.ObjectProxy[Any]
else:
    Proxy = wrapt.ObjectProxy

CLIENTS: Final = ("HttpClient", "AsyncHttpClient")

CLOUDS: Final = {"bedrock": "aws.bedrock", "sagemaker": "aws.sagemaker"}
"""Service that a client for AWS signs for → who is paid."""

HOSTS: Final = {"bedrock": "bedrock-runtime.{}.amazonaws.com", "sagemaker": "runtime.sagemaker.{}.amazonaws.com"}

BODY: Final = "additional_body_parameters"
"""Request option that is merged over the body."""


class Exchange(rest.Exchange):
    """One call, and by which client and path it is known again when it is repeated."""

    __slots__ = ("client", "path", "rewritten")

    def __init__(self, call: Call, client: Any, path: str, rewritten: bool) -> None:
        super().__init__(call)
        self.client = client
        self.path = path
        self.rewritten = rewritten
        """A hook of the library makes of a cloud's stream what Cohere's own would be, whatever its headers say."""

    def failed(self, error: BaseException) -> None:
        attempts = self.call.attempts
        if isinstance(error, TypeError | ValueError) and len(attempts) == 1 and attempts[0].status is None:
            # What cannot be written as JSON is never sent, and no attempt.
            attempts.clear()
        super().failed(error)


_on_its_way: Final[ContextVar[Exchange | None]] = ContextVar("genai_meter_cohere", default=None)
"""The call whose request runs in this context."""


class Seam:
    """The patches of `cohere.core.http_client`, and of the client that embeds in threads."""

    def __init__(self, package: str) -> None:
        self.package = package
        self._patches = Patches()

    def install(self, module: ModuleType) -> None:
        """Patch the module. One that we do not understand is left alone."""
        if module.__name__.endswith(".client"):
            self._patches.put(getattr(module, "Client", object), "embed", _embed)
            return
        reason = unsupported(module)
        if reason is not None:
            logger.warning("genai_meter: %s is installed but not metered: %s", self.package, reason)
            return
        put = self._patches.put
        put(module.HttpClient, "request", self._request)
        put(module.HttpClient, "stream", self._stream)
        put(module.AsyncHttpClient, "request", self._request_async)
        put(module.AsyncHttpClient, "stream", self._stream)
        put(module, "_should_retry", _should_retry)
        put(module, "_retry_timeout", _ends_attempt)
        put(module, "_retry_timeout_from_retries", _ends_attempt)

    def remove(self) -> None:
        """Put every original back."""
        self._patches.remove()

    def _request(self, original: Callable[..., Any]) -> Callable[..., Any]:
        patches, layer = self._patches, self._patches.layer

        @wraps(original)
        def request(client: Any, *args: Any, **kwargs: Any) -> Any:
            exchange = guarded(_exchange, client, args, kwargs, False) if patches.layer is layer else None
            if exchange is None:
                return original(client, *args, **kwargs)
            if lifecycle.decide(exchange.call):
                kwargs = guarded(_changed, exchange, kwargs) or kwargs
            outer = guarded(_enter, exchange)
            try:
                response = original(client, *args, **kwargs)
            except BaseException as error:
                guarded(exchange.failed, error)
                raise
            finally:
                guarded(_leave, exchange, outer)
            guarded(exchange.returned, response)
            return response

        return request

    def _request_async(self, original: Callable[..., Any]) -> Callable[..., Any]:
        patches, layer = self._patches, self._patches.layer

        @wraps(original)
        async def request(client: Any, *args: Any, **kwargs: Any) -> Any:
            exchange = guarded(_exchange, client, args, kwargs, False) if patches.layer is layer else None
            if exchange is None:
                return await original(client, *args, **kwargs)
            if await lifecycle.decide_async(exchange.call):
                kwargs = guarded(_changed, exchange, kwargs) or kwargs
            outer = guarded(_enter, exchange)
            try:
                response = await original(client, *args, **kwargs)
            except BaseException as error:
                guarded(exchange.failed, error)
                raise
            finally:
                guarded(_leave, exchange, outer)
            guarded(exchange.returned, response)
            return response

        return request

    def _stream(self, original: Callable[..., Any]) -> Callable[..., Any]:
        patches, layer = self._patches, self._patches.layer

        @wraps(original)
        def stream(client: Any, *args: Any, **kwargs: Any) -> Any:
            # Nothing is sent before the block is entered.
            exchange = guarded(_exchange, client, args, kwargs, True) if patches.layer is layer else None
            if exchange is None:
                return original(client, *args, **kwargs)
            return guarded(_Block, exchange, original, client, args, kwargs) or original(client, *args, **kwargs)

        return stream


class _Block:
    """The `with` block in which a stream is read."""

    def __init__(
        self,
        exchange: Exchange,
        original: Callable[..., Any],
        client: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._exchange = exchange
        self._make = original
        self._arguments = (client, args, kwargs)
        self._inner: Any = None
        self._ending: Ending | None = None

    def _open(self, changed: bool) -> None:
        client, args, kwargs = self._arguments
        if changed:
            kwargs = guarded(_changed, self._exchange, kwargs) or kwargs
        self._inner = self._make(client, *args, **kwargs)

    def __enter__(self) -> Any:
        exchange = self._exchange
        self._open(lifecycle.decide(exchange.call))
        outer = guarded(_enter, exchange)
        try:
            response = self._inner.__enter__()
        except BaseException as error:
            guarded(exchange.failed, error)
            raise
        finally:
            guarded(_leave, exchange, outer)
        self._ending = guarded(_watched, exchange, response)
        return response

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Any:
        if self._ending is not None:
            guarded(self._ending.left, error)
        return self._inner.__exit__(kind, error, traceback)

    async def __aenter__(self) -> Any:
        exchange = self._exchange
        self._open(await lifecycle.decide_async(exchange.call))
        outer = guarded(_enter, exchange)
        try:
            response = await self._inner.__aenter__()
        except BaseException as error:
            guarded(exchange.failed, error)
            raise
        finally:
            guarded(_leave, exchange, outer)
        self._ending = guarded(_watched, exchange, response)
        return response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Any:
        if self._ending is not None:
            guarded(self._ending.left, error)
        return await self._inner.__aexit__(kind, error, traceback)


def _watched(exchange: Exchange, response: Any) -> Ending | None:
    ending = exchange.returned(response)
    if isinstance(ending, raw.Bytes) and exchange.rewritten:
        ending.read_lines()
    return ending


def unsupported(module: ModuleType) -> str | None:
    """Why this `http_client` cannot be metered; None when it can."""
    for owner in CLIENTS:
        for name in ("request", "stream"):
            method = vars(getattr(module, owner, object)).get(name)
            if method is None:
                return f"{owner}.{name} is missing"
            parameters = list(inspect.signature(method).parameters.values())[1:]
            # Until 5.3 they took what the HTTP library's own methods take.
            if parameters[0].name not in ("path", "method", "args"):
                return f"{owner}.{name} has other parameters"
    return None


# --- before the request leaves ------------------------------------------------------------------------
def _exchange(client: Any, args: tuple[Any, ...], kwargs: dict[str, Any], stream: bool) -> Exchange | None:
    """What the library is about to do, when it is a call that is metered."""
    method, path = _where(args, kwargs)
    running = _on_its_way.get()
    if running is not None and running.client is client and running.path == path:
        # One more attempt.
        running.begin()
        return None
    url = path if "://" in path else f"{_base_url(client, kwargs).rstrip('/')}/{path.lstrip('/')}"
    dialect = _dialect(method, urlsplit(url).path)
    if dialect is None or lifecycle.is_nested(dialect):
        return None
    body = _body(kwargs)
    view = dialect.request(body)
    view.stream = stream
    target = _target_of_cloud(client)
    call = lifecycle.prepare(target or _target(client, url, kwargs), dialect, view, body)
    return Exchange(call, client, path, target is not None)


def _base_url(client: Any, kwargs: Mapping[str, Any]) -> str:
    return client.get_base_url(kwargs.get("base_url"))


def _where(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str, str]:
    """HTTP method, and path or URL, in the order of the version."""
    if "url" in kwargs or len(args) == 2:
        return kwargs.get("method") or args[0], kwargs.get("url") or args[1]
    return kwargs["method"], kwargs["path"] if "path" in kwargs else args[0]


def _dialect(method: str, path: str) -> Dialect | None:
    """Until 5.4 the version of the API was part of the client's base URL, if it was told at all."""
    return dialects.for_path(method, path) or dialects.for_path(method, f"v1/{path.rpartition('/')[2]}")


def _body(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The body as the library will send it, or the fields of a form."""
    given, omitted = kwargs.get("json") or kwargs.get("data"), kwargs.get("omit")
    body: dict[str, Any] = {}
    if isinstance(given, Mapping):
        body = {name: value for name, value in given.items() if value is not omitted}  # pyright: ignore[reportUnknownVariableType]
    options: dict[str, Any] = kwargs.get("request_options") or {}
    more = options.get(BODY)
    return {**body, **more} if more else body


def _target(client: Any, url: str, kwargs: Mapping[str, Any]) -> Target:
    parts = urlsplit(url)
    host = parts.hostname or ""
    return Target(
        provider=provider_of(host, "Client", "cohere"),
        host=host,
        port=parts.port,
        api_key=_secret(client, kwargs),
        sdk="cohere.AsyncClient" if type(client).__name__.startswith("Async") else "cohere.Client",
    )


def _target_of_cloud(client: Any) -> Target | None:
    """Where a client for a cloud sends: known to the hook that rewrites its requests."""
    for hook in getattr(client.httpx_client, "event_hooks", {}).get("request", ()):
        if getattr(hook, "__module__", "") == "cohere.aws_client":
            told = inspect.getclosurevars(hook).nonlocals
            service, region = str(told.get("service")), told.get("aws_region")
            host = HOSTS.get(service, "").format(region)
            return Target(CLOUDS.get(service, service), host, region=region, sdk="cohere.AwsClient")
        if getattr(hook, "__module__", "") == "cohere.oci_client":
            return Target("oci", "", sdk="cohere.OciClient")
    return None


def _secret(client: Any, kwargs: Mapping[str, Any]) -> str | None:
    """The API key, where it is a plain one."""
    wrapper = getattr(getattr(client, "base_headers", None), "__self__", None)
    token = getattr(wrapper, "_token", None)
    if isinstance(token, str):
        return token
    headers: dict[str, Any] = kwargs.get("headers") or {}
    return str(headers.get("Authorization", "")).removeprefix("Bearer ") or None


def _changed(exchange: Exchange, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments with the body that the guard wants; the caller's own objects stay as they are."""
    call = exchange.call
    changes: Any = call.decision.change
    body = _body(kwargs)
    asked = call.prepared.dialect.apply(body, **changes)
    changed = {**kwargs, "json": asked}
    if asked.get("model") != body.get("model"):
        # No answer names its model.
        call.reading.model = asked["model"]
    options = kwargs.get("request_options")
    if options and BODY in options:
        # It is in the body already, and would win again.
        changed["request_options"] = {name: value for name, value in options.items() if name != BODY}
    return changed


# --- on the way -----------------------------------------------------------------------------------------
def _enter(exchange: Exchange) -> Any:
    guarded(exchange.enter)
    guarded(exchange.begin)
    guarded(exchange.activate)
    return _on_its_way.set(exchange)


def _leave(exchange: Exchange, outer: Any) -> None:
    exchange.release()
    if outer is None:
        return
    try:
        _on_its_way.reset(outer)
    except ValueError:
        # A coroutine that nobody resumes is thrown away in another context: there is nothing of ours there.
        return


def _should_retry(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def should_retry(*args: Any, **kwargs: Any) -> Any:
        guarded(_answered, kwargs["response"] if "response" in kwargs else args[0])
        return original(*args, **kwargs)

    return should_retry


def _answered(response: Any) -> None:
    exchange = _on_its_way.get()
    if exchange is not None:
        exchange.answered(response)


def _ends_attempt(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def retry_timeout(*args: Any, **kwargs: Any) -> Any:
        exchange = _on_its_way.get()
        if exchange is not None:
            guarded(lifecycle.attempt_failed, exchange.call)
        return original(*args, **kwargs)

    return retry_timeout


# --- embeddings in threads ------------------------------------------------------------------------------
def _embed(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def embed(client: Any, *args: Any, **kwargs: Any) -> Any:
        carried = guarded(Carrying, client)
        return original(client if carried is None else carried, *args, **kwargs)

    return embed


class Carrying(Proxy):
    """A client whose worker threads have the caller's context: who pays, and which span is current."""

    def __init__(self, wrapped: Any) -> None:
        super().__init__(wrapped)
        self._self_executor = Executor(wrapped._executor)

    @property
    def _executor(self) -> Executor:
        return self._self_executor


class Executor(Proxy):
    """An executor whose `map` runs in copies of the context that it is asked in."""

    def map(self, function: Callable[..., Any], *iterables: Any, **options: Any) -> Any:
        """As `concurrent.futures.Executor.map`."""
        context = copy_context()

        # One context cannot be entered by several threads at a time.
        def run(*items: Any) -> Any:
            return context.copy().run(function, *items)

        return self.__wrapped__.map(run, *iterables, **options)
