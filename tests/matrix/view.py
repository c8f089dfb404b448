"""What a caller was given, as plain JSON that two runs can be compared by."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

IDS: Final = re.compile(r"\b(gid-|v1_|chatcmpl-|cmpl-|resp_|msg_|req_|modr-|rs_|fc_)[0-9a-f]+")
HEX: Final = re.compile(r"\b(?:[0-9a-f]{24,32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\b")
PORT: Final = re.compile(r"127\.0\.0\.1:\d+")
ADDRESS: Final = re.compile(r"\bat 0x[0-9a-f]+")
TIME: Final = re.compile(r'("(?:created|created_at|completed_at)": ?)\d+')
SUBSTITUTES: Final = ((IDS, r"\1#"), (HEX, "#"), (PORT, "127.0.0.1:PORT"), (ADDRESS, "at 0x"), (TIME, r"\g<1>0"))
"""What two runs never have in common."""
TIMES: Final = frozenset({"created", "created_at", "completed_at"})


def kind(value: object) -> str:
    """Qualified name of a value's type."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def view(value: Any) -> Any:
    """Any value, whole."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        for pattern, instead in SUBSTITUTES:
            value = pattern.sub(instead, value)
        return value
    if isinstance(value, bytes):
        return {"bytes": view(value.decode("latin-1"))}
    if isinstance(value, BaseException):
        return error(value)
    if hasattr(value, "model_dump") and hasattr(value.__class__, "model_fields"):
        return model(value)
    if isinstance(value, Mapping):
        pairs: dict[Any, Any] = dict(value)  # pyright: ignore[reportUnknownArgumentType]
        return {str(key): 0 if key in TIMES and item else view(item) for key, item in pairs.items()}
    if isinstance(value, list | tuple):
        items: list[Any] = list(value)  # pyright: ignore[reportUnknownArgumentType]
        return [view(item) for item in items]
    return {"type": kind(value)}


def model(value: Any) -> Any:
    """A pydantic object: its type, all it holds, and which of its fields were told."""
    return {
        "type": kind(value),
        "all": view(value.model_dump(warnings=False)),
        "told": view(value.model_dump(warnings=False, exclude_unset=True)),
        "set": sorted(value.model_fields_set),
        "extra": view(value.model_extra),
        "request_id": view(getattr(value, "_request_id", None)),
    }


def error(value: BaseException) -> Any:
    """An exception as a handler sees it."""
    return {
        "raised": kind(value),
        "text": view(str(value)),
        "status": getattr(value, "status_code", None),
        "code": view(getattr(value, "code", None)),
        "body": view(getattr(value, "body", None)),
        "cause": kind(value.__cause__),
        "context": kind(value.__context__),
        "suppressed": value.__suppress_context__,
    }


def stream(value: Any) -> Any:
    """A stream before it is read: what `isinstance` and its response say."""
    return {
        "type": kind(value),
        "bases": [base.__name__ for base in type(value).__mro__],
        "response": kind(value.response),
        "status": value.response.status_code,
        "closed": value.response.is_closed,
    }
