"""Foreign JSON and YAML, looked at before it is trusted."""

from __future__ import annotations

from typing import Any, cast


def mapping(value: object) -> dict[str, Any] | None:
    """The value when it is a mapping."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def sequence(value: object) -> list[Any] | None:
    """The value when it is a list."""
    return cast("list[Any]", value) if isinstance(value, list) else None
