"""Between usage records and rows of the ledger; the tables that every engine has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import orjson

from genai_meter_exporter.columns import Columns
from genai_meter_exporter.normalise.record import OWN_PRODUCER, RANK_OWN_SPAN, UsageRecord, usage_json
from genai_meter_exporter.store.base import Price


class Rows(Protocol):
    """The calls and what is linked to them, in an engine's open transaction."""

    def known(self, keys: Sequence[bytes]) -> tuple[dict[bytes, int], set[tuple[bytes, str]]]:
        """Of these keys: those of calls with their source ranks, and those of linked records with their sources."""
        ...

    def get(self, call_id: bytes) -> dict[str, Any] | None:
        """All columns of a call."""
        ...

    def insert(self, calls: Columns) -> None:
        """New calls."""
        ...

    def delete(self, call_id: bytes) -> None:
        """A call that another record has replaced."""
        ...

    def link(self, key: bytes, source: str, charge: bytes, rule: str, recorded_at: int, record: str) -> None:
        """Keep a record (JSON) beside the call it repeats; nothing happens when it is there."""
        ...

    def add_link(self, call_id: bytes, link: str) -> None:
        """Name a linked record in its call's `links`."""
        ...

    def move_links(self, old: bytes, new: bytes) -> None:
        """What was linked to one call belongs to another."""
        ...

    def keep_revision(self, call_id: bytes, revision: int, recorded_at: int, reason: str, price: str) -> None:
        """What the price of a call was."""
        ...

    def set_columns(self, call_id: bytes, changed: Mapping[str, Any]) -> None:
        """Change columns of the table `call`."""
        ...


def price_json(price: Price) -> str:
    """A price for the table `pending_revision`."""
    return orjson.dumps(asdict(price)).decode()


def price_of(text: str) -> Price:
    """A price from the table `pending_revision`."""
    return Price(**orjson.loads(text))


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
