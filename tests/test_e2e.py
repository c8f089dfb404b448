"""`make e2e`: every class of alert on real Prometheus and Alertmanager, from 35 days of history to the webhook."""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import pytest
import yaml
from e2e import history, world
from e2e.world import HELD_BACK, LOST, PAST, PROVOKED, QUIET, Provoked
from exporter_kit import Event, Served, logs
from genai_meter_exporter.store import Query, open_readonly
from rich import box
from rich.console import Console
from rich.table import Table
from tools_kit import stack_needed

from examples.alertmanager import shipped
from examples.children import wait_for
from examples.inbox import Inbox
from examples.prometheus import Prometheus
from examples.tools import ROOT

RULES: Final = ROOT / "alert_rules" / "genai-meter.rules.yaml"
FOR_SCALE: Final = 720
LEAST_FOR_MS: Final = 5_000
"""Longer than one scrape that is missed: the shipped rules bear that too."""
WAIT_SCALE: Final = 30
LISTEN_S: Final = 15
"""How long to go on listening for what must not come; longer than Alertmanager's interval between messages."""

_ABOUT: Final = ("budget", "tenant", "workflow", "service", "model", "provider")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def hastened() -> str:
    """The shipped rules with every `for` 720 times shorter, but 5 s at least, evaluated each second; windows stay."""
    units = {"s": 1_000, "m": 60_000, "h": 3_600_000}
    rules: dict[str, Any] = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    for group in rules["groups"]:
        group["interval"] = "5s" if "baseline" in group["name"] else "1s"
        for rule in group["rules"]:
            if waits := re.fullmatch(r"(\d+)([smh])", rule.get("for", "")):
                rule["for"] = f"{max(int(waits[1]) * units[waits[2]] // FOR_SCALE, LEAST_FOR_MS)}ms"
    return yaml.safe_dump(rules, sort_keys=False, width=1_000_000)


@dataclass(frozen=True)
class Received:
    """The first time that an alert reached the webhook."""

    at: float
    annotations: Mapping[str, str]


Key = tuple[str, str, str]
"""Alert, severity, what it is about."""


def about(labels: Mapping[str, str]) -> str:
    """What an alert is about."""
    return next((labels[name] for name in _ABOUT if labels.get(name)), "")


@dataclass
class Drill:
    """The whole stack, with the past in it, and what was done to it."""

    exporter: Served
    prometheus: Prometheus
    inbox: Inbox
    began: float
    provoked: dict[str, float] = field(default_factory=dict[str, float])
    """Service → when its traffic was sent."""
    received: dict[Key, Received] = field(default_factory=dict[Key, Received])

    def send(self, service: str, events: list[Event]) -> None:
        """Traffic of one service, over OTLP."""
        for start in range(0, len(events), 500):
            body = logs(events[start : start + 500], world.resource(service)).SerializeToString()
            assert self.exporter.post("logs", body).status == 200
        self.provoked.setdefault(service, time.time())

    def look(self) -> dict[Key, Received]:
        """All that the webhook has had so far."""
        for message in self.inbox.at("/ticket"):
            for alert in message.body["alerts"]:
                labels = alert["labels"]
                key = labels["alertname"], labels["severity"], about(labels)
                if alert["status"] == "firing":
                    self.received.setdefault(key, Received(message.at, alert["annotations"]))
        return self.received

    def missing(self, wanted: set[Key]) -> set[Key]:
        """What the webhook has not had."""
        return wanted - set(self.look())

    def held_back(self) -> set[tuple[str, str]]:
        """What fires and is told to nobody."""
        found = self.prometheus.alertmanager.alerts("suppressed")
        return {(alert["labels"]["alertname"], about(alert["labels"])) for alert in found}


def key_of(provoked: Provoked) -> Key:
    """The alert that must come."""
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    severities = {
        r["labels"]["severity"] for g in rules["groups"] for r in g["rules"] if r.get("alert") == provoked.alert
    }
    severity = provoked.severity or severities.pop()
    return provoked.alert, severity, provoked.about


@pytest.fixture(scope="module")
def drill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    """Ledger, exporter, Prometheus and Alertmanager, with 35 days behind them."""
    stack_needed()
    directory = tmp_path_factory.mktemp("e2e")
    now = time.time()
    rules = directory / "genai-meter.rules.yaml"
    rules.write_text(hastened(), encoding="utf-8")
    with ExitStack() as running:
        inbox = running.enter_context(Inbox())
        config = world.config(now, used_early=world.early_share(now))
        data = directory / "exporter"
        data.mkdir()
        kept = "".join(json.dumps(entry) + "\n" for entry in world.releases(now))
        (data / "anomalies.jsonl").write_text(kept, encoding="utf-8")
        exporter = running.enter_context(Served(data, config))
        target = exporter.metrics_url.removeprefix("http://").removesuffix("/metrics")
        for service in PAST:
            for version, made in groupby(world.past(service, world.last_quarter(now)), key=itemgetter(0)):
                events = [event for _, event in made]
                for start in range(0, len(events), 500):
                    body = logs(events[start : start + 500], world.resource(service.name, version)).SerializeToString()
                    assert exporter.post("logs", body).status == 200
        reader = open_readonly(exporter.ledger)
        try:
            _, cost = reader.totals()
            wait_for("the counters show the past", lambda: _shows(exporter, cost), 30)
            scraped = {"job": "genai-meter", "instance": target}
            written = history.openmetrics(reader, scraped, world.budget_labels(now), time.time())
        finally:
            reader.close()
        prometheus = Prometheus(
            directory,
            {"genai-meter": target},
            rules,
            written,
            scrape_interval=f"{world.SCRAPE_S:.0f}s",
            alertmanager=shipped(inbox, WAIT_SCALE),
        )
        began = time.time()
        yield Drill(exporter, running.enter_context(prometheus), inbox, began)


