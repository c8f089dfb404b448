"""Asking a chat stream for its usage, and hiding that it was asked.

OpenAI-compatible chat streams tell their usage only with `stream_options.include_usage`. We ask for
it, and a caller who did not must not notice: neither the extra chunk, nor the field `usage: null` that
all other chunks carry then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from genai_meter import environment
from genai_meter.call import Target
from genai_meter.clients.targets import tells_usage
from genai_meter.dialects.base import Dialect

OPTION: Final = "stream_options"

MOST_HOSTS: Final = 1024
"""Hosts remembered; enough for any program, bounded for a program that calls hosts without end."""

_refusing: Final[set[tuple[str, int | None]]] = set()
"""Hosts that answered 400 to a request because of `stream_options`."""


def wants_usage(dialect: Dialect, target: Target, body: Mapping[str, Any]) -> bool:
    """True when the usage of this stream is told only if we ask for it."""
    if not dialect.injects_usage or (target.host, target.port) in _refusing or tells_usage(target):
        return False
    if not environment.settings().inject_usage:
        return False
    options = body.get(OPTION)
    if not isinstance(options, Mapping):
        return True
    # Who wants it in every chunk (vLLM) gets it there only when it is asked for: that could not be hidden.
    return not (options.get("include_usage") or options.get("continuous_usage_stats"))  # pyright: ignore[reportUnknownMemberType]


def asking(body: Mapping[str, Any]) -> dict[str, Any]:
    """The stream options of `body`, with the usage asked for."""
    options = body.get(OPTION)
    return {**(options if isinstance(options, Mapping) else {}), "include_usage": True}


def refused(target: Target, error: BaseException) -> bool:
    """True when the host refuses `stream_options`; it is not asked again."""
    if getattr(error, "status_code", None) not in (400, 422):
        return False
    told = f"{error} {getattr(error, 'body', '')}"
    if OPTION not in told and "include_usage" not in told:
        return False
    if len(_refusing) < MOST_HOSTS:
        _refusing.add((target.host, target.port))
    return True


def hides(chunk: Any) -> bool:
    """True for the chunk that exists only because we asked; cleans the field out of all others.

    Independent of everything that records: when recording breaks, hiding must still work.
    """
    try:
        if chunk.__dict__["usage"] is None:
            chunk.__pydantic_fields_set__.discard("usage")
            return False
        return not chunk.__dict__["choices"]
    except (AttributeError, KeyError):
        return _hides_other(chunk)


def _hides_other(chunk: Any) -> bool:
    """The same for other shapes: plain dicts, pydantic 1, models of a library that does not know the field."""
    try:
        if type(chunk) is dict:
            return _hides_dict(chunk)  # pyright: ignore[reportUnknownArgumentType]
        told, extra = chunk.__dict__, getattr(chunk, "__pydantic_extra__", None)
        usage = told.get("usage") or (extra.get("usage") if extra else None)
        if usage is not None:
            return not told.get("choices")
        fields = getattr(chunk, "__pydantic_fields_set__", None)
        (chunk.__fields_set__ if fields is None else fields).discard("usage")
        if extra:
            extra.pop("usage", None)
    except Exception:  # noqa: BLE001 - not a shape we know: the chunk is the caller's as it is
        return False
    return False


def _hides_dict(chunk: dict[str, Any]) -> bool:
    """The same for a caller who asked for plain dicts (`cast_to=object`)."""
    if chunk.get("usage") is not None:
        return not chunk.get("choices")
    chunk.pop("usage", None)
    return False
