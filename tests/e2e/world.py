"""The services of the drill: what they did for 35 days, hour by hour, and what each does now to be noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from exporter_kit import Event, usage_event
from genai_meter_exporter.cells import GRAIN_SECONDS

DAYS: Final = 35
SCRAPE_S: Final = 2.0
TOKENS_A_USD: Final = 400_000
"""Input tokens of gpt-4o."""


@dataclass(frozen=True)
class Service:
    """What one service did in each hour of the past."""

    name: str
    team: str
    feature: str
    usd: float
    """An hour."""
    tenant: str | None = None
    cached_tokens: int = 0
    """Input tokens of each call that came from the provider's cache."""
    usd_lately: float | None = None
    """In the last 26 hours, when that was another amount."""
    busy_yesterday: bool = False
    """A hundred calls an hour, around this time of yesterday and of a week ago."""
    workflow: str | None = None
    small_every: int = 0
    """Each so many-th call takes the small model; 1: every call; 0: none."""
    version_lately: str = "7"
    """The release of the last 26 hours; before, it was 7."""


PAST: Final = (
    Service("assistant", "support", "chat", 3.0),
    Service("writer", "docs", "draft", 6.0),
    Service("reader", "search", "retrieve", 1.0, cached_tokens=1_600_000, small_every=1),
    Service("worker", "ops", "index", 0.5, busy_yesterday=True),
    Service("drifter", "drift", "suggest", 5.0, usd_lately=10.0),
    Service("grower", "grow", "complete", 5.0),
    Service("capped", "soft", "translate", 2.0),
    Service("reporter", "over", "report", 2.0),
    Service("classifier", "early", "classify", 1.0),
    Service("seller", "sales", "assist", 0.25, tenant="globex"),
    Service("portal", "sales", "portal", 0.1, tenant="acme"),
    Service("burner", "burn", "summarise", 1.0),
    Service("indexer", "index", "embed", 0.1, workflow="reindex"),
    Service("upgrader", "edge", "answer", 0.01),
    Service("router", "edge", "answer", 0.01, small_every=5),
    Service("prompter", "edge", "explain", 0.1, usd_lately=0.3, version_lately="8"),
    Service("jitter", "edge", "answer", 0.01),
    Service("quiet", "calm", "chat", 2.0, tenant="initech"),
)


SMALL: Final[Mapping[str, Any]] = {"model": "gpt-4o-mini-2024-07-18", "request_model": "gpt-4o-mini"}
CLAUDE: Final[Mapping[str, Any]] = {
    "provider": "anthropic",
    "model": "claude-sonnet-5",
    "request_model": "claude-sonnet-5",
}
NO_PRICE: Final = "acme-house-model-2"
LATELY: Final = 26
"""Hours."""


def resource(service: str, version: str = "7") -> dict[str, str]:
    """What a service's telemetry says of it."""
    return {"service.name": service, "deployment.environment.name": "prod", "service.version": version}


def past(service: Service, end: int) -> Iterator[tuple[str, Event]]:
    """Its calls with the release that made them, oldest first; the last one ten minutes before `end`."""
    for ago in range(DAYS * 24 - 1, -1, -1):
        lately = ago < LATELY
        usd = service.usd_lately if service.usd_lately is not None and lately else service.usd
        calls = 100 if service.busy_yesterday and min(abs(ago - 24), abs(ago - 168)) <= 4 else 1
        small = SMALL if service.small_every and ago % service.small_every == 0 else {}
        for _ in range(calls):
            yield (
                service.version_lately if lately else "7",
                call(
                    service.team,
                    service.feature,
                    usd / calls,
                    at=end - ago * 3600 - 600,
                    tenant=service.tenant,
                    workflow=service.workflow,
                    cache_read=service.cached_tokens,
                    **small,
                ),
            )


def call(team: str, feature: str, usd: float, *, at: float, seconds: float = 2.0, **more: Any) -> Event:
    """One call of so many USD of uncached input."""
    start = int(at * 1e9)
    told = {name: value for name, value in more.items() if value}
    tokens = round(usd * TOKENS_A_USD)
    event = usage_event(start_ns=start, input_tokens=tokens, output_tokens=0, team=team, feature=feature, **told)
    event.attributes["genai_meter.end"] = start + int(seconds * 1e9)
    return event


