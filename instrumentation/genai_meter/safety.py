"""Nothing of ours may reach the caller: every touch of foreign data goes through `guarded`.

An error inside the meter is swallowed, counted and logged once per place. `BaseException`s that
are no `Exception` (KeyboardInterrupt, CancelledError, GeneratorExit) always pass.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from traceback import walk_tb
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

logger: Final = logging.getLogger("genai_meter")

internal_errors: Final[Counter[str]] = Counter()
"""Place (qualified function name) → errors swallowed there since the process started."""


def guarded(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Call `function`; on an `Exception` count it, log it once and return None."""
    try:
        return function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - the one place where everything of ours ends
        # A partial has no name of its own, and is named by what it calls.
        named = getattr(function, "func", function)
        swallow(getattr(named, "__qualname__", type(named).__qualname__), error)
        return None


def guarded_in_collector(function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Call `function` inside the garbage collector: an `Exception` is counted, and only counted.

    The thread that is interrupted may hold a lock that a log handler wants.
    """
    try:
        function(*args, **kwargs)
    except Exception:  # noqa: BLE001 - as above
        internal_errors[function.__qualname__] += 1


def swallow(place: str, error: Exception) -> None:
    """Count an error of ours at `place`; the first one there is logged (type only, never content)."""
    internal_errors[place] += 1
    if internal_errors[place] == 1:
        logger.warning(
            "genai_meter: %s in %s; the call is unharmed, its metering may be incomplete (logged once)",
            type(error).__name__,
            place,
        )
        if logger.isEnabledFor(logging.DEBUG):
            # Where, not what: the text of an error may quote content.
            frames = [f"{frame.f_code.co_filename}:{line}" for frame, line in walk_tb(error.__traceback__)]
            logger.debug("genai_meter: %s came from %s", type(error).__name__, " > ".join(frames))
