"""The seam of `litellm`, for what it sends itself.

It calls OpenAI, Azure and most compatible servers through the `openai` package, whose own seam meters them. All other
providers are called through `HTTPHandler.post` and `AsyncHTTPHandler.post`, which are patched here. What its Rust core
sends (`LITELLM_RUST`, OCR) is seen by nobody in Python.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import wraps
from types import ModuleType
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from genai_meter import dialects, guard
from genai_meter.call import Call, Target
from genai_meter.clients import lifecycle, raw
from genai_meter.clients.patches import OneModule, Patches
from genai_meter.clients.rest import Exchange
from genai_meter.clients.targets import provider_of
from genai_meter.dialects import Dialect, by_name
from genai_meter.dialects.base import fields
from genai_meter.safety import guarded

MODEL: Final = re.compile(r"/models?/([^/]+?)(?::[A-Za-z]+)?(?:/|$)")
"""A model in a path: Google, Bedrock."""
ANTHROPIC_ON_VERTEX: Final = re.compile(r"/publishers/anthropic/models/[^/]+:(stream)?[rR]awPredict$")

PROVIDERS: Final = {
    "gemini": "gcp.gemini",
    "vertex_ai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "cohere_chat": "cohere",
    "mistral": "mistral_ai",
    "xai": "x_ai",
    "together_ai": "together",
    "fireworks_ai": "fireworks",
    "watsonx": "ibm.watsonx.ai",
    "ollama_chat": "ollama",
    "hosted_vllm": "vllm",
}
"""LiteLLM's name of a provider → `gen_ai.provider.name`, for hosts that say nothing."""

AWS_SIGNATURE: Final = "AWS4-"
PARAMETERS: Final = ("url", "data", "json", "params", "headers")
"""First parameters of both `post`s."""


class Seam(OneModule):
    """The patches of `litellm.llms.custom_httpx.http_handler`."""

    def unsupported(self, module: ModuleType) -> str | None:
        """Why this version cannot be metered; None when it can."""
        owners = getattr(module, "HTTPHandler", None), getattr(module, "AsyncHTTPHandler", None)
        known = all(isinstance(owner, type) and "post" in vars(owner) for owner in owners)
        return None if known else "HTTPHandler.post is missing"

    def patch(self, module: ModuleType, patches: Patches) -> None:
        """Put ours in the place of both `post`s."""
        patches.put(module.HTTPHandler, "post", lambda original: _sync(original, patches))
        patches.put(module.AsyncHTTPHandler, "post", lambda original: _async(original, patches))
        patches.put(
            module.AsyncHTTPHandler, "single_connection_post_request", lambda original: _again(original, patches)
        )


def _sync(original: Callable[..., Any], patches: Patches) -> Callable[..., Any]:
    @wraps(original)
    def post(handler: Any, *args: Any, **kwargs: Any) -> Any:
        exchange = guarded(_exchange, args, kwargs) if patches.active else None
        if exchange is None:
            return original(handler, *args, **kwargs)
        if lifecycle.decide(exchange.call):
            args, kwargs = guarded(_changed, exchange.call, args, kwargs) or (args, kwargs)
        guarded(_send, exchange)
        try:
            response = original(handler, *args, **kwargs)
        except BaseException as error:
            guarded(_failed, exchange, error)
            raise
        finally:
            guarded(exchange.release)
        guarded(_returned, exchange, response)
        return response

    return post


def _async(original: Callable[..., Any], patches: Patches) -> Callable[..., Any]:
    @wraps(original)
    async def post(handler: Any, *args: Any, **kwargs: Any) -> Any:
        exchange = guarded(_exchange, args, kwargs) if patches.active else None
        if exchange is None:
            return await original(handler, *args, **kwargs)
        if await lifecycle.decide_async(exchange.call):
            args, kwargs = guarded(_changed, exchange.call, args, kwargs) or (args, kwargs)
        guarded(_send, exchange)
        try:
            response = await original(handler, *args, **kwargs)
        except BaseException as error:
            guarded(_failed, exchange, error)
            raise
        finally:
            guarded(exchange.release)
        guarded(_returned, exchange, response)
        return response

    return post


def _again(original: Callable[..., Any], patches: Patches) -> Callable[..., Any]:
    """What `AsyncHTTPHandler.post` does when its connection was dead: one more attempt."""

    @wraps(original)
    async def single_connection_post_request(handler: Any, *args: Any, **kwargs: Any) -> Any:
        call = lifecycle.current.get() if patches.active else None
        if call is not None and call.attempts:
            guarded(lifecycle.attempt_failed, call)
            guarded(lifecycle.begin_attempt, call)
        return await original(handler, *args, **kwargs)

    return single_connection_post_request


