"""Programs that end their processes from outside: what these metered is sent first.

uvicorn.server          after its graceful shutdown it raises SIGTERM again, which kills: past every exit handler
multiprocessing.pool    `with Pool() as pool` ends by `terminate`, which kills the workers
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Generator
from functools import wraps
from types import ModuleType
from typing import Any

from genai_meter import leaving
from genai_meter.clients.patches import Patches
from genai_meter.safety import guarded


class Seam:
    """The server's signals and the pool's worker."""

    def __init__(self, package: str) -> None:
        self.package = package
        self._patches = Patches()

    def install(self, module: ModuleType) -> None:
        """`uvicorn.server` or `multiprocessing.pool`. Versions of uvicorn without `capture_signals` just return."""
        if not self._patches.active:
            self._patches = Patches()
        if module.__name__ == "multiprocessing.pool":
            self._patches.put(module, "worker", _worker)
        else:
            self._patches.put(getattr(module, "Server", object), "capture_signals", _capture_signals)

    def remove(self) -> None:
        """Put the originals back."""
        self._patches.remove()


def _capture_signals(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @wraps(original)
    @contextlib.contextmanager
    def capture_signals(server: Any) -> Generator[None]:
        deadly = guarded(_deadly) or []
        with original(server):
            yield
            guarded(_shut_down, server, deadly)

    return capture_signals


def _deadly() -> list[int]:
    """The signals that will kill this process when the server has put their handlers back."""
    return [number for number in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(number) == signal.SIG_DFL]


def _shut_down(server: Any, deadly: list[int]) -> None:
    if any(number in deadly for number in getattr(server, "_captured_signals", ())):
        leaving.leave()


def _worker(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def worker(inqueue: Any, outqueue: Any, *args: Any, **kwargs: Any) -> Any:
        return original(inqueue, guarded(_results, outqueue) or outqueue, *args, **kwargs)

    return worker


def _results(outqueue: Any) -> Any:
    """The way of the results, watched; None for the threads of a `ThreadPool`."""
    process = sys.modules["multiprocessing.process"]
    alone = threading.current_thread() is threading.main_thread()
    return _Results(outqueue) if alone and process.parent_process() is not None else None


class _Results:
    """A queue of results that sends what was metered before each of them."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue

    def put(self, result: Any) -> None:
        """Hand a result over: from now on the worker may be killed."""
        guarded(leaving.task_done)
        self._queue.put(result)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)
