"""How a stream ended, exactly once.

    read to the end                     ok, or error when the provider said so inside the stream
    closed, `with` left, helper closed  closed_early
    dropped, or never iterated          abandoned
    task cancelled                      cancelled
    exception while reading             error
    end of the process                  abandoned

After the provider's last event the early ways count as ok: nothing was left to read.

The garbage collector may notice a dropped stream at any instruction of any thread, also while that
thread holds a lock of the OpenTelemetry SDK. So what ends inside a finalizer is only marked here, and
emitted by a thread (`in_finalizer`).
"""

from __future__ import annotations

import atexit
import os
import time
import weakref
from typing import Any, Final

from genai_meter import emit, leaving
from genai_meter.call import Call, Status
from genai_meter.clients import lifecycle
from genai_meter.safety import guarded, guarded_in_collector


class Ending:
    """The ways out of one stream. Holds the call, never the stream or its iterator."""

    __slots__ = ("busy", "call", "last_ns", "released", "successor")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.busy = False
        """The reader is inside `__next__`: what closes the response now is the end itself."""
        self.last_ns = time.time_ns()
        """When the caller took the last item; until then, when the stream was handed over."""
        self.released = False
        """The stream is dropped; its response may live on."""
        self.successor: Ending | None = None
        """What watches instead: a raw response was parsed into a stream, or is read past it."""

    def take(self, item: Any) -> bool:
        """Note one item on its way to the caller; True when it must not reach the caller. Never raises."""
        raise NotImplementedError

    def exhausted(self) -> None:
        """The caller read to the end."""
        self.leave()
        reading = self.call.reading
        if reading.terminal or reading.fidelity == "final" or reading.error_type is not None:
            lifecycle.settle_read(self.call, self.last_ns)
        else:
            # The connection was closed in good order, but the provider never said that this is the end.
            lifecycle.settle(self.call, "error", "stream_truncated", self.last_ns)

    def failed(self, error: BaseException) -> None:
        """An exception came out of the stream."""
        if isinstance(error, GeneratorExit):
            # A coroutine that nobody will resume is being thrown away.
            self._finalized("cancelled")
        elif lifecycle.is_cancellation(error):
            self._early("cancelled")
        else:
            self.leave()
            lifecycle.settle_error(self.call, error)

    def closed(self) -> None:
        """The response was closed."""
        ending = self.latest()
        if ending.busy or ending not in _open:
            return
        if ending.released:
            # By the finalizer of a dropped stream, not by the caller.
            ending._finalized("abandoned")
        else:
            ending._early("closed_early")

    def left(self, error: BaseException | None) -> None:
        """The block in which the response could be read was left, perhaps by a generator that was dropped."""
        ending = self.latest()
        if ending not in _open:
            return
        if error is None:
            ending._early("closed_early", ending.last_ns)
        elif isinstance(error, GeneratorExit):
            # A generator is closed, or dropped.
            ending._finalized("closed_early")
        else:
            ending.failed(error)

    def watch(self, response: object, stream: object = None) -> None:
        """Notice when `response` can be read no more; `stream` is what the caller reads it by."""
        references = [weakref.ref(response, self._dropped)]
        if stream is not None:
            references.append(weakref.ref(stream, self._release))
        _open[self] = references
        emit.expect_drops()
        _at_exit()

    def give_way(self, successor: Ending) -> None:
        """Let `successor` watch from now on."""
        self.successor = successor
        references = _open.pop(self, None)
        if references is not None and successor not in _open:
            _open[successor] = references

    def latest(self) -> Ending:
        """What watches now."""
        ending = self
        while ending.successor is not None:
            ending = ending.successor
        return ending

    def abandon(self) -> None:
        """The last reference to the response is gone, or the process ends."""
        self._finalized("abandoned")

    def _dropped(self, _reference: object) -> None:
        guarded_in_collector(self._abandon_latest)

    def _abandon_latest(self) -> None:
        self.latest().abandon()

    def _release(self, _reference: object) -> None:
        # Inside the garbage collector.
        self.released = True

    def leave(self) -> None:
        """Watch no longer."""
        _open.pop(self, None)

    def _early(self, status: Status, end_ns: int | None = None, *, in_finalizer: bool = False) -> None:
        """End before the end; after the provider's last event nothing was left to read."""
        self.leave()
        if self.call.reading.terminal:
            lifecycle.settle_read(self.call, self.last_ns, in_finalizer=in_finalizer)
        else:
            lifecycle.settle(self.call, status, None, end_ns, in_finalizer=in_finalizer)

    def _finalized(self, status: Status) -> None:
        # After a fork the child's table is empty: the stream is its parent's.
        if self in _open:
            self._early(status, self.last_ns, in_finalizer=True)


_open: Final[dict[Ending, list[weakref.ref[Any]]]] = {}
"""What has not ended, each with the references that notice its drop."""

_registered = False


def settle_open() -> None:
    """At the end of the process: whatever is open has been abandoned."""
    for ending in list(_open):
        guarded(ending.abandon)
    emit.flush()


def _at_exit() -> None:
    """Settle before the exit handlers of an SDK that was set up before the first stream."""
    global _registered
    if not _registered:
        _registered = True
        atexit.register(settle_open)
        leaving.settle_before(settle_open)


if hasattr(os, "register_at_fork"):
    # Its parent's streams are not a child's own.
    os.register_at_fork(after_in_child=_open.clear)
