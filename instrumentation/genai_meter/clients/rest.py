"""Calls of client libraries that hand us the HTTP response itself: Mistral, Cohere.

The seam makes an `Exchange` of a call and tells it of each attempt and of the response; a response that
has arrived is read, one that is still on the wire is seen as the caller reads it (`raw`). Errors of the
provider come as responses here: the library raises above us.
"""

from __future__ import annotations

from contextvars import Token
from typing import TYPE_CHECKING, Any

from genai_meter import emit
from genai_meter.call import Call
from genai_meter.clients import lifecycle, raw
from genai_meter.clients.endings import Ending
from genai_meter.safety import guarded

if TYPE_CHECKING:
    from opentelemetry.trace import Span


class Exchange:
    """One call in the hands of its client library."""

    __slots__ = ("_active", "_outer", "_read", "call")

    def __init__(self, call: Call) -> None:
        self.call = call
        self._active: emit.Active | None = None
        """What undoes that our span is the current one."""
        self._outer: Token[Call | None] | None = None
        """What undoes that this call is the one on its way in this context."""
        self._read = False
        """The answer was read."""

    def enter(self) -> None:
        """The library sets to work; what it calls in turn may be nested."""
        self._outer = lifecycle.current.set(self.call)

    def begin(self, native: Span | None = None) -> None:
        """One more attempt; the first one opens the span, or claims the library's own."""
        if lifecycle.begin_attempt(self.call) or self.call.span is None:
            guarded(emit.open_span, self.call, native)

    def activate(self) -> None:
        """Make our span current in the context that sends; once."""
        if self._active is None:
            self._active = emit.activate(self.call)

    def release(self) -> None:
        """The library has returned or raised."""
        active, self._active = self._active, None
        emit.deactivate(active)
        outer, self._outer = self._outer, None
        if outer is not None:
            try:
                lifecycle.current.reset(outer)
            except ValueError:
                # A coroutine that nobody resumes is thrown away in another context: there is nothing of ours there.
                return

    def answered(self, response: Any) -> None:
        """The headers of an answer are there."""
        call = self.call
        lifecycle.answered(call, response.status_code, lifecycle.request_id_of(response.headers))
        call.prepared.dialect.headers(call.reading, response.headers)

    def read(self, response: Any) -> None:
        """Read an answer that has arrived; once."""
        if not self._read and response.status_code < 400:
            self._read = True
            raw.read_buffered(self.call, response)

    def returned(self, response: Any) -> Ending | None:
        """The library has its response; what watches the body when that is still on the wire."""
        call = self.call
        if not call.attempts:
            # It was sent past the place where attempts are counted.
            self.begin()
        guarded(self.answered, response)
        if response.status_code >= 400:
            lifecycle.settle(call, "error", str(response.status_code))
        elif response.is_closed:
            guarded(self.read, response)
            lifecycle.settle_read(call)
        else:
            return raw.observe(response, call)
        return None

    def failed(self, error: BaseException) -> None:
        """The library raised instead of returning."""
        lifecycle.settle_error(self.call, error)
