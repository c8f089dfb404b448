"""All budgets, fed by every commit: what each has spent is exact against the ledger at any instant."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from typing import Any, Final, Protocol
from zoneinfo import ZoneInfo

from genai_meter_exporter.budgets.forecast import Forecast, forecast, planned_per_second
from genai_meter_exporter.budgets.history import Accuracy, History, accuracy
from genai_meter_exporter.budgets.model import PICO, Amount, Budget, Budgets, Contract, RunCap, Thresholds, money, zone
from genai_meter_exporter.budgets.periods import Period, local_day, period_at
from genai_meter_exporter.budgets.states import Machine, Situation, State
from genai_meter_exporter.budgets.sums import Sums
from genai_meter_exporter.cells import DIMENSIONS, GRAIN_SECONDS, MEASURES, Cell, Measures
from genai_meter_exporter.series import Run
from genai_meter_exporter.store.base import Query, Reader

_CALLS: Final = MEASURES.index("calls")
_INPUT: Final = MEASURES.index("input_tokens")
_OUTPUT: Final = MEASURES.index("output_tokens")
_COST: Final = MEASURES.index("cost")

_ACTIVE_SECONDS: Final = 900
"""A run without a call for so long is over."""
_KEPT_SECONDS: Final = 86_400
"""Calls of a run may arrive late: its cost is kept so long after the last one."""
_MOST_RUNS: Final = 100_000
_SAVE_SECONDS: Final = 900
_READ_SECONDS: Final = 86_400
_CONTRACT_PERIOD: Final = "rolling 30d"


class Reports(Protocol):
    """What the budgets read of a ledger."""

    def report(self, query: Query) -> list[dict[str, Any]]:
        """Sums by dimensions."""
        ...


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a budget stands at one instant; amounts in its unit (USD: pico-USD)."""

    budget: Budget
    thresholds: Thresholds
    zone: ZoneInfo
    period: Period
    limit: int
    spent: int
    charged: int
    """All that was ever charged to it: never falls, never begins anew with a period."""
    planned_per_second: float
    forecast: Forecast | None
    state: State
    since: float
    """When the state was entered, Unix seconds."""

    @property
    def used(self) -> float:
        """Share of the amount that is spent."""
        return self.spent / self.limit


class Tracker:
    """One budget over time."""

    def __init__(self, budget: Budget, thresholds: Thresholds, tz: ZoneInfo) -> None:
        self.budget = budget
        self.thresholds = thresholds
        self.zone = tz
        self.sums = Sums(budget, tz)
        self.charged = 0
        self.offset = 0
        """What was charged while something else was counted under its name, beyond what the ledger has of this."""
        self.machine = Machine()
        self.forecast_told: tuple[int, int] | None = None
        """Period and its day of the last forecast that was kept."""
        self.last_period: Period | None = None
        self.unit = budget.amount.unit
        self.definition = _definition(budget, tz)

    def amount(self, what: Measures) -> int:
        """What a cell is in the budget's unit."""
        if self.unit == "usd":
            return what[_COST]
        return what[_CALLS] if self.unit == "calls" else what[_INPUT] + what[_OUTPUT]

    def add(self, start: int, what: Measures) -> None:
        """A cell that a commit has changed."""
        amount = self.amount(what)
        if amount:
            self.sums.add(start, amount)
            self.charged += max(amount, 0)

    def inherit(self, before: Tracker) -> None:
        """Take over from the budget that had its name, as far as it counts the same."""
        if self.definition == before.definition:
            self.sums, self.charged, self.offset = before.sums, before.charged, before.offset
            self.machine, self.forecast_told, self.last_period = (
                before.machine,
                before.forecast_told,
                before.last_period,
            )
            return
        if self.unit == before.unit:
            self.go_on(before.charged)
        self.machine = before.machine
        self.machine.doubt()

    def go_on(self, charged: int) -> None:
        """The counter neither falls nor jumps because something else is counted from now on."""
        self.offset, self.charged = charged - self.charged, charged

    def standing(self, now: float) -> Standing:
        """Where it stands."""
        period = period_at(self.budget, self.zone, now)
        return Standing(
            self.budget,
            self.thresholds,
            self.zone,
            period,
            self.budget.amount.quantity,
            self.sums.within(period),
            self.charged,
            planned_per_second(self.budget, self.zone, period, now),
            forecast(self.budget, self.zone, self.sums, period, now),
            self.machine.state,
            self.machine.since,
        )


