"""What new calls add to the histograms, and when each service was last heard of."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, TypeAlias

from genai_meter.semconv import DURATION_BOUNDARIES, TOKEN_BOUNDARIES

from genai_meter_exporter.bounds import Bounds
from genai_meter_exporter.cells import DIMENSIONS
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

Call: TypeAlias = Mapping[str, Any]
"""Ledger columns of a call."""

_AHEAD_NS: Final = 5_000_000_000
"""Less is the usual difference between two clocks."""
_LATE_NS: Final = 7 * 86_400_000_000_000
"""Less is what batches take, or a spool that waited for the exporter."""

_DURATION_EDGES: Final = tuple(round(edge * DURATION.scale) for edge in DURATION_BOUNDARIES)
_BUCKETS: Final = tuple(f":{index}" for index in range(len(TOKEN_BOUNDARIES) + 2))
_GROUP: Final = itemgetter(*map(DIMENSIONS.index, ("service", "provider", "model", "team", "environment")))


def observe(deltas: Deltas, bounds: Bounds, calls: Iterable[tuple[Call, tuple[str, ...]]]) -> None:
    """Add new calls, each with its dimensions, as the ledger has them.

    By group and column: a call at a time would cost three times as much.
    """
    groups: dict[tuple[str, ...], list[Call]] = {}
    for values, dimensions in calls:
        groups.setdefault(_GROUP(dimensions), []).append(values)
    for (service, provider, model, team, environment), group in groups.items():
        _observe_ends(deltas, bounds, (team, environment, service), group)
        took = [max(values["end"] - values["start"], 0) for values in group]
        add = _Adder(deltas, bounds)
        add(DURATION, (service, provider, model), _DURATION_EDGES, group, took)
        for column, direction in (("input_tokens", "input"), ("output_tokens", "output")):
            told, tokens = _told(group, column)
            add(REQUEST_TOKENS, (service, provider, model, direction), TOKEN_BOUNDARIES, told, tokens)
        told, waited = _told(group, "time_to_first_chunk")
        waited = [round(seconds * FIRST_CHUNK.scale) for seconds in waited]
        add(FIRST_CHUNK, (provider, model), _DURATION_EDGES, told, waited)


def _told(group: Sequence[Call], column: str) -> tuple[list[Call], list[Any]]:
    """Calls that tell a column, and what they tell."""
    told = [values for values in group if values.get(column) is not None]
    return told, [values[column] for values in told]


class _Adder:
    """Adds amounts to histograms."""

    def __init__(self, deltas: Deltas, bounds: Bounds) -> None:
        self._deltas = deltas
        self._bounds = bounds

    def __call__(
        self,
        histogram: Histogram,
        labels: tuple[str, ...],
        edges: Sequence[int],
        calls: Sequence[Call],
        amounts: Sequence[int],
    ) -> None:
        if not amounts:
            return
        deltas, labels = self._deltas, self._bounds.fold(histogram.name, histogram.labels, labels)
        deltas.add(histogram.name + SUM, labels, sum(amounts))
        indexes = [bisect_left(edges, amount) for amount in amounts]
        for index, count in Counter(indexes).items():
            deltas.add(histogram.name + _BUCKETS[index], labels, count)
        latest = {
            index: (values, amount)
            for index, values, amount in zip(indexes, calls, amounts, strict=True)
            if "trace_id" in values
        }
        for index, (values, amount) in latest.items():
            deltas.exemplars[histogram.name + _BUCKETS[index], labels] = Exemplar(
                values["trace_id"] or "",
                values.get("span_id") or "",
                amount / histogram.scale,
                values["end"] / 1_000_000_000,
            )


def _observe_ends(deltas: Deltas, bounds: Bounds, where: tuple[str, ...], group: Sequence[Call]) -> None:
    """The latest event of a service, and clocks that cannot be right."""
    team, environment, service = bounds.fold(LAST_EVENT, LAST_EVENT_LABELS, where)
    shown = team, environment, service
    ages = [values["recorded_at"] - values["end"] for values in group]
    late = sum(age >= _LATE_NS for age in ages) if max(ages) >= _LATE_NS else 0
    ahead = sum(age <= -_AHEAD_NS for age in ages) if min(ages) <= -_AHEAD_NS else 0
    for family, count in ((LATE, late), (CLOCK_AHEAD, ahead)):
        if count:
            _count(deltas, bounds, family, shown, count)
    # A clock that is ahead must not stop the gauge from moving.
    latest = max(min(values["end"], values["recorded_at"]) for values in group)
    if latest > deltas.last_events.get(shown, 0):
        deltas.last_events[shown] = latest


def _count(deltas: Deltas, bounds: Bounds, family: Family, labels: tuple[str, ...], count: int) -> None:
    deltas.add(family.name, bounds.fold(family.name, family.labels, labels), count)
