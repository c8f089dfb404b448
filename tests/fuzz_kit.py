"""Payloads that nobody should send, and the way of a request through the receivers, the ledger included."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import re
import resource
import time
import zlib
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, MutableMapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

import orjson
from exporter_kit import Event, SpanOf, logs, logs_json, traces, traces_json, usage_event
from genai_meter.safety import internal_errors
from genai_meter_exporter.access.gate import Gate
from genai_meter_exporter.access.rates import Rates
from genai_meter_exporter.bounds import Bounds
from genai_meter_exporter.charging import charge
from genai_meter_exporter.config import Limits
from genai_meter_exporter.counters import Counters
from genai_meter_exporter.metrics import LiveFacts
from genai_meter_exporter.normalise import Batch, normalise
from genai_meter_exporter.pipeline import Pipeline
from genai_meter_exporter.receive import json as otlp_json
from genai_meter_exporter.receive import protobuf
from genai_meter_exporter.receive.http import OtlpHttp
from genai_meter_exporter.receive.raw import Garbage, Signal
from genai_meter_exporter.store.reader import SqliteReader
from genai_meter_exporter.store.sqlite import SqliteStore
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

PARSERS: Final = {"protobuf": protobuf.parse, "json": otlp_json.parse}

LIMITS: Final = Limits(body_bytes=100_000, inflated_bytes=200_000)
"""Small, so that they are reached."""
_WINDOW_NS: Final = 1_000_000_000
"""Short: what the index remembers of calls would pass for growth."""


_TRACE: Final = b"\x01" * 16
_SPAN: Final = b"\x02" * 8
"""Ids of the seeds; those of `SpanOf` too."""
_CALL_ID: Final = re.compile(rb"([0-9a-f]{8}-[0-9a-f]{4}-)[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def seeds() -> list[tuple[Signal, str, bytes]]:
    """One good request of each kind: signal, encoding, body."""
    of_us = [
        usage_event(tenant="acme", finish_reasons='["stop"]', trace_id=_TRACE, span_id=_SPAN, time_to_first_chunk=0.5),
        usage_event(tenant="acme", cache_hit=True, stream=True, time_to_first_chunk=0.5),
        Event({"genai_meter.outcome.name": "won", "genai_meter.outcome.id": "T-1"}, name="genai_meter.outcome"),
        Event({**usage_event(cost=1_000_000, operation="search").attributes}, name="genai_meter.cost"),
    ]
    foreign = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.response.finish_reasons": ["stop", "length"],
    }
    event = Event(foreign, name="gen_ai.client.inference.operation.details", scope="other")
    spans = [SpanOf(foreign), SpanOf(usage_event().attributes, failed=True), SpanOf({"llm.model_name": "gpt-4o"})]
    metrics = ExportMetricsServiceRequest()
    metrics.resource_metrics.add().scope_metrics.add().metrics.add().name = "m"
    found: list[tuple[Signal, str, bytes]] = [("metrics", "protobuf", metrics.SerializeToString())]
    for group in ([one] for one in (*of_us, event)):
        found.append(("logs", "protobuf", logs(group).SerializeToString()))
        found.append(("logs", "json", orjson.dumps(logs_json(group))))
    for span in spans:
        found.append(("traces", "protobuf", traces([span]).SerializeToString()))
        found.append(("traces", "json", orjson.dumps(traces_json([span]))))
    return found


def renewed(random: Random, body: bytes) -> bytes:
    """A seed about another call: the ledger writes no row for one that it has."""
    rest = random.randbytes(10).hex()
    body = _CALL_ID.sub(rb"\g<1>" + f"{rest[:4]}-{rest[4:8]}-{rest[8:]}".encode(), body)
    for known in (_TRACE, _SPAN):
        other = random.randbytes(len(known))
        body = body.replace(known, other).replace(known.hex().encode(), other.hex().encode())
    return body


_TOKENS: Final = (
    *(b'"', b"{", b"}", b"[", b"]", b":", b",", b"null", b"true", b"-1", b"1e999", b"9" * 30, b"\\u0000", b"\\ud800"),
    *(b"\xff" * 10, b"\x00", b"\x80" * 9 + b"\x01", b"\x0a\xff\xff\xff\xff\x0f", b"\xed\xa0\x80", b"\xf8", b"\x7f"),
    *(b'"arrayValue":{"values":[', b'"intValue":"x"', b'"attributes":[{"key":null}]', b"genai_meter.usage.input"),
)


def mutated(random: Random, body: bytes, other: bytes) -> bytes:
    """A few changes: flipped, cut, doubled, mixed with another, with what parsers stumble over."""
    made = bytearray(body)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        at = random.randrange(len(made) + 1)
        kind = random.randrange(8)
        if kind == 0 and made:
            made[at % len(made)] ^= 1 << random.randrange(8)
        elif kind == 1 and made:
            made[at % len(made)] = random.randrange(256)
        elif kind == 2:
            del made[at : at + random.choice((1, 2, 8, 64, 512))]
        elif kind == 3:
            made[at:at] = made[at : at + random.choice((1, 8, 64))]
        elif kind == 4:
            made[at:at] = random.choice(_TOKENS)
        elif kind == 5:
            start = random.randrange(len(other) + 1)
            made[at : at + random.randrange(32)] = other[start : start + random.randrange(64)]
        elif kind == 6:
            made[at:at] = random.randbytes(random.randrange(16))
        else:
            del made[at:]
    return bytes(made)


def replaced(random: Random, body: bytes) -> bytes:
    """JSON with another value in one place, or a value that is deeper than any."""
    document = orjson.loads(body)
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        children: Any = value.items() if hasattr(value, "items") else enumerate(value)
        for key, child in list(children):
            places.append((value, key))
            if isinstance(child, dict | list):
                walk(child)

    walk(document)
    place, key = random.choice(places)
    deep: Any = 1
    for _ in range(random.choice((1, 30, 80))):
        deep = {"arrayValue": {"values": [deep]}} if random.random() < 0.7 else {"kvlistValue": {"values": [deep]}}
    others: tuple[Any, ...] = (None, -1, "x" * 5000, [], {}, [[]], True, 1.5, 1e300, 2**63, 2**64 - 1, "", deep, "é\0")
    place[key] = random.choice(others)
    return orjson.dumps(document)


def payloads(random: Random, count: int) -> Iterator[tuple[Signal, str, bytes]]:
    """Changed requests; one in ten is good."""
    good = seeds()
    for _ in range(count):
        signal, encoding, body = random.choice(good)
        body = renewed(random, body)
        chance = random.random()
        if chance < 0.1:
            yield signal, encoding, body
        elif chance < 0.15:
            yield random.choice(("logs", "traces", "metrics")), encoding, random.randbytes(random.randrange(300))
        elif encoding == "json" and chance < 0.8:
            yield signal, encoding, replaced(random, body)
        else:
            yield signal, encoding, mutated(random, body, random.choice(good)[2])


def resident() -> int:
    """Bytes of memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