class Engine:
    """Apply from the writer's thread, read from any."""

    def __init__(self, budgets: Budgets, history: History) -> None:
        self._lock = threading.Lock()
        self._history = history
        self._runs: OrderedDict[tuple[str, str, str], tuple[int, float]] = OrderedDict()
        self.accuracy: list[Accuracy] = []
        self.evaluated: float | None = None
        """When it last looked, Unix seconds; None before the ledger was read."""
        self._saved = 0.0
        self._read = 0.0
        self._take(budgets, _trackers(budgets), _contracts(budgets))

    def _take(
        self, budgets: Budgets, trackers: Sequence[Tracker], contracts: Sequence[tuple[Contract, Tracker]]
    ) -> None:
        self.trackers = trackers
        self.contracts = contracts
        self.run_caps: Sequence[RunCap] = budgets.run_caps
        self._capped = {cap.workflow for cap in budgets.run_caps}
        self._index = _index(self._all())

    def exchange(self, budgets: Budgets, read: Callable[[], Reader], now: float) -> None:
        """Other budgets from now on. The caller sees to it that nothing is committed meanwhile.

        Those that count the same go on where they are; the others are read from the ledger. Raises `StoreError`,
        and then nothing has changed.
        """
        trackers, contracts = _trackers(budgets), _contracts(budgets)
        before = {tracker.budget.name: tracker for tracker in self.trackers}
        tenants = {contract.tenant: tracker for contract, tracker in self.contracts}
        heirs: list[tuple[Tracker, Tracker]] = []
        unread: list[Tracker] = []
        for tracker, known in (
            *((tracker, before.get(tracker.budget.name)) for tracker in trackers),
            *((tracker, tenants.pop(contract.tenant, None)) for contract, tracker in contracts),
        ):
            if known is not None:
                heirs.append((tracker, known))
            if known is None or known.definition != tracker.definition:
                unread.append(tracker)
        # Not read yet: all that is to be known comes with the first reading.
        found = _measured(read, unread, now) if unread and self.evaluated is not None else {}
        fresh = [tracker for tracker in trackers if tracker.budget.name not in before]
        entries = self._history.read(now) if fresh and self.evaluated is not None else []
        with self._lock:
            if self.evaluated is not None:
                self._save(now)
            for tracker in unread:
                if id(tracker) in found:
                    tracker.sums, tracker.charged = found[id(tracker)]
            for tracker, known in heirs:
                tracker.inherit(known)
            _recall(fresh, entries)
            self._take(budgets, trackers, contracts)
            names = {tracker.budget.name for tracker in trackers}
            self.accuracy = [judged for judged in self.accuracy if judged.budget in names]
            for key in [key for key in self._runs if key[1] not in self._capped]:
                del self._runs[key]

    def load(self, reader: Reports, now: float) -> None:
        """Take everything from the ledger; what was known before is replaced. Raises `StoreError`."""
        found = _sums(reader, self._all(), now)
        with self._lock:
            for tracker in self._all():
                tracker.sums, charged = found[id(tracker)]
                tracker.charged = max(tracker.charged, charged + tracker.offset)
            if self.evaluated is None:
                _recall(self.trackers, self._judge(now))

    def apply(self, cells: Mapping[Cell, Measures]) -> None:
        """The cells that a commit has changed."""
        with self._lock:
            for (start, dimensions), what in cells.items():
                values: dict[str, str] = dict(zip(DIMENSIONS, dimensions, strict=True))
                for names, table in self._index:
                    for tracker in table.get(tuple(values[name] for name in names), ()):
                        tracker.add(start, what)

    def observe(self, runs: Iterable[Run]) -> None:
        """Calls of workflow runs that a commit has added."""
        if not self._capped:
            return
        with self._lock:
            for run in runs:
                if run.workflow in self._capped:
                    key = (run.team, run.workflow, run.run_id)
                    cost, last = self._runs.pop(key, (0, 0.0))
                    self._runs[key] = (cost + run.cost, max(last, run.end_ns / 1e9))
            while len(self._runs) > _MOST_RUNS:
                self._runs.popitem(last=False)

    def standings(self, now: float) -> list[Standing]:
        """Where every budget stands, states as they were last evaluated."""
        with self._lock:
            return [tracker.standing(now) for tracker in self.trackers]

    def dearest_runs(self, now: float) -> dict[tuple[str, str], int]:
        """(team, workflow) → cost of the dearest run that is active, in pico-USD."""
        with self._lock:
            found: dict[tuple[str, str], int] = {}
            for (team, workflow, _), (cost, last) in self._runs.items():
                if now - last <= _ACTIVE_SECONDS:
                    found[team, workflow] = max(found.get((team, workflow), 0), cost)
            return found

    def contract_costs(self, now: float) -> list[tuple[Contract, int]]:
        """What each tenant with a contract has cost in 30 days, in pico-USD."""
        with self._lock:
            return [
                (contract, tracker.sums.within(period_at(tracker.budget, tracker.zone, now)))
                for contract, tracker in self.contracts
            ]

    def evaluate(self, now: float) -> list[Standing]:
        """Step every state; what changed and each day's forecast go to the history."""
        with self._lock:
            self._forget_runs(now)
            found: list[Standing] = []
            closed = False
            for tracker in self._all():
                tracker.sums.forget(now)
            for tracker in self.trackers:
                standing = tracker.standing(now)
                self._step(tracker, standing, now)
                closed |= self._remember(tracker, standing, now)
                found.append(replace(standing, state=tracker.machine.state, since=tracker.machine.since))
            self.evaluated = now
            if closed or now - self._read >= _READ_SECONDS:
                self._judge(now)
            if now - self._saved >= _SAVE_SECONDS:
                self._save(now)
            return found

    def lose(self, now: float) -> None:
        """The ledger does not answer: nothing is known of any budget."""
        with self._lock:
            for tracker in self.trackers:
                if tracker.machine.lose(now):
                    self._history.write(now, "state", tracker.budget.name, state="unknown")

    def close(self, now: float) -> None:
        """Keep what the next start cannot read from the ledger."""
        with self._lock:
            if self.evaluated is not None:
                self._save(now)

    def _judge(self, now: float) -> list[dict[str, Any]]:
        """What the forecasts were worth; returns the history."""
        self._read = now
        entries = self._history.read(now)
        names = {tracker.budget.name for tracker in self.trackers}
        self.accuracy = accuracy(entry for entry in entries if entry["budget"] in names)
        return entries

    def _forget_runs(self, now: float) -> None:
        """Those that ended long ago: a scrape looks at all that are kept."""
        while self._runs and now - next(iter(self._runs.values()))[1] > _KEPT_SECONDS:
            self._runs.popitem(last=False)

    def _all(self) -> list[Tracker]:
        return [*self.trackers, *(tracker for _, tracker in self.contracts)]

    def _step(self, tracker: Tracker, standing: Standing, now: float) -> None:
        median = standing.forecast.median if standing.forecast else None
        situation = Situation(standing.spent, standing.limit, median, standing.period.start)
        rolling = tracker.budget.rolling_seconds is not None
        if tracker.machine.step(situation, tracker.thresholds, now, rolling=rolling):
            self._history.write(
                now,
                "state",
                tracker.budget.name,
                of=tracker.definition,
                state=tracker.machine.state,
                spent=standing.spent,
                limit=standing.limit,
                period=standing.period.start,
            )

    def _remember(self, tracker: Tracker, standing: Standing, now: float) -> bool:
        """Once a local day the forecast; once a period what it came to: then True."""
        period, last = standing.period, tracker.last_period
        if period.first is None:
            return False
        closed = last is not None and last.start != period.start
        if last is not None and closed:
            spent = tracker.sums.within(last)
            self._history.write(now, "period", tracker.budget.name, period=last.start, spent=spent)
        tracker.last_period = period
        day = (local_day(tracker.zone, int(now)) - period.first).days
        if standing.forecast is not None and day > 0 and tracker.forecast_told != (period.start, day):
            tracker.forecast_told = (period.start, day)
            self._history.write(
                now,
                "forecast",
                tracker.budget.name,
                period=period.start,
                day=day,
                median=standing.forecast.median,
                upper=standing.forecast.upper,
            )
        return closed

    def _save(self, now: float) -> None:
        self._saved = now
        for tracker in self.trackers:
            told = {
                "of": tracker.definition,
                "unit": tracker.unit,
                "charged": tracker.charged,
                "offset": tracker.offset,
            }
            self._history.write(now, "spend", tracker.budget.name, **told)


