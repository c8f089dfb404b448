"""The exporter's own counters, budgets and anomalies on simulated time, and its `/metrics` scraped into OpenMetrics.

What is left out: OTLP, prices and the store. A step's calls go to the roll-ups, the counters and the budgets as a
commit takes them; the search for anomalies reads the roll-ups from memory.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from genai_meter_exporter import alerting, cells, series
from genai_meter_exporter.anomalies import exposition as anomaly_metrics
from genai_meter_exporter.anomalies.model import Anomalies
from genai_meter_exporter.anomalies.services import SERVICE
from genai_meter_exporter.anomalies.watch import Watch
from genai_meter_exporter.bounds import bounds_of
from genai_meter_exporter.budgets import exposition as budget_metrics
from genai_meter_exporter.budgets.engine import Engine
from genai_meter_exporter.budgets.history import History
from genai_meter_exporter.budgets.model import Budgets
from genai_meter_exporter.cells import DIMENSIONS, GRAIN_SECONDS, MEASURES, Cell, Measures
from genai_meter_exporter.columns import alike
from genai_meter_exporter.config import Config
from genai_meter_exporter.counters import Counters
from genai_meter_exporter.metrics import Exposition, LiveFacts, MeterCollector
from genai_meter_exporter.observations import observe
from genai_meter_exporter.series import Deltas, Run
from genai_meter_exporter.store.base import Query
from prometheus_client.core import Metric

Calls = Iterable[Mapping[str, Any]]

DAY: Final = 86_400
_BOOK_DAYS: Final = 28
"""The price book is renewed so often."""
_GRAINS: Final = (DAY, 3600, GRAIN_SECONDS)
_SCRAPED: Final = 'instance="genai-meter:4329",job="genai-meter"'


class Rollups:
    """The roll-ups of a ledger in memory, as far as the search for anomalies asks; releases as its rows tell them."""

    def __init__(self) -> None:
        self._sums: dict[int, dict[int, dict[tuple[str, ...], Measures]]] = {grain: {} for grain in _GRAINS}
        self._releases: dict[int, set[tuple[str, ...]]] = {}
        self._projected: dict[tuple[int, int], dict[tuple[str, ...], dict[tuple[str, ...], Measures]]] = {}
        """Grain and start → some of the dimensions → sums, until a commit changes them."""

    def add(self, found: Mapping[Cell, Measures]) -> None:
        """What a commit has added."""
        for (start, dimensions), what in found.items():
            for grain, sums in self._sums.items():
                _add(sums.setdefault(start // grain * grain, {}), dimensions, what)
                self._projected.pop((grain, start // grain * grain), None)

    def release(self, values: Mapping[str, Any]) -> None:
        """The release that a call tells."""
        quarter = values["start"] // 1_000_000_000 // GRAIN_SECONDS * GRAIN_SECONDS
        self._releases.setdefault(quarter, set()).add((*(values[name] for name in SERVICE), values["version"]))

    def report(self, query: Query) -> list[dict[str, Any]]:
        """Sums by dimensions over a span of whole quarters of an hour."""
        assert query.since_ns is not None
        assert query.until_ns is not None
        since, until = query.since_ns // 1_000_000_000, query.until_ns // 1_000_000_000
        if "version" in query.by:
            return list(self._told(range(since, until, GRAIN_SECONDS)))
        names = tuple(name for name in query.by if name != "day")
        asked = (*names, *(name for name, _ in query.where))
        wanted = tuple(value for _, value in query.where)
        found: dict[tuple[str, ...], Measures] = {}
        for grain, start in _pieces(since, until):
            day = (datetime.fromtimestamp(start, UTC).date().isoformat(),) if "day" in query.by else ()
            for dimensions, what in self._by(asked, grain, start).items():
                if dimensions[len(names) :] == wanted:
                    _add(found, (*day, *dimensions[: len(names)]), what)
        told = ("day", *names) if "day" in query.by else names
        return [dict(zip((*told, *MEASURES), (*key, *what), strict=True)) for key, what in found.items()]

    def days(self) -> list[tuple[int, dict[tuple[str, ...], Measures]]]:
        """Start of each UTC day → its sums."""
        return sorted(self._sums[DAY].items())

    def quarters(self) -> Iterator[dict[Cell, Measures]]:
        """The cells, oldest first."""
        for start, group in sorted(self._sums[GRAIN_SECONDS].items()):
            yield {(start, dimensions): what for dimensions, what in group.items()}

    def hours(self) -> list[dict[tuple[str, ...], Measures]]:
        """The sums of each hour."""
        return list(self._sums[3600].values())

    def _by(self, names: tuple[str, ...], grain: int, start: int) -> Mapping[tuple[str, ...], Measures]:
        kept = self._projected.setdefault((grain, start), {})
        sums = kept.get(names)
        if sums is None:
            sums = kept[names] = {}
            places = [DIMENSIONS.index(name) for name in names]
            for dimensions, what in self._sums[grain].get(start, {}).items():
                _add(sums, tuple(dimensions[place] for place in places), what)
        return sums

    def _told(self, quarters: Iterable[int]) -> Iterator[dict[str, Any]]:
        for quarter in quarters:
            written = datetime.fromtimestamp(quarter, UTC).strftime("%Y-%m-%dT%H:%MZ")
            for *who, version in self._releases.get(quarter, ()):
                yield {"quarter": written, **dict(zip(SERVICE, who, strict=True)), "release": "", "version": version}


def _add(sums: dict[tuple[str, ...], Measures], key: tuple[str, ...], what: Measures) -> None:
    before = sums.get(key)
    sums[key] = what if before is None else tuple(map(int.__add__, before, what))


def _pieces(since: int, until: int) -> Iterator[tuple[int, int]]:
    """A span in whole days, hours and quarters: grain and start of each."""
    at = since
    while at < until:
        grain = next(grain for grain in _GRAINS if at % grain == 0 and at + grain <= until)
        yield grain, at
        at += grain


class _Collector(MeterCollector):
    """The families that somebody reads."""

    read: frozenset[str] = frozenset()

    def collect(self) -> Iterable[Metric]:
        return [metric for metric in super().collect() if metric.name in self.read]


class Exporter:
    """One exporter, its budgets and the scrapes of it."""

    def __init__(self, read: Iterable[str]) -> None:
        """`read`: the metrics that rules read."""
        self.now = 0
        self.rollups = Rollups()
        self.engine = Engine(Budgets(), History(None))
        self._read = frozenset(read)
        config = Config()
        self._bounds = bounds_of(config.labels)
        self._counters = Counters(config.metrics.scrape_interval_seconds, lambda: float(self.now))
        self._facts = LiveFacts()
        self._settings = Anomalies()
        self._watch = Watch(self._settings, None)
        self._next_look = 0.0
        self._alerts = config.alerts
        self._page = self._exposition()
        self._heads: dict[str, str] = {}

    def begin(self, budgets: Budgets) -> None:
        """From now on with budgets; what the roll-ups have is their past, and the counters are no newborns."""
        self.engine = Engine(budgets, History(None))
        for group in self.rollups.quarters():
            self.engine.apply(group)
        self._watch = Watch(self._settings, None, [contract.tenant for contract in budgets.contracts])
        self._page = self._exposition()
        for _ in range(2):
            self.now += GRAIN_SECONDS
            self.scrape()
            self.commit((), self.now)

    def _exposition(self) -> Exposition:
        others = (
            lambda: budget_metrics.collect(self.engine, self.now),
            lambda: alerting.collect(self._alerts),
            lambda: anomaly_metrics.collect(self._watch),
        )
        collector = _Collector(self._counters, self._bounds, self._facts, None, others)
        collector.read = frozenset(_family(name) for name in self._read)
        return Exposition(collector)

    def commit(self, calls: Calls, at: int) -> None:
        """Calls that have ended up to an instant."""
        self.now = at
        deltas = Deltas()
        placed: dict[Cell, Measures] = {}
        observed: list[dict[str, Any]] = []
        for told in calls:
            values = {**told, "recorded_at": told["end"]}
            cells.add(placed, cells.cell(values), cells.measures(values))
            observed.append(values)
            self.rollups.release(values)
            if run_id := values.get("run_id"):
                deltas.runs.append(
                    Run(values["team"], values["workflow"], run_id, values.get("cost") or 0, values["end"])
                )
        observe(deltas, self._bounds, alike(observed))
        deltas.cells = placed
        gained: dict[tuple[str, ...], Measures] = {}
        for (_, dimensions), what in deltas.cells.items():
            _add(gained, dimensions, what)
        series.add_cells(deltas, self._bounds, gained)
        series.count_ingest(deltas, [("accepted", len(observed))])
        shown = self._counters.shown()
        with self._counters.lock:
            self._counters.mark_recorded(shown)
            self._counters.apply(deltas)
        self.rollups.add(deltas.cells)
        self.engine.apply(deltas.cells)
        self.engine.observe(deltas.runs)

    def scrape(self) -> str:
        """What the rules read of `/metrics` now, as OpenMetrics with timestamps."""
        self.engine.evaluate(self.now)
        if self.now >= self._next_look:
            self._watch.look(self.rollups, self.now)
            self._next_look = self.now + self._settings.interval_seconds
        self._facts.book_time = self.now // (_BOOK_DAYS * DAY) * _BOOK_DAYS * DAY
        page, _ = self._page.render("")
        heads, at = self._heads, self.now
        lines: list[str] = []
        for line in page.decode().splitlines():
            head, _, value = line.rpartition(" ")
            name = heads.get(head)
            if name is None:
                name = heads[head] = self._named(head)
            if name:
                lines.append(f"{name} {value} {at}\n")
        return "".join(lines)

    def _named(self, head: str) -> str:
        """A series with the labels that a scrape adds; empty for what nobody reads."""
        name, brace, labels = head.partition("{")
        if name not in self._read:
            return ""
        return f"{name}{{{_SCRAPED},{labels}" if brace else f"{name}{{{_SCRAPED}}}"


def _family(name: str) -> str:
    for suffix in ("_total", "_bucket", "_count"):
        name = name.removesuffix(suffix)
    return name


def write(exporter: Exporter, steps: Iterable[tuple[int, Calls]], file: Path, restarts: Container[int]) -> None:
    """Scrape after every step, into a file; at a restart a scrape is missed."""
    with file.open("w", encoding="utf-8") as output:
        for at, calls in steps:
            exporter.commit(calls, at)
            page = exporter.scrape()
            if at not in restarts:
                output.write(page)
        output.write("# EOF\n")
