"""Foreign JSON and YAML, looked at before it is trusted."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any, cast

from genai_meter.usage import Quantity


def mapping(value: object) -> dict[str, Any] | None:
    """The value when it is a mapping."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def sequence(value: object) -> list[Any] | None:
    """The value when it is a list."""
    return cast("list[Any]", value) if isinstance(value, list) else None


def quantities(value: object) -> dict[str, Quantity]:
    """Billed quantities by bucket; a fraction may be a number or, as the ledger keeps it, text. Raises `ValueError`."""
    buckets = mapping(value)
    if buckets is None:
        raise ValueError("buckets are a JSON object of numbers")
    return {name: _quantity(name, amount) for name, amount in buckets.items() if amount}


def _quantity(name: str, value: object) -> Quantity:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"bucket {name}: {value!r} is no number") from None
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"bucket {name}: {value!r} is no quantity")
    return int(amount) if amount == amount.to_integral_value() else amount
