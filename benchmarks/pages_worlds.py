"""Worlds to simulate: a workload with the budgets that its owner would give it, without an incident and with one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from genai_meter_exporter.budgets.model import PICO, Budgets
from genai_meter_exporter.cells import DIMENSIONS, GRAIN_SECONDS, MEASURES, Measures

from benchmarks.forecasts import FIRST
from benchmarks.pages_exporter import DAY, Calls, Exporter, write
from benchmarks.pages_rules import Episode, Replay, read_by, shipped
from benchmarks.pages_workloads import WORKLOADS, Change, Feed, Workload

SCRAPE_SECONDS: Final = 150
BEGIN: Final = int(datetime(2026, 3, 23, tzinfo=UTC).timestamp())
"""Of the ninety days: a Monday, three weeks into the ledger."""
_BEGIN_INCIDENT: Final = int(datetime(2026, 4, 13, tzinfo=UTC).timestamp())
INCIDENT: Final = int(datetime(2026, 4, 22, 8, 20, tzinfo=UTC).timestamp())
"""A Wednesday, 10:20 in Berlin; Prometheus is nine days old."""
INCIDENT_HOURS: Final = 26
_TENANT: Final = DIMENSIONS.index("tenant")
_COST, _INPUT, _OUTPUT = (MEASURES.index(name) for name in ("cost", "input_tokens", "output_tokens"))

AMOUNTS: Final = """\
Amounts are what an owner would choose who looks at the ledger on the first day: a month 30 % above the spend so far, a
day half above the dearest day, a week's tokens half above the mean week, a tenant's hour twice its dearest hour, its
revenue 30 % above its cost, a run twice the dearest run. The growing workload is planned for its growth over the ninety
days; the owner of the nightly one knows its hours (`plan`) and the firsts of the months (`events`, and amounts that
have room for them). Office hours have a plan for the month only, the bursty workload has none.
"""


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that goes wrong, and who should tell."""

    name: str
    about: str
    change: Change
    wanted: tuple[str, ...]
    """Alerts that should fire."""


INCIDENTS: Final = (
    Incident(
        "runaway loop",
        "one run of an agent, of a small tenant, makes 19 times the calls' usual spend in addition",
        Change(INCIDENT, loop_calls=8_000),
        (
            "GenAIMeterWorkflowRunCostHigh",
            "GenAIMeterHourlySpendSpike",
            "GenAIMeterSpendAnomaly",
            "GenAIMeterBudgetBurnRate",
            "GenAIMeterBudgetExceeded",
            "GenAIMeterTenantAboveLastWeek",
            "GenAIMeterWorkflowAboveLastWeek",
        ),
    ),
    Incident(
        "cache broken by a release",
        "nine of ten cached tokens are paid in full",
        Change(INCIDENT, release="2.0", cached=0.1),
        ("GenAIMeterCacheHitRatioDrop",),
    ),
    Incident(
        "retry storm",
        "three of five calls are sent three times more",
        Change(INCIDENT, attempts=0.6),
        ("GenAIMeterRetryStorm", "GenAIMeterRetriesUp"),
    ),
    Incident(
        "new model without a price",
        "three of ten chat calls go to it",
        Change(INCIDENT, release="2.0", unpriced=0.3),
        ("GenAIMeterUnpricedModel", "GenAIMeterNewModel"),
    ),
    Incident(
        "telemetry lost",
        "the only service sends nothing any more",
        Change(INCIDENT, silent=True),
        ("GenAIMeterTelemetryAbsent", "GenAIMeterServiceTelemetryLost"),
    ),
    Incident(
        "prompts doubled by a release",
        "twice the input tokens: no spike, a slow leak",
        Change(INCIDENT, release="2.0", prompt=2.0),
        ("GenAIMeterPromptGrowth", "GenAIMeterBudgetBurnRate", "GenAIMeterBudgetForecastExceeded"),
    ),
)


@dataclass(frozen=True, slots=True)
class World:
    """One exporter with one application."""

    name: str
    workload: Workload
    begin: int
    """Of the scrapes, Unix seconds."""
    end: int
    change: Change | None = None


def ordinary(name: str, days: float) -> World:
    """A workload without an incident."""
    return World(name, WORKLOADS[name], BEGIN, BEGIN + round(days * DAY))


def with_incident(incident: Incident) -> World:
    """Office hours, and one."""
    name = f"incident-{incident.name.replace(' ', '-')}"
    return World(name, WORKLOADS["office"], _BEGIN_INCIDENT, INCIDENT + INCIDENT_HOURS * 3600, incident.change)


