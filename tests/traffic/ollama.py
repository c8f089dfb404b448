"""`ollama` by its own client, for its own paths."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from tests.environments import CLIENTS
from tests.traffic.calls import Call, base_url
from tests.traffic.recordings import Exchange, fields
from tests.traffic.server import PIN

ENVIRONMENT: Final = CLIENTS
PROVIDERS: Final = ("ollama",)
METHODS: Final = {
    "/api/chat": "chat",
    "/api/generate": "generate",
    "/api/embed": "embed",
    "/api/embeddings": "embeddings",
}


def plan(exchange: Exchange) -> Call | None:
    """One of its methods; the client is told which recording it is about."""
    method = METHODS.get(exchange.bare_path)
    if method is None:
        return None
    named = inspect.signature(getattr(importlib.import_module("ollama").Client, method)).parameters
    arguments = {name: value for name, value in fields(exchange.request).items() if name in named}
    if "stream" in named:
        # The API streams unless told otherwise, the library asks for either.
        arguments["stream"] = arguments.get("stream") is not False
    return Call("ollama", exchange.origin, method, arguments, deployment=exchange.id)


def client(call: Call, url: str, asynchronous: bool) -> Any:
    """A client for one recording."""
    library = importlib.import_module("ollama")
    kind = library.AsyncClient if asynchronous else library.Client
    return kind(host=base_url(call, url), headers={PIN: call.deployment or ""})


def unfold(result: Any) -> Iterator[Any]:
    """The result; for a generator its kind, then its items."""
    if not inspect.isgenerator(result):
        yield result
        return
    yield ["generator", result.__name__]
    yield from result


async def unfold_async(result: Any) -> AsyncIterator[Any]:
    """As `unfold`."""
    result = await result
    if not inspect.isasyncgen(result):
        yield result
        return
    yield ["generator", result.__name__]
    async for item in result:
        yield item
