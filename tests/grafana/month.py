"""A month of the demo's customers, features and models, passed in a minute: a real exporter, and its Prometheus."""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exporter_kit import Event, Served, fetch, logs, usage_event

from examples.prometheus import Prometheus

DAY: Final = 86_400
STEP: Final = 1800
"""Seconds between two scrapes of the last eight days; before them it is twelve times as long."""
FINE_DAYS: Final = 8
DAYS: Final = 30

OPENAI = {"provider": "openai", "id_family": "openai.chat"}
CLAUDE = "claude-sonnet-4-5-20250929"
ANTHROPIC = {"provider": "anthropic", "id_family": "anthropic.messages"}


@dataclass(frozen=True)
class Work:
    """What one feature of a service does all month."""

    team: str
    service: str
    feature: str
    model: str
    peer: dict[str, str]
    calls: float
    """In an hour at noon."""
    tokens: tuple[int, int]
    seconds: float
    stream: bool = False
    cached: float = 0.0
    """Share of the input that the provider's cache serves."""
    night: bool = False
    """Runs from one to four instead of in office hours."""
    workflow: str = ""
    goal: str = ""
    """Name of the outcomes that it tells."""


WORK: Final = (
    Work("support", "assistant", "chat", "gpt-4.1-mini", OPENAI, 14, (3200, 260), 2.2, cached=0.6, goal="resolved"),
    Work("support", "assistant", "draft", "gpt-4.1", OPENAI, 5, (1800, 420), 6.5, stream=True, goal="sent"),
    Work("support", "assistant", "summary", CLAUDE, ANTHROPIC, 4, (5200, 380), 7.5, stream=True),
    Work("support", "assistant", "agent", CLAUDE, ANTHROPIC, 3, (14_000, 900), 14, workflow="triage"),
    Work("search", "search-api", "answer", "gpt-4.1-mini", OPENAI, 18, (2600, 180), 1.4, stream=True, goal="clicked"),
    Work("search", "search-api", "rerank", "gpt-4.1-nano", OPENAI, 22, (1500, 20), 0.5),
    Work("growth", "mailer", "campaign", "gpt-4.1", OPENAI, 5, (2400, 700), 8, night=True, workflow="newsletter"),
    Work("growth", "mailer", "preview", "acme-house-model-1", {"provider": "acme"}, 0.4, (900, 120), 1.1),
)
TENANTS: Final = (("acme", 0.46), ("globex", 0.31), ("initech", 0.14), ("hooli", 0.09))

CONFIG: Final[dict[str, Any]] = {
    "budgets": {
        "entries": [
                {"name": "support-month", "scope": {"team": "support"}, "amount": {"usd": 60}, "team": "support",
                 "owner": "ada@example.com", "channel": "#support-oncall",
                 "next_step": "Lower max_tokens of summaries; the agent can be switched off."},
                {"name": "search-month", "scope": {"team": "search"}, "amount": {"usd": 6.5}, "team": "search",
                 "owner": "grace@example.com", "channel": "#search", "next_step": "Ask for another amount."},
                {"name": "growth-month", "scope": {"team": "growth"}, "amount": {"usd": 2.4}, "team": "growth",
                 "owner": "linus@example.com", "channel": "#growth", "next_step": "Send fewer variants."},
                {"name": "agent-day", "scope": {"feature": "agent"}, "amount": {"usd": 2}, "period": "day",
                 "team": "support", "owner": "ada@example.com", "channel": "#support-oncall"},
                {"name": "chat-tokens-week", "scope": {"feature": "chat"}, "amount": {"tokens": 4_000_000},
                 "period": "week", "team": "support", "owner": "ada@example.com"},
        ],
        "contracts": [
            {"tenant": "acme", "team": "sales", "usd_per_hour": 1.2, "revenue_usd_30d": 240},
            {"tenant": "globex", "team": "sales", "usd_per_hour": 0.8, "revenue_usd_30d": 90},
            {"tenant": "initech", "team": "sales", "usd_per_hour": 0.4, "revenue_usd_30d": 10},
        ],
        "run_caps": [{"workflow": "triage", "team": "support", "usd": 0.8}],
    }
}  # fmt: skip


