"""Which records of different producers are one call. In memory, for the window only; rebuilt from the store."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from genai_meter_exporter.normalise.record import UsageRecord

_DEPTH: Final = 64
"""Steps from a span up to its ancestors."""

_PLACEHOLDERS: Final = "anthropic"
"""Family whose streams begin with a placeholder of the output; OpenLLMetry adds it to the output's count."""

_PARENTS_KEPT: Final = 500_000
"""Spans whose parents are known; the oldest are forgotten first."""


class Charge:
    """One call as the index knows it: the facts of its best record and the spans of all of them."""

    __slots__ = (
        "call_id",
        "end",
        "facts",
        "family",
        "gone",
        "linked",
        "operation",
        "producers",
        "rank",
        "response_id",
        "seen",
        "spans",
        "start",
    )

    def __init__(self, record: UsageRecord, seen: int) -> None:
        values = record.values
        self.call_id = record.key
        self.rank = record.rank
        self.start: int = values["start"]
        self.end: int = values["end"]
        self.operation: str | None = values.get("operation")
        self.response_id: str | None = values.get("response_id")
        self.family = _family(values)
        self.facts = _facts(values)
        self.producers: set[str] = {record.producer}
        self.spans: list[tuple[bytes, bytes]] = []
        self.linked: list[bytes] = []
        self.gone = False
        self.seen = seen


class LinkingIndex:
    """Finds the charge that a record belongs to. One thread."""

    def __init__(self, window_ns: int, parents: dict[bytes, bytes] | None = None) -> None:
        self._window = window_ns
        self._queue: deque[Charge] = deque()
        self._by_response: dict[str, list[Charge]] = {}
        self._by_span: dict[bytes, list[Charge]] = {}
        self._by_trace: dict[bytes, list[Charge]] = {}
        self._by_call: dict[bytes, Charge] = {}
        self.parents: dict[bytes, bytes] = {} if parents is None else parents
        """Trace id + span id → parent span id; known to no store, so a new index is given the old one's."""

    def __len__(self) -> int:
        return len(self._by_call)

    def learn_parents(self, parents: Iterable[tuple[bytes, bytes]]) -> None:
        """The way up from every span received, wanted or not."""
        known = self.parents
        known.update(parents)
        for _ in range(len(known) - _PARENTS_KEPT):
            del known[next(iter(known))]

    def add(self, record: UsageRecord, seen: int) -> Charge:
        """A new charge, seen at `seen` (Unix nanoseconds)."""
        charge = Charge(record, seen)
        self._by_call[charge.call_id] = charge
        if charge.response_id:
            self._by_response.setdefault(charge.response_id, []).append(charge)
        self._add_span(charge, record)
        self._queue.append(charge)
        return charge

    def charge_of(self, call_id: bytes) -> Charge | None:
        """The charge under this key, while it is in the window."""
        return self._by_call.get(call_id)

    def join(self, charge: Charge, record: UsageRecord) -> None:
        """Another record of the same call; if it is a better one, the charge is its from now on."""
        charge.producers.add(record.producer)
        charge.linked.append(record.key)
        self._add_span(charge, record)
        response_id = record.values.get("response_id")
        if response_id and not charge.response_id:
            charge.response_id, charge.family = response_id, _family(record.values)
            self._by_response.setdefault(response_id, []).append(charge)
        if record.rank < charge.rank:
            del self._by_call[charge.call_id]
            charge.linked[-1] = charge.call_id
            charge.call_id, charge.rank = record.key, record.rank
            charge.operation = record.values.get("operation")
            charge.facts = _facts(record.values)
            charge.start, charge.end = record.values["start"], record.values["end"]
            self._by_call[charge.call_id] = charge

    def find(self, record: UsageRecord, charge: Charge | None = None) -> tuple[Charge, str] | None:
        """The charge that this record is another account of, and the rule that says so.

        With `charge`, to which the record has just been joined: another charge that is the same call too.
        """
        taken = charge.producers if charge else {record.producer}
        if record.span_id:
            for other in self._by_span.get(record.trace_id + record.span_id, ()):
                if other is not charge and taken.isdisjoint(other.producers):
                    return other, "same_span"
        response_id = record.values.get("response_id")
        if response_id and (found := self._same_response(record, response_id, charge, taken)):
            return found, "response_id"
        if record.span_id:
            for other in self._by_trace.get(record.trace_id, ()):
                if other is not charge and taken.isdisjoint(other.producers) and self._same_by_ancestry(other, record):
                    return other, "ancestor"
        return None

    def absorb(self, charge: Charge, other: Charge) -> None:
        """Two charges turned out to be one call: `other` is part of `charge` from now on."""
        del self._by_call[other.call_id]
        charge.producers |= other.producers
        charge.linked += [other.call_id, *other.linked]
        if other.response_id:
            _remove(self._by_response, other.response_id, other)
            if not charge.response_id:
                charge.response_id, charge.family = other.response_id, other.family
                self._by_response.setdefault(other.response_id, []).append(charge)
        for trace_id, span_id in other.spans:
            _remove(self._by_span, trace_id + span_id, other)
            _remove(self._by_trace, trace_id, other)
            self._put_span(charge, trace_id, span_id)
        other.gone = True

    def expire(self, now: int) -> None:
        """Forget charges first seen more than the window ago."""
        horizon = now - self._window
        queue = self._queue
        while queue and queue[0].seen < horizon:
            charge = queue.popleft()
            if charge.gone:
                continue
            self._by_call.pop(charge.call_id, None)
            if charge.response_id:
                _remove(self._by_response, charge.response_id, charge)
            for trace_id, span_id in charge.spans:
                _remove(self._by_span, trace_id + span_id, charge)
                _remove(self._by_trace, trace_id, charge)
                self.parents.pop(trace_id + span_id, None)

    def _same_response(
        self, record: UsageRecord, response_id: str, joined: Charge | None, taken: set[str]
    ) -> Charge | None:
        """The nearest in time among those with equal ids: local servers repeat theirs."""
        start: int = record.values["start"]
        family, facts = _family(record.values), _facts(record.values)
        best: Charge | None = None
        best_distance: tuple[bool, bool, int] | None = None
        for charge in self._by_response.get(response_id, ()):
            if charge is joined or not taken.isdisjoint(charge.producers) or abs(charge.start - start) > self._window:
                continue
            if family and charge.family and family != charge.family:
                continue
            agree = _agree(charge.facts, facts)
            if not agree and not (
                family == charge.family == _PLACEHOLDERS
                and charge.start <= record.values["end"]
                and start <= charge.end
                and _same_input(charge.facts, facts)
            ):
                continue
            elsewhere = not any(trace_id == record.trace_id for trace_id, _ in charge.spans)
            distance = not agree, elsewhere, abs(charge.start - start)
            if best_distance is None or distance < best_distance:
                best, best_distance = charge, distance
        return best

    def _same_by_ancestry(self, charge: Charge, record: UsageRecord) -> bool:
        values = record.values
        if charge.operation != values.get("operation"):
            return False
        response_id = values.get("response_id")
        if response_id and charge.response_id and response_id != charge.response_id:
            return False
        if charge.start > values["end"] or values["start"] > charge.end:
            return False
        if not _equal(charge.facts, _facts(values)):
            return False
        mine = record.trace_id, record.span_id
        return any(
            span[0] == record.trace_id and (self._above(span, mine[1]) or self._above(mine, span[1]))
            for span in charge.spans
        )

    def _above(self, span: tuple[bytes, bytes], ancestor: bytes) -> bool:
        """The span id `ancestor` lies on the way up from `span`."""
        trace_id, span_id = span
        for _ in range(_DEPTH):
            parent = self.parents.get(trace_id + span_id)
            if not parent:
                return False
            if parent == ancestor:
                return True
            span_id = parent
        return False

    def _add_span(self, charge: Charge, record: UsageRecord) -> None:
        if not record.span_id:
            return
        if record.parent_span_id:
            self.parents[record.trace_id + record.span_id] = record.parent_span_id
        self._put_span(charge, record.trace_id, record.span_id)

    def _put_span(self, charge: Charge, trace_id: bytes, span_id: bytes) -> None:
        if (trace_id, span_id) not in charge.spans:
            charge.spans.append((trace_id, span_id))
            self._by_span.setdefault(trace_id + span_id, []).append(charge)
            self._by_trace.setdefault(trace_id, []).append(charge)


