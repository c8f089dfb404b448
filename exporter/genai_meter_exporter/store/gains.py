"""What an open transaction adds to the counters, what is kept out, the rows of the quarantine: for every engine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from operator import add

from genai_meter_exporter import series
from genai_meter_exporter.bounds import Bounds
from genai_meter_exporter.cells import Measures
from genai_meter_exporter.columns import Columns
from genai_meter_exporter.normalise.own import time_prefix
from genai_meter_exporter.normalise.record import Batch, Quarantined, usage_json
from genai_meter_exporter.observations import observe
from genai_meter_exporter.series import Deltas, Run
from genai_meter_exporter.store.base import Tally
from genai_meter_exporter.store.placing import Placing


def gains(placing: Placing, bounds: Bounds) -> Deltas:
    """The counters' part of what was placed."""
    deltas = Deltas()
    gained: dict[tuple[str, ...], Measures] = {}
    for (_, dimensions), what in placing.added.items():
        before = gained.get(dimensions)
        gained[dimensions] = what if before is None else tuple(map(add, before, what))
    series.add_cells(deltas, bounds, gained)
    for old, new in placing.replaced:
        series.replace_cell(deltas, bounds, old, new)
    for (_, dimensions), what in placing.withdrawn:
        series.withdraw_cell(deltas, bounds, dimensions, what)
    observe(deltas, bounds, placing.observed)
    deltas.cells = placing.rollup()
    deltas.runs = [run for calls in placing.observed if "run_id" in calls.told for run in _runs(calls)]
    return deltas


def _runs(calls: Columns) -> Iterator[Run]:
    told = zip(*map(calls.get, ("team", "workflow", "run_id", "cost", "end")), strict=True)
    for team, workflow, run_id, cost, end in told:
        if run_id and workflow:
            yield Run(team or "", workflow, run_id, cost or 0, end or 0)


def count_tallies(deltas: Deltas, tallies: Sequence[Tally]) -> None:
    """Records by what became of them."""
    for tally in tallies:
        series.count_ingest(
            deltas,
            (
                ("accepted", tally.accepted),
                ("duplicate", tally.duplicate),
                ("linked", tally.linked),
                ("quarantined", tally.quarantined),
            ),
        )


def quarantine_rows(records: Iterable[Quarantined]) -> list[tuple[bytes, str, str, str, str]]:
    """Digest, signal, reason, producer, record: the same mistake has one row."""
    entries: dict[bytes, tuple[bytes, str, str, str, str]] = {}
    for record in records:
        # Not orjson: what is wrong with the record may be an integer or a depth that it refuses.
        text = json.dumps(record.attributes, default=repr, sort_keys=True, ensure_ascii=False)
        digest = hashlib.blake2b(f"{record.reason}\0{record.producer}\0{text}".encode(), digest_size=16).digest()
        entries[digest] = digest, record.signal, record.reason, record.producer, text
    return list(entries.values())


def refuse_retired(batches: Sequence[Batch], raw_since: int) -> None:
    """A call of a time whose rows have been removed may have been charged: it goes to the quarantine."""
    first = time_prefix(raw_since)
    for batch in batches:
        old = [record for record in batch.records if record.key < first]
        if old:
            batch.records = [record for record in batch.records if record.key >= first]
            batch.quarantined += [
                Quarantined(
                    "logs",
                    "the call is older than the ledger's calls are kept (store.retention_days)",
                    record.source,
                    {**record.values, "call_id": record.key.hex(), "usage": usage_json(record.usages)},
                )
                for record in old
            ]
