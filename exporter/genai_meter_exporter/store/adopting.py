"""Calls of another store, taken over as they are: with their prices, revisions and linked records."""

from __future__ import annotations

from collections.abc import Sequence

from genai_meter_exporter.normalise.own import time_prefix
from genai_meter_exporter.store.base import Past, StoreError, Tally
from genai_meter_exporter.store.placing import Placing
from genai_meter_exporter.store.rows import Rows


def adopt(tables: Rows, placing: Placing, past: Sequence[Past], raw_since: int) -> Tally:
    """Insert the calls that are not there; the counters and roll-ups follow from `placing`."""
    first = time_prefix(raw_since)
    if raw_since and any(call.values["call_id"] < first for call in past):
        raise StoreError(
            "some of these calls started before the first that this store still keeps (store.retention_days): "
            "their sums may be in it already; import into an empty store, or later days"
        )
    ranks, linked = tables.known([call.values["call_id"] for call in past])
    taken = {key for key, _ in linked}
    new = [call for call in past if call.values["call_id"] not in ranks and call.values["call_id"] not in taken]
    placing.adopt([call.values for call in new])
    for call in new:
        for row in call.linked:
            tables.link(
                row["call_id"], row["source"], row["charge"], row["rule"], row["recorded_at"], row.get("record", "{}")
            )
        for row in call.revisions:
            tables.keep_revision(
                row["call_id"], row["revision"], row["recorded_at"], row.get("reason", ""), row["price"]
            )
    return Tally(accepted=len(new), duplicate=len(past) - len(new))
