"""Ordinary workloads, call by call: what applications send in months without an incident, and what an incident changes.

Everything is drawn from a seeded generator; the distributions are those of `FACTS`.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from benchmarks.forecasts import FAMILIES, FIRST

ZONE: Final = ZoneInfo("Europe/Berlin")
"""Where the people are. Its clocks change on 2026-03-29."""
HOLIDAYS: Final = frozenset(
    date.fromisoformat(f"2026-{day}") for day in ("04-03", "04-06", "05-01", "05-14", "05-25", "06-04")
)
QUARTER: Final = 900
_DAYS: Final = 150
_NS: Final = 1_000_000_000
_CACHE_SECONDS: Final = 300
"""How long a provider remembers the beginning of a prompt."""

FACTS: Final = """\
- Time is that of Berlin, with its change of clocks on March 29 and six public holidays (weekend level). Ledgers begin
  on 2026-03-02, Prometheus three weeks later.
- Spend of each day: the families of [FORECASTS.md](FORECASTS.md); within the day a shape of its own, times a noise that
  lasts (lognormal, σ 0.15, correlation 0.8 from one quarter of an hour to the next); tasks arrive by Poisson.
- Three of four tasks are one call (`chat`), the others a run of a workflow (`agent`) of 1 to 20 calls, four on average,
  some 15 s apart. Input tokens are lognormal (median 8,000 and 24,000, σ 0.7 and 0.5), output tokens too (350, σ 0.7).
- The first half (chat) or four fifths (agent) of a prompt come from the provider's cache when there was another call
  of that feature within five minutes: nights and first calls are cold.
- Latency is lognormal (median 3 s, σ 0.7). 0.6 % of the calls fail, 2 % are sent again; every third day the provider
  has a hiccup of 3 to 8 minutes in which 10 % fail and 25 % are sent again.
- Six tenants, the largest with two fifths; each one's share of a day varies (lognormal, σ 0.35).
- One release a week, on Tuesday at 10:00; it makes prompts up to 8 % longer or shorter.
"""


@dataclass(frozen=True, slots=True)
class Workload:
    """What one application does."""

    name: str
    about: str
    tasks: float
    """On a day of level 1."""
    shape: Callable[[random.Random, float], list[float]]
    """(chance, level of the day) → share of the day's tasks of each local quarter of an hour."""
    plan: Mapping[str, list[float]] = field(default_factory=dict[str, list[float]])
    """Of its budgets."""
    first_of_month: float = 1.0
    """Times an ordinary day; its owner knows."""
    people: bool = False
    """Holidays are weekends."""
    growth: float = 1.0
    """Of a week; what its owner plans the budgets with."""


@dataclass(frozen=True, slots=True)
class Change:
    """What an incident does to the calls from an instant on."""

    at: int
    """Unix seconds."""
    release: str = ""
    """That brings it about."""
    silent: bool = False
    loop_calls: float = 0.0
    """Calls an hour that one run makes in addition."""
    cached: float = 1.0
    """Part that stays of what came from the cache."""
    attempts: float = 0.0
    """Share of the calls that is sent three times more."""
    unpriced: float = 0.0
    """Share of the chat calls that goes to a model without a price."""
    prompt: float = 1.0
    """Times the input tokens."""


# --- the day ------------------------------------------------------------------------------------------
_OFFICE: Final = [0.01] * 5 + [0.02, 0.1, 0.4, 0.9, 1, 1, 1, 0.75, 0.9, 1, 1, 1, 0.8, 0.5, 0.2, 0.1, 0.05, 0.03, 0.02]


def _shares(weights: list[float]) -> list[float]:
    total = sum(weights)
    return [weight / total for weight in weights]


