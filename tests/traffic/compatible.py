"""`groq`, `together` and `cerebras` by their own clients."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from tests.environments import CLIENTS
from tests.traffic.calls import Call, base_url, known, pinned
from tests.traffic.recordings import Exchange, fields

ENVIRONMENT: Final = CLIENTS
PROVIDERS: Final = ("groq", "together", "other")
ROOTS: Final = {"groq": "/openai/v1", "together": "/v1", "cerebras": "/v1"}
"""What each client puts between its base URL and the end of a path."""
METHODS: Final = {"/chat/completions": "chat.completions.create", "/completions": "completions.create"}
OPTIONS: Final[dict[str, Any]] = {"api_key": "sk-none", "max_retries": 0, "timeout": 30.0}


def plan(exchange: Exchange) -> Call | None:
    """A chat or a completion."""
    name = exchange.detail if exchange.provider == "other" else exchange.provider
    root = ROOTS.get(name or "")
    if name is None or root is None or exchange.method != "POST" or not fields(exchange.request):
        return None
    method = METHODS.get(exchange.bare_path.removeprefix(root))
    if method is None:
        return None
    arguments = known(_method(name, method), fields(exchange.request))
    return Call(name, exchange.origin, method, pinned(arguments, exchange))


def client(call: Call, url: str, asynchronous: bool) -> Any:
    """A client for a call."""
    return _class(call.client, asynchronous)(base_url=base_url(call, url), **_options(call.client))


def _options(name: str) -> dict[str, Any]:
    return OPTIONS | ({"warm_tcp_connection": False} if name == "cerebras" else {})


def _class(name: str, asynchronous: bool) -> Any:
    module = importlib.import_module("cerebras.cloud.sdk" if name == "cerebras" else name)
    return getattr(module, ("Async" if asynchronous else "") + name.capitalize())


@lru_cache
def _method(name: str, dotted: str) -> Callable[..., Any]:
    where: Any = _class(name, False)(**_options(name))
    for part in dotted.split("."):
        where = getattr(where, part)
    # `together` has a wrapper with keyword arguments alone; what it wraps names them.
    return inspect.unwrap(where.__func__)