class Ledger:
    """A store that takes what comes out, many requests in one transaction."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._store = SqliteStore(path, Bounds({}, 200, 1000), synchronous="NORMAL", window_ns=_WINDOW_NS)
        self._store.open()
        self._waiting: list[Batch] = []
        self.seen: Counter[str] = Counter()
        """What became of requests and records."""

    def put(self, signal: Signal, encoding: str, body: bytes) -> None:
        """All that happens to a request."""
        try:
            parsed = PARSERS[encoding](signal, body)
        except Garbage:
            self.seen["refused"] += 1
            return
        batch = normalise(parsed)
        received = _size(batch)
        charge(batch)
        assert _size(batch) == received, body
        reasons = [found.reason for found in batch.quarantined]
        assert not [reason for reason in reasons if "internal error" in reason or "pricing failed" in reason], body
        assert not internal_errors, body
        self.seen["read"] += 1
        self.seen["quarantined"] += len(reasons)
        self._waiting.append(batch)
        if len(self._waiting) >= 500:
            self.commit()

    def commit(self) -> None:
        """Every record of it is there afterwards: charged, a duplicate, linked, or in the quarantine."""
        records = sum(len(batch.records) for batch in self._waiting)
        tallies = self._store.write(self._waiting, (), time.time_ns()).tallies
        self._store.commit()
        assert sum(tally.accepted + tally.duplicate + tally.linked for tally in tallies) == records
        self.seen["records"] += records
        self._waiting.clear()

    def close(self) -> None:
        """Nothing is half-written: rows, roll-ups and counters tell the same."""
        self.commit()
        self._store.close()
        reader = SqliteReader(self.path)
        assert reader.totals() == reader.counted()
        reader.close()


def _size(batch: Batch) -> int:
    return len(batch.records) + len(batch.beside) + len(batch.quarantined) + sum(batch.ignored.values())


@contextlib.asynccontextmanager
async def handler(path: Path) -> AsyncGenerator[OtlpHttp]:
    """The real application for OTLP/HTTP over a real pipeline and store."""
    limits, bounds = LIMITS, Bounds({}, 200, 1000)
    store = SqliteStore(path, bounds, synchronous="NORMAL", window_ns=_WINDOW_NS)
    pipeline = Pipeline(
        store,
        Counters(0.01),
        bounds,
        LiveFacts(),
        queue_requests=limits.queue_requests,
        queue_bytes=limits.queue_bytes,
        group_records=limits.group_records,
    )
    pipeline.start()
    try:
        yield OtlpHttp(pipeline, Gate(None, Rates(None, 1)), limits)
        state = pipeline.state()
        assert (state.requests, state.bytes) == (0, 0)
    finally:
        await asyncio.to_thread(pipeline.stop)


async def ask(application: OtlpHttp, path: str, headers: Sequence[tuple[bytes, bytes]], chunks: Sequence[bytes]) -> int:
    """One request; its status. Each has one answer, whole."""
    sent: list[MutableMapping[str, Any]] = []
    waiting = list(chunks) or [b""]

    async def receive() -> MutableMapping[str, Any]:
        body = waiting.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(waiting)}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await application(
        {"type": "http", "method": "POST", "path": path, "headers": list(headers), "client": ("1.2.3.4", 5)},
        receive,
        send,
    )
    start, body, *end = sent
    assert end in ([], [{"type": "http.response.body"}])
    assert dict(start["headers"])[b"content-length"] == str(len(body["body"])).encode()
    return start["status"]


def wrapped(random: Random, encoding: str, body: bytes) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    """Headers and chunks: mostly right, sometimes not; packed, cut, or a bomb."""
    kind = b"application/json" if encoding == "json" else b"application/x-protobuf"
    if random.random() < 0.1:
        kind = random.choice((b"", b"text/plain", b"application/json; charset=\xff", b"application/grpc", b"*/*"))
    headers = [(b"content-type", kind)]
    packing = random.choice((b"", b"", b"", b"", b"gzip", b"gzip", b"deflate", b"br", b"GZIP ", b"gzip, gzip"))
    if packing:
        headers.append((b"content-encoding", packing))
        if random.random() < 0.02:
            body = b"\0" * 1_000_000
        body = zlib.compress(body) if packing == b"deflate" else gzip.compress(body, 1, mtime=0)
        if random.random() < 0.3:
            body = mutated(random, body, body)
    if random.random() < 0.5:
        length = str(len(body)).encode() if random.random() < 0.9 else random.choice((b"-1", b"x", b"9" * 40, b"1e3"))
        headers.append((b"content-length", length))
    cut = random.randrange(len(body) + 1)
    return headers, random.choice(([body], [body[:cut], body[cut:]], [b"", body, b""]))
