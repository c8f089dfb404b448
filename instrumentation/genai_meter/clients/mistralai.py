"""The seam of `mistralai`: every method of every client of every major version, and its Azure and Vertex copies.

    <root>.basesdk                BaseSDK.do_request, do_request_async: the call; retries happen inside
    <root>.basesdk                get_body_content: runs in the context that sends, before each attempt
    <root>._hooks.sdkhooks        SDKHooks.before_request: once for each attempt; after_success, after_error
    <root>.utils.retries          TemporaryError: the answer of an attempt that will be repeated
    <root>.utils.eventstreaming   EventStream, EventStreamAsync: what the caller holds

Answers come as HTTP responses, errors of the provider too. The call travels in the request's `extensions`.
"""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable, Mapping
from functools import partial, wraps
from types import ModuleType
from typing import Any, Final

from opentelemetry.context import attach, detach
from opentelemetry.trace import Span, set_span_in_context

from genai_meter import dialects, interop, semconv
from genai_meter.call import Target
from genai_meter.clients import lifecycle, raw, rest
from genai_meter.clients.patches import Patches
from genai_meter.clients.targets import provider_of
from genai_meter.safety import guarded, logger

CLIENTS: Final = {
    "mistralai": ("mistralai.Mistral", "mistral_ai"),
    "mistralai.client": ("mistralai.Mistral", "mistral_ai"),
    "mistralai.azure.client": ("mistralai.MistralAzure", "azure.ai.inference"),
    "mistralai_azure": ("mistralai.MistralAzure", "azure.ai.inference"),
    "mistralai.gcp.client": ("mistralai.MistralGCP", "gcp.vertex_ai"),
    "mistralai_gcp": ("mistralai.MistralGCP", "gcp.vertex_ai"),
}
"""Root of a copy of the library's code → the client it is for, and who is paid when the host says nothing."""

PATHS: Final = {
    "chat_completion_v1_chat_completions_post": "mistral/chat",
    "stream_chat": "mistral/chat",
    "fim_completion_v1_fim_completions_post": "fim/completions",
    "stream_fim": "fim/completions",
    "agents_completion_v1_agents_completions_post": "agents/completions",
    "stream_agents": "agents/completions",
    "agents_api_v1_conversations_start": "mistral/conversations",
    "agents_api_v1_conversations_start_stream": "mistral/conversations",
    "agents_api_v1_conversations_append": "mistral/conversations",
    "agents_api_v1_conversations_append_stream": "mistral/conversations",
    "agents_api_v1_conversations_restart": "mistral/conversations",
    "agents_api_v1_conversations_restart_stream": "mistral/conversations",
    "create_response_v1_responses_post": "v1/responses",
    "embeddings_v1_embeddings_post": "v1/embeddings",
    "ocr_v1_ocr_post": "v1/ocr",
    "audio_api_v1_transcriptions_post": "mistral/transcriptions",
    "audio_api_v1_transcriptions_post_stream": "mistral/transcriptions",
    "speech_v1_audio_speech_post": "audio/speech",
    "moderations_v1_moderations_post": "mistral/moderations",
    "chat_moderations_v1_chat_moderations_post": "mistral/moderations",
    "classifications_v1_classifications_post": "mistral/classifications",
    "chat_classifications_v1_chat_classifications_post": "mistral/classifications",
}
"""Operation → logical path. The real one differs between the copies; what is not here is not metered."""

EXTENSION: Final = "genai_meter"
"""Where in the extensions of a request its call is."""

INVOKE_AGENT: Final = "invoke_agent"
"""What the library's own tracing calls conversations and agents' completions."""

_REGIONAL: Final = "-aiplatform.googleapis.com"


