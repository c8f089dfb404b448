"""What a caller got, as JSON: every class and every value, recursively, so that two runs compare."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, cast

_SCALARS: Final = (type(None), bool, int, float, str)
_HIDDEN: Final = frozenset({"request", "response"})
"""Attributes of exceptions that hold connections; told apart below."""


def describe(value: Any) -> Any:
    """JSON that is equal for two values only when they are equal in class and content."""
    kind: type[Any] = value.__class__
    if kind in _SCALARS:
        return value
    if kind in (list, tuple):
        return [kind.__name__, *(describe(item) for item in value)]
    if kind is dict:
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return {"class": _name(kind), "sha": hashlib.sha256(value).hexdigest()}
    if isinstance(value, BaseException):
        return _exception(value)
    if hasattr(kind, "model_fields"):
        return _model(value)
    if dataclasses.is_dataclass(kind):
        return {"class": _name(kind), "fields": _fields(value)}
    if hasattr(value, "read") and hasattr(value, "iter_bytes"):
        return {"class": _name(kind), "content": describe(value.read())}
    return {"class": _name(kind), "text": str(value) if isinstance(value, (str, int, float)) else ""}


def _fields(value: Any) -> dict[str, Any]:
    told: dict[str, Any] = value.__dict__
    return {name: describe(item) for name, item in told.items()}


def digest(described: Any) -> str:
    """A short fingerprint of a description."""
    return hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=9).hexdigest()


def first_difference(one: Any, other: Any, place: str = "") -> str | None:
    """Where two descriptions part."""
    if type(one) is not type(other):
        return f"{place}: {json.dumps(one)[:120]} / {json.dumps(other)[:120]}"
    if isinstance(one, list):
        left, right = dict(enumerate(cast(list[Any], one))), dict(enumerate(cast(list[Any], other)))
        return _first_in(left, right, place)
    if isinstance(one, dict):
        return _first_in(cast(dict[str, Any], one), cast(dict[str, Any], other), place)
    return None if one == other else f"{place}: {json.dumps(one)[:120]} / {json.dumps(other)[:120]}"


def _first_in(one: Mapping[Any, Any], other: Mapping[Any, Any], place: str) -> str | None:
    for key in [*one, *(key for key in other if key not in one)]:
        if key not in one or key not in other:
            return f"{place}.{key}: only {'with' if key in other else 'without'} the plugin"
        found = first_difference(one[key], other[key], f"{place}.{key}")
        if found:
            return found
    return None


def _model(value: Any) -> dict[str, Any]:
    """A pydantic object: fields, which of them are set, extras, private request id, and its dump."""
    attributes: dict[str, Any] = value.__dict__
    kind: type[Any] = value.__class__
    described: dict[str, Any] = {
        "class": _name(kind),
        "set": sorted(value.model_fields_set),
        "fields": {name: describe(item) for name, item in attributes.items()},
        "dump": value.model_dump(mode="json", exclude_unset=True, warnings=False),
    }
    extra = getattr(value, "__pydantic_extra__", None)
    if extra:
        described["extra"] = describe(dict(extra))
    request_id = getattr(value, "_request_id", None)
    if request_id is not None:
        described["request_id"] = request_id
    return described


def _exception(error: BaseException) -> dict[str, Any]:
    attributes = {name: describe(item) for name, item in vars(error).items() if name not in _HIDDEN}
    response = getattr(error, "response", None)
    return {
        "class": _name(type(error)),
        "text": str(error),
        "attributes": attributes,
        "status": getattr(response, "status_code", None),
        "headers": _headers(getattr(response, "headers", None)),
        "cause": _name(type(error.__cause__)) if error.__cause__ else None,
    }


def _headers(headers: Mapping[str, str] | None) -> Any:
    return None if headers is None else dict(headers)


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
