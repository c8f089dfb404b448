"""The counters in memory: exactly what the store last committed, and what of it may be shown yet."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from genai_meter_exporter import series
from genai_meter_exporter.series import Deltas, Exemplar, SeriesKey
from genai_meter_exporter.store.base import Restored

_UNHELD: Final = frozenset(family.name for family in series.FAMILIES if not family.held)

_LEDGER: Final = (series.LEDGER_EVENTS, series.LEDGER_WITHDRAWN, series.LEDGER_COST, series.LEDGER_CREDIT)


@dataclass(slots=True)
class _Birth:
    """A series that scrapes have not been given yet."""

    first_shown: float | None = None
    """When a scrape first had it at zero."""
    recorded: bool = False
    """The store knows that it was shown: after a crash it is not shown at zero again."""


@dataclass(slots=True)
class Snapshot:
    """All counters at one instant between two commits."""

    values: dict[SeriesKey, int]
    held: set[SeriesKey]
    """Series to be shown at zero now."""
    exemplars: dict[SeriesKey, Exemplar]
    last_events: dict[tuple[str, str, str], int]


class Counters:
    """Integer counters. The writer applies, scrapes take snapshots; `lock` spans a commit and its `apply`.

    `increase()` of a series that is born at 12 is 0 for ever. So a new series is shown at zero for one
    scrape interval before its first value; what was restored from the store is old and shown at once.
    """

    def __init__(self, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.lock = threading.Lock()
        self._interval = interval
        self._clock = clock
        self._values: dict[SeriesKey, int] = {}
        self._births: dict[SeriesKey, _Birth] = {}
        self._exemplars: dict[SeriesKey, Exemplar] = {}
        self._last_events: dict[tuple[str, str, str], int] = {}

    def restore(self, restored: Restored) -> None:
        """Start from what the store committed last."""
        with self.lock:
            self._values = dict(restored.values)
            self._last_events = dict(restored.last_events)
            self._births = {key: _Birth() for key in restored.values if _births(key) and key not in restored.shown}

    def apply(self, deltas: Deltas) -> None:
        """Make a commit visible. The caller holds `lock`."""
        values, births = self._values, self._births
        for key, amount in deltas.values.items():
            if key in values:
                values[key] += amount
            else:
                values[key] = amount
                if _births(key):
                    births[key] = _Birth()
        self._exemplars.update(deltas.exemplars)
        for where, at in deltas.last_events.items():
            if at > self._last_events.get(where, 0):
                self._last_events[where] = at

    def mark_recorded(self, shown: list[SeriesKey]) -> None:
        """The store has committed that these series were shown. The caller holds `lock`."""
        for key in shown:
            if birth := self._births.get(key):
                birth.recorded = True

    def snapshot(self) -> Snapshot:
        """What a scrape shows now. New series are at zero in it, and count as shown from now on."""
        with self.lock:
            now = self._clock()
            held: set[SeriesKey] = set()
            grown: list[SeriesKey] = []
            for key, birth in self._births.items():
                if birth.first_shown is None:
                    birth.first_shown = now
                if birth.recorded and now - birth.first_shown >= self._interval:
                    grown.append(key)
                else:
                    held.add(key)
            for key in grown:
                del self._births[key]
            return Snapshot(dict(self._values), held, dict(self._exemplars), dict(self._last_events))

    def ledger(self) -> tuple[int, int]:
        """Calls and cost (pico-USD) that this exporter's label-free counters tell of."""
        with self.lock:
            events, withdrawn, cost, credit = (self._values.get((family.name, ()), 0) for family in _LEDGER)
        return events - withdrawn, cost - credit

    def shown(self) -> list[SeriesKey]:
        """Series that a scrape has had at zero and the store does not know of yet."""
        with self.lock:
            return [key for key, birth in self._births.items() if birth.first_shown is not None and not birth.recorded]


def _births(key: SeriesKey) -> bool:
    """The key stands for a series that is shown at zero first. Of a histogram that is its sum."""
    family = key[0]
    return family not in _UNHELD and (":" not in family or family.endswith(series.SUM))