class Seam:
    """The patches of all copies of the library's code."""

    def __init__(self, package: str) -> None:
        self.package = package
        self._patches = Patches()

    def install(self, module: ModuleType) -> None:
        """Patch one module of one copy. A module that we do not understand is left alone."""
        root, _, part = module.__name__.rpartition(".")
        if part == "basesdk":
            self._install_base(module, root)
            return
        for owner, name, make in PARTS.get(part, ()):
            # Older versions have fewer of them.
            found = getattr(module, owner, None)
            if found is not None:
                self._patches.put(found, name, make)

    def remove(self) -> None:
        """Put every original back."""
        self._patches.remove()

    def _install_base(self, module: ModuleType, root: str) -> None:
        reason = unsupported(module)
        if reason is not None:
            logger.warning("genai_meter: %s is installed but not metered: %s", root, reason)
            return
        put, base = self._patches.put, module.BaseSDK
        put(base, "do_request", partial(self._request, root))
        put(base, "do_request_async", partial(self._request_async, root))
        put(module, "get_body_content", _get_body_content)

    def _request(self, root: str, original: Callable[..., Any]) -> Callable[..., Any]:
        patches, layer = self._patches, self._patches.layer

        @wraps(original)
        def do_request(sdk: Any, *args: Any, **kwargs: Any) -> Any:
            exchange = guarded(_exchange, root, args, kwargs) if patches.layer is layer else None
            if exchange is None:
                return original(sdk, *args, **kwargs)
            if lifecycle.decide(exchange.call):
                args, kwargs = guarded(_changed, exchange, args, kwargs) or (args, kwargs)
            guarded(exchange.enter)
            try:
                response = original(sdk, *args, **kwargs)
            except BaseException as error:
                guarded(exchange.failed, error)
                raise
            finally:
                guarded(exchange.release)
            guarded(exchange.returned, response)
            return response

        return do_request

    def _request_async(self, root: str, original: Callable[..., Any]) -> Callable[..., Any]:
        patches, layer = self._patches, self._patches.layer

        @wraps(original)
        async def do_request_async(sdk: Any, *args: Any, **kwargs: Any) -> Any:
            exchange = guarded(_exchange, root, args, kwargs) if patches.layer is layer else None
            if exchange is None:
                return await original(sdk, *args, **kwargs)
            if await lifecycle.decide_async(exchange.call):
                args, kwargs = guarded(_changed, exchange, args, kwargs) or (args, kwargs)
            guarded(exchange.enter)
            try:
                response = await original(sdk, *args, **kwargs)
            except BaseException as error:
                guarded(exchange.failed, error)
                raise
            finally:
                guarded(exchange.release)
            guarded(exchange.returned, response)
            return response

        return do_request_async


def unsupported(module: ModuleType) -> str | None:
    """Why this `basesdk` cannot be metered; None when it can."""
    base = getattr(module, "BaseSDK", None)
    for name in ("do_request", "do_request_async"):
        if name not in vars(base or object):
            return f"BaseSDK.{name} is missing"
        if list(inspect.signature(getattr(base, name)).parameters)[1:3] != ["hook_ctx", "request"]:
            return f"BaseSDK.{name} has other parameters"
    return None