# --- the configuration --------------------------------------------------------------------------------------
def config(now: float, *, used_early: float) -> dict[str, Any]:
    """The exporter's; `used_early`: share of the month's budget of team early that counts as early."""
    today = datetime.fromtimestamp(now, UTC).date()
    around = f"{today - timedelta(days=14)}/{today + timedelta(days=14)}"
    day_that_goes_on = _local(now, ZONES[zone(now)]).date()
    until_today = f"{day_that_goes_on - timedelta(days=28)}/{day_that_goes_on}"
    return {
        "metrics": {"scrape_interval_seconds": SCRAPE_S},
        "alerts": {"price_book_age_days": 0.5, "consumed_early_day": 31, "consumed_early_ratio": used_early},
        "anomalies": {"interval_seconds": 3.0, "spend_floor_usd": 3, "min_calls": 20},
        "budgets": {
            "entries": [
                budget("burn", 10_000, around),
                budget("drift", 4_000, around),
                budget("grow", 3_000, around),
                budget("over", 1_450, around),
                budget("calm", 9_000, around),
                {**budget("soft", 1_406, until_today), "timezone": zone(now)},
                {**budget("early", EARLY_USD, "month"), "timezone": zone(now)},
            ],
            "contracts": [
                {"tenant": "acme", "team": "sales", "usd_per_hour": "2.50", "revenue_usd_30d": 900},
                {"tenant": "globex", "team": "sales", "revenue_usd_30d": 100},
                {"tenant": "initech", "team": "sales", "usd_per_hour": 5, "revenue_usd_30d": 9_000},
            ],
            "run_caps": [{"workflow": "triage", "team": "flow", "usd": "0.80"}],
        },
    }


EARLY_USD: Final = 1_500


def budget(team: str, usd: int, period: str) -> dict[str, Any]:
    """One of a team."""
    return {
        "name": f"{team}-budget",
        "scope": {"team": team},
        "amount": {"usd": usd},
        "period": period,
        "team": team,
        "owner": f"{team}@example.com",
    }


def budget_labels(now: float) -> dict[str, dict[str, str]]:
    """Team → labels of its budget's metrics."""
    return {
        entry["team"]: {
            "budget": entry["name"],
            "team": entry["team"],
            "owner": entry["owner"],
            "window": "month" if entry["period"] == "month" else "dates",
        }
        for entry in config(now, used_early=0.5)["budgets"]["entries"]
    }


def zone(now: float) -> str:
    """Where the day goes on for two hours at least, so that no period ends under the drill, and is not the 31st."""
    return next(name for name, hours in ZONES.items() if (at := _local(now, hours)).day < 31 and at.hour < 22)


ZONES: Final = {"UTC": 0, "Etc/GMT+12": -12, "Etc/GMT-14": 14}
"""Hours east of UTC. One of them will do at any time: only days before the 31st can be early."""


def _local(now: float, hours: int) -> datetime:
    return datetime.fromtimestamp(now, UTC) + timedelta(hours=hours)


def early_share(now: float) -> float:
    """Half of what team early will have used of its month."""
    local = _local(now, ZONES[zone(now)])
    begin = datetime.combine(date(local.year, local.month, 1), datetime.min.time(), UTC)
    hours = (local - begin).total_seconds() // 3600
    return (hours + 5) / EARLY_USD / 2


# --- what they do now ---------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Provoked:
    """One alert that must come, and how it is brought about."""

    alert: str
    about: str
    """Budget, tenant, workflow, model, provider or service."""
    how: str
    service: str = ""
    """Whose traffic it is; empty: time does it."""
    events: Callable[[float], list[Event]] = field(default=lambda _: [])
    severity: str = ""
    """Where one name has two."""


def _calls(count: int, team: str, feature: str, usd: float, **more: Any) -> Callable[[float], list[Event]]:
    return lambda now: [call(team, feature, usd, at=now - 5, **more) for _ in range(count)]


def _late(count: int, team: str, feature: str, usd: float, **more: Any) -> Callable[[float], list[Event]]:
    """Calls of the quarter of an hour that is over: the one that has begun is not searched for anomalies."""
    return lambda now: [call(team, feature, usd, at=last_quarter(now) - 300, **more) for _ in range(count)]


def _failed(count: int, of: int, team: str, **more: Any) -> Callable[[float], list[Event]]:
    def events(now: float) -> list[Event]:
        made = [call(team, "answer", 0.0001, at=now - 5, **more) for _ in range(of)]
        for event in made[:count]:
            event.attributes["genai_meter.status"] = "error"
        return made

    return events


