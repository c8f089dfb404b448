"""Charges as the linking index keeps them: most are told of once, and stay folded."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, TypeAlias

from genai_meter_exporter.columns import Columns
from genai_meter_exporter.normalise.record import UsageRecord
from genai_meter_exporter.store.facts import Facts, family_of
from genai_meter_exporter.store.nesting import Account

_NEAREST: Final = 128
"""Charges under one response id or in one trace that are looked at, on either side of a record's start."""

Producers = frozenset[str]

Folded: TypeAlias = tuple[Any, ...]
"""A charge that one record has told of: its key, response id and span (trace id + span id), then what `FOLDED` names.

An object for each would cost ten times as much to make, and three times the memory.
"""

FOLDED: Final = (
    *("source_rank", "start", "end", "operation", "model", "request_model", "input_tokens", "output_tokens"),
    *("service", "instance", "usage_source", "id_family"),
)

_sets: dict[Producers, Producers] = {}


def shared(producers: Producers) -> Producers:
    """One object for equal sets: there are few, and each charge has one."""
    return _sets.setdefault(producers, producers) if len(_sets) < 10_000 else producers


@lru_cache(10_000)
def of_one(producer: str) -> Producers:
    """The set of one producer."""
    return shared(frozenset((producer,)))


class Charge:
    """One call as the index knows it: the facts of its best record and the spans of all of them."""

    __slots__ = (
        "call_id",
        "end",
        "facts",
        "family",
        "gone",
        "operation",
        "producers",
        "rank",
        "response_id",
        "spans",
        "start",
        "where",
        "who",
    )

    def __init__(self, record: UsageRecord) -> None:
        self.producers = of_one(record.producer)
        self.spans: tuple[bytes, ...] = (record.trace_id + record.span_id,) if record.span_id else ()
        self.response_id: str | None = record.values.get("response_id")
        self.family = family_of(record.values)
        self.gone = False
        self.who: Account | None = None
        """The account of ours that says who asked, when it is not the charge's own."""
        self.take(record)

    def take(self, record: UsageRecord) -> None:
        """The record is the charge from now on."""
        values = record.values
        self.call_id = record.key
        get = values.get
        self.rank = record.rank
        self.start: int = values["start"]
        self.end: int = values["end"]
        self.operation: str | None = get("operation")
        self.facts: Facts = get("model"), get("request_model"), get("input_tokens"), get("output_tokens")
        self.where: tuple[str | None, str | None, str | None] = get("service"), get("instance"), get("usage_source")

    def account(self) -> Account:
        """What the charge's record says of it."""
        service, instance, source = self.where
        return Account((service, instance), self.start, self.end, self.facts[2:] if source == "provider" else None)


def fold(columns: Columns, keys: Sequence[bytes], spans: Sequence[bytes], producers: Sequence[str]) -> list[Folded]:
    """Charges of these calls."""
    told = map(columns.get, FOLDED)
    return list(zip(keys, columns.get("response_id"), spans, producers, *told, strict=True))


def unfolded(folded: Folded) -> Charge:
    """The charge as others may join it."""
    key, response_id, span, producer, *told = folded
    values = dict(zip(FOLDED, told, strict=True)) | {"response_id": response_id}
    charge = Charge(UsageRecord(key, values, [], producer, values["source_rank"]))
    charge.spans = (span,) if span else ()
    return charge


_start: Final = attrgetter("start")
state: Final = attrgetter(*Charge.__slots__)


class Shelf:
    """Charges by a key that several may share: grouped by their producers, each group in the order of time."""

    def __init__(self, unfold: Callable[[Folded], Charge]) -> None:
        self.entries: dict[Any, Charge | Folded | dict[Producers, list[Charge]]] = {}
        self._unfold = unfold
        """Puts a charge in the place of what is folded."""

    def put(self, key: Any, charge: Charge) -> None:
        entry = self.entries.setdefault(key, charge)
        if entry is charge:
            return
        if isinstance(entry, tuple):
            entry = self._unfold(entry)
        if isinstance(entry, Charge):
            entry = self.entries[key] = {entry.producers: [entry]}
        group = entry.setdefault(charge.producers, [])
        insort(group, charge, key=_start)

    def drop(self, key: Any, charge: Charge) -> None:
        entry = self.entries.get(key)
        if entry is charge:
            del self.entries[key]
        elif isinstance(entry, dict):
            group = entry.get(charge.producers, [])
            index = bisect_left(group, charge.start, key=_start)
            while index < len(group) and group[index].start == charge.start:
                if group[index] is charge:
                    del group[index]
                    break
                index += 1
            if not group:
                entry.pop(charge.producers, None)
                if not entry:
                    del self.entries[key]

    def others(self, key: Any, producers: Producers, start: int) -> Iterator[Charge]:
        """Charges that none of these producers has told of: of each group the nearest in time first."""
        entry = self._entry(key)
        if entry is None:
            return
        if isinstance(entry, Charge):
            if producers.isdisjoint(entry.producers):
                yield entry
            return
        for told_by, group in entry.items():
            if producers.isdisjoint(told_by):
                yield from _nearest(group, start)

    def told_by(self, key: Any, producer: str, since: int, until: int) -> Iterator[Charge]:
        """Charges that this producer has told of and that began in this time; of many, the first."""
        entry = self._entry(key)
        if isinstance(entry, Charge):
            if producer in entry.producers and since <= entry.start <= until:
                yield entry
            return
        for told_by, group in (entry or {}).items():
            if producer in told_by:
                first = bisect_left(group, since, key=_start)
                yield from (charge for charge in group[first : first + _NEAREST] if charge.start <= until)

    def _entry(self, key: Any) -> Charge | dict[Producers, list[Charge]] | None:
        entry = self.entries.get(key)
        return self._unfold(entry) if isinstance(entry, tuple) else entry


def _nearest(group: list[Charge], start: int) -> Iterator[Charge]:
    right = bisect_left(group, start, key=_start)
    left = right - 1
    first, last = max(right - _NEAREST, 0), min(right + _NEAREST, len(group))
    while left >= first or right < last:
        if right >= last or (left >= first and start - group[left].start <= group[right].start - start):
            yield group[left]
            left -= 1
        else:
            yield group[right]
            right += 1
