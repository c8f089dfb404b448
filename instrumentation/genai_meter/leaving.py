"""The ways out of a process that miss Python's exit handlers, and with them those of the OpenTelemetry SDK.

    a worker of `multiprocessing`    ends by `os._exit`, after finalizers of its own
    a child made by `os.fork`        ends by `os._exit`: the jobs of RQ, the tasks of Airflow
    a worker of `Pool`               is killed once its results are there: `with Pool() as pool`
    uvicorn                          shuts down, and then lets the signal kill it

What the SDK still holds is sent before, on a thread that nobody waits for very long: with a receiver that is away
it would repeat for many seconds. For the last two, `frameworks.processes` is in the way.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from genai_meter import identity
from genai_meter.safety import guarded

LAST_SECONDS: Final = 2.0
"""At most, when the process ends; a receiver that answers takes a fraction of it."""
TASK_SECONDS: Final = 0.25
"""At most, before the result of a task is handed over."""
AWAY_SECONDS: Final = 30.0
"""How long no task waits for a receiver that a task has waited for in vain."""
_LAST: Final = -100
"""Priority among the finalizers of `multiprocessing`, whose own have 15 to -100: after what may still make calls."""

_send: Callable[[], None] | None = None
"""Sends what the SDK holds; None as long as nothing was metered in this process."""
_settle: list[Callable[[], None]] = []
"""What ends calls that are still open."""
_sent = 0
"""The last call when a task's calls were last sent."""
_away_until = 0.0


def arm(send: Callable[[], None], *, forked: bool) -> None:
    """Something is metered in this process: send it before a way out that misses the exit handlers."""
    global _send
    _send = send
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing import util  # only where it is in use

        util.Finalize(None, leave, exitpriority=_LAST)
    if forked and not hasattr(os._exit, "__wrapped__"):
        os._exit = _leaving_before(os._exit)


def settle_before(settle: Callable[[], None]) -> None:
    """Have calls that are still open ended before the process leaves."""
    _settle.append(settle)


def after_fork() -> None:
    """Nothing was metered in this child yet."""
    global _send
    _send = None


def leave() -> None:
    """The process ends now, and nothing else will send what it holds."""
    global _send
    _within(LAST_SECONDS, *_settle)
    _send = None


def flush(seconds: float = 5.0) -> bool:
    """Have the OpenTelemetry SDK send what it holds of this process's calls; False when that takes longer.

    For a process that will be frozen or killed: at the end of a serverless handler, before `os._exit`.
    """
    return guarded(_within, seconds) is True


def _within(seconds: float, *first: Callable[[], None]) -> bool:
    send = _send
    if send is None:
        return True

    def work() -> None:
        for do in (*first, send):
            guarded(do)

    sending = threading.Thread(target=work, name="genai_meter-drain", daemon=True)
    sending.start()
    sending.join(seconds)
    return not sending.is_alive()


def task_done() -> None:
    """A worker that may be killed hands over a result: what it metered since the last one goes first."""
    global _sent, _away_until
    latest = identity.latest()
    if latest != _sent and time.monotonic() >= _away_until:
        _sent = latest
        if not flush(TASK_SECONDS):
            _away_until = time.monotonic() + AWAY_SECONDS


def _leaving_before(original: Any) -> Any:
    @wraps(original)
    def _exit(status: int) -> None:
        guarded(leave)
        original(status)

    return _exit
