"""What a token of some tenants sends is theirs, or it is refused."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from genai_meter_exporter.normalise.record import REFUSED, Batch, Beside, Quarantined, UsageRecord, usage_json

FOREIGN: Final = "the token that sent it may not write for this tenant"
NOBODY: Final = "it names no tenant, and the token that sent it has several"


def bind(batch: Batch, tenants: frozenset[str]) -> None:
    """Keep what belongs to these tenants; the rest goes to the quarantine. What names none belongs to an only one."""
    only = next(iter(tenants)) if len(tenants) == 1 else None
    records: list[UsageRecord] = []
    for record in batch.records:
        if reason := _refused(record.values, tenants, only):
            facts = {**record.values, "call_id": record.key.hex(), "usage": usage_json(record.usages), REFUSED: reason}
            batch.quarantined.append(Quarantined("logs", reason, record.source, facts))
        else:
            record.tenants = tenants
            records.append(record)
    beside: list[Beside] = []
    for event in batch.beside:
        unnamed = not event.values.get("tenant")
        if reason := _refused(event.values, tenants, only):
            batch.quarantined.append(Quarantined("logs", reason, event.kind, {**event.values, REFUSED: reason}))
        else:
            if unnamed and event.kind == "outcome":
                # Its id holds for one tenant: of another it is another outcome.
                event.key = hashlib.blake2b(event.key + f"\0{only}".encode(), digest_size=16).digest()
            beside.append(event)
    batch.records, batch.beside = records, beside


def _refused(values: dict[str, Any], tenants: frozenset[str], only: str | None) -> str | None:
    tenant = values.get("tenant")
    if not tenant:
        if only is None:
            return NOBODY
        values["tenant"] = only
        return None
    return None if tenant in tenants else FOREIGN
