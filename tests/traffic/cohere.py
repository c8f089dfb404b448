"""Cohere's API, both versions, through `cohere`."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Final

from tests.environments import CLIENTS
from tests.traffic.calls import Call, NotReplayable
from tests.traffic.recordings import Exchange, fields
from tests.traffic.server import PIN

PROVIDERS: Final = frozenset({"cohere"})
ENVIRONMENT: Final = CLIENTS
METERED: Final = ("chat", "embeddings", "audio")

METHODS: Final = {
    "/v1/chat": ("Client", "chat"),
    "/v1/rerank": ("Client", "rerank"),
    "/v2/chat": ("ClientV2", "chat"),
    "/v2/embed": ("ClientV2", "embed"),
    "/v2/rerank": ("ClientV2", "rerank"),
    "/v2/audio/transcriptions": ("ClientV2", "audio.transcriptions.create"),
}
"""Path → class of the client and method."""


def plan(exchange: Exchange) -> Call | None:
    """How to send a recorded request; None when another client does."""
    if not exchange.origin.partition("//")[2].startswith("api.cohere."):
        return None
    found = METHODS.get(exchange.bare_path)
    if found is None:
        return None
    kind, method = found
    body = dict(fields(exchange.request)) if exchange.form is None else _form(exchange.form)
    if not body:
        raise NotReplayable("the recorded request is no JSON object")
    if body.pop("stream", False):
        method += "_stream"
    return Call(kind, "", method, {**body, "request_options": {"additional_headers": {PIN: exchange.id}}})


def beyond(exchange: Exchange) -> Mapping[str, Any] | None:
    """The files count no searches as metered calls."""
    return exchange.truth or {} if exchange.bare_path.endswith("/rerank") else None


def client(call: Call, url: str, asynchronous: bool) -> Any:
    """A client for a call."""
    import cohere

    found = getattr(cohere, ("Async" if asynchronous else "") + call.client)
    return found(api_key="none", base_url=url)


def invoke(client: Any, call: Call) -> Any:
    """Make the call; what the method does not know goes through its options."""
    method = client
    for name in call.method.split("."):
        method = getattr(method, name)
    plain = inspect.getattr_static(client.__class__, call.method, None)
    known = inspect.signature(plain or method).parameters
    more = {name: value for name, value in call.arguments.items() if name not in known}
    arguments = {name: value for name, value in call.arguments.items() if name in known}
    if more:
        arguments["request_options"] = {**arguments["request_options"], "additional_body_parameters": more}
    return method(**arguments)


def unfold(result: Any) -> Iterator[Any]:
    """The result; for a stream that it is a generator, then its events."""
    if not hasattr(result, "__next__"):
        yield result
        return
    yield ["stream", f"{type(result).__module__}.{type(result).__qualname__}"]
    yield from result


async def unfold_async(result: Any) -> AsyncIterator[Any]:
    """As `unfold`."""
    if not hasattr(result, "__anext__"):
        yield await result
        return
    yield ["stream", f"{type(result).__module__}.{type(result).__qualname__}"]
    async for event in result:
        yield event


def _form(form: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a multipart request; files are of zeros, the server does not look at them."""
    told = {name: value for name, value in form.items() if name != "file"}
    return {**told, "file": ("a.wav", bytes(64), "audio/wav")}
