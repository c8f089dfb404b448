"""Each record's place in the ledger, inside the open transaction: new, duplicate, linked, or a better account."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Final

import orjson

from genai_meter_exporter import cells
from genai_meter_exporter.cells import Cell, Measures
from genai_meter_exporter.normalise.record import Batch, UsageRecord, usage_json
from genai_meter_exporter.store import rows
from genai_meter_exporter.store.base import Price, StoreError, Tally
from genai_meter_exporter.store.linking import Charge, LinkingIndex
from genai_meter_exporter.store.migrations import COLUMNS

_INSERT: Final = f"INSERT INTO usage ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
_INSERT_LINKED: Final = "INSERT OR IGNORE INTO linked VALUES (?, ?, ?, ?, ?, ?)"
_ADD_LINK: Final = "UPDATE usage SET links = json_insert(COALESCE(links, '[]'), '$[#]', ?) WHERE call_id = ?"
_PRICE: Final = tuple(field.name for field in fields(Price))
_CHUNK: Final = 500
"""Parameters of one lookup; SQLite's limit has been 999."""


class Placing:
    """What a transaction does to the ledger; the counters and roll-ups follow from it."""

    def __init__(self, db: sqlite3.Connection, index: LinkingIndex, now_ns: int) -> None:
        self._db = db
        self._index = index
        self._now = now_ns
        self._pending: list[tuple[Any, ...]] = []
        self._ranks: dict[bytes, int] = {}
        self._linked: set[tuple[bytes, str]] = set()
        self._linked_keys: set[bytes] = set()
        self.rollup: dict[Cell, Measures] = {}
        """Net change of the roll-up."""
        self.added: dict[Cell, Measures] = {}
        """New calls."""
        self.replaced: list[tuple[tuple[Cell, Measures], tuple[Cell, Measures]]] = []
        """Charges that a better record has taken over: (old, new)."""
        self.withdrawn: list[tuple[Cell, Measures]] = []
        """Charges for calls that had been charged already."""
        self.observed: list[tuple[Mapping[str, Any], tuple[str, ...]]] = []
        """New calls, for the histograms."""

    def place(self, batches: Sequence[Batch]) -> list[Tally]:
        """Place every record; the best sources first, so that a twin in the same transaction is linked at once."""
        tallies = [Tally(quarantined=len(batch.quarantined)) for batch in batches]
        placed = [(record, tally) for batch, tally in zip(batches, tallies, strict=True) for record in batch.records]
        placed.sort(key=lambda pair: pair[0].rank)
        self._look_up([record.key for record, _ in placed])
        for batch in batches:
            self._index.learn_parents(batch.parents)
        for record, tally in placed:
            self._place(record, tally)
        self._flush()
        return tallies

    def revise(self, call_id: bytes, price: Price, reason: str) -> None:
        """Another price for a call: the difference is a charge or a credit, the old price a revision."""
        row = self._db.execute("SELECT * FROM usage WHERE call_id = ?", (call_id,)).fetchone()
        if row is None:
            raise StoreError(f"there is no call {call_id.hex()}")
        old = dict(row)
        was = orjson.dumps({name: old[name] for name in _PRICE}).decode()
        self._db.execute(
            "INSERT INTO revision VALUES (?, ?, ?, ?, ?)", (call_id, old["revision"], self._now, reason, was)
        )
        new = {**old, **asdict(price), "revision": old["revision"] + 1}
        changed = (*_PRICE, "revision")
        self._db.execute(
            f"UPDATE usage SET {', '.join(f'{name} = ?' for name in changed)} WHERE call_id = ?",
            (*(new[name] for name in changed), call_id),
        )
        self._exchange(old, new)

    def _place(self, record: UsageRecord, tally: Tally) -> None:
        key = record.key
        rank = self._ranks.get(key)
        if rank is not None:
            if rank == record.rank or (key, record.source) in self._linked:
                tally.duplicate += 1
            elif rank < record.rank:
                tally.linked += 1
                self._link(record, key, "call_id", self._index.charge_of(key))
            else:
                tally.linked += 1
                self._replace(record, key, "call_id", self._index.charge_of(key))
            return
        if key in self._linked_keys:
            tally.duplicate += 1
            return
        found = self._index.find(record)
        if found is None:
            tally.accepted += 1
            self._new(record)
            return
        tally.linked += 1
        charge, rule = found
        if record.rank < charge.rank:
            self._replace(record, charge.call_id, rule, charge)
        else:
            self._link(record, charge.call_id, rule, charge)

    def _look_up(self, keys: Sequence[bytes]) -> None:
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            marks = ", ".join("?" * len(chunk))
            for row in self._db.execute(f"SELECT call_id, source_rank FROM usage WHERE call_id IN ({marks})", chunk):
                self._ranks[row["call_id"]] = row["source_rank"]
            for row in self._db.execute(f"SELECT call_id, source FROM linked WHERE call_id IN ({marks})", chunk):
                self._linked.add((row["call_id"], row["source"]))
                self._linked_keys.add(row["call_id"])

    def _new(self, record: UsageRecord) -> None:
        self._insert(record)
        self._index.add(record, self._now)
        where, what = cells.cell(record.values), cells.measures(record.values)
        cells.add(self.added, where, what)
        cells.add(self.rollup, where, what)
        self.observed.append((record.values, where[1]))

    def _insert(self, record: UsageRecord) -> None:
        values = record.values
        values["call_id"] = record.key
        values["usage"] = usage_json(record.usages)
        values["parent_span_id"] = record.parent_span_id.hex() or None
        values["recorded_at"] = self._now
        values.setdefault("revision", 0)
        self._ranks[record.key] = record.rank
        self._pending.append(tuple(map(values.get, COLUMNS)))

    def _link(self, record: UsageRecord, call_id: bytes, rule: str, charge: Charge | None) -> None:
        """Keep the record beside the charge it repeats."""
        self._flush()
        self._insert_linked(record.key, record.source, call_id, rule, rows.linked_json(record))
        self._db.execute(_ADD_LINK, (record.key.hex(), call_id))
        if charge is not None:
            self._index.join(charge, record)
            self._unite(charge, record)

    def _unite(self, charge: Charge, record: UsageRecord) -> None:
        """A record that belongs to two charges shows that they are one call: the worse of them is withdrawn."""
        found = self._index.find(record, charge)
        if found is None:
            return
        other, rule = found
        if other.rank < charge.rank:
            charge, other = other, charge
        self._flush()
        old = dict(self._db.execute("SELECT * FROM usage WHERE call_id = ?", (other.call_id,)).fetchone())
        self._db.execute("DELETE FROM usage WHERE call_id = ?", (other.call_id,))
        self._insert_linked(other.call_id, old["source"], charge.call_id, rule, rows.stored_json(old))
        self._db.execute("UPDATE linked SET charge = ? WHERE charge = ?", (charge.call_id, other.call_id))
        for link in (*rows.links(old), other.call_id.hex()):
            self._db.execute(_ADD_LINK, (link, charge.call_id))
        self._ranks.pop(other.call_id, None)
        before = cells.cell(old), cells.measures(old)
        cells.add(self.rollup, before[0], cells.negative(before[1]))
        self.withdrawn.append(before)
        self._index.absorb(charge, other)

    def _replace(self, record: UsageRecord, old_key: bytes, rule: str, charge: Charge | None) -> None:
        """The better record becomes the charge; the one it replaces is linked to it."""
        self._flush()
        row = self._db.execute("SELECT * FROM usage WHERE call_id = ?", (old_key,)).fetchone()
        old = dict(row)
        self._db.execute("DELETE FROM usage WHERE call_id = ?", (old_key,))
        self._insert_linked(old_key, old["source"], record.key, rule, rows.stored_json(old))
        self._db.execute("UPDATE linked SET charge = ? WHERE charge = ?", (record.key, old_key))
        links = [link for link in rows.links(old) if link != record.key.hex()]
        record.values["links"] = rows.links_json([*links, old_key.hex()])
        self._ranks.pop(old_key, None)
        self._insert(record)
        self._flush()
        self._exchange(old, record.values)
        if charge is not None:
            self._index.join(charge, record)
            self._unite(charge, record)

    def _exchange(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        before = cells.cell(old), cells.measures(old)
        after = cells.cell(new), cells.measures(new)
        cells.add(self.rollup, before[0], cells.negative(before[1]))
        cells.add(self.rollup, *after)
        self.replaced.append((before, after))

    def _insert_linked(self, key: bytes, source: str, charge: bytes, rule: str, text: str) -> None:
        self._db.execute(_INSERT_LINKED, (key, source, charge, rule, self._now, text))
        self._linked.add((key, source))
        self._linked_keys.add(key)

    def _flush(self) -> None:
        """New rows go in together; links and replacements need them to be there."""
        if self._pending:
            self._db.executemany(_INSERT, self._pending)
            self._pending.clear()