# --- before the request leaves ------------------------------------------------------------------------
def _exchange(root: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> rest.Exchange | None:
    """What the library is about to do, when it is a call that is metered."""
    context = kwargs["hook_ctx"] if "hook_ctx" in kwargs else args[0]
    request = kwargs["request"] if "request" in kwargs else args[1]
    path = PATHS.get(context.operation_id)
    dialect = dialects.for_path("POST", path) if path is not None else None
    if dialect is None or lifecycle.is_nested(dialect):
        return None
    body = _body(request)
    view = dialect.request(body)
    view.stream = bool(kwargs.get("stream"))
    if path == "mistral/conversations":
        view.conversation_id = _conversation(request.url.path)
    exchange = rest.Exchange(lifecycle.prepare(_target(root, request), dialect, view, body))
    request.extensions[EXTENSION] = exchange
    return exchange


def _body(request: Any) -> Mapping[str, Any]:
    """The JSON body, or the fields of a form that are no files."""
    parts = getattr(request.stream, "fields", None)
    if parts is not None:
        return {part.name: part.value for part in parts if isinstance(getattr(part, "value", None), str)}
    body = json.loads(request.content) if request.content else None
    return body if isinstance(body, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def _conversation(path: str) -> str | None:
    """The conversation that is appended to."""
    _, found, rest_of_path = path.partition("/conversations/")
    return rest_of_path.partition("/")[0] or None if found else None


def _target(root: str, request: Any) -> Target:
    client, default = CLIENTS.get(root, CLIENTS["mistralai"])
    host = request.url.host
    provider = provider_of(host, "", default)
    # Vertex is called with a token of an hour, which is nobody's key.
    key = request.headers.get("authorization", "").removeprefix("Bearer ") if default != "gcp.vertex_ai" else ""
    return Target(
        provider=provider,
        host=host,
        port=request.url.port,
        region=host.removesuffix(_REGIONAL) if host.endswith(_REGIONAL) else None,
        api_key=key or None,
        sdk=client,
    )


def _changed(
    exchange: rest.Exchange, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with the request that the guard wants; the body's length is another one."""
    call = exchange.call
    request = kwargs["request"] if "request" in kwargs else args[1]
    changes: Any = call.decision.change
    content = json.dumps(call.prepared.dialect.apply(_body(request), **changes)).encode()
    headers = request.headers.copy()
    headers["content-length"] = str(len(content))
    changed = request.__class__(
        request.method, request.url, headers=headers, content=content, extensions=request.extensions
    )
    if "request" in kwargs:
        return args, {**kwargs, "request": changed}
    return (args[0], changed, *args[2:]), kwargs


# --- on the way -----------------------------------------------------------------------------------------
def _of(request: Any) -> rest.Exchange | None:
    found = request.extensions.get(EXTENSION)
    return found if type(found) is rest.Exchange else None


def _answered(response: Any) -> rest.Exchange | None:
    # Its property raises where a client of the caller's own has made a response without a request.
    request = getattr(response, "_request", None)
    return _of(request) if request is not None else None


def _before_request(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def before_request(hooks: Any, hook_ctx: Any, request: Any) -> Any:
        # What a hook refuses is never sent, and no attempt.
        sent = original(hooks, hook_ctx, request)
        guarded(_begin, hooks, request, sent)
        return sent

    return before_request


def _begin(hooks: Any, request: Any, sent: Any) -> None:
    exchange = _of(request)
    if exchange is None:
        return
    sent.extensions[EXTENSION] = exchange
    native = sent.extensions.get("_tracing_span")
    if isinstance(native, Span) and not _is_wrapper(native):
        call = exchange.call
        if call.span is not None and not call.span_is_ours and call.span is not native:
            # That of an attempt before, which its owner has forgotten.
            interop.release(call.span)
            call.span = None
        exchange.begin(native)
        return
    parent = native if isinstance(native, Span) else _forgetful_span(hooks)
    # Not yet the current one: the library makes it so later, if at all.
    if parent is None:
        exchange.begin()
        return
    token = attach(set_span_in_context(parent))
    try:
        exchange.begin()
    finally:
        detach(token)
    prepared = exchange.call.prepared
    if parent is not native and not prepared.request.stream:
        # It tells tokens and not what they are of; who reads it would take any for a chat's.
        parent.set_attribute(semconv.OPERATION_NAME, prepared.dialect.operation)


def _is_wrapper(native: Span) -> bool:
    """True for the span of an agent's run, which may hold several inferences."""
    attributes: Any = getattr(native, "attributes", None)
    return isinstance(attributes, Mapping) and attributes.get(semconv.OPERATION_NAME) == INVOKE_AGENT  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def _forgetful_span(hooks: Any) -> Span | None:
    """Version 1 keeps one span for all calls of a client, and never ends those of failed calls: no place for ours."""
    for hook in hooks.before_request_hooks:
        found = getattr(hook, "request_span", None)
        if isinstance(found, Span):
            return found
    return None


def _get_body_content(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def get_body_content(request: Any) -> Any:
        guarded(_activate, request)
        return original(request)

    return get_body_content


def _activate(request: Any) -> None:
    exchange = _of(request)
    if exchange is not None:
        exchange.activate()


def _after_success(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def after_success(hooks: Any, hook_ctx: Any, response: Any) -> Any:
        # Before the library's own tracing ends its span.
        guarded(_read, response)
        return original(hooks, hook_ctx, response)

    return after_success


def _read(response: Any) -> None:
    exchange = _answered(response)
    if exchange is not None and response.is_closed:
        exchange.read(response)


def _after_error(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def after_error(hooks: Any, hook_ctx: Any, response: Any, error: Any) -> Any:
        if error is not None:
            guarded(_attempt_failed, error)
        return original(hooks, hook_ctx, response, error)

    return after_error


def _attempt_failed(error: Exception) -> None:
    """An attempt got no answer."""
    call = lifecycle.current.get()
    if call is not None and call.attempts and call.attempts[-1].end_ns is None:
        attempt = call.attempts[-1]
        attempt.end_ns, attempt.error_type = time.time_ns(), type(error).__qualname__


def _temporary_error(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def init(error: Any, response: Any) -> None:
        guarded(_refused, response)
        original(error, response)

    return init


def _refused(response: Any) -> None:
    """An attempt got an answer and will be repeated, unless it was the last one."""
    exchange = _answered(response)
    if exchange is not None:
        exchange.answered(response)
        lifecycle.attempt_failed(exchange.call)


# --- what the caller holds ------------------------------------------------------------------------------
def _event_stream(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def init(stream: Any, response: Any, *args: Any, **kwargs: Any) -> None:
        original(stream, response, *args, **kwargs)
        guarded(_hold, stream, response)

    return init


def _hold(stream: Any, response: Any) -> None:
    """Notice a stream that is dropped: its generator closes the response then, and nobody else does."""
    ending = raw.ending_of(response)
    if ending is not None:
        ending.watch(response, stream)


PARTS: Final[dict[str, tuple[tuple[str, str, Callable[..., Any]], ...]]] = {
    "sdkhooks": (
        ("SDKHooks", "before_request", _before_request),
        ("SDKHooks", "after_success", _after_success),
        ("SDKHooks", "after_error", _after_error),
    ),
    "retries": (("TemporaryError", "__init__", _temporary_error),),
    "eventstreaming": (
        ("EventStream", "__init__", _event_stream),
        ("EventStreamAsync", "__init__", _event_stream),
    ),
}
"""Module → class, method and patch of what is patched beside the call itself."""
