"""Price again: the ledger's cost of a record, by this exporter's book and the instant the call started."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
from genai_meter import pricing
from genai_meter.pricing import Line
from genai_meter.pricing.book import BookError, read_book
from genai_meter.pricing.cost import Cost, Unread
from genai_meter.pricing.engine import Resolver
from genai_meter.pricing.overlay import OverlayError, read_overlay
from genai_meter.pricing.resolver import BOOK_VARIABLE, OVERLAY_VARIABLE, use
from genai_meter.safety import swallow
from genai_meter.settle import ESTIMATE_REASONS

from genai_meter_exporter.normalise.record import MAX_INT, Batch, Quarantined, Unreadable, UsageRecord, usage_json


class PriceError(Exception):
    """The price book or the overlay cannot be used; the message says which and why."""


def open_prices(overlay: Path | None) -> tuple[str, float]:
    """Price by the book and this overlay (or the ones the environment names) from now on: book id, date of its data.

    Unlike an application, which must run on, the ledger refuses to start on prices it cannot read.
    """
    return use_prices(read_prices(overlay))


def use_prices(chosen: Resolver) -> tuple[str, float]:
    """Price by these from now on: book id, date of its data."""
    use(chosen)
    return chosen.book_id, datetime.fromisoformat(chosen.book.data_date).replace(tzinfo=UTC).timestamp()


def read_prices(overlay: Path | None) -> Resolver:
    """By the book and this overlay, or the ones the environment names; raises `PriceError`."""
    book_path, overlay_path = os.environ.get(BOOK_VARIABLE), overlay or os.environ.get(OVERLAY_VARIABLE)
    try:
        book = read_book(Path(book_path)) if book_path else read_book()
        return Resolver(book, read_overlay(Path(overlay_path)) if overlay_path else None)
    except BookError as error:
        raise PriceError(f"the price book {book_path} cannot be used: {error}") from None
    except OverlayError as error:
        raise PriceError(
            f"the price overlay {overlay_path} cannot be used: {error}; make it with `genai-meter prices compile`"
        ) from None


def charge(batch: Batch) -> None:
    """Set the cost columns of every record; one that cannot be charged goes to the quarantine."""
    kept: list[UsageRecord] = []
    for record in batch.records:
        try:
            _keep_application_figures(record.values)
            if record.given_cost:
                _given(record.values)
            else:
                price_record(record)
        except Unreadable as error:
            _quarantine(batch, record, str(error))
        except Exception as error:  # noqa: BLE001 - counted, logged, and the record is kept in the quarantine
            swallow("charging.price", error)
            _quarantine(batch, record, f"pricing failed: {type(error).__name__}")
        else:
            kept.append(record)
    batch.records = kept


def _quarantine(batch: Batch, record: UsageRecord, reason: str) -> None:
    facts = {**record.values, "call_id": record.key.hex(), "usage": usage_json(record.usages)}
    batch.quarantined.append(Quarantined("logs", reason, record.source, facts))


def _keep_application_figures(values: dict[str, Any]) -> None:
    """What the application computed stays, beside what we compute."""
    if "cost" in values:
        values.setdefault("app_cost", values["cost"])
    if "book_id" in values:
        values.setdefault("app_book_id", values["book_id"])


def _given(values: dict[str, Any]) -> None:
    values.setdefault("cost_status", "exact")
    values.setdefault("list_cost", values["cost"])


def price_record(record: UsageRecord) -> None:
    """Set the cost columns by the prices in use."""
    values = record.values
    if not record.usages and not _billable(values):
        for name in ("cost_status", "cost_reasons", "list_cost", "cost", "cost_lines", "book_id"):
            values[name] = None
        return
    provider = values.get("provider") or ""
    model = pricing.billed_model(provider, values.get("request_model"), values.get("model"))
    cost = pricing.price(provider, model, record.usages, values["start"], record.context)
    if max(cost.list_pico or 0, cost.effective_pico or 0) > MAX_INT:
        raise Unreadable("the cost exceeds what one event may cost")
    estimated = values.get("usage_source") == "estimated"
    values["cost_status"] = "estimated" if estimated and cost.status == "exact" else cost.status
    reasons = cost.reasons
    if told := values.get("cost_reasons"):
        reasons = (*reasons, *_usage_reasons(told))
    values["cost_reasons"] = _json(reasons) if reasons else None
    values["cost_lines"] = _lines_of(cost)
    values["list_cost"] = cost.list_pico
    values["cost"] = cost.effective_pico
    values["book_id"] = cost.book_id or None
    card = (
        cost.card if isinstance(cost, Unread) else pricing.rate_card(provider, model, values["start"], record.context)
    )
    if card is not None and card.context_window:
        used = (values.get("input_tokens") or 0) + (values.get("output_tokens") or 0)
        values["context_ratio"] = used / card.context_window


def _billable(values: dict[str, Any]) -> bool:
    """A call without usage is billed all the same when its answer had begun."""
    http_status = values.get("http_status")
    return values.get("status") == "ok" or (http_status is not None and 200 <= http_status < 300)


def _usage_reasons(told: str) -> list[str]:
    """What the application said of an estimate: only it saw the answer."""
    reasons: Any = orjson.loads(told)
    if type(reasons) is not list:
        raise Unreadable("genai_meter.cost.reasons is no JSON array")
    return sorted(reason for reason in ESTIMATE_REASONS if reason in reasons)


_KEPT: Final = 1_000
_line_heads: dict[tuple[Any, ...], str] = {}
"""What the lines of one rate have in common → JSON."""
_plain_lines: dict[tuple[Any, ...], str] = {}
"""A plain rate card and buckets → their lines, but for the numbers."""


def _lines_of(cost: Cost) -> str | None:
    """The lines of a cost, as `cost_lines` writes them; of a plain card without making them."""
    if not isinstance(cost, Unread) or (rates := cost.card.plain) is None:
        return cost_lines(cost.lines) or None
    buckets = cost.buckets
    key = (cost.card, *buckets)
    form = _plain_lines.get(key)
    if form is None:
        if len(_plain_lines) >= _KEPT:
            _plain_lines.clear()
        heads = (_line_head(line).replace("%", "%%") for line in cost.card.lines(tuple((name, 1) for name in buckets)))
        form = _plain_lines[key] = _written(f"{head}{_NUMBERS}" for head in heads)
    numbers: list[int] = []
    for bucket, quantity in buckets.items():
        if type(quantity) is not int or quantity <= 0:
            return cost_lines(cost.lines) or None
        price = quantity * rates[bucket]
        numbers += (quantity, price, price)
    return form % tuple(numbers)


def cost_lines(lines: Iterable[Line]) -> str:
    """Cost lines as JSON, one object a line, keys as in `Line`; empty when there are none."""
    parts: list[str] = []
    for line in lines:
        quantity = line.quantity if type(line.quantity) is int else f'"{line.quantity:f}"'
        parts.append(_line_head(line) + _NUMBERS % (quantity, line.list_pico, line.effective_pico))
    return _written(parts) if parts else ""


_NUMBERS: Final = ',"quantity":%s,"list_pico":%d,"effective_pico":%d}'


def _written(lines: Iterable[str]) -> str:
    return f"[{','.join(lines)}]"


def _line_head(line: Line) -> str:
    key = (line.model, line.bucket, line.rate, line.per, line.entries)
    head = _line_heads.get(key)
    if head is None:
        if len(_line_heads) >= _KEPT:
            _line_heads.clear()
        told = dict(zip(("model", "bucket", "rate", "per", "entries"), key, strict=True))
        head = _line_heads[key] = orjson.dumps(told).decode()[:-1]
    return head


def _json(value: Iterable[Any]) -> str:
    return orjson.dumps(value, default=str).decode()
