"""What requests of many formats have in common: typed reads of parameters, sizes of texts.

A size costs one `len` a string, whatever its length; a text is never copied, joined or searched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from genai_meter.dialects.base import Json, RequestView, fields

ROLES: Final = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
}
"""Role on the wire → role of `chars_by_role`. The caller controls the first, so the second is bounded."""

OTHER: Final = "other"


TEXT: Final = (str,)
WHOLE: Final = (int,)
NUMBER: Final = (float, int)

Parameters: TypeAlias = Mapping[str, tuple[str, tuple[type, ...]]]
"""Name in the body → field of the `RequestView` and the types it may have."""


def read_parameters(view: RequestView, body: Mapping[str, Json], known: Parameters) -> None:
    """Set the fields for the parameters that a body has; bodies are short, tables are long."""
    for name, value in body.items():
        if name in known:
            field, kinds = known[name]
            if value.__class__ in kinds:
                setattr(view, field, float(value) if kinds is NUMBER else value)


def text(body: Mapping[str, Json], key: str) -> str | None:
    """A string parameter."""
    value = body.get(key)
    return value if type(value) is str else None


def whole(body: Mapping[str, Json], key: str) -> int | None:
    """An integer parameter."""
    value = body.get(key)
    return value if type(value) is int else None


def number(body: Mapping[str, Json], key: str) -> float | None:
    """A number parameter."""
    value = body.get(key)
    if type(value) is int:
        return float(value)
    return value if type(value) is float else None


def items(body: Mapping[str, Json], key: str) -> list[Json] | None:
    """A list parameter."""
    value = body.get(key)
    return value if value.__class__ is list else None


def size(body: Mapping[str, Json], key: str) -> int | None:
    """The length of a list parameter."""
    value = items(body, key)
    return None if value is None else len(value)


def strings(body: Mapping[str, Json], key: str) -> tuple[str, ...] | None:
    """A parameter that is a string or a list of strings."""
    value = body.get(key)
    if type(value) is str:
        return (value,)
    several = items(body, key)
    return None if several is None else tuple(v for v in several if type(v) is str)


def chars(value: Json, depth: int = 4) -> int:
    """Characters of text in a message's content: a string, or parts that have `text`, `content` or `output`."""
    kind = value.__class__
    if kind is str:
        return len(value)
    if value is None or depth == 0:
        return 0
    if kind is list:
        return sum(chars(part, depth - 1) if type(part) is not str else len(part) for part in value)
    part = fields(value)
    found = part.get("text")
    if found is None:
        found = part.get("content", part.get("output", part.get("arguments")))
    return chars(found, depth - 1)


def by_role(messages: Iterable[Json], sizes: dict[str, int]) -> None:
    """Add the characters of `messages` (objects with `role` and `content`) to `sizes`."""
    for message in messages:
        body = message if message.__class__ is dict else fields(message)
        content = body.get("content")
        length = len(content) if type(content) is str else chars(content)
        calls = body.get("tool_calls")
        if calls:
            length += sum(chars(fields(call).get("function")) for call in calls)
        role = body.get("role")
        role = ROLES.get(role, OTHER) if type(role) is str else OTHER
        sizes[role] = sizes.get(role, 0) + length


def for_model(body: Mapping[str, Json], model: str | None) -> dict[str, Json]:
    """A copy of a body that names its model; None: the one it names."""
    return dict(body) if model is None else {**body, "model": model}


def bound(body: dict[str, Json], name: str, most: int) -> None:
    """Bound the output: one that is there is lowered, one that is not is set."""
    if not lower(body, (name,), most):
        body[name] = most


def bound_in(body: dict[str, Json], part: str, name: str, most: int) -> None:
    """The same in a part of the body, of which a copy is made."""
    inner = dict(fields(body.get(part)))
    bound(inner, name, most)
    body[part] = inner


def lower(body: dict[str, Json], names: tuple[str, ...], bound: int) -> bool:
    """Lower the bounds called `names` where present to at most `bound`; False when none was there."""
    found = False
    for name in names:
        present = body.get(name)
        if type(present) is int:
            body[name] = min(present, bound)
            found = True
    return found