def _recall(trackers: Iterable[Tracker], entries: Iterable[Mapping[str, Any]]) -> None:
    """What the history knows: states, the day's forecast, and counters that must not fall."""
    by_name = {tracker.budget.name: tracker for tracker in trackers}
    spends: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        tracker = by_name.get(entry["budget"])
        if tracker is None:
            continue
        if entry["kind"] == "spend":
            spends[entry["budget"]] = entry
        elif entry["kind"] == "forecast":
            tracker.forecast_told = (entry["period"], entry["day"])
            if tracker.budget.rolling_seconds is None:
                tracker.last_period = period_at(tracker.budget, tracker.zone, entry["at"])
        elif entry["kind"] == "state" and "period" in entry:
            if entry.get("of", tracker.definition) == tracker.definition:
                tracker.machine.recall(entry["state"], entry["at"], entry["period"], entry["limit"])
            else:
                tracker.machine = Machine()
    for name, entry in spends.items():
        tracker = by_name[name]
        if entry.get("of", tracker.definition) == tracker.definition:
            tracker.offset = entry.get("offset", 0)
            tracker.charged = max(tracker.charged + tracker.offset, entry["charged"])
        elif entry.get("unit") == tracker.unit:
            tracker.go_on(entry["charged"])


def _trackers(budgets: Budgets) -> list[Tracker]:
    return [
        Tracker(budget, budgets.thresholds(budget), zone(budget.timezone or budgets.timezone))
        for budget in budgets.entries
    ]


