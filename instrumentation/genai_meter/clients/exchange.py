"""One call in the hands of a Stainless SDK: what of the request is changed, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Token
from functools import lru_cache
from typing import Any, Final, get_origin

from genai_meter import emit
from genai_meter.call import Call
from genai_meter.clients import injection, lifecycle, raw, streams
from genai_meter.clients.endings import Ending
from genai_meter.dialects.base import Reading
from genai_meter.safety import guarded, swallow

RAW_MODE: Final = "X-Stainless-Raw-Response"
"""Request header by which the SDK marks `with_raw_response` (`true`) and `with_streaming_response` (`stream`)."""


def body_of(options: Any) -> Mapping[str, Any]:
    """The JSON body as the SDK will send it: `extra_body` wins."""
    body, extra = options.json_data, options.extra_json
    if not isinstance(body, dict):
        body = {}
    # Asked of every call, and the look at an abstract class takes as long as all the rest.
    return {**body, **extra} if extra is not None and isinstance(extra, Mapping) else body  # pyright: ignore[reportUnknownVariableType]


@lru_cache(maxsize=64)
def _is_stream(kind: type) -> bool:
    # Kept, because what the SDK's models have not is asked of pydantic, which raises.
    return hasattr(kind, "__stream__")


class Exchange:
    """Stands in the request options as their `post_parser`: the SDK calls it with each parsed answer.

    The SDK may copy the options; there is only ever one of these.
    """

    __slots__ = ("_activation", "_body", "_options", "_parser", "_seen", "_streaming", "_unasked", "call")

    def __init__(self, call: Call, options: Any) -> None:
        self.call = call
        self._options: Any = options
        """Our copy of the request options; let go when the SDK has it."""
        parser = options.post_parser
        self._parser = parser if callable(parser) else None
        """The SDK's own parser, for `parse()` and the like."""
        self._activation: Any = None
        """What undoes that our span is the current one."""
        self._unasked: tuple[Any, Any] | None = None
        """The body as it was before we asked for the usage."""
        self._seen = False
        """An answer was read."""
        self._streaming = False
        """A stream is in the caller's hands; it ends the call."""
        self._body: Ending | None = None
        """Watches the body of a raw response."""
        # Not by setattr, which marks the field as set: the SDK's debug log shows what is set.
        options.__dict__["post_parser"] = self

    def __call__(self, answer: Any) -> Any:
        # Comes again for a raw response that is parsed twice, and perhaps much later.
        try:
            if _is_stream(answer.__class__):
                if not self._streaming:
                    self._streaming = True
                    streams.observe(answer, self.call, self._body)
            elif self.call.open:
                self._read(answer)
        except Exception as error:  # noqa: BLE001 - the answer is the caller's, whatever we make of it
            swallow("Exchange.__call__", error)
        return answer if self._parser is None else self._parser(answer)

    def __copy__(self) -> Exchange:
        return self

    def __deepcopy__(self, _memo: object) -> Exchange:
        return self

    # --- before the request leaves

    def change(self) -> None:
        """Apply what the guard decided to the body, on our copy."""
        changes = self.call.decision.change
        if not changes:
            return
        body = body_of(self._options)
        changed: dict[str, Any] = self.call.prepared.dialect.apply(body, **changes)  # pyright: ignore[reportArgumentType]
        self._replace(
            {key: value for key, value in changed.items() if key not in body or body[key] is not value},
            without=body.keys() - changed.keys(),
        )

    def ask_usage(self, stream_cls: Any) -> None:
        """Ask for the usage of a stream that tells it only when asked."""
        prepared, options = self.call.prepared, self._options
        body = body_of(options)
        if not body:
            return
        if not hasattr(get_origin(stream_cls) or stream_cls, "__stream__") or raw_mode(options) == "stream":
            # A caller who reads the bytes would see the extra event.
            return
        if injection.wants_usage(prepared.dialect, prepared.target, body):
            self._unasked = (options.json_data, options.extra_json)
            self.call.injected_usage = True
            self._replace({injection.OPTION: injection.asking(body)})

    def _replace(self, changes: Mapping[str, Any], without: Any = ()) -> None:
        """Other values for some keys of the body; the caller's own objects stay as they are."""
        options = self._options
        body: dict[str, Any] = options.json_data or {}
        options.json_data = {**{key: value for key, value in body.items() if key not in without}, **changes}
        if isinstance(options.extra_json, Mapping):
            extra: dict[str, Any] = {
                key: value
                for key, value in options.extra_json.items()  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
                if key not in changes and key not in without
            }
            options.extra_json = extra

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The caller's arguments with our copy of the options in them."""
        if "options" in kwargs:
            return args, {**kwargs, "options": self._options}
        cast_to, _, *rest = args
        return (cast_to, self._options, *rest), kwargs

    def withdraw(self, error: BaseException) -> bool:
        """Take the question for usage back when the host refused it; True when the request goes out once more."""
        if self._unasked is None or not injection.refused(self.call.prepared.target, error):
            return False
        self._options.json_data, self._options.extra_json = self._unasked
        self._unasked = None
        self.call.injected_usage = False
        guarded(lifecycle.attempt_refused, self.call, error)
        return True

    # --- on the way

    def begin(self) -> None:
        """One more attempt; the first one opens the span and makes it current."""
        if lifecycle.begin_attempt(self.call):
            emit.open_span(self.call)
            self._activation = emit.activate(self.call)

    def answered(self, response: Any) -> None:
        """The headers of an answer are there."""
        call = self.call
        lifecycle.answered(call, response.status_code, lifecycle.request_id_of(response.headers))
        call.prepared.dialect.headers(call.reading, response.headers)

    def release(self, outer: Token[Call | None] | None = None) -> None:
        """The SDK has returned or raised; `outer` undoes that the call is the current one."""
        self._options = None
        if self._activation is not None:
            emit.deactivate(self._activation)
        if outer is not None:
            try:
                lifecycle.current.reset(outer)
            except (ValueError, RuntimeError):
                # A coroutine that nobody resumes is thrown away in another context: there is nothing of ours there.
                return

    # --- what comes back

    def _read(self, answer: Any) -> None:
        call = self.call
        dialect, before = call.prepared.dialect, call.reading
        if not self._seen:
            self._seen = True
            dialect.response(before, answer)
            return
        # A middleware looked at an answer and asked again: both are billed. The same answer comes twice, too.
        call.reading = Reading()
        dialect.response(call.reading, answer)
        if call.reading.response_id != before.response_id:
            call.earlier.append(before)

    def returned(self, result: Any) -> None:
        """The SDK gave `result` to the caller."""
        call = self.call
        if self._streaming or not call.open:
            return
        response = None if self._seen else raw.http_response_of(result)
        if response is None:
            lifecycle.settle_read(call)
        elif response.is_closed:
            guarded(raw.read_buffered, call, response)
            lifecycle.settle_read(call)
        else:
            self._body = raw.observe(response, call)


def raw_mode(options: Any) -> str | None:
    """How the caller wants the response: `true` (raw), `stream` (unread), or parsed."""
    headers = options.headers
    return headers.get(RAW_MODE) if isinstance(headers, Mapping) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