def episodes(world: World, directory: Path, seed: int = 1) -> list[Episode]:
    """What would have fired. Scrapes that are in the directory already are taken as they are."""
    place = directory / world.name
    place.mkdir(parents=True, exist_ok=True)
    scrapes = place / "scrapes.om"
    rules = shipped()
    if not scrapes.exists():
        unfinished = scrapes.with_suffix(".part")
        simulate(world, read_by(rules), unfinished, seed)
        unfinished.rename(scrapes)
    return Replay(place, world.begin, world.end, SCRAPE_SECONDS).episodes(rules, scrapes)


def simulate(world: World, read: set[str], file: Path, seed: int) -> None:
    """The past without scrapes, then scrape by scrape."""
    feed, exporter = Feed(world.workload, seed, world.change), Exporter(read)
    runs: dict[str, int] = {}
    first = int(datetime.combine(FIRST, datetime.min.time(), UTC).timestamp())
    # The last half hour is for the first scrapes, which nobody keeps.
    for at in range(first + GRAIN_SECONDS, world.begin - 2 * GRAIN_SECONDS + 1, GRAIN_SECONDS):
        calls = feed.until(at)
        exporter.commit(calls, at)
        for values in calls:
            if run := values.get("run_id"):
                runs[run] = runs.get(run, 0) + values.get("cost", 0)
    exporter.begin(budgets(world, exporter, max(runs.values())))
    write(exporter, _steps(feed, world), file, set(_restarts(world)))


def _steps(feed: Feed, world: World) -> Iterator[tuple[int, Calls]]:
    for at in range(world.begin, world.end + 1, SCRAPE_SECONDS):
        yield at, feed.until(at)


def _restarts(world: World) -> Iterator[int]:
    """The exporter is restarted every Thursday at noon."""
    for before, at in pairwise(range(world.begin, world.end + 1, SCRAPE_SECONDS)):
        noon = datetime.fromtimestamp(at, UTC).replace(hour=12, minute=0, second=0)
        if noon.weekday() == 3 and before < noon.timestamp() <= at:
            yield at


# --- budgets ------------------------------------------------------------------------------------------
def budgets(world: World, exporter: Exporter, dearest_run: int) -> Budgets:
    """What the owner of the workload would choose, by the ledger so far."""
    workload = world.workload
    days = [_total(group.values()) for _, group in exporter.rollups.days()]
    acme = [
        sum(what[_COST] for dimensions, what in hour.items() if dimensions[_TENANT] == "acme")
        for hour in exporter.rollups.hours()
    ]
    grown = workload.growth ** ((world.end - world.begin) / DAY / 7 + len(days) / 14)
    tokens = sum(day[_INPUT] + day[_OUTPUT] for day in days)
    spent = sum(day[_COST] for day in days)
    peak = workload.first_of_month
    common = {
        "scope": {"team": "search"},
        "team": "search",
        "owner": "ada@example.com",
        # People's days and weeks have none: the harder case.
        "plan": {} if workload.people else workload.plan,
        "events": [{"first": f"2026-{month:02}-01", "multiplier": peak} for month in range(3, 8)] if peak != 1 else [],
    }
    return Budgets.model_validate(
        {
            "timezone": "Europe/Berlin",
            "entries": [
                {
                    **common,
                    "name": "search-month",
                    "amount": _usd(1.3 * grown * spent / len(days) * (29.44 + peak)),
                    "plan": workload.plan,
                },
                {
                    **common,
                    "name": "search-day",
                    "amount": _usd(1.5 * grown * peak * max(day[_COST] for day in days)),
                    "period": "day",
                },
                {
                    **common,
                    "name": "search-week-tokens",
                    "amount": {"tokens": round(1.5 * grown * tokens / len(days) * (6 + peak))},
                    "period": "week",
                },
            ],
            "contracts": [
                {
                    "tenant": "acme",
                    "team": "sales",
                    "usd_per_hour": _usd(2 * grown * max(acme))["usd"],
                    "revenue_usd_30d": _usd(1.3 * grown * sum(acme) / len(days) * 30)["usd"],
                }
            ],
            "run_caps": [{"workflow": "triage", "team": "search", "usd": _usd(2 * dearest_run)["usd"]}],
        }
    )


def _usd(pico: float) -> Mapping[str, Any]:
    return {"usd": f"{pico / PICO:.2f}"}


def _total(found: Any) -> Measures:
    return tuple(map(sum, zip(*found, strict=True)))
