"""Each record's place in the ledger, inside the open transaction: new, duplicate, linked, or a better account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from itertools import compress, islice
from operator import add, not_
from typing import Any, Final

import orjson

from genai_meter_exporter import cells
from genai_meter_exporter.cells import Cell, Measures
from genai_meter_exporter.columns import Columns, alike, by_shape, transposed
from genai_meter_exporter.normalise.record import OWN_PRODUCER, Batch, UsageRecord, usage_json
from genai_meter_exporter.store import nesting, rows
from genai_meter_exporter.store.base import Price, StoreError, Tally
from genai_meter_exporter.store.charges import Charge, fold
from genai_meter_exporter.store.linking import Keys, LinkingIndex
from genai_meter_exporter.store.rows import Rows

_PRICE: Final = tuple(field.name for field in fields(Price))


class Placing:
    """What a transaction does to the ledger; the counters and roll-ups follow from it."""

    def __init__(self, tables: Rows, index: LinkingIndex, now_ns: int) -> None:
        self._rows = tables
        self._index = index
        self._now = now_ns
        self._pending: list[dict[str, Any]] = []
        self._ranks: dict[bytes, int] = {}
        self._linked: set[tuple[bytes, str]] = set()
        self._linked_keys: set[bytes] = set()
        self.added: dict[Cell, Measures] = {}
        """New calls."""
        self.replaced: list[tuple[tuple[Cell, Measures], tuple[Cell, Measures]]] = []
        """Charges that a better record has taken over: (old, new)."""
        self.withdrawn: list[tuple[Cell, Measures]] = []
        """Charges for calls that had been charged already."""
        self.observed: list[Columns] = []
        """New calls, for the histograms."""
        self._observed: list[dict[str, Any]] = []
        """The same, those that were placed one at a time."""

    def place(self, batches: Sequence[Batch]) -> list[Tally]:
        """Place every record. Those that no other is about are new, all at once; the others one at a time."""
        tallies = [Tally(quarantined=len(batch.quarantined)) for batch in batches]
        keys = [_keys(record) for batch in batches for record in batch.records]
        self._ranks, self._linked = self._rows.known([key for key, *_ in keys])
        self._linked_keys = {key for key, _ in self._linked}
        strangers = iter(self._index.strangers(keys, self._ranks.keys() | self._linked_keys))
        placed: list[tuple[UsageRecord, Tally]] = []
        for batch, tally in zip(batches, tallies, strict=True):
            of_batch = list(islice(strangers, len(batch.records)))
            new = list(compress(batch.records, of_batch))
            tally.accepted += len(new)
            for records in by_shape([record.values for record in new], new):
                self._add_strangers(records)
            if len(new) < len(of_batch):
                placed += [(record, tally) for record in compress(batch.records, map(not_, of_batch))]
        # The best sources first, so that a twin in the same transaction is linked at once.
        placed.sort(key=lambda pair: pair[0].rank)
        for record, tally in placed:
            self._place(record, tally)
        self._flush()
        self.observed += alike(self._observed)
        return tallies

    def revise(self, call_id: bytes, price: Price, reason: str) -> None:
        """Another price for a call: the difference is a charge or a credit, the old price a revision."""
        old = self._rows.get(call_id)
        if old is None:
            raise StoreError(f"there is no call {call_id.hex()}")
        was = orjson.dumps({name: old[name] for name in _PRICE}).decode()
        self._rows.keep_revision(call_id, old["revision"], self._now, reason, was)
        changed = {**asdict(price), "revision": old["revision"] + 1}
        self._rows.set_columns(call_id, changed)
        self._exchange(old, {**old, **changed})

    def rollup(self) -> dict[Cell, Measures]:
        """Net change of the roll-up."""
        total = dict(self.added)
        for (where, what), after in self.replaced:
            cells.add(total, where, cells.negative(what))
            cells.add(total, *after)
        for where, what in self.withdrawn:
            cells.add(total, where, cells.negative(what))
        return total

    def _place(self, record: UsageRecord, tally: Tally) -> None:
        key = record.key
        rank = self._ranks.get(key)
        if rank is not None:
            if rank == record.rank or (key, record.source) in self._linked or not self._reaches(record, key):
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
        if found is not None and not self._reaches(record, found[0].call_id):
            found = None
        if found is None:
            nested = self._index.find_nested(record) if record.producer == OWN_PRODUCER else None
            if nested is not None and self._reaches(record, nested.call_id):
                tally.linked += 1
                self._nest(record, nested)
                return
            tally.accepted += 1
            self._new(record)
            return
        tally.linked += 1
        charge, rule = found
        if record.rank < charge.rank:
            self._replace(record, charge.call_id, rule, charge)
        else:
            self._link(record, charge.call_id, rule, charge)

    def _reaches(self, record: UsageRecord, call_id: bytes) -> bool:
        """False: a token of some tenants has sent the record, and the call is another's."""
        if record.tenants is None:
            return True
        self._flush()
        return (self._stored(call_id).get("tenant") or "") in record.tenants

    def adopt(self, calls: Sequence[dict[str, Any]]) -> None:
        """New calls as they are, whatever the index knows."""
        for columns in alike(calls):
            self._add(columns)

    def _add_strangers(self, records: Sequence[UsageRecord]) -> None:
        """New calls that tell of the same columns."""
        count = len(records)
        keys = [record.key for record in records]
        spans = [record.trace_id + record.span_id if record.span_id else b"" for record in records]
        told: dict[str, Sequence[Any]] = {
            "revision": (0,) * count,
            **transposed([record.values for record in records]),
            "call_id": keys,
            "usage": [usage_json(record.usages) for record in records],
            "parent_span_id": [record.parent_span_id.hex() or None for record in records],
            "recorded_at": (self._now,) * count,
        }
        columns = Columns(told, count)
        self._add(columns)
        self._index.add_strangers(fold(columns, keys, spans, [record.producer for record in records]), self._now)
        self._index.learn_parents(
            (span, record.parent_span_id)
            for span, record in zip(spans, records, strict=True)
            if span and record.parent_span_id
        )

    def _add(self, columns: Columns) -> None:
        self._rows.insert(columns)
        self.observed.append(columns)
        added = self.added
        for where, what in zip(columns.cells(), columns.measures(), strict=True):
            before = added.get(where)
            added[where] = what if before is None else tuple(map(add, before, what))

    def _new(self, record: UsageRecord) -> None:
        self._insert(record)
        self._index.add(record, self._now)
        cells.add(self.added, cells.cell(record.values), cells.measures(record.values))
        self._observed.append(record.values)

    def _insert(self, record: UsageRecord) -> None:
        values = record.values
        values["call_id"] = record.key
        values["usage"] = usage_json(record.usages)
        values["parent_span_id"] = record.parent_span_id.hex() or None
        values["recorded_at"] = self._now
        values.setdefault("revision", 0)
        values.setdefault("links", None)
        self._ranks[record.key] = record.rank
        self._pending.append(values)

    def _link(self, record: UsageRecord, call_id: bytes, rule: str, charge: Charge | None) -> None:
        """Keep the record beside the charge it repeats."""
        self._flush()
        self._insert_linked(record.key, record.source, call_id, rule, rows.linked_json(record))
        self._rows.add_link(call_id, record.key.hex())
        if charge is not None:
            self._index.join(charge, record)
            self._unite(charge, record)

    def _unite(self, charge: Charge, record: UsageRecord) -> None:
        """A record that belongs to two charges shows that they are one call: the worse of them is withdrawn."""
        found = self._index.find(record, charge)
        if found is None or not self._reaches(record, found[0].call_id):
            return
        other, rule = found
        if other.rank < charge.rank:
            charge, other = other, charge
        self._flush()
        old = self._stored(other.call_id)
        self._rows.delete(other.call_id)
        self._insert_linked(other.call_id, old["source"], charge.call_id, rule, rows.stored_json(old))
        self._rows.move_links(other.call_id, charge.call_id)
        for link in (*rows.links(old), other.call_id.hex()):
            self._rows.add_link(charge.call_id, link)
        self._ranks.pop(other.call_id, None)
        self.withdrawn.append((cells.cell(old), cells.measures(old)))
        self._index.absorb(charge, other)
        # There may be a third.
        self._unite(charge, record)

    def _nest(self, record: UsageRecord, charge: Charge) -> None:
        """Another account of ours of the same call: the inner one is the charge, the outer one says who asked."""
        self._flush()
        old = self._stored(charge.call_id)
        mine, charged = nesting.account(record.values), charge.account()
        if nesting.is_inner(mine, charged):
            record.values.update(nesting.merged(record.values, old, over=True))
            self._replace(record, charge.call_id, nesting.RULE, charge, take=True)
            return
        over = nesting.is_inner(charge.who or charged, mine)
        self._link(record, charge.call_id, nesting.RULE, charge)
        stored = self._stored(charge.call_id)
        new = {**stored, **nesting.merged(stored, record.values, over=over)}
        self._rows.delete(charge.call_id)
        self._rows.insert(Columns(transposed([new]), 1))
        self._exchange(old, new)

    def _replace(
        self, record: UsageRecord, old_key: bytes, rule: str, charge: Charge | None, *, take: bool = False
    ) -> None:
        """The better record becomes the charge; the one it replaces is linked to it."""
        self._flush()
        old = self._stored(old_key)
        if charge is not None and charge.who is not None and not take:
            record.values.update(nesting.merged(record.values, old, over=True))
        self._rows.delete(old_key)
        self._insert_linked(old_key, old["source"], record.key, rule, rows.stored_json(old))
        self._rows.move_links(old_key, record.key)
        links = [link for link in rows.links(old) if link != record.key.hex()]
        record.values["links"] = rows.links_json([*links, old_key.hex()])
        self._ranks.pop(old_key, None)
        self._insert(record)
        self._flush()
        self._exchange(old, record.values)
        if charge is not None:
            self._index.join(charge, record, take=take)
            self._unite(charge, record)

    def _exchange(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        before = cells.cell(old), cells.measures(old)
        self.replaced.append((before, (cells.cell(new), cells.measures(new))))

    def _stored(self, call_id: bytes) -> dict[str, Any]:
        found = self._rows.get(call_id)
        if found is None:
            raise StoreError(f"the call {call_id.hex()} has gone from the ledger")
        return found

    def _insert_linked(self, key: bytes, source: str, charge: bytes, rule: str, text: str) -> None:
        self._rows.link(key, source, charge, rule, self._now, text)
        self._linked.add((key, source))
        self._linked_keys.add(key)

    def _flush(self) -> None:
        """New rows go in together; links and replacements need them to be there."""
        for columns in alike(self._pending):
            self._rows.insert(columns)
        self._pending.clear()


def _keys(record: UsageRecord) -> Keys:
    span = record.trace_id + record.span_id if record.span_id else b""
    return record.key, record.values.get("response_id"), span, span[:16]