def _office(_chance: random.Random, _level: float) -> list[float]:
    return _shares([_OFFICE[quarter // 4] for quarter in range(96)])


def _nightly(chance: random.Random, level: float) -> list[float]:
    """From half past one on, ten minutes more or less; a larger batch takes longer."""
    begin = 6 + chance.gauss(0, 0.33)
    end = begin + 5 * max(level, 0.1)
    return _shares([max(0.0, min(quarter + 1, end) - max(quarter, begin)) for quarter in range(96)])


def _bursty(chance: random.Random, _level: float) -> list[float]:
    """A third around the clock, two thirds in some four bursts of a quarter of an hour to 75 minutes."""
    weights = [0.35 / 96 * (1 - 0.5 * math.cos(2 * math.pi * (quarter - 8) / 96)) for quarter in range(96)]
    bursts = [
        (chance.randrange(28, 90), chance.randint(1, 5), chance.expovariate(1)) for _ in range(_poisson(chance, 4))
    ]
    total = sum(size for _, _, size in bursts) or 1.0
    for begin, length, size in bursts:
        for quarter in range(begin, min(begin + length, 96)):
            weights[quarter] += 0.65 * size / total / length
    return weights


def _poisson(chance: random.Random, mean: float) -> int:
    count, at = 0, chance.expovariate(1)
    while at < mean:
        count, at = count + 1, at + chance.expovariate(1)
    return count


_OFFICE_PLAN: Final = {
    "weekdays": [1, 1, 1, 1, 1, 0.3, 0.3],
    "hours": [0.1] * 7 + [0.5] + [1.0] * 10 + [0.5, 0.3] + [0.1] * 4,
}
_NIGHT_PLAN: Final = {"hours": [0.05] + [1.0] * 5 + [0.05] * 18}

WORKLOADS: Final = {
    found.name: found
    for found in (
        Workload("office", "office hours, a quarter of it on weekends", 2600, _office, _OFFICE_PLAN, people=True),
        Workload(
            "nightly",
            "a batch at half past one, three times as long on the first of a month; else nothing",
            2600,
            _nightly,
            _NIGHT_PLAN,
            first_of_month=3.0,
        ),
        Workload(
            "bursty",
            "no two days alike, two thirds of each in bursts, one day in twenty several times as large",
            1500,
            _bursty,
        ),
        Workload("growing", "office hours, 3 % more every week", 1300, _office, _OFFICE_PLAN, people=True, growth=1.03),
    )
}


# --- the calls ----------------------------------------------------------------------------------------
OPENAI, SMALL, CLAUDE = "gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18", "claude-sonnet-4-5-20250929"
PROVIDERS: Final = {OPENAI: "openai", SMALL: "openai", CLAUDE: "anthropic"}
PRICES: Final = {
    OPENAI: (2_500_000, 1_250_000, 10_000_000),
    SMALL: (150_000, 75_000, 600_000),
    CLAUDE: (3_000_000, 300_000, 15_000_000),
}
"""Pico-USD of a token: input, input from the cache, output."""
NO_PRICE: Final = "acme-house-model-2"
TENANTS: Final = {"acme": 0.4, "globex": 0.22, "initech": 0.16, "hooli": 0.11, "umbrella": 0.07, "stark": 0.04}


class Feed:
    """The calls of a workload, in the order in which they end."""

    def __init__(self, workload: Workload, seed: int, change: Change | None = None) -> None:
        self._workload = workload
        self._change = change
        self._chance = random.Random(f"{workload.name}{seed}")
        self._levels = FAMILIES[workload.name](random.Random(seed), _DAYS)
        self._next = int(datetime.combine(FIRST, datetime.min.time(), UTC).timestamp())
        self._waiting: list[tuple[int, int, dict[str, Any]]] = []
        self._made = 0
        self._noise = 0.0
        self._day: date | None = None
        self._shape: list[float] = []
        self._level = 0.0
        self._tenants: list[float] = []
        self._last: dict[str, float] = {}
        self._hiccup = (0.0, 0.0)
        self._prompt = 1.0
        self.version = 1

    def until(self, at: int) -> list[dict[str, Any]]:
        """Those that have ended since the last time."""
        while self._next < at:
            self._quarter(self._next)
            self._next += QUARTER
        ended: list[dict[str, Any]] = []
        while self._waiting and self._waiting[0][0] <= at * _NS:
            ended.append(heapq.heappop(self._waiting)[2])
        return ended

    def _quarter(self, begin: int) -> None:
        local = datetime.fromtimestamp(begin, ZONE)
        if local.date() != self._day:
            self._begin_day(local.date(), begin)
        if local.weekday() == 1 and (local.hour, local.minute) == (10, 0):
            self.version += 1
            self._prompt = self._chance.uniform(0.92, 1.08)
        self._noise = 0.8 * self._noise + 0.6 * self._chance.gauss(0, 0.15)
        share = self._shape[local.hour * 4 + local.minute // 15]
        tasks = self._workload.tasks * self._level * share * math.exp(self._noise)
        for at in sorted(begin + self._chance.random() * QUARTER for _ in range(_poisson(self._chance, tasks))):
            self._task(at)
        if self._change and self._change.loop_calls and begin + QUARTER > self._change.at:
            self._loop(begin)

    def _begin_day(self, day: date, begin: int) -> None:
        chance = self._chance
        self._day = day
        self._level = max(self._levels[(day - FIRST).days], 0.0)
        if self._workload.people and day in HOLIDAYS and day.weekday() < 5:
            self._level *= 0.25
        self._shape = self._workload.shape(chance, self._level)
        self._tenants = [weight * chance.lognormvariate(0, 0.35) for weight in TENANTS.values()]
        if chance.random() < 1 / 3:
            # At an hour when there is something to be disturbed.
            (quarter,) = chance.choices(range(96), self._shape)
            hiccup = begin + (quarter + chance.random()) * QUARTER
            self._hiccup = hiccup, hiccup + chance.uniform(180, 480)

    def _task(self, at: float) -> None:
        chance = self._chance
        if self._change and self._change.silent and at >= self._change.at:
            return
        (tenant,) = chance.choices(list(TENANTS), self._tenants)
        if chance.random() < 0.75:
            self._call(at, "chat", tenant, "")
            return
        run = f"run-{self._made}"
        for _ in range(min(1 + int(chance.expovariate(1 / 3.5)), 20)):
            at += self._call(at, "agent", tenant, run) + chance.expovariate(1 / 12)

    def _loop(self, begin: int) -> None:
        change = self._change
        assert change is not None
        first = max(begin, change.at)
        count = round(change.loop_calls * (begin + QUARTER - first) / 3600)
        for number in range(count):
            self._call(first + number * 3600 / change.loop_calls, "agent", "globex", "run-loop")

    def _call(self, at: float, feature: str, tenant: str, run: str) -> float:
        """Make one; seconds that it takes."""
        chance, changed = self._chance, self._change if self._change and at >= self._change.at else None
        agent = feature == "agent"
        troubled = self._hiccup[0] <= at < self._hiccup[1]
        took = chance.lognormvariate(math.log(3), 0.7)
        attempts = 2 if chance.random() < (0.25 if troubled else 0.02) else 1
        if changed and chance.random() < changed.attempts:
            attempts += 3
            took += 20
        failed = chance.random() < (0.1 if troubled else 0.006)
        model = CLAUDE if agent else OPENAI if chance.random() < 0.8 else SMALL
        if changed and not agent and chance.random() < changed.unpriced:
            model = NO_PRICE
        start = int(at * _NS)
        values: dict[str, Any] = {
            "start": start,
            "end": start + int(took * _NS),
            "team": "search",
            "environment": "prod",
            "service": self._workload.name,
            "feature": feature,
            "tenant": tenant,
            "provider": PROVIDERS.get(model, "openai"),
            "model": model,
            "operation": "chat",
            "status": "error" if failed else "ok",
            "attempt_count": attempts,
            "version": changed.release if changed and changed.release else f"1.{self.version}",
        }
        if agent:
            values |= {"workflow": "triage", "run_id": run}
        if not failed:
            self._usage(values, at, agent, changed)
        self._made += 1
        heapq.heappush(self._waiting, (values["end"], self._made, values))
        return took

    def _usage(self, values: dict[str, Any], at: float, agent: bool, changed: Change | None) -> None:
        chance, feature = self._chance, values["feature"]
        tokens = chance.lognormvariate(math.log(24_000 if agent else 8_000), 0.5 if agent else 0.7) * self._prompt
        if changed:
            tokens *= changed.prompt
        warm = at - self._last.get(feature, -math.inf) < _CACHE_SECONDS
        self._last[feature] = at
        cached = int(tokens * (0.8 if agent else 0.5) * (changed.cached if changed else 1.0)) if warm else 0
        output = int(chance.lognormvariate(math.log(350), 0.7))
        values |= {"input_tokens": int(tokens), "cache_read_tokens": cached, "output_tokens": output}
        prices = PRICES.get(values["model"])
        if prices is None:
            values["cost_status"] = "unpriced"
            return
        cost = (int(tokens) - cached) * prices[0] + cached * prices[1] + output * prices[2]
        values |= {"cost_status": "exact", "list_cost": cost, "cost": cost}
