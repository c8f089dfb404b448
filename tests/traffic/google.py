"""Google: the Gemini API and Vertex AI through `google-genai`.

What its typed methods refuse (requests of other libraries, and answers of other times) goes through the same
client's untyped request, which is what those methods end in.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Final

from tests.environments import CLIENTS
from tests.traffic.calls import Call, NotReplayable, base_url
from tests.traffic.recordings import Exchange, fields
from tests.traffic.server import PIN

PROVIDERS: Final = frozenset({"gcp.gemini", "gcp.vertex_ai"})
ENVIRONMENT: Final = CLIENTS
METERED: Final = ("generate_content",)

_PATH: Final = re.compile(r"/((?:upload/)?v[^/]+)/(?:projects/([^/]+)/locations/([^/]+)/)?(.+)")
_MODEL: Final = re.compile(r"(?:publishers/google/)?models/([^/:]+):(generateContent|streamGenerateContent)")
_kept: Final[list[Any]] = []
"""Clients, which close their connections when they are dropped."""


def plan(exchange: Exchange) -> Call | None:
    """How to send a recorded request; None when another client does."""
    found = _PATH.fullmatch(exchange.bare_path)
    if found is None or "/openai/" in exchange.bare_path:
        return None
    if exchange.framing == "json_array":
        raise NotReplayable("the client asks for a stream of events, this is an older one's JSON array")
    if exchange.status == 302:
        raise NotReplayable("a redirect, away from the recorded host")
    version, project, location, rest = found.groups()
    kind = f"{'vertex' if exchange.provider == 'gcp.vertex_ai' else 'gemini'} {version} {project} {location}"
    if rest == "interactions":
        arguments = {**fields(exchange.request), "extra_headers": {PIN: exchange.id}}
        return Call(kind, exchange.origin, "interactions.create", arguments)
    return Call(kind, exchange.origin, *(_typed(exchange, rest) or _untyped(exchange, rest)))


def beyond(exchange: Exchange) -> Mapping[str, Any] | None:
    """Interactions and the order of a video are metered; the files call them other operations."""
    if exchange.bare_path.endswith("/interactions"):
        return exchange.truth or {}
    return {} if exchange.bare_path.endswith(":predictLongRunning") else None


def client(call: Call, url: str, asynchronous: bool) -> Any:
    """A client for a call."""
    genai, types = _library()
    # It says a word about every tool that is no Python function.
    logging.getLogger("google_genai").setLevel(logging.ERROR)
    kind, version, project, location = call.client.split()
    options: Any = types.HttpOptions(base_url=base_url(call, url), api_version=version)
    if kind == "vertex":
        credentials: Any = importlib.import_module("google.oauth2.credentials").Credentials("none")
        made: Any = genai.Client(
            vertexai=True, project=project, location=location, credentials=credentials, http_options=options
        )
    else:
        made = genai.Client(api_key="none", http_options=options)
    _kept.append(made)
    return made.aio if asynchronous else made


def invoke(client: Any, call: Call) -> Any:
    """Make the call; the untyped request has other names in the asynchronous client."""
    where, asynchronous = client, type(client).__name__.startswith("Async")
    *path, name = call.method.split(".")
    for step in path:
        where = getattr(where, step)
    if path == ["_api_client"] and asynchronous:
        name = f"async_{name}"
    return getattr(where, name)(**call.arguments)


def unfold(result: Any) -> Iterator[Any]:
    """The result; for a stream its class, then its items."""
    if not _is_stream(result):
        yield result
        return
    yield ["stream", f"{type(result).__module__}.{type(result).__qualname__}"]
    yield from result


async def unfold_async(result: Any) -> AsyncIterator[Any]:
    """As `unfold`."""
    result = await result
    if not _is_stream(result):
        yield result
        return
    yield ["stream", f"{type(result).__module__}.{type(result).__qualname__}"]
    async for item in result:
        yield item


def _library() -> tuple[Any, Any]:
    """Not in the test suite's own environment."""
    return importlib.import_module("google.genai"), importlib.import_module("google.genai.types")


def _is_stream(result: Any) -> bool:
    return inspect.isgenerator(result) or inspect.isasyncgen(result) or type(result).__name__.endswith("Stream")


def _typed(exchange: Exchange, rest: str) -> tuple[str, dict[str, Any]] | None:
    """`generate_content` and its stream, where their types accept the request."""
    found, body = _MODEL.fullmatch(rest), fields(exchange.request)
    if found is None:
        return None
    _, types = _library()
    around = {name: value for name, value in body.items() if name not in ("contents", "generationConfig", "model")}
    try:
        config: Any = types.GenerateContentConfig.model_validate({**fields(body.get("generationConfig")), **around})
        contents = [types.Content.model_validate(content) for content in body.get("contents", [])]
    except (ValueError, AttributeError, TypeError):
        return None
    config.http_options = types.HttpOptions(headers={PIN: exchange.id})
    method = "generate_content" if found[2] == "generateContent" else "generate_content_stream"
    return f"models.{method}", {"model": found[1], "contents": contents, "config": config}


def _untyped(exchange: Exchange, rest: str) -> tuple[str, dict[str, Any]]:
    _, types = _library()
    stream = exchange.streaming or rest.endswith(":streamGenerateContent")
    return f"_api_client.request{'_streamed' if stream else ''}", {
        "http_method": exchange.method.lower(),
        "path": f"{rest}?alt=sse" if stream else rest,
        "request_dict": fields(exchange.request),
        "http_options": types.HttpOptions(headers={PIN: exchange.id}),
    }
