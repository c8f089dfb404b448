"""Known traffic in a live exporter that a live Prometheus scrapes, and the queries of the dashboards to ask it."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from exporter_kit import PRICED, RESOURCE, Event, Served, SpanOf, logs, traces, usage_event

from examples.children import wait_for
from examples.prometheus import Prometheus

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "dashboards").glob("*.json"))
PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}

RANGE_S, RATE_S = 600, 300
BUILTIN = {"__range": f"{RANGE_S}s", "__rate_interval": f"{RATE_S}s", "__interval": "60s"}

OPENAI, ANTHROPIC, UNPRICED = PRICED, "claude-sonnet-4-5-20250929", "house-model-1"
WEEK_BEFORE_USD, LAST_WEEK_USD = 1, 2
"""What one series had come to a fortnight and a week ago, as Prometheus remembers it."""

TOLD_TOKENS, TRUE_TOKENS = 50_000, 10_000
CREDIT_USD = 0.1
"""A call was charged by a span that told more input tokens than it had; at 2.50 USD a million."""


# --- the dashboards -----------------------------------------------------------------------------------
def load(file: Path) -> dict[str, Any]:
    """A dashboard's JSON."""
    return json.loads(file.read_text(encoding="utf-8"))


def panels(page: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel that is no row, those in collapsed rows too."""
    for panel in page["panels"]:
        if panel["type"] != "row":
            yield panel
        yield from panel.get("panels", ())


def interpolate(expression: str, chosen: Mapping[str, str] | None = None) -> str:
    """The query as Grafana sends it; what is not chosen is All."""
    known = {**BUILTIN, **(chosen or {})}
    return re.sub(r"\$(\w+)", lambda match: known.get(match[1], ".*"), expression)


@dataclass(frozen=True)
class Asked:
    """One query of one panel."""

    dashboard: str
    """Name of the file, without its ending."""
    panel: Mapping[str, Any]
    target: Mapping[str, Any]

    @property
    def title(self) -> str:
        """Of the panel."""
        return self.panel["title"]

    @property
    def key(self) -> tuple[str, str, str]:
        """Dashboard, panel, query."""
        return self.dashboard, self.title, self.target["refId"]

    @property
    def unit(self) -> str:
        """Of the figures of this query."""
        unit: str = self.panel["fieldConfig"]["defaults"]["unit"]
        if self.panel["type"] != "table":
            return unit
        renamed = next(t for t in self.panel["transformations"] if t["id"] == "organize")["options"]["renameByName"]
        name = renamed.get(f"Value #{self.target['refId']}", renamed.get("Value"))
        if name is None:
            return "short"
        for override in self.panel["fieldConfig"]["overrides"]:
            if override["matcher"]["options"] == name:
                unit = next((p["value"] for p in override["properties"] if p["id"] == "unit"), unit)
        return unit


def queries(*plugins: str) -> list[Asked]:
    """Every query of every dashboard that asks one of these kinds of data source."""
    return [
        Asked(file.stem, panel, target)
        for file in FILES
        for panel in panels(load(file))
        for target in panel.get("targets", ())
        if target["datasource"]["type"] in plugins
    ]


# --- the traffic --------------------------------------------------------------------------------------
def _afternoon() -> str:
    """A time zone where it is between three and four: too early in a day or a month, nothing is forecast."""
    ahead = 15 - datetime.now(UTC).hour
    return f"Etc/GMT{-ahead if ahead < 15 else 9:+d}"


ZONE = _afternoon()
"""Of the budgets."""


def config() -> dict[str, Any]:
    """Budgets in every unit and state, contracts with and without margin, a cap, and a label that overflows."""
    return {
        "labels": {"limits": {"tenant": 3}},
        "anomalies": {"interval_seconds": 1},
        "budgets": {
            "timezone": ZONE,
            "entries": [
                {
                    "name": "search-month",
                    "scope": {"team": "search"},
                    "amount": {"usd": 1_000_000},
                    "team": "search",
                    "owner": "ada@example.com",
                    "channel": "#search",
                    "next_step": "Ask Ada.",
                    "runbook": "https://runbooks.example.com/search",
                },
                {"name": "all-day", "amount": {"usd": 1}, "period": "day", "owner": "cfo@example.com"},
                {
                    "name": "support-tokens",
                    "scope": {"team": "support"},
                    "amount": {"tokens": 100_000},
                    "period": "day",
                },
                {"name": "calls", "amount": {"calls": 1000}, "period": "rolling 24h"},
            ],
            "contracts": [
                {"tenant": "acme", "team": "sales", "usd_per_hour": 1.5, "revenue_usd_30d": 900},
                {"tenant": "globex", "team": "sales", "usd_per_hour": 50, "revenue_usd_30d": 0.5},
            ],
            "run_caps": [{"workflow": "triage", "team": "support", "usd": 0.8}],
        },
    }


@dataclass
class Traffic:
    """Requests to the exporter, in the order in which they are sent."""

    now_ns: int
    requests: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])
    _calls: int = 0

    def send(self, *events: Event, **resource: str) -> None:
        """Log records of one process."""
        attributes = {**RESOURCE, **{name.replace("_", "."): value for name, value in resource.items()}}
        self.requests.append(("logs", logs(events, attributes).SerializeToString()))

    def call(self, team: str, feature: str, tenant: str, seconds: float = 2.0, **more: Any) -> Event:
        """One call that ended some seconds ago, with a trace."""
        self._calls += 1
        end = self.now_ns - self._calls * 100_000_000
        start = end - int(seconds * 1e9)
        trace = self._calls.to_bytes(16, "big")
        event = usage_event(start_ns=start, end=end, team=team, feature=feature, tenant=tenant, **more)
        event.time_ns, event.trace_id, event.span_id = end, trace, trace[8:]
        return event


def first_part(now_ns: int) -> Traffic:
    """Two services, two teams, three providers, five tenants; retries, errors, streams, a cache, runs, outcomes."""
    made = Traffic(now_ns)
    call = made.call
    anthropic = {
        "provider": "anthropic",
        "request_model": ANTHROPIC,
        "model": ANTHROPIC,
        "id_family": "anthropic.messages",
    }
    made.send(
        call("search", "chat", "acme", input_tokens=400_000, output_tokens=100_000),
        call("search", "chat", "acme", 12, input_tokens=1000, output_tokens=500, attempt_count=3),
        call("search", "chat", "globex", 0.5, input_tokens=200_000, output_tokens=10_000, cache_read=100_000),
        call("search", "draft", "initech", 1, time_to_first_chunk=0.7, stream=True, input_tokens=3000),
        call("search", "draft", "hooli", 1, time_to_first_chunk=0.2, stream=True, input_tokens=3000),
        call("search", "draft", "umbrella", status="error", input_tokens=0, output_tokens=0, usage_source="unknown"),
        call("", "", "acme", 1, input_tokens=8000),
        call("", "", "acme", 1, input_tokens=20_000, model=UNPRICED, request_model=UNPRICED, provider="acme-house"),
    )
    helped = {"workflow": "triage", "run_id": "run-1", **anthropic}
    made.send(
        call("support", "bot", "globex", 7, input_tokens=200_000, output_tokens=40_000, **helped),
        call("support", "bot", "globex", 3, input_tokens=90_000, output_tokens=9_000, attempt_count=2, **helped),
        _outcome("T-1", success=True, value=2_500_000_000_000),
        _outcome("T-2", success=True),
        _outcome("T-3", success=False),
        _cached(call("support", "bot", "globex", 1, cost_avoided=250_000_000_000, **anthropic)),
        service_name="help",
    )
    _correct(made)
    made.requests.append(("logs", logs([_unreadable()]).SerializeToString()))
    made.requests.append(("traces", traces([SpanOf({}, name="GET /", span_id=b"\x07" * 8)]).SerializeToString()))
    return made


def _outcome(name: str, *, success: bool, value: int | None = None) -> Event:
    told = {"id": name, "name": "ticket_resolved", "success": success, "value": value}
    attributes = {f"genai_meter.outcome.{key}": part for key, part in told.items() if part is not None}
    return Event(
        {"genai_meter.schema_version": "1", "genai_meter.team": "support", "genai_meter.feature": "bot", **attributes},
        name="genai_meter.outcome",
        time_ns=time.time_ns(),
    )


def _cached(event: Event) -> Event:
    event.attributes["genai_meter.cache_hit"] = True
    return event


def _correct(made: Traffic) -> None:
    """A span that tells more tokens than the usage event of the same call: a charge, then a credit."""
    event = made.call("search", "chat", "acme", 2, input_tokens=TRUE_TOKENS, output_tokens=100)
    start, end = event.attributes["genai_meter.start"], event.attributes["genai_meter.end"]
    span = SpanOf(
        {**event.attributes, "genai_meter.usage.input": TOLD_TOKENS},
        start_ns=start,
        end_ns=end,
        trace_id=event.trace_id,
        span_id=event.span_id,
        scope="genai_meter",
    )
    made.requests.append(("traces", traces([span], RESOURCE).SerializeToString()))
    made.send(event)


def _unreadable() -> Event:
    event = usage_event()
    event.attributes["genai_meter.usage.input"] = 10**13
    return event


# --- the stage ----------------------------------------------------------------------------------------
@dataclass
class Live:
    """Everything running, with the traffic in the ledger and in Prometheus."""

    served: Served
    prometheus: Prometheus

    def rows(self, where: str = "1") -> list[sqlite3.Row]:
        """Calls of the ledger."""
        with closing(sqlite3.connect(f"file:{self.served.ledger}?mode=ro", uri=True)) as ledger:
            ledger.row_factory = sqlite3.Row
            return ledger.execute(f"SELECT * FROM usage WHERE {where}").fetchall()

    def send(self, traffic: Traffic) -> None:
        """All of it, in its order; then wait until Prometheus shows what the ledger has."""
        for signal, body in traffic.requests:
            answer = self.served.post(signal, body)
            assert answer.status == 200, answer
        self.settle()

    def settle(self) -> None:
        """Until Prometheus shows what the ledger has."""
        cost = sum(row["cost"] or 0 for row in self.rows()) / 1e12
        spent = "sum(genai_meter_cost_usd_total) - sum(genai_meter_credit_usd_total)"

        def shown() -> bool:
            found = self.prometheus.query(spent)
            return bool(found) and abs(found[0].value - cost) < 1e-9

        wait_for(f"Prometheus shows {cost} USD", lambda: shown() or None, 60)


@contextmanager
def live(directory: Path) -> Generator[Live]:
    """An exporter with the first part of the traffic, and a Prometheus with a past, and rules 60 times faster."""
    _past_of_budgets(directory)
    with Served(directory, config()) as served:
        rules = directory / "genai-meter.rules.yaml"
        code = "from genai_meter_exporter.cli import main; raise SystemExit(main())"
        options = ["rules", "--time-scale", "60", "--output", str(rules)]
        subprocess.run([sys.executable, "-c", code, *options], check=True, timeout=120)
        target = served.status_url.removeprefix("http://")
        with Prometheus(directory, {"genai-meter": target}, rules, _past()) as prometheus:
            stage = Live(served, prometheus)
            wait_for("the first scrape", lambda: prometheus.query("genai_meter_ledger_events_total"), 60)
            stage.send(first_part(time.time_ns()))
            for recorded in _RECORDED:
                wait_for(f"the rules have recorded {recorded}", lambda name=recorded: prometheus.query(name), 60)
            yield stage


_RECORDED = (
    "service:genai_meter_cost_usd_increase1h:median7d",
    'tenant:genai_meter_cost_usd:increase1h{tenant="globex"} > 0',
    'budget:genai_meter_burn_rate:ratio6h{budget="all-day"} > 0',
    'ALERTS{alertstate="firing",severity="critical"}',
    'genai_meter_budget_state{budget="all-day",state="over_budget"} == 1',
    'genai_meter_budget_state{budget="support-tokens",state="over_budget"} == 1',
)


def _past_of_budgets(directory: Path) -> None:
    """A month that has ended, and what was forecast on its fifth and tenth day."""
    directory.mkdir(parents=True, exist_ok=True)
    at, period = int(time.time()) - 40 * 86_400, int(time.time()) - 70 * 86_400
    lines: Sequence[Mapping[str, Any]] = (
        {"kind": "forecast", "period": period, "day": 5, "median": 120 * 10**12, "upper": 150 * 10**12},
        {"kind": "forecast", "period": period, "day": 10, "median": 110 * 10**12, "upper": 140 * 10**12},
        {"kind": "period", "period": period, "spent": 100 * 10**12},
    )
    text = "".join(json.dumps({"at": at, "budget": "search-month", **line}) + "\n" for line in lines)
    (directory / "budgets.jsonl").write_text(text, encoding="utf-8")


def _past() -> str:
    """One series a week and a fortnight ago, and what a service spent in each hour before (60 times faster)."""
    now = time.time()
    who = 'team="search",environment="prod",service="shop"'
    series = f'genai_meter_cost_usd_total{{{who},feature="chat",provider="openai",model="{OPENAI}"}}'
    lines = ["# TYPE genai_meter_cost_usd_total gauge"]
    for days, value in ((14, WEEK_BEFORE_USD), (7, LAST_WEEK_USD)):
        lines += [f"{series} {value} {now - days * 86_400 + 60 * step:.3f}" for step in range(-10, 11)]
    lines.append("# TYPE service:genai_meter_cost_usd:increase1h gauge")
    hours = [now - 7 * 86_400 / 60 - 120 + 15 * step for step in range(700)]
    lines += [f"service:genai_meter_cost_usd:increase1h{{{who}}} 1.2 {at:.3f}" for at in hours if at < now - 5]
    return "\n".join([*lines, "# EOF"]) + "\n"
