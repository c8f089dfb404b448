"""`openai` (with Azure and everything OpenAI-compatible) and `anthropic`."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from tests.traffic.calls import Call, NotReplayable, base_url, known, pinned
from tests.traffic.recordings import Exchange, fields
from tests.traffic.server import PIN

OPENAI_METHODS: Final = {
    "/chat/completions": "chat.completions.create",
    "/responses": "responses.create",
    "/responses/compact": "responses.compact",
    "/completions": "completions.create",
    "/embeddings": "embeddings.create",
    "/moderations": "moderations.create",
    "/images/generations": "images.generate",
    "/images/edits": "images.edit",
    "/images/variations": "images.create_variation",
    "/audio/speech": "audio.speech.create",
    "/audio/transcriptions": "audio.transcriptions.create",
    "/audio/translations": "audio.translations.create",
}
"""End of a path → the method of the `openai` client that posts to it."""

COMPATIBLE: Final = frozenset(
    {
        "openai",
        "azure.ai.openai",
        "deepseek",
        "groq",
        "ollama",
        "openrouter",
        "perplexity",
        "together",
        "x_ai",
        "huggingface",
        "mistral_ai",
        "aws.bedrock",
        "cohere",
        "other",
    }
)
"""Providers whose OpenAI-compatible paths people call with the `openai` client."""


OWN_CLIENTS: Final = frozenset({"deepgram", "writer", "aleph_alpha", "ibm.watsonx.ai", "aws.sagemaker", "replicate"})
"""Providers behind no client that is metered."""
OTHER_LIBRARIES: Final = (":generateContent", "/converse", "/rerank")
"""Ends of paths that gateways have for libraries we drive against their own hosts."""
GENERIC: Final = ("/api/v1/images", "/v1/videos")
"""Starts of paths without a method, which people reach by the client's own `get` and `post`."""

PROVIDERS: Final = COMPATIBLE | {"anthropic", "gcp.gemini", "gcp.vertex_ai"}
METERED: Final = ("chat", "responses", "completions", "embeddings", "images", "audio", "moderation", "messages")


LATER: Final = re.compile(r"/responses/[^/]+$|/files/[^/]+/content$|/messages/batches/[^/]+/results$")
"""Reads that tell the usage of work ordered before."""
TOLD_LATER: Final = "charged once a process, however often it is read: test_background, test_batches"


def plan(exchange: Exchange) -> Call | None:
    """How to send a recorded request; None when another client does."""
    if exchange.provider == "other" and exchange.bare_path.endswith(OTHER_LIBRARIES):
        raise NotReplayable("a gateway's path for a library of another provider")
    if exchange.detail in OWN_CLIENTS:
        raise NotReplayable(f"{exchange.detail} has a client of its own, or none; not metered")
    if exchange.operation == "messages" or (exchange.provider == "anthropic" and exchange.operation != "chat"):
        return _anthropic(exchange)
    if exchange.provider not in COMPATIBLE and exchange.operation != "chat":
        return None
    return _openai(exchange)


def client(call: Call, url: str, asynchronous: bool) -> Any:
    """A client for a call."""
    prefix = "Async" if asynchronous else ""
    common: dict[str, Any] = {"api_key": "sk-none", "max_retries": 0, "timeout": 30.0}
    if call.client == "anthropic":
        import anthropic

        return getattr(anthropic, f"{prefix}Anthropic")(base_url=base_url(call, url), **common)
    import openai

    if call.client == "azure":
        return getattr(openai, f"{prefix}AzureOpenAI")(
            azure_endpoint=base_url(call, url),
            azure_deployment=call.deployment,
            api_version="2024-10-21",
            **common,
        )
    return getattr(openai, f"{prefix}OpenAI")(base_url=base_url(call, url), **common)


