"""Background responses: ordered by one request, told by a later one, charged once.

`responses.create(background=True)` answers before the work is done. The usage comes with whatever shows
the response as over: the stream of the order itself, a retrieval (by polling or as a stream), a
cancellation; in the process that ordered it or in another one. The call is charged then, under an id that
derives from the response's, and with the attribution of the order where this process knows it. A response
seen as queued or at work charges nothing; one that was not ordered in the background was charged when it
was made.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from genai_meter import identity
from genai_meter.call import Call, Status, Target
from genai_meter.clients import lifecycle
from genai_meter.clients.exchange import Exchange
from genai_meter.dialects.base import RequestView
from genai_meter.dialects.openai_responses import OpenAIBackground

DIALECT: Final = OpenAIBackground()
MOST_REMEMBERED: Final = 4096
"""Orders whose attribution is remembered, and responses known to be charged."""

orders: Final[dict[str, Call]] = {}
"""Response id → the call that ordered it."""
charged: Final[dict[str, object]] = {}
"""Response id → a token of whoever charged it in this process."""


class Order(Exchange):
    """`create(background=True)`."""

    __slots__ = ()

    def __init__(self, call: Call, options: Any) -> None:
        call.gate = _ordered
        super().__init__(call, options)

    def begin(self) -> None:
        """One more attempt. The span is made when the call is charged."""
        lifecycle.begin_attempt(self.call)


class Retrieval(Exchange):
    """Somebody asks for a stored response, or cancels it."""

    __slots__ = ()

    def __init__(self, target: Target, options: Any, *, stream: bool) -> None:
        call = lifecycle.prepare(target, DIALECT, RequestView(stream=stream), {})
        # What is asked for now is not what was ordered.
        call.prepared.hashes = {}
        call.gate = _retrieved
        super().__init__(call, options)

    def begin(self) -> None:
        """One more attempt."""
        lifecycle.begin_attempt(self.call)

    def returned(self, result: Any) -> None:
        """The SDK gave `result` to the caller."""
        self.release()
        super().returned(result)


def order(target: Target, options: Any, request: RequestView, body: Mapping[str, Any]) -> Order:
    """The exchange of a response that is ordered in the background."""
    return Order(lifecycle.prepare(target, DIALECT, request, body), options)


def _ordered(call: Call, status: Status) -> bool:
    """The end of an order: charged when it is over already, or was refused."""
    response_id = call.reading.response_id
    if response_id is None:
        return status in ("error", "blocked")
    if call.reading.terminal:
        return _claim(call, response_id)
    if response_id not in charged:
        _remember(orders, response_id, call)
    return False


def _retrieved(call: Call, _status: Status) -> bool:
    """The end of a retrieval: charged when it shows a background response that is over."""
    reading = call.reading
    if reading.response_id is None or not reading.terminal or reading.scratch.get("background") is not True:
        return False
    return _claim(call, reading.response_id)


def _claim(call: Call, response_id: str) -> bool:
    """Charge a response unless this process has done so. May run inside a finalizer: takes no lock."""
    token = object()
    if charged.setdefault(response_id, token) is not token:
        return False
    _remember(charged, response_id, token)
    told = call.reading.scratch
    created, completed = _nanoseconds(told.get("created_at")), _nanoseconds(told.get("completed_at"))
    ordered = orders.pop(response_id, None)
    if ordered is not None:
        call.prepared, call.start_ns, call.attempts = ordered.prepared, ordered.start_ns, ordered.attempts
    elif created is not None and call.gate is _retrieved:
        call.start_ns = created
    if call.gate is _retrieved:
        call.end_ns = max(completed or time.time_ns(), call.start_ns)
        # How long somebody waited for a stream that told it again is no time to the first chunk.
        call.first_chunk_ns = None
    if created is not None:
        call.call_id = identity.derived_call_id(created, DIALECT.id_family, response_id)
    return True


def _nanoseconds(seconds: Any) -> int | None:
    # By way of milliseconds: one instant for all spellings of a number.
    return round(seconds * 1000) * 1_000_000 if type(seconds) in (int, float) and seconds > 0 else None


def _remember(known: dict[str, Any], key: str, value: Any) -> None:
    known[key] = value
    if len(known) > MOST_REMEMBERED:
        try:
            known.pop(next(iter(known)), None)
        except RuntimeError:
            # Another thread changed it between the two; it will pop the next.
            return