def _shows(exporter: Served, cost: int) -> bool:
    held = sum(value for (name, _), value in exporter.scrape().items() if name == "genai_meter_cost_usd_total")
    return abs(held - cost / history.PICO) < 1e-6


def test_prometheus_begins_with_what_the_ledger_holds(drill: Drill) -> None:
    reader = open_readonly(drill.exporter.ledger)
    end = world.last_quarter(drill.began)
    for days in (34, 30, 8, 1, 0):
        at = end - days * 86_400
        (ledger,) = reader.report(Query((), until_ns=at * 1_000_000_000))
        found = drill.prometheus.ask("query", query="sum(genai_meter_cost_usd_total)", time=str(at))["result"]
        assert float(found[0]["value"][1]) == pytest.approx(ledger["cost"] / history.PICO, rel=1e-12)
    reader.close()


def test_every_class_of_alert_reaches_the_webhook_and_nothing_else_does(drill: Drill) -> None:
    wait_for("the first scrape", lambda: drill.prometheus.query('up{job="genai-meter"} == 1'), 30)
    for provoked in PROVOKED:
        if provoked.service:
            drill.send(provoked.service, provoked.events(time.time()))
    wanted = {key_of(provoked) for provoked in PROVOKED}
    try:
        wait_for("every alert is received", lambda: not drill.missing(wanted), 150)
    finally:
        _print(drill, PROVOKED)
    wait_for("what is to be held back fires", lambda: set(HELD_BACK) <= drill.held_back() or None, 30)
    time.sleep(LISTEN_S)
    assert {key: told.annotations["description"] for key, told in drill.look().items() if key not in wanted} == {}
    assert not QUIET & {what for _, _, what in drill.look()}
    assert drill.held_back() == set(HELD_BACK)
    assert _unfilled(drill) == {}
    for (alert, what), source in HELD_BACK.items():
        print(f"  held back: {alert} of {what}, by {source}")
    print(f"  silent: {', '.join(sorted(QUIET))}")
    print(f"  under promtool only: {', '.join(sorted(_alerts() - {p.alert for p in PROVOKED} - {LOST.alert}))}")


def test_prometheus_has_what_the_ledger_holds_now(drill: Drill) -> None:
    reader = open_readonly(drill.exporter.ledger)
    _, cost = reader.totals()
    reader.close()
    (total,) = drill.prometheus.query("sum(genai_meter_cost_usd_total)")
    assert total.value == pytest.approx(cost / history.PICO, rel=1e-12)


def test_lost_telemetry_pages_and_holds_back_what_follows_from_it(drill: Drill) -> None:
    drill.exporter.stop()
    drill.provoked[""] = time.time()
    lost = key_of(LOST)
    wait_for("lost telemetry is received", lambda: not drill.missing({lost}), 60)
    wait_for(
        "the silent service is held back",
        lambda: ("GenAIMeterServiceTelemetryLost", "worker") in drill.held_back() or None,
        30,
    )
    _print(drill, [LOST])
    assert _unfilled(drill) == {}


def _alerts() -> set[str]:
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    return {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}


def _unfilled(drill: Drill) -> dict[Key, list[str]]:
    """Annotations that the shipped alert has and that were received empty or half expanded."""
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    shipped_with: dict[str, set[str]] = defaultdict(set)
    for group in rules["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                shipped_with[rule["alert"]] |= set(rule["annotations"])
    found: dict[Key, list[str]] = {}
    for key, received in drill.look().items():
        told = received.annotations
        empty = [name for name in sorted(shipped_with[key[0]]) if not told.get(name, "").strip()]
        broken = [name for name, text in told.items() if "<no value>" in text or "{{" in text or "<error" in text]
        if empty or broken:
            found[key] = empty + broken
    return found


def _print(drill: Drill, rows: Sequence[Provoked]) -> None:
    scale = f"`for` {FOR_SCALE} times shorter (5 s at least), evaluated each second; windows and offsets as shipped"
    table = Table(title=f"35 days of history; {scale}", box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("alert", "about", "provoked by", "received after", "says"):
        table.add_column(name, justify="right" if name == "received after" else "left", overflow="fold")
    for provoked in rows:
        received = drill.look().get(key_of(provoked))
        since = drill.provoked.get(provoked.service, drill.began)
        told: Mapping[str, str] = received.annotations if received else {}
        text = " · ".join(told.get(name, "") for name in ("description", "primarily_due_to", "owner") if told.get(name))
        table.add_row(
            provoked.alert,
            provoked.about,
            provoked.how,
            f"{received.at - since:.1f} s" if received else "[red]never[/]",
            text,
        )
    Console(width=200, highlight=False).print(table)
