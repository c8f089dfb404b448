"""The life of a call, whatever the SDK: prepare, attempts, settle.

`prepare` gathers what the guard may look at, before anything leaves the process. The seam then tells
of each attempt, and of the end; `settle` hands the call to `emit`. What can end in several ways (a
stream is closed and then dropped, say) ends once: `emit.finish` tests and sets `call.open`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

from genai_meter import attribution, emit, environment, guard, identity, tokenizer
from genai_meter.call import Attempt, Call, Prepared, Status, Target
from genai_meter.dialects.base import Dialect, RequestView
from genai_meter.safety import guarded, swallow

current: Final[ContextVar[Call | None]] = ContextVar("genai_meter_call", default=None)
"""The call whose request runs in this context."""


def is_nested(dialect: Dialect) -> bool:
    """True when another client's request of the same operation is on its way in this context.

    A transport may bridge one client library to another; the bill comes once. What a middleware or
    a hook asks between two attempts, or for another operation, is a call of its own.
    """
    outer = current.get()
    return (
        outer is not None
        and bool(outer.attempts)
        and outer.attempts[-1].end_ns is None
        and outer.attempts[-1].status is None
        and outer.prepared.dialect.operation == dialect.operation
    )


def prepare(target: Target, dialect: Dialect, request: RequestView, body: Mapping[str, Any]) -> Call:
    """The call that is about to be made: who pays, at what rates, how much at most."""
    now, settings = time.time_ns(), environment.settings()
    try:
        payer = attribution.current()
    except Exception as error:  # noqa: BLE001 - as `guarded`, in place: every call comes by here
        swallow("attribution.current", error)
        payer = dict[str, str]()
    hashes = (guarded(identity.request_hashes, body) or {}) if settings.request_hash else {}
    text_tokens = guarded(tokenizer.count, request.model, body) if settings.tiktoken else None
    # Not by keywords, which take as long again.
    prepared = Prepared(target, dialect, request, payer, now, hashes, text_tokens)
    return Call.begun(prepared, identity.new_call_id(), now)


def begin_attempt(call: Call) -> bool:
    """One more HTTP exchange is about to start; True for the first one of the call."""
    now, attempts = time.time_ns(), call.attempts
    attempts.append(Attempt(now))
    if len(attempts) == 1:
        return True
    if attempts[-2].end_ns is None:
        attempts[-2].end_ns = now
    return False


def answered(call: Call, status: int, request_id: str | None) -> None:
    """The last attempt got an answer of whatever status."""
    if call.attempts:
        attempt = call.attempts[-1]
        attempt.status, attempt.request_id = status, request_id


def attempt_failed(call: Call) -> None:
    """The last attempt failed and another one will follow; runs where the SDK handles the error."""
    if call.attempts and call.attempts[-1].end_ns is None:
        attempt = call.attempts[-1]
        attempt.end_ns = time.time_ns()
        error = sys.exc_info()[0]
        if attempt.status is None and error is not None:
            attempt.error_type = error.__qualname__


def settle(
    call: Call,
    status: Status,
    error_type: str | None = None,
    end_ns: int | None = None,
    *,
    in_finalizer: bool = False,
) -> None:
    """End the call. Whoever comes first wins; a call that sent nothing leaves no trace."""
    if not call.open:
        return
    if (not call.attempts and status != "blocked") or (call.gate is not None and not guarded(call.gate, call, status)):
        call.open.clear()
        return
    if call.gate is None or call.end_ns is None:
        call.end_ns = end_ns or time.time_ns()
    if call.attempts:
        attempt = call.attempts[-1]
        if attempt.end_ns is None:
            attempt.end_ns = call.end_ns
        if error_type is not None and attempt.error_type is None:
            attempt.error_type = error_type
    emit.finish(call, status, error_type, in_finalizer=in_finalizer)


def settle_read(call: Call, end_ns: int | None = None, *, in_finalizer: bool = False) -> None:
    """End a call whose answer was read to its end: what the provider said decides."""
    error_type, attempts = call.reading.error_type, call.attempts
    if error_type is None and attempts and call.gate is None and call.open:
        # Nearly every call.
        call.end_ns = end_ns = end_ns or time.time_ns()
        if attempts[-1].end_ns is None:
            attempts[-1].end_ns = end_ns
        emit.finish(call, "ok", in_finalizer=in_finalizer)
        return
    settle(call, "ok" if error_type is None else "error", error_type, end_ns, in_finalizer=in_finalizer)


def attempt_refused(call: Call, error: BaseException) -> None:
    """The last attempt was answered by an error that the caller sees, or would have seen."""
    status = getattr(error, "status_code", None)
    if not call.attempts or not isinstance(status, int):
        return
    attempt = call.attempts[-1]
    attempt.error_type = type(error).__qualname__
    if attempt.status is None:
        response = getattr(error, "response", None)
        answered(call, status, request_id_of(getattr(response, "headers", None)))


def settle_error(call: Call, error: BaseException) -> None:
    """End a call that ended in an exception the caller sees."""
    attempt_refused(call, error)
    if is_cancellation(error):
        # A coroutine that is thrown away ends inside a finalizer.
        settle(call, "cancelled", type(error).__qualname__, in_finalizer=isinstance(error, GeneratorExit))
    else:
        settle(call, "error", type(error).__qualname__)


def is_cancellation(error: BaseException) -> bool:
    """True for what ends a task from outside (asyncio, trio, a closed coroutine), not for errors."""
    return not isinstance(error, Exception | KeyboardInterrupt | SystemExit)


def request_id_of(headers: Any) -> str | None:
    """The provider's id of an HTTP exchange."""
    if headers is None:
        return None
    return headers.get("x-request-id") or headers.get("request-id") or headers.get("x-amzn-requestid")


def decide(call: Call) -> bool:
    """Ask the guard; True when it changed the request. `Blocked` is the one exception that passes."""
    try:
        call.decision = guard.decide(call.prepared)
        return bool(call.decision.change)
    except guard.Blocked:
        settle_blocked(call)
        raise
    except Exception as error:  # noqa: BLE001 - a broken guard blocks nobody
        swallow("guard.decide", error)
        return False


async def decide_async(call: Call) -> bool:
    """Ask the guard from a coroutine; True when it changed the request."""
    try:
        call.decision = await guard.decide_async(call.prepared)
        return bool(call.decision.change)
    except guard.Blocked:
        settle_blocked(call)
        raise
    except Exception as error:  # noqa: BLE001 - a broken guard blocks nobody
        swallow("guard.decide_async", error)
        return False


def settle_blocked(call: Call) -> None:
    """End a call that the guard did not let go."""
    call.decision = guard.Decision("block")
    guarded(emit.open_span, call)
    settle(call, "blocked", guard.Blocked.__qualname__)
