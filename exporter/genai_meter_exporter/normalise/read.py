"""Attribute values → ledger values, by the kind that `schema` declares. A wrong kind is an error, never a zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import orjson
from genai_meter.schema import FIELDS, Field

from genai_meter_exporter.normalise.record import MAX_COUNT, MAX_INT, Unreadable
from genai_meter_exporter.receive.raw import Attributes

Reader = Callable[[Any], Any]

MAX_TEXT: Final = 1024
"""Longer text is cut: no field of the ledger is content."""

MAX_JSON: Final = 65536


def text(value: Any) -> str | None:
    """Text, bounded; numbers become text (a version may come as a number)."""
    if type(value) is str:
        return value if len(value) <= MAX_TEXT else value[:MAX_TEXT]
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise ValueError("is no text")


def integer(value: Any) -> int:
    """Not negative, 64 bits; whole floats and digits in text are accepted."""
    if type(value) is not int:
        value = _whole(value)
    if not 0 <= value <= MAX_INT:
        raise ValueError("is negative" if value < 0 else "exceeds 64 bits")
    return value


def count(value: Any) -> int:
    """An integer that is small enough to be summed."""
    value = integer(value)
    if value > MAX_COUNT:
        raise ValueError(f"exceeds {MAX_COUNT}")
    return value


def bound(value: Any) -> int | None:
    """What a caller bounds an answer by; -1, as local servers take it, and more than any answer has bound nothing."""
    whole = value if type(value) is int else _whole(value)
    return whole if 0 <= whole <= MAX_COUNT else None


def _whole(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    raise ValueError("is no integer")


def number(value: Any) -> float:
    """A finite float, not negative, that is small enough to be summed: a counter must neither fall nor overflow."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("is no number")
    if value - value != 0:
        raise ValueError("is not finite")
    if not 0 <= value <= MAX_COUNT:
        raise ValueError("is negative" if value < 0 else f"exceeds {MAX_COUNT}")
    return float(value)


def boolean(value: Any) -> int:
    """A truth value, as the 0 or 1 that SQL stores."""
    if value in (0, 1):
        return int(value)
    raise ValueError("is no boolean")


def json_text(value: Any) -> str:
    """JSON text; an array (as spans carry it) is written as JSON."""
    if isinstance(value, str):
        if len(value) > MAX_JSON:
            raise ValueError("is too long")
        try:
            orjson.loads(value)
        except orjson.JSONDecodeError:
            raise ValueError("is no JSON") from None
        return value
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        raise ValueError("is no JSON value") from None


def quantity(value: Any) -> int | Decimal:
    """A billed quantity: an integer count, or seconds with a fraction."""
    if type(value) is int:
        return count(value)
    if isinstance(value, float):
        if value.is_integer():
            return count(int(value))
        try:
            result = Decimal(repr(value))
        except InvalidOperation:
            raise ValueError("is no number") from None
        if not result.is_finite() or result < 0:
            raise ValueError("is no quantity")
        return result
    return count(value)


READERS: Final[Mapping[str, Reader]] = {
    "text": text,
    "int": count,
    "float": number,
    "bool": boolean,
    "time": integer,
    "json": json_text,
    "pico_usd": integer,
}

_OF_FIELD: Final[Mapping[str, Reader]] = {"max_tokens": bound}
"""Fields that are not read as their kind is."""

_LEDGERS_OWN: Final = frozenset({"source", "source_rank", "revision", "links"})
"""Fields that no producer may set."""

BY_ATTRIBUTE: Final[Mapping[str, tuple[str, Reader]]] = {
    f.attribute: (f.name, _OF_FIELD.get(f.name, READERS[f.kind])) for f in FIELDS if f.name not in _LEDGERS_OWN
}
"""Attribute → column and reader."""

_OLD_ENVIRONMENT: Final = "deployment.environment"

FROM_RESOURCE: Final[tuple[Field, ...]] = tuple(f for f in FIELDS if f.resource)


def named_text(name: str, value: Any) -> str | None:
    """Text of an attribute that no field's reader reads; raises `Unreadable` naming it."""
    try:
        return None if value is None else text(value)
    except ValueError as error:
        raise Unreadable(f"{name} {error}") from None


def fields(attributes: Attributes, resource: Mapping[str, Any], *, lenient: bool = False) -> dict[str, Any]:
    """Columns of all attributes that are fields of the schema; raises `Unreadable` naming the attribute.

    `lenient`: one that cannot be read is left out; what another producer bills by is read by its flavour.
    """
    values: dict[str, Any] = {}
    get = BY_ATTRIBUTE.get
    for attribute, value in attributes.items():
        entry = get(attribute)
        if entry is None or value is None:
            continue
        column, reader = entry
        try:
            told = reader(value)
        except ValueError as error:
            if lenient:
                continue
            raise Unreadable(f"{attribute} {error}") from None
        if told is not None:
            values[column] = told
    for field in FROM_RESOURCE:
        if field.name not in values:
            value = resource.get(field.attribute)
            if value is not None:
                values[field.name] = named_text(field.attribute, value)
    if "environment" not in values and (old := resource.get(_OLD_ENVIRONMENT)):
        values["environment"] = named_text(_OLD_ENVIRONMENT, old)
    return values
