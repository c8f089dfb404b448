"""One call of a model in the hands of botocore: what of the request is changed, and what comes back."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from contextvars import Token
from dataclasses import replace
from types import TracebackType
from typing import Any, Final
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from genai_meter import emit
from genai_meter.call import Call, Target
from genai_meter.clients import botocore_streams, lifecycle
from genai_meter.clients.botocore import current
from genai_meter.dialects import bedrock_models
from genai_meter.dialects.base import Dialect, Reading
from genai_meter.dialects.paths import by_name
from genai_meter.safety import guarded

PROVIDER: Final = "aws.bedrock"
MOST_BYTES: Final = 8 * 1024 * 1024
"""Longest body of a request that is read; of a longer one only the model is known."""
LONGEST_CODE: Final = 64

BESIDE: Final = ("modelId", "serviceTier", "performanceConfigLatency")
"""Parameters of InvokeModel that are read and changed together with its body."""

STREAMS: Final = {
    "ConverseStream": "stream",
    "InvokeModelWithResponseStream": "body",
    "InvokeAgent": "completion",
    "InvokeInlineAgent": "completion",
}
"""Operation → where its result has the event stream."""

_NAMED: Final = {
    "Converse": "bedrock_converse",
    "ConverseStream": "bedrock_converse",
    "InvokeAgent": "bedrock_agent",
    "InvokeInlineAgent": "bedrock_agent",
    "Rerank": "bedrock_agent_rerank",
}
"""Operation → dialect; the body decides for the others."""

_ARN: Final = re.compile(r"arn:aws[^:]*:[^:]*:[^:]*:(\d*):(.+)")
_TELLING: Final = re.compile(r"(?:foundation-model|inference-profile)/([^/]+)")
"""Resources that say which model and which profile is meant."""

_targets: WeakKeyDictionary[Any, Target] = WeakKeyDictionary()


def prepare(client: Any, operation: str, params: Any) -> Exchange | None:
    """The call that is about to be made; None when it is a part of another one."""
    body: Mapping[str, Any] = params
    if operation.startswith("InvokeModel"):
        body = {**_json(params.get("body")), **{key: params[key] for key in BESIDE if key in params}}
    named = _NAMED.get(operation)
    dialect = by_name(bedrock_models.dialect_of(body) if named is None else named)
    if lifecycle.is_nested(dialect):
        return None
    request = dialect.request(body)
    request.stream = operation in STREAMS
    target = target_of(client)
    reading = Reading()
    arn = _ARN.fullmatch(request.model or "")
    if arn is not None:
        told = _TELLING.fullmatch(arn[2])
        if told is None:
            target = replace(target, deployment=arn[0], account=arn[1] or None)
        else:
            reading.model = told[1]
    call = lifecycle.prepare(target, dialect, request, body)
    call.reading = reading
    return Exchange(call, operation, params, body)


def target_of(client: Any) -> Target:
    """Where a client sends its requests."""
    known = _targets.get(client)
    if known is None:
        meta = client.meta
        url = urlsplit(str(meta.endpoint_url))
        known = _targets[client] = Target(
            provider=PROVIDER,
            host=url.hostname or "",
            port=url.port,
            region=meta.region_name,
            api_key=guarded(_access_key, client),
            sdk=f"botocore.{type(client).__name__}",
        )
    return known


def _access_key(client: Any) -> str | None:
    """The id of a long-lived key. Temporary ones change by the hour and say nothing; asking may fetch them."""
    credentials = getattr(client._request_signer, "_credentials", None)
    found = getattr(credentials, "__dict__", {}).get("access_key")
    return found if isinstance(found, str) and found.startswith("AKIA") else None


def _json(body: Any) -> dict[str, Any]:
    """The body of an InvokeModel request; empty for what is no JSON object, or a file that must not be read."""
    if isinstance(body, str | bytes | bytearray) and len(body) <= MOST_BYTES:
        try:
            found = json.loads(body)
        except ValueError:
            return {}
        if isinstance(found, dict):
            return found  # pyright: ignore[reportUnknownVariableType]
    return {}


class Exchange:
    """One API call, entered while botocore has it."""

    __slots__ = ("_activation", "_body", "_outer", "_watched", "call", "operation", "params")

    def __init__(self, call: Call, operation: str, params: Any, body: Mapping[str, Any]) -> None:
        self.call = call
        self.operation = operation
        self.params: Any = params
        """What botocore is given: the caller's own, or a copy with what the guard changed."""
        self._body = body
        """The request as the dialect reads it."""
        self._activation: Any = None
        """What undoes that our span is the current one."""
        self._outer: tuple[Token[Any], Token[Any]] | None = None
        self._watched = False
        """A stream or a body is on its way to the caller; its end is the call's."""

    # --- before the request leaves

    def decide(self) -> None:
        """Ask the guard; only its `Blocked` comes out of here."""
        if lifecycle.decide(self.call):
            guarded(self._change)

    async def decide_async(self) -> None:
        """As `decide`, from a coroutine."""
        if await lifecycle.decide_async(self.call):
            guarded(self._change)

    def _change(self) -> None:
        """Apply what the guard decided, on a copy."""
        dialect: Dialect = self.call.prepared.dialect
        changed: dict[str, Any] = dialect.apply(self._body, **(self.call.decision.change or {}))  # pyright: ignore[reportArgumentType]
        model = changed.get("modelId")
        if model != self._body.get("modelId"):
            # The answer of most models does not name the model.
            self.call.reading.model = model
        if self._body is self.params:
            self.params = changed
            return
        params: dict[str, Any] = {**self.params, "modelId": changed["modelId"]}
        if any(name not in BESIDE and self._body.get(name) != value for name, value in changed.items()):
            text = json.dumps({name: value for name, value in changed.items() if name not in BESIDE})
            params["body"] = text if isinstance(params["body"], str) else text.encode()
        self.params = params

    def __enter__(self) -> None:
        self._outer = (current.set(self), lifecycle.current.set(self.call))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            guarded(self._failed, error)
        guarded(self._leave)

    def _leave(self) -> None:
        if self._activation is not None:
            emit.deactivate(self._activation)
        if self._outer is not None:
            try:
                current.reset(self._outer[0])
                lifecycle.current.reset(self._outer[1])
            except ValueError:
                # A coroutine that nobody resumes is thrown away in another context: there is nothing of ours there.
                return

    # --- on the way

    def begin(self) -> None:
        """One more attempt; the first one opens the span and makes it current."""
        if lifecycle.begin_attempt(self.call):
            guarded(emit.open_span, self.call)
            self._activation = guarded(emit.activate, self.call)

    def answered(self, answer: Any) -> None:
        """An attempt is over: `((HTTP response, parsed result) | None, exception | None)`."""
        attempt = self.call.attempts[-1]
        success, error = answer
        if success is None:
            attempt.end_ns, attempt.error_type = time.time_ns(), type(error).__qualname__
            return
        http, parsed = success
        metadata: Any = parsed.get("ResponseMetadata", {})
        lifecycle.answered(self.call, http.status_code, metadata.get("RequestId"))
        if http.status_code >= 300:
            attempt.end_ns, attempt.error_type = time.time_ns(), _code(parsed)
        else:
            self._read(parsed, metadata.get("HTTPHeaders", {}))

    def _read(self, parsed: dict[str, Any], headers: Mapping[str, str]) -> None:
        call = self.call
        dialect, reading = call.prepared.dialect, call.reading
        dialect.headers(reading, headers)
        bedrock_models.served(reading, parsed)
        place = STREAMS.get(self.operation)
        if place is not None:
            botocore_streams.watch_events(parsed[place], call)
            self._watched = True
        elif self.operation == "InvokeModel":
            botocore_streams.watch_body(parsed["body"], call, headers.get("content-length"))
            self._watched = True
        else:
            dialect.response(reading, parsed)

    # --- what comes back

    def returned(self) -> None:
        """botocore gave the result to the caller."""
        if not self._watched:
            lifecycle.settle_read(self.call)

    def _failed(self, error: BaseException) -> None:
        if lifecycle.is_cancellation(error):
            lifecycle.settle_error(self.call, error)
        else:
            lifecycle.settle(self.call, "error", _code(getattr(error, "response", None)) or type(error).__qualname__)


def _code(response: Any) -> str | None:
    """AWS's name of an error."""
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return code[:LONGEST_CODE] if isinstance(code, str) and code else None
