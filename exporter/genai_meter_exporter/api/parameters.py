"""Parameters of the API: one table checks them and describes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from genai_meter_exporter.api.problems import Problem

_FIELDS: int = 100
"""Parameters of one request."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an endpoint."""

    name: str
    doc: str
    read: Callable[[str], Any]
    """Its text → its value; raises `ValueError` with what is wrong."""
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    """JSON Schema, for the description."""
    default: Any = None
    example: str | None = None
    """A value that holds, for the description."""
    in_path: bool = False


def text(value: str) -> str:
    """Any."""
    return value


def one_of(allowed: Sequence[str]) -> Callable[[str], str]:
    """One of a few."""

    def read(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"use one of: {', '.join(allowed)}")
        return value

    return read


def several_of(allowed: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Different ones, with commas between."""

    def read(value: str) -> tuple[str, ...]:
        chosen = tuple(name.strip() for name in value.split(",") if name.strip())
        if unknown := [name for name in chosen if name not in allowed]:
            raise ValueError(f"{unknown[0][:40]!r} is none of: {', '.join(allowed)}")
        if len(set(chosen)) != len(chosen):
            raise ValueError("name each once")
        return chosen

    return read


def integer(low: int, high: int) -> Callable[[str], int]:
    """Within bounds."""

    def read(value: str) -> int:
        if not (value.isascii() and value.isdigit() and len(value) < 10 and low <= int(value) <= high):
            raise ValueError(f"an integer from {low} to {high} is expected")
        return int(value)

    return read


def read_query(query: bytes, known: Sequence[Parameter]) -> dict[str, Any]:
    """The values of all parameters; raises `Problem` for what is unknown, twice, or wrong."""
    by_name = {parameter.name: parameter for parameter in known if not parameter.in_path}
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_FIELDS)
    except ValueError:
        raise Problem(400, "the query is no application/x-www-form-urlencoded UTF-8 text") from None
    values = {name: parameter.default for name, parameter in by_name.items()}
    seen: set[str] = set()
    for name, told in pairs:
        parameter = by_name.get(name)
        if parameter is None:
            known_names = ", ".join(by_name) or "none"
            raise Problem(400, f"{name[:40]!r} is no parameter of this; there are: {known_names}", parameter=name[:40])
        if name in seen:
            raise Problem(400, f"{name} is there twice", parameter=name)
        seen.add(name)
        values[name] = read_one(parameter, told)
    return values


def read_one(parameter: Parameter, told: str) -> Any:
    """The value of one; raises `Problem`."""
    try:
        return parameter.read(told)
    except ValueError as error:
        raise Problem(400, f"{parameter.name}: {error}", parameter=parameter.name) from None
