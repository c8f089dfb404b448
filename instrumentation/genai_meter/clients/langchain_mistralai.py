"""The seam of `langchain-mistralai`: Mistral's API, called with a bare `httpx` client.

    chat_models   ChatMistralAI.completion_with_retry, acompletion_with_retry: below everything that asks a model
    embeddings    MistralAIEmbeddings.embed_documents, aembed_documents: below everything that embeds

They send by `post` and `stream` of the model's HTTP client, which is the caller's own or like anybody's: it is not
patched. They are handed a view of the model instead, whose clients meter. An attempt more is a call more, a batch of
documents too: each is a request of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import wrapt

from genai_meter import dialects
from genai_meter.call import Target
from genai_meter.clients import lifecycle
from genai_meter.clients.endings import Ending
from genai_meter.clients.litellm import key_of
from genai_meter.clients.patches import Patches
from genai_meter.clients.rest import Exchange
from genai_meter.clients.targets import provider_of
from genai_meter.safety import guarded, logger

if TYPE_CHECKING:
    Proxy = wrapt.ObjectProxy[Any]
else:
    Proxy = wrapt.ObjectProxy

SENDERS: Final = {
    "chat_models": (("ChatMistralAI", "completion_with_retry"), ("", "acompletion_with_retry")),
    "embeddings": (("MistralAIEmbeddings", "embed_documents"), ("MistralAIEmbeddings", "aembed_documents")),
}
"""Module → class, or none for the module itself, and what sends: sync and async."""
PATHS: Final = {"/chat/completions": "mistral/chat", "/embeddings": "v1/embeddings"}
"""What the library posts to → logical path."""


class Seam:
    """The patches of both modules."""

    def __init__(self, package: str) -> None:
        self.package = package
        self._patches: Patches | None = None

    def install(self, module: ModuleType) -> None:
        """Patch what sends in a module; again is nothing."""
        patches = self._patches = self._patches or Patches()
        senders = SENDERS[module.__name__.rpartition(".")[2]]
        for (name, method), make in zip(senders, (_sync, _async), strict=True):
            owner: Any = getattr(module, name, None) if name else module
            if method not in getattr(owner, "__dict__", ()):
                logger.warning("genai_meter: %s is installed but not metered: %s is missing", module.__name__, method)
                continue
            patches.put(owner, method, lambda original, make=make: make(original, patches))

    def remove(self) -> None:
        """Put every original back."""
        if self._patches is not None:
            self._patches.remove()
            self._patches = None


def _sync(original: Callable[..., Any], patches: Patches) -> Callable[..., Any]:
    @wraps(original)
    def send(*args: Any, **kwargs: Any) -> Any:
        return original(*_seen(args, patches), **kwargs)

    return send


def _async(original: Callable[..., Any], patches: Patches) -> Callable[..., Any]:
    @wraps(original)
    async def send(*args: Any, **kwargs: Any) -> Any:
        return await original(*_seen(args, patches), **kwargs)

    return send


def _seen(args: tuple[Any, ...], patches: Patches) -> tuple[Any, ...]:
    """The arguments with a view of the model in its place."""
    return (Model(args[0]), *args[1:]) if patches.active and args else args


class Model(Proxy):
    """A model or embeddings, with HTTP clients that meter."""

    @property
    def client(self) -> Any:
        """The synchronous one."""
        return SyncClient(self.__wrapped__.client)

    @property
    def async_client(self) -> Any:
        """The asynchronous one."""
        return AsyncClient(self.__wrapped__.async_client)


class SyncClient(Proxy):
    """An `httpx.Client`: a request of it is a call."""

    def post(self, *args: Any, **kwargs: Any) -> Any:
        """A request whose answer is read at once."""
        client = self.__wrapped__
        exchange = guarded(_exchange, client, args, kwargs)
        if exchange is None:
            return client.post(*args, **kwargs)
        if lifecycle.decide(exchange.call):
            kwargs = guarded(_changed, exchange, kwargs) or kwargs
        guarded(_send, exchange)
        try:
            response = client.post(*args, **kwargs)
        except BaseException as error:
            guarded(exchange.failed, error)
            raise
        finally:
            guarded(exchange.release)
        guarded(exchange.returned, response)
        return response

    def stream(self, *args: Any, **kwargs: Any) -> Any:
        """A request whose answer is a stream, sent when the block is entered."""
        client = self.__wrapped__
        exchange = guarded(_exchange, client, args, kwargs)
        if exchange is None:
            return client.stream(*args, **kwargs)
        return Opened(client, args, kwargs, exchange)


class AsyncClient(Proxy):
    """As `SyncClient`."""

    async def post(self, *args: Any, **kwargs: Any) -> Any:
        """A request whose answer is read at once."""
        client = self.__wrapped__
        exchange = guarded(_exchange, client, args, kwargs)
        if exchange is None:
            return await client.post(*args, **kwargs)
        if await lifecycle.decide_async(exchange.call):
            kwargs = guarded(_changed, exchange, kwargs) or kwargs
        guarded(_send, exchange)
        try:
            response = await client.post(*args, **kwargs)
        except BaseException as error:
            guarded(exchange.failed, error)
            raise
        finally:
            guarded(exchange.release)
        guarded(exchange.returned, response)
        return response

    def stream(self, *args: Any, **kwargs: Any) -> Any:
        """A request whose answer is a stream, sent when the block is entered."""
        client = self.__wrapped__
        exchange = guarded(_exchange, client, args, kwargs)
        if exchange is None:
            return client.stream(*args, **kwargs)
        return Opened(client, args, kwargs, exchange)


class Opened:
    """In the place of what `stream` of a client gives: the response is there for as long as the block lasts."""

    def __init__(self, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any], exchange: Exchange) -> None:
        self._client = client
        self._args = args
        self._kwargs = kwargs
        self._exchange = exchange
        self._opened: Any = None
        self._ending: Ending | None = None

    def __enter__(self) -> Any:
        exchange, kwargs = self._exchange, self._kwargs
        if lifecycle.decide(exchange.call):
            kwargs = guarded(_changed, exchange, kwargs) or kwargs
        self._opened = self._client.stream(*self._args, **kwargs)
        guarded(_send, exchange)
        try:
            response = self._opened.__enter__()
        except BaseException as error:
            guarded(exchange.failed, error)
            raise
        finally:
            guarded(exchange.release)
        self._ending = guarded(exchange.returned, response)
        return response

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Any:
        guarded(_left, self._ending, error)
        return self._opened.__exit__(kind, error, traceback)

    async def __aenter__(self) -> Any:
        exchange, kwargs = self._exchange, self._kwargs
        if await lifecycle.decide_async(exchange.call):
            kwargs = guarded(_changed, exchange, kwargs) or kwargs
        self._opened = self._client.stream(*self._args, **kwargs)
        guarded(_send, exchange)
        try:
            response = await self._opened.__aenter__()
        except BaseException as error:
            guarded(exchange.failed, error)
            raise
        finally:
            guarded(exchange.release)
        self._ending = guarded(exchange.returned, response)
        return response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Any:
        guarded(_left, self._ending, error)
        return await self._opened.__aexit__(kind, error, traceback)


def _left(ending: Ending | None, error: BaseException | None) -> None:
    # Without an error the response is closed next, which is seen there.
    if ending is not None and error is not None:
        ending.left(error)


def _exchange(client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Exchange | None:
    """What is about to be sent, when it is a call that is metered."""
    path = PATHS.get(kwargs["url"] if "url" in kwargs else args[-1])
    dialect = dialects.for_path("POST", path) if path is not None else None
    if dialect is None or lifecycle.is_nested(dialect):
        return None
    body = kwargs["json"]
    # As text: the client may be a mock, whose attributes never end.
    url = urlsplit(str(client.base_url))
    host = url.hostname or ""
    target = Target(
        provider=provider_of(host, "", "mistral_ai", url.port, url.path),
        host=host,
        port=url.port,
        api_key=key_of(dict(client.headers)),
        sdk="langchain_mistralai",
    )
    return Exchange(lifecycle.prepare(target, dialect, dialect.request(body), body))


def _changed(exchange: Exchange, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments with what the guard decided; the caller's own are not touched."""
    changes: dict[str, Any] = dict(exchange.call.decision.change or {})
    return {**kwargs, "json": exchange.call.prepared.dialect.apply(kwargs["json"], **changes)}


def _send(exchange: Exchange) -> None:
    guarded(exchange.enter)
    guarded(exchange.begin)
    guarded(exchange.activate)