def _contracts(budgets: Budgets) -> list[tuple[Contract, Tracker]]:
    return [(contract, _contracted(contract)) for contract in budgets.contracts]


def _contracted(contract: Contract) -> Tracker:
    """The cost of a tenant over 30 days, as a budget that nobody is told of."""
    budget = Budget(name="contract", scope={"tenant": contract.tenant}, amount=Amount(usd=1), period=_CONTRACT_PERIOD)
    return Tracker(budget, Thresholds(), zone("UTC"))


_Table = dict[tuple[str, ...], list[Tracker]]


def _index(trackers: Sequence[Tracker]) -> list[tuple[tuple[str, ...], _Table]]:
    """Budgets by the dimensions they look at, then by the values they want: one look-up a set of dimensions."""
    tables: dict[tuple[str, ...], _Table] = {}
    for tracker in trackers:
        values = tracker.budget.values
        names = tuple(name for name in DIMENSIONS if name in values)
        for wanted in product(*(dict.fromkeys(values[name]) for name in names)):
            tables.setdefault(names, {}).setdefault(wanted, []).append(tracker)
    return list(tables.items())


def instant(quarter: str) -> int:
    """Unix seconds of a quarter of an hour as reports write it."""
    return int(datetime.strptime(quarter, "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC).timestamp())


def _definition(budget: Budget, tz: ZoneInfo) -> str:
    """What is counted, over what time: two budgets with the same one have the same sums."""
    scope = {name: sorted(set(wanted)) for name, wanted in budget.values.items()}
    told = json.dumps([budget.amount.unit, budget.period, tz.key, scope], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def _measured(read: Callable[[], Reader], trackers: Sequence[Tracker], now: float) -> dict[int, tuple[Sums, int]]:
    with closing(read()) as reader:
        return _sums(reader, trackers, now)


def _sums(reader: Reports, trackers: Sequence[Tracker], now: float) -> dict[int, tuple[Sums, int]]:
    """What a ledger has of each tracker (by `id`): the sums of late, and the sum of all times."""
    fresh = {id(tracker): Sums(tracker.budget, tracker.zone) for tracker in trackers}
    charged = dict.fromkeys(fresh, 0)
    for names, table in _index(trackers):
        wanted = {id(tracker) for found in table.values() for tracker in found}
        reach = min(fresh[key].reach(now) for key in wanted) // GRAIN_SECONDS * GRAIN_SECONDS
        for row in reader.report(Query(("quarter", *names), since_ns=max(reach, 0) * 1_000_000_000)):
            for tracker in table.get(tuple(row[name] for name in names), ()):
                fresh[id(tracker)].add(instant(row["quarter"]), tracker.amount(_measures(row)))
        for row in reader.report(Query(names)):
            for tracker in table.get(tuple(row[name] for name in names), ()):
                charged[id(tracker)] += tracker.amount(_measures(row))
    return {key: (sums, charged[key]) for key, sums in fresh.items()}


def _measures(row: Mapping[str, int]) -> Measures:
    return tuple(row[name] for name in MEASURES)


def cap_pico(cap: RunCap) -> int:
    """What one run may cost, in pico-USD."""
    return int(money(cap.usd) * PICO)