def _openai(exchange: Exchange) -> Call | None:
    path = exchange.bare_path
    end = next((end for end in sorted(OPENAI_METHODS, key=len, reverse=True) if path.endswith(end)), None)
    ours = exchange.provider == "openai"
    native = exchange.provider == "ollama" and path.startswith("/api/")
    if exchange.method != "POST" or end is None or native or "/threads" in path:
        if exchange.bare_path == "/v1/stt":
            raise NotReplayable("speech to text of x_ai: no client has a method for it")
        if exchange.method == "GET" and LATER.search(path):
            raise NotReplayable(TOLD_LATER)
        return _generic("openai", exchange) if ours or exchange.bare_path.startswith(GENERIC) else None
    root, deployment, client = path.removesuffix(end), None, "openai"
    found = re.fullmatch(r"(.*)/openai/deployments/([^/]+)", root)
    if found:
        client, root, deployment = "azure", found[1], found[2]
    arguments = _form(exchange) if exchange.request is None else fields(exchange.request)
    if not arguments:
        raise NotReplayable("the recorded request is no JSON object")
    if end == "/images/edits" and exchange.request is not None:
        return _generic("openai", exchange)
    arguments = known(_method(client, OPENAI_METHODS[end]), arguments)
    if deployment is not None:
        arguments.setdefault("model", deployment)
    return Call(client, exchange.origin + root, OPENAI_METHODS[end], pinned(arguments, exchange), deployment)


def _anthropic(exchange: Exchange) -> Call:
    path = exchange.bare_path
    if exchange.method == "GET" and LATER.search(path):
        raise NotReplayable(TOLD_LATER)
    if exchange.method != "POST" or not path.endswith("/v1/messages") or not fields(exchange.request):
        return _generic("anthropic", exchange)
    method = "beta.messages.create" if "beta=true" in exchange.path else "messages.create"
    arguments = pinned(known(_method("anthropic", method), fields(exchange.request)), exchange)
    beta = exchange.request_headers.get("anthropic-beta")
    if beta:
        arguments["extra_headers"]["anthropic-beta"] = beta
    return Call("anthropic", exchange.origin + path.removesuffix("/v1/messages"), method, arguments)


def _generic(client: str, exchange: Exchange) -> Call:
    """The client's own untyped request, for paths without a method."""
    verb = exchange.method.lower()
    if verb not in ("get", "post", "delete"):
        raise NotReplayable(f"no generic {verb}")
    arguments: dict[str, Any] = {"cast_to": object, "options": {"headers": {PIN: exchange.id}}}
    if verb == "post":
        arguments["body"] = exchange.request if exchange.request is not None else {}
    return Call(client, exchange.origin, f"{verb}:{exchange.path}", arguments)


def _form(exchange: Exchange) -> dict[str, Any]:
    """Arguments of a multipart request; files are of zeros, the server does not look at them."""
    form: dict[str, Any] = dict(exchange.form or {})
    if not form or "raw_audio_bytes" in form:
        form = {"file": {"filename": "a.wav", "content_type": "audio/wav"}, "model": "whisper-1"}
    for name, value in list(form.items()):
        told = fields(value)
        if told:
            form[name] = (told.get("filename") or "file", bytes(64), told.get("content_type"))
        elif name == "stream":
            form[name] = value == "true"
        elif name == "n":
            form[name] = int(value)
        elif name == "temperature":
            form[name] = float(value)
        elif name.endswith("[]"):
            form[name[:-2]] = [form.pop(name)]
    return form


@lru_cache
def _method(client: str, dotted: str) -> Callable[..., Any]:
    """The plain function behind a dotted method of a client's class."""
    library = importlib.import_module("anthropic" if client == "anthropic" else "openai")
    where: Any = getattr(library, "Anthropic" if client == "anthropic" else "OpenAI")(api_key="x")
    for name in dotted.split("."):
        where = getattr(where, name, None)
        if where is None:
            raise NotReplayable(f"this version of the client has no {dotted}")
    return where.__func__
