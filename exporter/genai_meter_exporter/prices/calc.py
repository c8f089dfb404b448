"""One raw answer → one cost: what `genai-meter prices calc` does with a line."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from genai_meter import dialects
from genai_meter.pricing import Cost, Line, units
from genai_meter.pricing.cost import PICO
from genai_meter.pricing.engine import Resolver
from genai_meter.pricing.overlay import instant
from genai_meter.usage import Usage

from genai_meter_exporter.prices.shapes import mapping, quantities


def calculate(resolver: Resolver, line: str) -> dict[str, Any]:
    """The result for one line of JSON; one that cannot be priced gives `error` in the place of a cost."""
    identifier: Any = None
    try:
        record = mapping(json.loads(line))
        if record is None:
            raise ValueError("a line is a JSON object")
        identifier = record.get("id")
        return {"id": identifier, **_result(_cost(resolver, record))}
    except Exception as error:  # noqa: BLE001 - reported on its own line; the other lines are still priced
        return {"id": identifier, "error": f"{type(error).__name__}: {error}"}


def usd_text(pico: int) -> str:
    """Pico-USD as exact decimal USD without trailing zeros."""
    return units.decimal_text(Fraction(pico, PICO))


def line_json(line: Line) -> dict[str, Any]:
    """A cost line for people and pipes."""
    return {
        "model": line.model,
        "bucket": line.bucket,
        "quantity": line.quantity if isinstance(line.quantity, int) else str(line.quantity),
        "rate": line.rate,
        "per": line.per,
        "list_usd": usd_text(line.list_pico),
        "cost_usd": usd_text(line.effective_pico),
        "entries": list(line.entries),
    }


def _cost(resolver: Resolver, record: Mapping[str, Any]) -> Cost:
    provider = str(record.get("provider") or "")
    usages, model, served = _read(record, provider)
    context = {**served, **{key: str(value) for key, value in (mapping(record.get("context")) or {}).items()}}
    at = record.get("at")
    return resolver.price(provider, model, usages, instant(str(at)) if at else time.time_ns(), context)


def _read(record: Mapping[str, Any], provider: str) -> tuple[list[Usage], str, dict[str, str]]:
    """Usage, model and served context; from `buckets` as they are, or from the `raw` answer by its dialect."""
    asked = str(record.get("model") or "")
    if (buckets := record.get("buckets")) is not None:
        return [Usage(quantities(buckets))], asked, {}
    raw = mapping(record.get("raw"))
    if raw is None:
        raise ValueError("neither `raw` nor `buckets` given")
    try:
        dialect = dialects.by_flavor(provider, record.get("api_flavor"), raw)
    except KeyError as error:
        raise ValueError(f"unknown api_flavor {error}; without one the shape of the answer decides") from None
    request, reading = dialects.RequestView(model=asked or None), dialects.Reading()
    dialect.response(reading, raw)
    served = dict(reading.context)
    if reading.service_tier:
        served.setdefault("service_tier", reading.service_tier)
    return dialect.usages(reading, request), asked or reading.model or "", served


def _result(cost: Cost) -> dict[str, Any]:
    return {
        "cost_usd": None if cost.effective_pico is None else usd_text(cost.effective_pico),
        "list_usd": None if cost.list_pico is None else usd_text(cost.list_pico),
        "status": cost.status,
        "reasons": list(cost.reasons),
        "lines": [line_json(line) for line in cost.lines],
        "book_id": cost.book_id,
    }
