"""Which records of different producers are one call. In memory, for the window only; rebuilt from the store."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any, Final, TypeAlias

from genai_meter_exporter.normalise.record import OWN_PRODUCER, RANK_OWN_SPAN, UsageRecord
from genai_meter_exporter.store import nesting, siblings
from genai_meter_exporter.store.charges import Charge, Folded, Producers, Shelf, of_one, shared, state, unfolded
from genai_meter_exporter.store.facts import (
    agree,
    equal,
    facts_of,
    family_of,
    kind_of,
    same_input,
    same_model,
)

_DEPTH: Final = 64
"""Steps from a span up to its ancestors."""

_PLACEHOLDERS: Final = "anthropic"
"""Family whose streams begin with a placeholder of the output; OpenLLMetry adds it to the output's count."""

_PARENTS_KEPT: Final = 500_000
"""Spans whose parents are known; the oldest are forgotten first."""

Keys: TypeAlias = tuple[bytes, str | None, bytes, bytes]
"""What others may know a record by: call id, response id, span (trace id + span id) and trace id; the last two are
empty when there is no span."""

_NOTHING: Final = (None, "", b"")
"""Keys that nobody is known by."""
_SPAN: Final = 2
"""Where a folded charge has its span."""


class LinkingIndex:
    """Finds the charge that a record belongs to. One thread.

    What `begin` opens is undone by `rollback`; the parents, which are facts, stay.
    """

    def __init__(self, window_ns: int) -> None:
        self._window = window_ns
        self._queue: deque[tuple[int, Sequence[Charge | Folded]]] = deque()
        """When they were seen, and the charges."""
        self._by_response = Shelf(self._unfold)
        self._by_span = Shelf(self._unfold)
        self._by_trace = Shelf(self._unfold)
        self._by_call: dict[bytes, Charge | Folded] = {}
        self._unfolded: dict[bytes, Charge] = {}
        """Key of a folded charge → what has come of it."""
        self._added: list[Sequence[Charge | Folded]] = []
        self._before: dict[Charge, tuple[Any, ...]] = {}
        self.parents: dict[bytes, bytes] = {}
        """Trace id + span id → parent span id."""

    def __len__(self) -> int:
        return len(self._by_call)

    def begin(self) -> None:
        """A transaction: what is added and joined from now on may be undone."""
        self._added = []
        self._before = {}

    def rollback(self) -> None:
        """Undo everything since `begin`."""
        added = {charge for several in self._added for found in several if (charge := self._take_out(found))}
        for charge in self._before:
            self._unshelve(charge)
        for charge, before in self._before.items():
            for name, value in zip(Charge.__slots__, before, strict=True):
                setattr(charge, name, value)
            if charge not in added:
                self._shelve(charge)
        for _ in self._added:
            self._queue.pop()
        self.begin()

    def learn_parents(self, parents: Iterable[tuple[bytes, bytes]]) -> None:
        """The way up from every span received, wanted or not."""
        known = self.parents
        known.update(parents)
        for _ in range(len(known) - _PARENTS_KEPT):
            del known[next(iter(known))]

    def add(self, record: UsageRecord, seen: int) -> Charge:
        """A new charge, seen at `seen` (Unix nanoseconds)."""
        charge = Charge(record)
        self._learn(record)
        self._shelve(charge)
        self._enqueue([charge], seen)
        return charge

    def strangers(self, told: Sequence[Keys], known: Set[bytes]) -> list[bool]:
        """Which of the records with these keys share none with another of them or with a charge.

        `known`: call ids that the ledger has, whether or not the index does.
        """
        strange = [True] * len(told)
        shelves = self._by_call, self._by_response.entries, self._by_span.entries, self._by_trace.entries
        for shelf, keys in zip(shelves, zip(*told, strict=True), strict=bool(told)):
            met = shelf.keys() & keys
            if len(set(keys)) < len(keys):
                met.update(key for key, times in Counter(keys).items() if times > 1)
            if shelf is self._by_call:
                met |= known
            met.difference_update(_NOTHING)
            if met:
                strange = [alone and key not in met for alone, key in zip(strange, keys, strict=True)]
        return strange

    def add_strangers(self, charges: Sequence[Folded], seen: int) -> None:
        """New charges that share no key with any other."""
        keys, responses, spans, *_ = zip(*charges, strict=True)
        self._by_call.update(zip(keys, charges, strict=True))
        self._by_response.entries.update(zip(responses, charges, strict=True))
        self._by_span.entries.update(zip(spans, charges, strict=True))
        self._by_trace.entries.update(zip([span[:16] for span in spans], charges, strict=True))
        for nothing in _NOTHING:
            for shelf in (self._by_response, self._by_span, self._by_trace):
                shelf.entries.pop(nothing, None)
        self._enqueue(charges, seen)

    def charge_of(self, call_id: bytes) -> Charge | None:
        """The charge under this key, while it is in the window."""
        found = self._by_call.get(call_id)
        return self._unfold(found) if isinstance(found, tuple) else found

    def join(self, charge: Charge, record: UsageRecord, *, take: bool = False) -> None:
        """Another record of the same call; if it is a better one (or `take`), the charge is its from now on."""
        self._learn(record)
        self._before.setdefault(charge, state(charge))
        self._unshelve(charge)
        charge.producers = shared(charge.producers | {record.producer})
        if record.span_id and (span := record.trace_id + record.span_id) not in charge.spans:
            charge.spans = (*charge.spans, span)
        if not charge.response_id and (response_id := record.values.get("response_id")):
            charge.response_id, charge.family = response_id, family_of(record.values)
        nested = record.producer == OWN_PRODUCER and charge.rank <= RANK_OWN_SPAN and record.key != charge.call_id
        if nested:
            told = charge.account() if take else nesting.account(record.values)
            if charge.who is None or nesting.is_inner(charge.who, told):
                charge.who = told
        start, end = charge.start, charge.end
        if take or (record.rank < charge.rank and not nested):
            charge.take(record)
        if record.producer != OWN_PRODUCER and charge.rank > RANK_OWN_SPAN:
            # An event is of one instant; its span tells how long the call took.
            charge.start = min(start, record.values["start"])
            charge.end = max(end, record.values["end"])
        self._shelve(charge)

    def find(self, record: UsageRecord, charge: Charge | None = None) -> tuple[Charge, str] | None:
        """The charge that this record is another account of, and the rule that says so.

        With `charge`, to which the record has just been joined: another charge that is the same call too.
        """
        taken = charge.producers if charge else of_one(record.producer)
        start: int = record.values["start"]
        span = record.trace_id + record.span_id if record.span_id else b""
        # Most calls are told of once: nothing is under their keys.
        if span and span in self._by_span.entries:
            for other in self._by_span.others(span, taken, start):
                return other, "same_span"
        response_id = record.values.get("response_id")
        if response_id and response_id in self._by_response.entries:
            found = self._same_response(record, response_id, taken)
            if found:
                return found, "response_id"
        if span and record.trace_id in self._by_trace.entries:
            for other in self._by_trace.others(record.trace_id, taken, start):
                if self._same_by_ancestry(other, record, charge):
                    return other, "ancestor"
            where = charge.where[:2] if charge else (record.values.get("service"), record.values.get("instance"))
            for alike in (True, False):
                for other in self._by_trace.others(record.trace_id, taken, start):
                    if self._same_by_place(other, record, taken, where, alike=alike):
                        return other, siblings.RULE
        return None

    def find_nested(self, record: UsageRecord) -> Charge | None:
        """The charge that another process, metered by us like this record's, has made for the same call."""
        response_id = record.values.get("response_id")
        if response_id and response_id in self._by_response.entries:
            mine, family = nesting.account(record.values), family_of(record.values)
            since, until = mine.start - self._window, mine.start + self._window
            for charge in self._by_response.told_by(response_id, OWN_PRODUCER, since, until):
                if family and charge.family and family != charge.family:
                    continue
                traced = bool(record.trace_id) and any(span.startswith(record.trace_id) for span in charge.spans)
                if nesting.same_answer(charge.account(), mine, response_id, same_trace=traced):
                    return charge
        if record.span_id and (record.trace_id in self._by_trace.entries):
            return self._nested_by_descent(record)
        return None

    def _nested_by_descent(self, record: UsageRecord) -> Charge | None:
        trace_id, place = record.trace_id, (record.values.get("service"), record.values.get("instance"))
        mine, operation = nesting.account(record.values), record.values.get("operation")
        parent = record.parent_span_id or self.parents.get(trace_id + record.span_id)
        for _ in range(_DEPTH):
            if not parent:
                break
            for charge in self._by_span.told_by(trace_id + parent, OWN_PRODUCER, 0, mine.end):
                if charge.operation == operation and nesting.same_descent(charge.account(), mine):
                    return charge
            parent = self.parents.get(trace_id + parent)
        for charge in self._by_trace.told_by(trace_id, OWN_PRODUCER, mine.start, mine.end):
            if (
                charge.where[:2] != place
                and charge.operation == operation
                and nesting.same_descent(mine, charge.account())
                and any(span.startswith(trace_id) and self._above(span, record.span_id) for span in charge.spans)
            ):
                return charge
        return None

    def absorb(self, charge: Charge, other: Charge) -> None:
        """Two charges turned out to be one call: `other` is part of `charge` from now on."""
        for one in (charge, other):
            self._before.setdefault(one, state(one))
            self._unshelve(one)
        charge.producers = shared(charge.producers | other.producers)
        if not charge.response_id and other.response_id:
            charge.response_id, charge.family = other.response_id, other.family
        charge.spans = (*charge.spans, *(span for span in other.spans if span not in charge.spans))
        other.gone = True
        self._shelve(charge)

    def forget(self, call_id: bytes) -> None:
        """A charge that has been removed from the ledger."""
        if charge := self.charge_of(call_id):
            self._unshelve(charge)
            charge.gone = True

    def expire(self, now: int) -> None:
        """Forget charges first seen more than the window ago."""
        horizon = now - self._window
        queue = self._queue
        while queue and queue[0][0] < horizon:
            for found in queue.popleft()[1]:
                charge = self._take_out(found)
                if isinstance(found, tuple) and charge is None:
                    self.parents.pop(found[_SPAN], None)
                elif charge is not None and not charge.gone:
                    for span in charge.spans:
                        self.parents.pop(span, None)

    def _enqueue(self, charges: Sequence[Charge | Folded], seen: int) -> None:
        self._queue.append((seen, charges))
        self._added.append(charges)

    def _take_out(self, found: Charge | Folded) -> Charge | None:
        """Take a charge off the shelves; None when it was folded."""
        if isinstance(found, tuple):
            key, response_id, span, *_ = found
            if self._by_call.get(key) is found:
                del self._by_call[key]
                self._by_response.entries.pop(response_id, None)
                self._by_span.entries.pop(span, None)
                self._by_trace.entries.pop(span[:16], None)
                return None
            found = self._unfolded.pop(key)
        self._unshelve(found)
        return found

    def _unfold(self, folded: Folded) -> Charge:
        charge = self._unfolded[folded[0]] = self._by_call[folded[0]] = unfolded(folded)
        if charge.response_id:
            self._by_response.entries[charge.response_id] = charge
        for span in charge.spans:
            self._by_span.entries[span] = self._by_trace.entries[span[:16]] = charge
        return charge

    def _same_response(self, record: UsageRecord, response_id: str, taken: Producers) -> Charge | None:
        """The nearest in time among those with equal ids: local servers repeat theirs."""
        start: int = record.values["start"]
        family, facts = family_of(record.values), facts_of(record.values)
        best: Charge | None = None
        best_distance: tuple[bool, bool, int] | None = None
        for charge in self._by_response.others(response_id, taken, start):
            if abs(charge.start - start) > self._window:
                continue
            if family and charge.family and family != charge.family:
                continue
            agreed = agree(charge.facts, facts)
            if not agreed and not (
                charge.start <= record.values["end"]
                and start <= charge.end
                and self._same_untrue(charge, record, taken, family == charge.family == _PLACEHOLDERS)
            ):
                continue
            elsewhere = not any(span.startswith(record.trace_id) for span in charge.spans)
            distance = not agreed, elsewhere, abs(charge.start - start)
            if best_distance is None or distance < best_distance:
                best, best_distance = charge, distance
        return best

    def _same_untrue(self, charge: Charge, record: UsageRecord, taken: Producers, placeholders: bool) -> bool:
        """Equal response ids, and usage that one of the two tells wrongly.

        A stream of Anthropic's tells its input at the beginning, and more of it at the end; some leave out what the
        provider's own tools have read. Who sees all has seen this call, too: nothing is lost by taking it for that.
        """
        facts = facts_of(record.values)
        if placeholders and same_input(charge.facts, facts):
            return True
        seen = siblings.sees_all(charge.producers, taken) or siblings.sees_all(taken, charge.producers)
        if not (placeholders or seen):
            return False
        return same_model(charge.facts, facts) and (self._related(charge, record) or self._neighbours(charge, record))

    def _same_by_ancestry(self, charge: Charge, record: UsageRecord, joined: Charge | None) -> bool:
        """`joined`: the charge that the record belongs to, and whose account of the usage is the better one."""
        values = record.values
        if kind_of(charge.operation) != kind_of(values.get("operation")):
            return False
        response_id = values.get("response_id")
        if response_id and charge.response_id and response_id != charge.response_id:
            return False
        if charge.start > values["end"] or values["start"] > charge.end:
            return False
        if not (equal(charge.facts, facts_of(values)) or (joined and equal(charge.facts, joined.facts))):
            return False
        return self._related(charge, record)

    def _same_by_place(
        self,
        charge: Charge,
        record: UsageRecord,
        taken: Producers,
        where: tuple[str | None, str | None],
        *,
        alike: bool,
    ) -> bool:
        """Nothing tells them apart, and one of their producers sees all that the other may see.

        Beside our plug-in, usage that is not `alike` tells nothing apart: many leave some of it out.
        """
        values, facts = record.values, facts_of(record.values)
        if alike:
            seen = siblings.sees_all(charge.producers, taken) or siblings.sees_all(taken, charge.producers)
            same = bool(facts[2]) and equal(charge.facts, facts)
        else:
            seen = siblings.we_see_all(charge.producers, taken) or siblings.we_see_all(taken, charge.producers)
            same = same_model(charge.facts, facts)
        if (
            (charge.response_id and values.get("response_id"))
            or not seen
            or not same
            or charge.where[:2] != where
            or kind_of(charge.operation) != kind_of(values.get("operation"))
            or charge.start > values["end"]
            or values["start"] > charge.end
        ):
            return False
        return self._neighbours(charge, record)

    def _related(self, charge: Charge, record: UsageRecord) -> bool:
        spans = (span for span in charge.spans if span.startswith(record.trace_id))
        mine = record.trace_id + record.span_id
        return any(self._above(span, record.span_id) or self._above(mine, span[16:]) for span in spans)

    def _neighbours(self, charge: Charge, record: UsageRecord) -> bool:
        spans = (span for span in charge.spans if span.startswith(record.trace_id))
        mine = record.trace_id + record.span_id
        return any(self._beside(span, mine) or self._beside(mine, span) for span in spans)

    def _beside(self, span: bytes, other: bytes) -> bool:
        """What is right above the one is above the other too."""
        parent = self.parents.get(span)
        return bool(parent) and self._above(other, parent)

    def _above(self, span: bytes, ancestor: bytes) -> bool:
        """The span id `ancestor` lies on the way up from `span`."""
        trace_id = span[:16]
        for _ in range(_DEPTH):
            parent = self.parents.get(span)
            if not parent:
                return False
            if parent == ancestor:
                return True
            span = trace_id + parent
        return False

    def _learn(self, record: UsageRecord) -> None:
        if record.parent_span_id and record.span_id:
            self.parents[record.trace_id + record.span_id] = record.parent_span_id

    def _shelve(self, charge: Charge) -> None:
        self._by_call[charge.call_id] = charge
        if charge.response_id:
            self._by_response.put(charge.response_id, charge)
        for span in charge.spans:
            self._by_span.put(span, charge)
            self._by_trace.put(span[:16], charge)

    def _unshelve(self, charge: Charge) -> None:
        if self._by_call.get(charge.call_id) is charge:
            del self._by_call[charge.call_id]
        if charge.response_id:
            self._by_response.drop(charge.response_id, charge)
        for span in charge.spans:
            self._by_span.drop(span, charge)
            self._by_trace.drop(span[:16], charge)


COLUMNS: Final = (
    *("call_id", "recorded_at", "source", "source_rank", "trace_id", "span_id", "parent_span_id", "response_id"),
    *("id_family", "start", "end", "operation", "model", "request_model", "input_tokens", "output_tokens"),
    *("service", "instance", "usage_source"),
)
"""What the index keeps of a stored call. All columns of it would cost four times as much to read."""


def restore(index: LinkingIndex, charges: Iterator[tuple[UsageRecord, int, list[UsageRecord]]]) -> None:
    """Fill an empty index from the store: each charge, when it was seen, and the records linked to it."""
    for record, seen, linked in charges:
        charge = index.add(record, seen)
        for other in linked:
            index.join(charge, other)