class World:
    """The calls of the month, the same ones each time."""

    def __init__(self, end: int) -> None:
        self._random = random.Random(7)
        self._end = end
        self._outcomes = 0

    def between(self, start: int, end: int) -> Iterator[tuple[str, list[Event]]]:
        """Service → its events of that time."""
        found: dict[str, list[Event]] = {}
        for work in WORK:
            middle = (start + end) / 2
            expected = work.calls * self._load(work, middle) * (end - start) / 3600
            for _ in range(self._poisson(expected)):
                at = self._random.uniform(start, end - 1)
                found.setdefault(work.service, []).extend(self._call(work, at))
        yield from found.items()

    def _load(self, work: Work, at: float) -> float:
        day, hour = int(at // DAY), at % DAY / 3600
        weekend = (day + 3) % 7 >= 5
        if work.night:
            return 1.0 if 1 <= hour < 4 and not weekend else 0.0
        office = 0.06 + math.exp(-(((hour - 13) / 4.2) ** 2))
        growth = 1 + 0.004 * (day - self._end // DAY)
        runaway = 4.5 if work.feature == "agent" and self._end - 2.2 * DAY < at < self._end - 2.1 * DAY else 1
        return office * (0.3 if weekend else 1) * growth * runaway

    def _poisson(self, mean: float) -> int:
        limit, count, product = math.exp(-mean), 0, self._random.random()
        while product > limit:
            count += 1
            product *= self._random.random()
        return count

    def _call(self, work: Work, at: float) -> Iterator[Event]:
        draw = self._random
        size = draw.lognormvariate(0, 0.5)
        read, written = int(work.tokens[0] * size), max(1, int(work.tokens[1] * draw.lognormvariate(0, 0.4)))
        cached = int(read * work.cached * draw.random() * 2) if work.cached else 0
        failed = draw.random() < 0.012
        seconds = work.seconds * draw.lognormvariate(0, 0.35)
        end = int(at * 1e9)
        more: dict[str, Any] = {"time_to_first_chunk": seconds * 0.12, "stream": True} if work.stream else {}
        if work.workflow:
            more |= {"workflow": work.workflow, "run_id": f"{work.workflow}-{int(at // 1200)}"}
        if failed:
            more |= {"status": "error", "error_type": "overloaded_error", "usage_source": "unknown"}
        tenant = draw.choices([name for name, _ in TENANTS], [weight for _, weight in TENANTS])[0]
        yield usage_event(
            start_ns=end - int(seconds * 1e9), end=end, team=work.team, feature=work.feature, tenant=tenant,
            model=work.model, request_model=work.model, attempt_count=2 if failed or draw.random() < 0.02 else 1,
            input_tokens=0 if failed else max(read - cached, 1), output_tokens=0 if failed else written,
            trace_id=draw.randbytes(16), span_id=draw.randbytes(8), **({"cache_read": cached} if cached else {}),
            **work.peer, **more,
        )  # fmt: skip
        if work.goal and draw.random() < 0.5:
            yield self._outcome(work, tenant, end)

    def _outcome(self, work: Work, tenant: str, end: int) -> Event:
        self._outcomes += 1
        told: dict[str, Any] = {
            "genai_meter.schema_version": "1",
            "genai_meter.team": work.team,
            "genai_meter.feature": work.feature,
            "genai_meter.tenant": tenant,
            "genai_meter.outcome.id": f"{work.feature}-{self._outcomes}",
            "genai_meter.outcome.name": work.goal,
            "genai_meter.outcome.success": self._random.random() < 0.8,
            "genai_meter.outcome.value": 150_000_000_000,
        }
        return Event(told, name="genai_meter.outcome", time_ns=end)


def instants(end: int) -> Sequence[int]:
    """When Prometheus would have looked."""
    fine = range(end - FINE_DAYS * DAY, end + 1, STEP)
    return [*range(end - DAYS * DAY, fine[0], 12 * STEP), *fine]


class Pages:
    """What the exporter showed at each instant, as OpenMetrics by families."""

    def __init__(self, instance: str) -> None:
        self._target = f'instance="{instance}",job="genai-meter"'
        self._families: dict[str, list[str]] = {}

    def keep(self, page: str, at: int) -> None:
        """One scrape."""
        for line in page.splitlines():
            if line.startswith("#") or "_created" in line:
                continue
            name, labels, value = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line).groups()  # type: ignore[union-attr]
            told = f"{labels},{self._target}" if labels else self._target
            self._families.setdefault(name, []).append(f"{name}{{{told}}} {value} {at}")

    def add(self, name: str, labels: dict[str, str], points: Sequence[tuple[float, str]]) -> None:
        """A series that rules would have recorded."""
        told = ",".join(f'{key}="{value}"' for key, value in labels.items() if key != "__name__")
        self._families.setdefault(name, []).extend(f"{name}{{{told}}} {value} {at:.0f}" for at, value in points)

    def text(self) -> str:
        """All of it."""
        lines: list[str] = []
        for name, found in self._families.items():
            lines += [f"# TYPE {name} gauge", *found]
        return "\n".join([*lines, "# EOF"]) + "\n"


_SERVICE = "sum by (team, environment, service) (increase(genai_meter_cost_usd_total[90m])) / 1.5"
_BUDGET = "max by (budget, team, owner, window)"
RECORDED: Final = {
    "service:genai_meter_cost_usd:increase1h": _SERVICE,
    "service:genai_meter_cost_usd_increase1h:median7d": f"quantile_over_time(0.5, ({_SERVICE})[7d:30m])",
    "tenant:genai_meter_cost_usd:increase1h": (
        "sum by (tenant) (increase(genai_meter_tenant_cost_usd_total[90m])) / 1.5"
    ),
    **{
        f"budget:genai_meter_burn_rate:ratio{window}": (
            f"{_BUDGET} (rate(genai_meter_budget_spend_usd_total[{read}]))"
            f" / ({_BUDGET} (avg_over_time(genai_meter_budget_planned_usd_per_second[{read}])) > 0)"
        )
        for window, read in (("1h", "90m"), ("6h", "6h"))
    },
}
"""What the shipped rules record; windows of an hour are wider, as here are two samples in an hour."""


@contextmanager
def month(directory: Path) -> Generator[tuple[Prometheus, int]]:
    """A Prometheus that remembers the month, and its last instant."""
    end = int(time.time()) // STEP * STEP
    pages = _live_through(directory, end)
    with Prometheus(directory / "first", {}, None, pages.text()) as first:
        for name, expression in RECORDED.items():
            found = first.ask("query_range", query=expression, start=str(end - 8 * DAY), end=str(end), step=str(STEP))
            for series in found["result"]:
                pages.add(name, series["metric"], [(at, value) for at, value in series["values"]])
    with Prometheus(directory / "second", {}, None, pages.text()) as second:
        yield second, end


def _live_through(directory: Path, end: int) -> Pages:
    clock = directory / "clock"
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("first", "second"):
        (directory / name).mkdir()
    at, *later = instants(end)
    _set(clock, at)
    env = {"CLOCK_FILE": str(clock), "PYTHONPATH": str(Path(__file__).parent / "clock")}
    world = World(end)
    config = {**CONFIG, "metrics": {"scrape_interval_seconds": 0.000001}}
    with Served(directory / "data", config, env) as served:
        pages = Pages("exporter:4329")
        for now in (at, *later):
            _set(clock, now)
            for service, events in world.between(at, now) if now > at else ():
                resource = {"service.name": service, "deployment.environment.name": "prod", "service.version": "1.4.2"}
                answer = served.post("logs", logs(events, resource).SerializeToString())
                assert answer.status == 200, answer
            at = now
            pages.keep(fetch(served.metrics_url).body.decode(), now)
    return pages


def _set(clock: Path, at: int) -> None:
    """Whoever reads the file meanwhile finds the one time or the other."""
    new = clock.with_suffix(".new")
    new.write_text(str(at * 10**9), encoding="ascii")
    new.replace(clock)
