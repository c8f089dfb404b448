"""Mistral's own API through `mistralai`."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Final

from tests.environments import CLIENTS
from tests.traffic.calls import Call, NotReplayable
from tests.traffic.recordings import Exchange, fields
from tests.traffic.server import PIN

PROVIDERS: Final = frozenset({"mistral_ai"})
ENVIRONMENT: Final = CLIENTS
METERED: Final = ("chat", "embeddings", "audio")

METHODS: Final = {
    "/v1/chat/completions": "chat.complete",
    "/v1/embeddings": "embeddings.create",
    "/v1/ocr": "ocr.process",
    "/v1/audio/transcriptions": "audio.transcriptions.complete",
    "/v1/files": "files.upload",
}
RENAMED: Final = {"input": "inputs"}
STREAM: Final = {"chat.complete": "chat.stream", "audio.transcriptions.complete": "audio.transcriptions.stream"}


def plan(exchange: Exchange) -> Call | None:
    """How to send a recorded request; None when another client does."""
    if not exchange.origin.endswith("//api.mistral.ai"):
        return None
    method = METHODS.get(exchange.bare_path)
    if method is None or exchange.method != "POST":
        raise NotReplayable("the client has no such method")
    body = dict(fields(exchange.request)) if exchange.form is None else _form(exchange.form)
    if body.pop("stream", False):
        method = STREAM[method]
    arguments = {RENAMED.get(name, name): value for name, value in body.items()}
    return Call("mistralai", "", method, {**arguments, "http_headers": {PIN: exchange.id}})


def beyond(exchange: Exchange) -> Mapping[str, Any] | None:
    """The files call reading documents another operation."""
    return exchange.truth or {} if exchange.bare_path == "/v1/ocr" else None


def client(call: Call, url: str, asynchronous: bool) -> Any:
    """A client, and what its asynchronous methods end in."""
    from mistralai.client import Mistral  # pyright: ignore[reportMissingImports, reportUnknownVariableType]

    del call
    return Mistral(api_key="none", server_url=url), "_async" if asynchronous else ""


def invoke(client: tuple[Any, str], call: Call) -> Any:
    """Make the call; fields that the method does not know are no part of what the client sends."""
    where, suffix = client
    *names, last = call.method.split(".")
    for name in names:
        where = getattr(where, name)
    method = getattr(where, last + suffix)
    known = inspect.signature(method).parameters
    return method(**{name: value for name, value in call.arguments.items() if name in known})


def unfold(result: Any) -> Iterator[Any]:
    """The result; for a stream its class, then its events."""
    if not hasattr(result, "__next__"):
        yield result
        return
    yield ["stream", f"{type(result).__module__}.{type(result).__qualname__}", result.response.status_code]
    yield from result


async def unfold_async(result: Any) -> AsyncIterator[Any]:
    """As `unfold`."""
    result = await result
    if not hasattr(result, "__anext__"):
        yield result
        return
    yield ["stream", f"{type(result).__module__}.{type(result).__qualname__}", result.response.status_code]
    async for event in result:
        yield event


def _form(form: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a multipart request; files are of zeros, the server does not look at them."""
    told = {name: value for name, value in form.items() if name != "file"}
    return {**told, "file": {"file_name": fields(form.get("file")).get("filename", "a"), "content": bytes(64)}}