Facts = tuple[str | None, str | None, int | None, int | None]
"""Served model, requested model, gross input, gross output."""

_UNTOLD: Final = (None, None)


def _facts(values: Mapping[str, Any]) -> Facts:
    get = values.get
    return get("model"), get("request_model"), get("input_tokens"), get("output_tokens")


def _family(values: Mapping[str, Any]) -> str | None:
    """The first part of the id family: producers tell the vendor's format apart, not always the API."""
    family: str | None = values.get("id_family")
    return family.partition(".")[0] if family else None


def _same_model(one: Facts, other: Facts) -> bool:
    if one[0] and other[0]:
        return one[0] == other[0]
    return (one[1] or one[0]) == (other[1] or other[0]) or one[0] == other[1] or one[1] == other[0]


def _agree(one: Facts, other: Facts) -> bool:
    """Equal model and usage, where both tell."""
    if not _same_model(one, other):
        return False
    if one[2:] == _UNTOLD or other[2:] == _UNTOLD:
        return True
    return (one[2] or 0, one[3] or 0) == (other[2] or 0, other[3] or 0)


def _same_input(one: Facts, other: Facts) -> bool:
    """Equal model and input, where the output cannot be relied on."""
    return _same_model(one, other) and one[2] is not None and one[2] == other[2]


def _equal(one: Facts, other: Facts) -> bool:
    """Equal model and usage; not told is a value of its own."""
    return _same_model(one, other) and one[2:] == other[2:]


def _remove(index: dict[Any, list[Charge]], key: Any, charge: Charge) -> None:
    entries = index.get(key)
    if entries is None:
        return
    if charge in entries:
        entries.remove(charge)
    if not entries:
        del index[key]


def restore(index: LinkingIndex, charges: Iterator[tuple[UsageRecord, int, list[UsageRecord]]]) -> None:
    """Fill an empty index from the store: each charge, when it was seen, and the records linked to it."""
    for record, seen, linked in charges:
        charge = index.add(record, seen)
        for other in linked:
            index.join(charge, other)
