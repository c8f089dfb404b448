"""The seam of `huggingface_hub`: its `InferenceClient` and `AsyncInferenceClient`.

All public methods end in `_inner_post`, which gives the whole body, or the lines of a stream; the library parses them
above us. What is metered is told by the URL, as everywhere: chats, whoever serves them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from time import time_ns
from types import ModuleType
from typing import Any, Final
from urllib.parse import urlsplit

from genai_meter import dialects
from genai_meter.call import Call, Target
from genai_meter.clients import injection, lifecycle, raw
from genai_meter.clients.endings import Ending
from genai_meter.clients.observers import AsyncObserver, SyncObserver
from genai_meter.clients.patches import Patches
from genai_meter.clients.rest import Exchange
from genai_meter.clients.targets import provider_of
from genai_meter.dialects.base import fields
from genai_meter.safety import guarded, logger, swallow

CLASSES: Final = ("InferenceClient", "AsyncInferenceClient")
DONE: Final = "[DONE]"


class Seam:
    """The patches of the package."""

    def __init__(self, package: str) -> None:
        self.package = package
        self._patches = Patches()
        self._patched: set[str] = set()

    def install(self, module: ModuleType) -> None:
        """Patch the module of the synchronous or of the asynchronous client."""
        name = next((name for name in CLASSES if name in vars(module)), None)
        owner = getattr(module, name, None) if name else None
        if name is None or name in self._patched:
            return
        if not isinstance(owner, type) or "_inner_post" not in vars(owner):
            logger.warning(
                "genai_meter: %s is installed but not metered: %s._inner_post is missing", self.package, name
            )
            return
        self._patched.add(name)
        patches = self._patches
        make = _sync if name == CLASSES[0] else _async
        patches.put(owner, "_inner_post", lambda original: make(original, patches))

    def remove(self) -> None:
        """Put every original back."""
        self._patches.remove()
        self._patches = Patches()
        self._patched.clear()


def _sync(original: Callable[..., Any], patches: Patches) -> Callable[..., Any]:
    @wraps(original)
    def inner_post(client: Any, request_parameters: Any, *args: Any, **kwargs: Any) -> Any:
        exchange = guarded(_exchange, client, request_parameters, kwargs) if patches.active else None
        if exchange is None:
            return original(client, request_parameters, *args, **kwargs)
        if lifecycle.decide(exchange.call):
            guarded(exchange.change)
        guarded(exchange.send)
        try:
            while True:
                try:
                    answer = original(client, exchange.parameters, *args, **kwargs)
                    break
                except BaseException as error:
                    if not guarded(exchange.goes_on, error):
                        raise
        finally:
            guarded(exchange.release)
        return guarded(exchange.seen, answer, LineReader) or answer

    return inner_post


def _async(original: Callable[..., Any], patches: Patches) -> Callable[..., Any]:
    @wraps(original)
    async def inner_post(client: Any, request_parameters: Any, *args: Any, **kwargs: Any) -> Any:
        exchange = guarded(_exchange, client, request_parameters, kwargs) if patches.active else None
        if exchange is None:
            return await original(client, request_parameters, *args, **kwargs)
        if await lifecycle.decide_async(exchange.call):
            guarded(exchange.change)
        guarded(exchange.send)
        try:
            while True:
                try:
                    answer = await original(client, exchange.parameters, *args, **kwargs)
                    break
                except BaseException as error:
                    if not guarded(exchange.goes_on, error):
                        raise
        finally:
            guarded(exchange.release)
        return guarded(exchange.seen, answer, AsyncLineReader) or answer

    return inner_post


def _exchange(client: Any, parameters: Any, kwargs: Mapping[str, Any]) -> HubExchange | None:
    """What the library is about to send, when it is a call that is metered."""
    url, body = urlsplit(str(parameters.url)), fields(parameters.json)
    dialect = dialects.for_path("POST", url.path)
    if dialect is None or not body or lifecycle.is_nested(dialect):
        return None
    request = dialect.request(body)
    request.stream = bool(kwargs.get("stream"))
    host = url.hostname or ""
    authorization = str(fields(parameters.headers).get("authorization", ""))
    target = Target(
        provider=provider_of(host, "", "huggingface", url.port, url.path),
        host=host,
        port=url.port,
        api_key=authorization.removeprefix("Bearer ") or None,
        sdk=f"huggingface_hub.{type(client).__name__}",
    )
    exchange = HubExchange(lifecycle.prepare(target, dialect, request, body), parameters)
    if request.stream and injection.wants_usage(dialect, target, body):
        exchange.ask_usage()
    return exchange


class HubExchange(Exchange):
    """One call of an inference client."""

    __slots__ = ("_given", "parameters")

    def __init__(self, call: Call, parameters: Any) -> None:
        super().__init__(call)
        self._given = self.parameters = parameters
        """The library's `RequestParameters`; with our change in a copy."""

    def change(self) -> None:
        """Apply what the guard decided, on a copy."""
        changes: dict[str, Any] = dict(self.call.decision.change or {})
        body = self.call.prepared.dialect.apply(self.parameters.json, **changes)
        self._given = self.parameters = replace(self.parameters, json=body)

    def ask_usage(self) -> None:
        """Ask for the usage of a stream that tells it only when asked."""
        body = self.parameters.json
        self.parameters = replace(self.parameters, json={**body, injection.OPTION: injection.asking(body)})
        self.call.injected_usage = True

    def send(self) -> None:
        """The request leaves."""
        self.enter()
        self.begin()
        self.activate()

    def goes_on(self, error: BaseException) -> bool:
        """True when the request is sent once more, because the host refused our question for usage."""
        call = self.call
        again = call.injected_usage and injection.refused(call.prepared.target, Refusal(error))
        if again:
            self.parameters, call.injected_usage = self._given, False
        guarded(self._refused, error, again)
        return again

    def _refused(self, error: BaseException, again: bool) -> None:
        status = _status_of(error)
        if status is not None:
            lifecycle.answered(self.call, status, lifecycle.request_id_of(_headers_of(error)))
        if again:
            self.call.attempts[-1].error_type = type(error).__qualname__
            self.begin()
        else:
            self.failed(error)

    def seen(self, answer: Any, reader: type[LineReader | AsyncLineReader]) -> Any:
        """What the library gets instead of `answer`: an iterator over the same lines; None where it is the same."""
        call = self.call
        # The library lets only 2xx through.
        guarded(lifecycle.answered, call, 200, None)
        if not call.prepared.request.stream:
            if isinstance(answer, bytes):
                guarded(_read, call, answer)
            lifecycle.settle_read(call)
            return None
        lines = Lines(call)
        found = reader(answer.__aiter__() if reader is AsyncLineReader else iter(answer), lines)
        guarded(lines.watch, found)
        return found


