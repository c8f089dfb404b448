"""From requests to commits: requests that share a transaction do not share its end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from exporter_kit import logs, usage_event
from genai_meter_exporter.bounds import Bounds
from genai_meter_exporter.counters import Counters
from genai_meter_exporter.metrics import LiveFacts
from genai_meter_exporter.normalise import Batch
from genai_meter_exporter.pipeline import Accepted, Pipeline
from genai_meter_exporter.receive import protobuf
from genai_meter_exporter.series import SeriesKey
from genai_meter_exporter.store.base import StoreError, Written
from genai_meter_exporter.store.reader import SqliteReader
from genai_meter_exporter.store.sqlite import SqliteStore


class Choking(SqliteStore):
    """A store with a fault: one tenant's calls break it."""

    def write(self, batches: Sequence[Batch], shown: Sequence[SeriesKey], now_ns: int) -> Written:
        """Break, when that tenant is there."""
        if any(record.values.get("tenant") == "unlucky" for batch in batches for record in batch.records):
            raise OverflowError("Python int too large to convert to SQLite INTEGER")
        return super().write(batches, shown, now_ns)


async def test_a_request_that_breaks_the_writer_fails_alone(tmp_path: Path) -> None:
    bounds = Bounds({}, 100, 1000)
    store = Choking(tmp_path / "ledger.db", bounds)
    pipeline = Pipeline(
        store, Counters(15), bounds, LiveFacts(), queue_requests=10, queue_bytes=10**6, group_records=100
    )
    bodies = [logs([usage_event(tenant=name)]).SerializeToString() for name in ("acme", "unlucky", "zeta")]
    sent = [asyncio.ensure_future(pipeline.accept("logs", body, protobuf.parse)) for body in bodies]
    await asyncio.wait(sent, timeout=1)
    pipeline.start()
    first, second, third = await asyncio.gather(*sent, return_exceptions=True)
    await asyncio.to_thread(pipeline.stop)
    assert (first, third) == (Accepted(), Accepted())
    assert isinstance(second, StoreError)
    reader = SqliteReader(tmp_path / "ledger.db")
    assert reader.totals()[0] == 2
    reader.close()