def _changed(
    call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """The arguments with what the guard decided; None where it cannot be done: a signed body, a model in the path."""
    given: dict[str, Any] = {**dict(zip(PARAMETERS, args, strict=False)), **kwargs}
    name = next((name for name in ("json", "data") if given.get(name)), None)
    signed = str(fields(given.get("headers")).get("Authorization", "")).startswith(AWS_SIGNATURE)
    in_path = "model" in (call.decision.change or {}) and MODEL.search(urlsplit(str(given["url"])).path)
    if len(args) > len(PARAMETERS) or name is None or signed or in_path:
        call.decision = guard.ALLOW
        return None
    changes: dict[str, Any] = dict(call.decision.change or {})
    body = call.prepared.dialect.apply(_body_of(given), **changes)
    kind = given[name].__class__
    given[name] = body if kind is dict else json.dumps(body) if kind is str else json.dumps(body).encode()
    return (), given


def _send(exchange: Exchange) -> None:
    guarded(exchange.enter)
    guarded(exchange.begin)
    guarded(exchange.activate)


def _returned(exchange: Exchange, response: Any) -> None:
    if response.is_closed or response.status_code >= 400:
        exchange.returned(response)
        return
    guarded(exchange.answered, response)
    tail = Tail(exchange.call, response.headers, response.__class__)
    tail.watch(response)
    raw.listen(response, tail)


class Tail(raw.Bytes):
    """The bytes of a stream. Ends with the last event that matters: litellm may read no further, and keeps it."""

    __slots__ = ()

    def take(self, item: bytes) -> bool:
        super().take(item)
        reading = self.call.reading
        # Where no usage is told, the end of an OpenAI stream is.
        done = reading.terminal and b"[DONE]" in item
        if done or (reading.fidelity == "final" and (reading.terminal or self._told_all())):
            guarded(self.exhausted)
        return False

    def _told_all(self) -> bool:
        """Anthropic's last event but one tells the whole usage; litellm stops there."""
        return self.call.prepared.dialect.name == "anthropic_messages" and bool(self.call.reading.finish_reasons)


def _failed(exchange: Exchange, error: BaseException) -> None:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if isinstance(status, int):
        lifecycle.answered(exchange.call, status, lifecycle.request_id_of(getattr(response, "headers", None)))
    exchange.failed(error)


def _exchange(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Exchange | None:
    """What is about to be sent, when it is a call that is metered."""
    given: dict[str, Any] = {**dict(zip(PARAMETERS, args, strict=False)), **kwargs}
    url = urlsplit(str(given["url"]))
    dialect = dialect_of(url.path)
    if dialect is None or lifecycle.is_nested(dialect):
        return None
    body = _body_of(given)
    request = dialect.request(body)
    request.stream = bool(given.get("stream"))
    if request.background:
        # The answer comes with a later retrieval.
        return None
    if request.model is None and (found := MODEL.search(url.path)):
        request.model = unquote(found[1])
    host = url.hostname or ""
    named = fields(getattr(given.get("logging_obj"), "model_call_details", None))
    asked = str(named.get("custom_llm_provider") or "litellm")
    target = Target(
        provider=provider_of(host, "", PROVIDERS.get(asked, asked), url.port, url.path),
        host=host,
        port=url.port,
        api_key=key_of(given.get("headers")),
        sdk="litellm",
    )
    return Exchange(lifecycle.prepare(target, dialect, request, body))


def dialect_of(path: str) -> Dialect | None:
    """The wire format of what is sent to a path; None when it is not metered."""
    if ANTHROPIC_ON_VERTEX.search(path):
        return by_name("anthropic_messages")
    return dialects.for_path("POST", path)


def _body_of(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The JSON body, or the fields of a form."""
    body: Any = given.get("json") or given.get("data") or given.get("content")
    return fields(json.loads(body) if isinstance(body, str | bytes) else body)


def key_of(headers: Any) -> str | None:
    """The provider's API key."""
    named = {name.lower(): str(value) for name, value in fields(headers).items()}
    key = (
        named.get("x-api-key") or named.get("x-goog-api-key") or named.get("authorization", "").removeprefix("Bearer ")
    )
    return None if not key or key.startswith(AWS_SIGNATURE) else key
