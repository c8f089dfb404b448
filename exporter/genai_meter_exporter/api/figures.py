"""Rows of a report as programs read them: money as exact decimal text, null where nothing has a price."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from genai_meter.pricing.cost import usd

from genai_meter_exporter.cells import MEASURES, MONEY


def cost(row: Mapping[str, Any]) -> Decimal | None:
    """None when no call of the group has a price: that is unknown, not zero."""
    priced = row["calls"] - row["unpriced_calls"] - row["unknown_usage_calls"]
    return usd(row["cost"]) if priced or row["cost"] else None


def totals(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The sums of all rows."""
    sums: dict[str, int] = dict.fromkeys(MEASURES, 0)
    for row in rows:
        for name in MEASURES:
            sums[name] += row[name]
    return sums


def measures(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row says, without its dimensions."""
    told: dict[str, Any] = {name: row[name] for name in MEASURES if name not in MONEY}
    amount = cost(row)
    told["list_cost_usd"] = None if amount is None else f"{usd(row['list_cost']):f}"
    told["cost_usd"] = None if amount is None else f"{amount:f}"
    return told


def plain(by: Sequence[str], row: Mapping[str, Any]) -> dict[str, Any]:
    """One row, flat."""
    return {**{name: row[name] for name in by}, **measures(row)}