class Refusal(Exception):
    """An error of `requests`, `aiohttp` or `httpx`, as `injection.refused` looks at one."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.status_code = _status_of(error)
        self.body = f"{error} {getattr(error, 'response_error_payload', '')}"


def _read(call: Call, answer: bytes) -> None:
    call.prepared.dialect.response(call.reading, json.loads(answer))


def _status_of(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None) or getattr(error, "status", None)
    return status if isinstance(status, int) else None


def _headers_of(error: BaseException) -> Any:
    return getattr(getattr(error, "response", None), "headers", None) or getattr(error, "headers", None)


class LineReader(SyncObserver):
    """In the place of the lines of a stream. The library's parser holds it, and nobody else."""

    __slots__ = ("__weakref__",)


class AsyncLineReader(AsyncObserver):
    """As `LineReader`."""

    __slots__ = ("__weakref__",)


class Lines(Ending):
    """The lines of one stream: text or, before 1.0, bytes."""

    __slots__ = ()

    def take(self, item: Any) -> bool:
        data = _data(item)
        if data is None:
            return False
        try:
            event: Any = None if data == DONE else raw.parse(data)
        except ValueError:
            return False
        hidden = event is not None and self.call.injected_usage and injection.hides(event)
        try:
            self._note(event, hidden)
        except Exception as error:  # noqa: BLE001 - whatever happens here, the line is the caller's
            swallow("Lines.take", error)
        return hidden

    def _note(self, event: Any, hidden: bool) -> None:
        call = self.call
        self.last_ns = now = time_ns()
        if event is None:
            # The library reads no further.
            self.exhausted()
            return
        if not hidden:
            call.chunk_count += 1
            if call.first_chunk_ns is None:
                call.first_chunk_ns = now
        call.prepared.dialect.chunk(call.reading, event)


def _data(line: Any) -> str | None:
    """What a line of server-sent events tells; None when it tells nothing."""
    text = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
    return text[5:].strip() if isinstance(text, str) and text.startswith("data:") else None
