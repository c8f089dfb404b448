"""`make demo`: from an unchanged application to a priced ledger and a Prometheus alert, in under two minutes."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any, Final

from examples.alertmanager import Alertmanager
from examples.children import DidNotHappen, wait_for
from examples.demo.report import Report
from examples.demo.stage import SERVICE, TIME_SCALE, Stage
from examples.tools import ROOT

QUESTION: Final = "How do I return a parcel that arrived damaged, and who pays for the way back? " * 6
REQUESTS: Final = (
    *(("acme", "chat"), ("acme", "chat"), ("globex", "chat"), ("initech", "chat"), ("acme", "draft")) * 3,
    *(("globex", "draft"), ("globex", "summary"), ("initech", "summary"), ("acme", "research")) * 2,
    ("globex", "preview"),
    ("initech", "preview"),
)
"""Customer and feature of each ordinary request."""

RUNAWAY: Final = ("globex", "agent")
UNPRICED: Final = "acme-house-model-1"
EVENTS: Final = "genai_meter_ledger_events_total"
DURATION: Final = "genai_meter_request_duration_seconds_bucket"
SINCE: Final = ("--since", "1h")

SPIKE, NO_PRICE = "GenAIMeterHourlySpendSpike", "GenAIMeterUnpricedModel"
OVER, BURN = "GenAIMeterBudgetExceeded", "GenAIMeterBudgetBurnRate"


def main() -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C (or KEEP=1)")
    parser.add_argument("--real", action="store_true", help="call the real providers with your keys (or DEMO_REAL=1)")
    options = parser.parse_args()
    keep = options.keep or os.environ.get("KEEP", "") not in ("", "0")
    real = options.real or os.environ.get("DEMO_REAL", "") not in ("", "0")
    # SIGINT too: a shell starts its background jobs with it ignored.
    signal.signal(signal.SIGINT, _terminated)
    signal.signal(signal.SIGTERM, _terminated)
    report = Report()
    try:
        if real:
            _need_keys()
        with tempfile.TemporaryDirectory(prefix="genai-meter-demo-") as directory:
            _run(report, Path(directory), keep, real)
    except KeyboardInterrupt:
        report.line("Stopped; nothing is left running.")
        return 0 if keep else 130
    except (DidNotHappen, RuntimeError) as error:
        report.line("[bold red]The demo did not work:[/]")
        report.plain(str(error))
        return 1
    report.line(f"Done in {report.seconds:.0f} s; nothing is left running.")
    return 0


def _terminated(_number: int, _frame: FrameType | None) -> None:
    # As after Ctrl-C: every `with` block ends what it has started.
    raise KeyboardInterrupt


def _need_keys() -> None:
    missing = [name for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY") if not os.environ.get(name)]
    if missing:
        raise RuntimeError(f"DEMO_REAL calls the real providers and needs {' and '.join(missing)} in the environment.")


def _run(report: Report, directory: Path, keep: bool, real: bool) -> None:
    report.title("Start")
    stage = Stage(directory, usual_ports=keep, real=real)
    provider = "the real providers" if real else "a stand-in provider"
    with ExitStack() as running:
        with report.step(f"{provider}, exporter, application under `opentelemetry-instrument`, Prometheus"):
            running.enter_context(stage)
        if real:
            _real_traffic(report, stage)
        else:
            _traffic(report, stage)
        started = time.monotonic()
        calls = _calls(stage)
        _spend(report, stage, calls)
        _explained(report, stage, calls)
        _exemplar(report, stage, calls)
        if real:
            report.title("Alerts")
            report.line("Not with real money: the runaway agent and the unknown model run without DEMO_REAL only.")
        else:
            _alerts(report, stage, started)
            _told(report, stage, started)
        _where_to_look(report, stage, keep)
        if keep:
            _keep(report, stage)


def _traffic(report: Report, stage: Stage) -> None:
    assert stage.provider is not None
    report.title("Traffic")
    report.line("examples/demo/app.py uses the OpenAI and Anthropic SDKs and knows nothing of metering;")
    report.line("the customer of a request arrives in its W3C baggage. examples/demo/nightly.py says it in one line.")
    with stage.instrumented("nightly", [sys.executable, "-m", "examples.demo.nightly"]) as job:
        with report.step(f"{len(REQUESTS)} requests of three customers: buffered, streamed, async, cached, reasoning"):
            _at_once(stage, REQUESTS)
        with report.step("one request that the provider refuses twice with 429 before it answers"):
            stage.request("initech", "chat", QUESTION, {"x-scenario": "429x2"})
        with report.step("meanwhile, a nightly job: embeddings"):
            job.succeed(timeout=60)
    with report.step(f"an agent of {RUNAWAY[0]} that runs away: 30 steps, the whole history sent each time"):
        stage.request(*RUNAWAY, QUESTION)
    answered = len(stage.provider.served)
    with report.step(f"the provider has answered {answered} calls, and the ledger holds {answered}"):
        wait_for(f"{answered} calls are in the ledger", lambda: stage.metric(EVENTS) == answered or None, timeout=60)


def _at_once(stage: Stage, requests: Sequence[tuple[str, str]]) -> None:
    def send(request: tuple[str, str]) -> str:
        return stage.request(*request, QUESTION)

    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(send, requests):
            pass


def _real_traffic(report: Report, stage: Stage) -> None:
    report.title("Traffic, to the real providers")
    for tenant, feature in (("acme", "chat"), ("acme", "draft"), ("globex", "summary"), ("globex", "research")):
        with report.step(f"{feature} for {tenant}"):
            stage.request(tenant, feature, "In one short sentence: how do I return a parcel?")
    # chat, draft, summary, and research with three calls.
    wait_for("six calls are in the ledger", lambda: stage.metric(EVENTS) >= 6 or None, 30)


def _calls(stage: Stage) -> list[dict[str, Any]]:
    """Every call of the ledger, as `genai-meter usage` has it."""
    by = "call_id,trace_id,span_id,tenant,feature,provider,model"
    arguments = ["usage", "--by", by, *SINCE, "--format", "json", "--data-dir", str(stage.directory)]
    return json.loads(stage.command(*arguments))["rows"]


def _spend(report: Report, stage: Stage, calls: Sequence[Mapping[str, Any]]) -> None:
    report.title("Spend by tenant and model")
    arguments = ("usage", "--by", "tenant,model", *SINCE, "--data-dir", str(stage.directory))
    report.command(arguments, stage.command(*arguments))
    retries = sum(call["retries"] for call in calls)
    report.line(f"Retries inside the client library: {retries}. One call, one row, one charge.")
    unpriced = Counter(f"{call['provider']}/{call['model']}" for call in calls if call["unpriced_calls"])
    for model, count in unpriced.items():
        report.line(
            f"[bold yellow]No price:[/] {model}, {count} calls. "
            "Their tokens are in the ledger, their cost is unknown: never 0."
        )


def _explained(report: Report, stage: Stage, calls: Sequence[Mapping[str, Any]]) -> None:
    report.title("One call, line by line to its price source")
    call = next(call for call in calls if call["feature"] == "chat")
    arguments = ("prices", "explain", call["call_id"], "--data-dir", str(stage.directory))
    report.command(arguments, stage.command(*arguments))


def _alerts(report: Report, stage: Stage, started: float) -> None:
    report.title("Alerts")
    prometheus = stage.prometheus
    if prometheus is None:
        report.line(f"[bold yellow]Not shown:[/] {stage.without_prometheus}")
        return
    report.line(
        f"Time scale {TIME_SCALE}: one hour of a rule is one minute here, its seven days are 2.8 hours, made up and"
    )
    report.line("backfilled. The shipped rules are unscaled: alert_rules/genai-meter.rules.yaml.")

    def firing() -> list[dict[str, Any]]:
        found = prometheus.alerts()
        wanted = [a for a in found if a["labels"]["alertname"] in (SPIKE, NO_PRICE)]
        return wanted if {a["labels"]["alertname"] for a in wanted} == {SPIKE, NO_PRICE} else []

    alerts = wait_for(f"{SPIKE} and {NO_PRICE} fire", firing, timeout=60)
    for alert in sorted(alerts, key=lambda a: str(a["labels"]["severity"])):
        report.alert(alert, time.monotonic() - started)
    report.line("An alert reads increase(), which extrapolates; a bill reads the ledger, which is exact.")


def _told(report: Report, stage: Stage, started: float) -> None:
    """What Alertmanager delivered of the budget, and what it held back."""
    if stage.prometheus is None or stage.inbox is None:
        return
    inbox, alertmanager = stage.inbox, stage.prometheus.alertmanager
    report.title("A budget is spent: what the person on call reads")
    arguments = ("budgets", "--config", str(stage.config), "--data-dir", str(stage.directory))
    report.command(("budgets", "--config", stage.config.name), stage.command(*arguments))

    def about_budget(body: Any) -> bool:
        return OVER in json.dumps(body)

    message = wait_for(f"{OVER} is delivered to Slack", lambda: inbox.first("/slack", about_budget), 60)
    page = wait_for(f"{OVER} is delivered to PagerDuty", lambda: inbox.first("/pagerduty", about_budget), 60)
    wait_for(f"{OVER} is delivered as a ticket", lambda: inbox.first("/ticket", about_budget), 60)
    delivered = max(message.at, page.at) - time.time() + time.monotonic() - started
    report.chat(message.body)
    report.line(
        f"Delivered {delivered:.0f} s after the traffic, by the shipped routes, templates and inhibitions. A webhook on"
    )
    report.line(
        "loopback stands for Slack, for PagerDuty, which was paged, and for the ticket system, which has a ticket."
    )
    wait_for(f"{BURN} fires and is held back", lambda: BURN in _held_back(alertmanager) or None, 60)
    report.line(f"Held back meanwhile: {BURN}. What is over needs no second page that it burns.")


def _held_back(alertmanager: Alertmanager) -> set[str]:
    return {alert["labels"]["alertname"] for alert in alertmanager.alerts("suppressed")}


def _exemplar(report: Report, stage: Stage, calls: Sequence[Mapping[str, Any]]) -> None:
    if stage.prometheus is None:
        return
    report.title("From a histogram to one call")
    prometheus = stage.prometheus
    expression = f'{DURATION}{{service="{SERVICE}"}}'
    exemplars = wait_for("Prometheus has an exemplar", lambda: prometheus.exemplars(expression), timeout=60)
    exemplar = exemplars[0]
    labels, series = exemplar["labels"], exemplar["series"]
    call = next(c for c in calls if (c["trace_id"], c["span_id"]) == (labels["trace_id"], labels["span_id"]))
    cost = "unpriced" if call["cost_usd"] is None else f"{call['cost_usd']} USD"
    report.facts(
        {
            "Histogram": f"{series['__name__']}, model {series['model']}",
            "Exemplar": f"{float(exemplar['value']):.3f} s, trace {labels['trace_id']}, span {labels['span_id']}",
            "In the ledger": f"call {call['call_id']} for {call['tenant']}, {call['feature']}: {cost}",
        }
    )


def _where_to_look(report: Report, stage: Stage, keep: bool) -> None:
    report.title("Where to look next")
    facts = {
        "Alerts": "alert_rules/: rules, Alertmanager example, runbooks; docs/alerts.md, docs/budgets.md",
        "Dashboard": "dashboards/llm-spend-overview.json, to import into Grafana; docs/dashboards.md",
        "Exporter": "docs/exporter.md",
        "Application": "docs/configuration.md",
    }
    if not keep:
        report.facts({**facts, "Live": "make demo KEEP=1 leaves everything running and prints the addresses"})
        return
    facts |= {"Metrics": stage.metrics_url, "OTLP": stage.otlp_url, "Ledger": str(stage.ledger)}
    if stage.prometheus:
        facts |= {"Prometheus": f"{stage.prometheus.url}/alerts", "Alertmanager": stage.prometheus.alertmanager.url}
    report.facts(facts)


def _keep(report: Report, stage: Stage) -> None:
    report.title("Running until Ctrl-C, with a request every two seconds")
    while True:
        for tenant, feature in REQUESTS:
            if not stage.real:
                stage.request(tenant, feature, QUESTION)
            time.sleep(2)


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
