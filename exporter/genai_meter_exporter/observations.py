"""What new calls add to the histograms, and when each service was last heard of."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import repeat
from operator import itemgetter, sub
from typing import Any, Final, TypeAlias

from genai_meter.semconv import DURATION_BOUNDARIES, TOKEN_BOUNDARIES

from genai_meter_exporter.bounds import Bounds
from genai_meter_exporter.cells import DIMENSIONS
from genai_meter_exporter.columns import Columns
from genai_meter_exporter.series import (
    CLOCK_AHEAD,
    DURATION,
    FIRST_CHUNK,
    LAST_EVENT,
    LAST_EVENT_LABELS,
    LATE,
    REQUEST_TOKENS,
    SUM,
    Deltas,
    Exemplar,
    Family,
    Histogram,
)

_Seen: TypeAlias = tuple[Any, ...]
"""What the histograms need of a call."""

_SEEN: Final = (
    *("start", "end", "recorded_at", "input_tokens", "output_tokens", "time_to_first_chunk", "trace_id", "span_id"),
)

_AHEAD_NS: Final = 5_000_000_000
"""Less is the usual difference between two clocks."""
_LATE_NS: Final = 7 * 86_400_000_000_000
"""Less is what batches take, or a spool that waited for the exporter."""

_DURATION_EDGES: Final = tuple(round(edge * DURATION.scale) for edge in DURATION_BOUNDARIES)
_BUCKETS: Final = tuple(f":{index}" for index in range(len(TOKEN_BOUNDARIES) + 2))
_GROUP: Final = itemgetter(*map(DIMENSIONS.index, ("service", "provider", "model", "team", "environment")))


def observe(deltas: Deltas, bounds: Bounds, calls: Iterable[Columns]) -> None:
    """Add new calls, as the ledger has them.

    By group and column: a call at a time would cost three times as much.
    """
    groups: dict[tuple[str, ...], list[_Seen]] = {}
    for columns in calls:
        rows = zip(*map(columns.get, _SEEN), strict=True)
        for group, seen in zip(map(_GROUP, columns.dimensions), rows, strict=True):
            groups.setdefault(group, []).append(seen)
    for (service, provider, model, team, environment), group in groups.items():
        starts, ends, recorded, gross_input, gross_output, chunks, traces, spans = zip(*group, strict=True)
        _observe_ends(deltas, bounds, (team, environment, service), ends, recorded)
        add = _Adder(deltas, bounds, ends, traces, spans)
        took = list(map(sub, ends, starts))
        if min(took) < 0:
            took = [max(time, 0) for time in took]
        add(DURATION, (service, provider, model), _DURATION_EDGES, took)
        for tokens, direction in ((gross_input, "input"), (gross_output, "output")):
            add(REQUEST_TOKENS, (service, provider, model, direction), TOKEN_BOUNDARIES, tokens)
        if any(chunk is not None for chunk in chunks):
            waited = [None if chunk is None else round(chunk * FIRST_CHUNK.scale) for chunk in chunks]
            add(FIRST_CHUNK, (provider, model), _DURATION_EDGES, waited)


class _Adder:
    """Adds amounts of the calls of a group to histograms."""

    def __init__(
        self,
        deltas: Deltas,
        bounds: Bounds,
        ends: Sequence[int],
        traces: Sequence[str | None],
        spans: Sequence[str | None],
    ) -> None:
        self._deltas = deltas
        self._bounds = bounds
        self._ends = ends
        self._traces = traces
        self._spans = spans

    def __call__(
        self, histogram: Histogram, labels: tuple[str, ...], edges: Sequence[int], amounts: Sequence[int | None]
    ) -> None:
        """One amount a call; None: it tells of none."""
        told: Sequence[Any] = amounts if all(amounts) else [amount for amount in amounts if amount is not None]
        if not told:
            return
        deltas, labels = self._deltas, self._bounds.fold(histogram.name, histogram.labels, labels)
        deltas.add(histogram.name + SUM, labels, sum(told))
        indexes = list(map(bisect_left, repeat(edges), told))
        for index, count in Counter(indexes).items():
            deltas.add(histogram.name + _BUCKETS[index], labels, count)
        calls = range(len(amounts))
        if len(told) < len(amounts):
            calls = [call for call, amount in enumerate(amounts) if amount is not None]
        if not all(self._traces):
            traced = [(index, call) for index, call in zip(indexes, calls, strict=True) if self._traces[call]]
            indexes, calls = zip(*traced, strict=True) if traced else ((), ())
        for index, call in dict(zip(indexes, calls, strict=True)).items():
            deltas.exemplars[histogram.name + _BUCKETS[index], labels] = Exemplar(
                self._traces[call] or "",
                self._spans[call] or "",
                (amounts[call] or 0) / histogram.scale,
                self._ends[call] / 1_000_000_000,
            )


def _observe_ends(
    deltas: Deltas, bounds: Bounds, where: tuple[str, ...], ends: Sequence[int], recorded: Sequence[int]
) -> None:
    """The latest event of a service, and clocks that cannot be right."""
    team, environment, service = bounds.fold(LAST_EVENT, LAST_EVENT_LABELS, where)
    shown = team, environment, service
    first, last = min(ends), max(ends)
    late = ahead = 0
    if max(recorded) - first >= _LATE_NS or min(recorded) - last <= -_AHEAD_NS:
        ages = list(map(sub, recorded, ends))
        late, ahead = sum(age >= _LATE_NS for age in ages), sum(age <= -_AHEAD_NS for age in ages)
    for family, count in ((LATE, late), (CLOCK_AHEAD, ahead)):
        if count:
            _count(deltas, bounds, family, shown, count)
    # A clock that is ahead must not stop the gauge from moving.
    latest = last if last <= min(recorded) else max(map(min, ends, recorded))
    if latest > deltas.last_events.get(shown, 0):
        deltas.last_events[shown] = latest


def _count(deltas: Deltas, bounds: Bounds, family: Family, labels: tuple[str, ...], count: int) -> None:
    deltas.add(family.name, bounds.fold(family.name, family.labels, labels), count)
