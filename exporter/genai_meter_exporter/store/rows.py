"""Between usage records and rows of the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from genai_meter_exporter.normalise.record import OWN_PRODUCER, RANK_OWN_SPAN, UsageRecord, usage_json


def linked_json(record: UsageRecord) -> str:
    """A linked record, whole, for the `linked` table."""
    values = {**record.values, "usage": usage_json(record.usages), "parent_span_id": record.parent_span_id.hex()}
    values["call_id"] = record.key.hex()
    return orjson.dumps(values, default=str).decode()


def stored_json(row: Mapping[str, Any]) -> str:
    """A ledger row that becomes a linked record."""
    return orjson.dumps({**row, "call_id": row["call_id"].hex()}).decode()


def links(row: Mapping[str, Any]) -> list[str]:
    """Ids of the records linked to a ledger row, in hex."""
    return orjson.loads(row["links"]) if row.get("links") else []


def links_json(ids: Sequence[str]) -> str:
    """The `links` column."""
    return orjson.dumps(ids).decode()


def record_of(values: Mapping[str, Any], key: bytes) -> UsageRecord:
    """A stored row as the linking index wants it."""
    rank = values.get("source_rank") or 0
    return UsageRecord(
        key=key,
        values=dict(values),
        usages=[],
        producer=OWN_PRODUCER if rank <= RANK_OWN_SPAN else values["source"],
        rank=rank,
        trace_id=bytes.fromhex(values.get("trace_id") or ""),
        span_id=bytes.fromhex(values.get("span_id") or ""),
        parent_span_id=bytes.fromhex(values.get("parent_span_id") or ""),
    )
