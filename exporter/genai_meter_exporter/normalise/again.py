"""Records of the quarantine, read again: a later version may know what an earlier one did not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Protocol

from genai_meter.usage import Quantity, Usage

from genai_meter_exporter.normalise import objects
from genai_meter_exporter.normalise.record import (
    OWN_PRODUCER,
    RANK_OWN_SPAN,
    REFUSED,
    Batch,
    Quarantined,
    UsageRecord,
    price_context,
)
from genai_meter_exporter.receive.raw import Parsed, Raw, Signal


class Kept(Protocol):
    """A row of the quarantine."""

    @property
    def digest(self) -> bytes:
        """Its name."""
        ...

    @property
    def signal(self) -> str:
        """What it came as."""
        ...

    @property
    def record(self) -> str:
        """Its metadata as JSON."""
        ...


def printable(raw: Raw) -> dict[str, Any]:
    """The metadata that helps to find the producer's mistake, and to read the record again."""
    return {
        "name": raw.name,
        "scope": raw.scope,
        "resource": dict(raw.resource),
        "trace_id": raw.trace_id.hex(),
        "span_id": raw.span_id.hex(),
        "parent_span_id": raw.parent_span_id.hex(),
        "start_ns": raw.start_ns,
        "end_ns": raw.end_ns,
        "failed": raw.failed,
        "attributes": {name: _bare(name, value) for name, value in raw.attributes.items()},
    }


def _bare(name: str, value: Any) -> Any:
    """Of objects that may hold more than counts, the numbers."""
    return objects.numbers(value) if name in objects.CARRIED else value


def read_again(kept: Iterable[Kept], read: Callable[[Parsed], Batch], finish: Callable[[Batch], None]) -> Batch:
    """One batch of all that can be read now; `retried` says what became of each."""
    joined = Batch()
    for row in kept:
        batch = _batch(row, read)
        finish(batch)
        joined.retried[row.digest] = batch.quarantined[0].reason if batch.quarantined else None
        if not batch.quarantined:
            joined.records += batch.records
            joined.beside += batch.beside
    return joined


def _batch(row: Kept, read: Callable[[Parsed], Batch]) -> Batch:
    record: dict[str, Any] = json.loads(row.record)
    if reason := record.get(REFUSED):
        return Batch(quarantined=[Quarantined(row.signal, reason, "", record)])
    if "attributes" not in record:
        return Batch(records=[_charged_before(record)])
    signal: Signal = "logs" if row.signal == "logs" else "traces"
    raw = Raw(
        signal,
        record["name"],
        record["attributes"],
        record.get("resource") or {},
        record.get("scope") or "",
        bytes.fromhex(record["trace_id"]),
        bytes.fromhex(record["span_id"]),
        bytes.fromhex(record.get("parent_span_id") or ""),
        record.get("start_ns") or record.get("time_ns") or 0,
        record.get("end_ns") or 0,
        record.get("failed") or False,
    )
    return read(Parsed(signal, [raw]))


def _charged_before(values: Mapping[str, Any]) -> UsageRecord:
    """A record that was read, but not charged: its columns and its buckets."""
    told = {name: value for name, value in values.items() if name not in ("call_id", "usage") and value is not None}
    rank: int = told["source_rank"]
    return UsageRecord(
        key=bytes.fromhex(values["call_id"]),
        values=told,
        usages=[
            Usage({name: _quantity(count) for name, count in entry["buckets"].items()}, model=entry["model"])
            for entry in json.loads(values.get("usage") or "[]")
        ],
        producer=OWN_PRODUCER if rank <= RANK_OWN_SPAN else told["source"],
        rank=rank,
        trace_id=bytes.fromhex(told.get("trace_id") or ""),
        span_id=bytes.fromhex(told.get("span_id") or ""),
        context=price_context(told),
    )


def _quantity(value: Any) -> Quantity:
    return value if isinstance(value, int) else Decimal(str(value))