PROVOKED: Final = (
    Provoked("GenAIMeterBudgetBurnRate", "burn-budget", "$300 in one go, planned: $14.40 an hour", "launch",
             _calls(1, "burn", "summarise", 300), "critical"),
    Provoked("GenAIMeterBudgetBurnRate", "drift-budget", "26 hours at twice the spend", severity="warning"),
    Provoked("GenAIMeterBudgetConsumedEarly", "early-budget", "the month so far, and $5", "sorter",
             _calls(1, "early", "classify", 5)),
    Provoked("GenAIMeterBudgetForecastExceeded", "grow-budget", "35 days at $5 an hour, half of the period to come"),
    Provoked("GenAIMeterBudgetSoftCap", "soft-budget", "the last day of a period that ends just below its amount"),
    Provoked("GenAIMeterBudgetExceeded", "over-budget", "$800, of $1,450 with half of it spent", "export",
             _calls(1, "over", "report", 800)),
    Provoked("GenAIMeterHourlySpendSpike", "assistant", "$60 in an hour, usually $3", "assistant",
             _calls(30, "support", "agent", 2)),
    Provoked("GenAIMeterSpendAnomaly", "writer", "$20 in an hour, usually $6", "writer", _calls(7, "docs", "draft", 2)),
    Provoked("GenAIMeterWorkflowRunCostHigh", "triage", "a run of $1.20, cap $0.80", "flows",
             _calls(3, "flow", "triage", 0.4, workflow="triage", run_id="run-1")),
    Provoked("GenAIMeterTenantOverContract", "acme", "$6 in an hour, contract $2.50", "portal-beta",
             _late(6, "sales", "beta", 1, tenant="acme")),
    Provoked("GenAIMeterTenantAboveLastWeek", "globex", "$24 more in a day, usually $6", "seller-beta",
             _late(12, "sales", "beta", 2, tenant="globex")),
    Provoked("GenAIMeterWorkflowAboveLastWeek", "reindex", "$9 more in a day, usually $2.40", "indexer-beta",
             _late(9, "index", "rerank", 1, workflow="reindex")),
    Provoked("GenAIMeterNewModel", "upgrader", "30 calls of another model than in all 35 days", "upgrader",
             _late(30, "edge", "answer", 0.0001, **SMALL)),
    Provoked("GenAIMeterModelMixShift", "router", "40 calls of the model that had one call in five", "router",
             _late(40, "edge", "answer", 0.0001, **SMALL)),
    Provoked("GenAIMeterPromptGrowth", "prompter", "a release 26 hours ago that triples the prompt"),
    Provoked("GenAIMeterRetriesUp", "jitter", "20 calls of two attempts each, never any before", "jitter",
             _late(20, "edge", "answer", 0.0001, attempt_count=2)),
    Provoked("GenAIMeterCacheHitRatioDrop", "reader", "4 million uncached tokens, usually 80 % cached", "reader",
             _late(10, "search", "retrieve", 1, **SMALL)),
    Provoked("GenAIMeterRetryStorm", "retrier", "60 calls of four attempts each", "retrier",
             _calls(60, "jobs", "sync", 0.0001, attempt_count=4)),
    Provoked("GenAIMeterTenantMarginNegative", "globex", "30 days: over $180 of cost, $100 of revenue"),
    Provoked("GenAIMeterUnpricedModel", NO_PRICE, "three calls of a model that is in no book", "labs",
             _calls(3, "labs", "try", 0.0001, model=NO_PRICE, request_model=NO_PRICE)),
    Provoked("GenAIMeterPriceBookStale", "", "the threshold is half a day"),
    Provoked("GenAIMeterServiceTelemetryLost", "worker", "100 calls an hour yesterday and a week ago, none today"),
    Provoked("GenAIMeterProviderOutage", "anthropic", "40 calls, all failed", "agents",
             _failed(40, 40, "agents", **CLAUDE)),
    Provoked("GenAIMeterEndpointErrorRateHigh", "flaky", "10 of 30 calls failed", "flaky", _failed(10, 30, "edge")),
    Provoked("GenAIMeterEndpointLatencyHigh", "slow", "twelve calls of a minute each", "slow",
             _late(12, "slow", "think", 0.0001, seconds=60)),
    Provoked("GenAIMeterEventsRejected", "", "one call of ten trillion tokens among the others", "broken",
             _calls(1, "edge", "answer", 25_000_000)),
    Provoked("GenAIMeterClockSkew", "ahead", "ten calls of an hour from now", "ahead",
             lambda now: [call("edge", "answer", 0.0001, at=now + 3600) for _ in range(10)]),
)  # fmt: skip

LOST: Final = Provoked("GenAIMeterTelemetryAbsent", "", "the exporter is stopped")

HELD_BACK: Final = {
    ("GenAIMeterBudgetBurnRate", "over-budget"): "GenAIMeterBudgetExceeded",
    ("GenAIMeterBudgetForecastExceeded", "over-budget"): "GenAIMeterBudgetExceeded",
    ("GenAIMeterSpendAnomaly", "assistant"): "GenAIMeterHourlySpendSpike",
    ("GenAIMeterEndpointErrorRateHigh", "agents"): "GenAIMeterProviderOutage",
    ("GenAIMeterTenantAboveLastWeek", "acme"): "GenAIMeterTenantOverContract",
}
"""Alerts that fire and reach nobody, and what holds them back."""


QUIET: Final = {"quiet", "initech", "calm-budget"}
"""A service, its tenant with a contract and a budget, as busy as ever: nobody hears of them."""


def releases(now: float) -> Iterator[dict[str, Any]]:
    """What the exporter has kept of releases in 35 days."""
    for service in PAST:
        labels = {"team": service.team, "environment": "prod", "service": service.name}
        known = {"7": DAYS * 24} | ({service.version_lately: LATELY} if service.version_lately != "7" else {})
        for version, hours in known.items():
            since = last_quarter(now) - hours * 3600
            told = {"release": version, "since": since, "first": version == "7"}
            yield {"at": since, "kind": "release", "labels": labels, **told}


def last_quarter(now: float) -> int:
    """Where the past ends."""
    return int(now) // GRAIN_SECONDS * GRAIN_SECONDS
