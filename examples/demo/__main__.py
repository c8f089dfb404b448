"""`make demo`: from an unchanged application to a priced ledger and a Prometheus alert, in under two minutes."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any, Final

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
    report.title("1. Start")
    stage = Stage(directory, usual_ports=keep, real=real)
    with ExitStack() as running:
        with report.step("provider, exporter, application under `opentelemetry-instrument`, Prometheus"):
            running.enter_context(stage)
        if real:
            _real_traffic(report, stage)
        else:
            _traffic(report, stage)
        started = time.monotonic()
        _spend(report, stage)
        _explained(report, stage)
        if not real:
            _alerts(report, stage, started)
        _exemplar(report, stage)
        _where_to_look(report, stage, keep)
        if keep:
            _keep(report, stage)


def _traffic(report: Report, stage: Stage) -> None:
    assert stage.provider is not None
    report.title("2. Traffic")
    report.line("examples/demo/app.py uses the OpenAI and Anthropic SDKs and knows nothing of metering;")
    report.line("the customer of a request arrives in its W3C baggage. examples/demo/nightly.py says it in one line.")
    with report.step(f"{len(REQUESTS)} requests of three customers: buffered, streamed, async, cached, reasoning"):
        _at_once(stage, REQUESTS)
    with report.step("one request that the provider refuses twice with 429 before it answers"):
        stage.request("initech", "chat", QUESTION, {"x-scenario": "429x2"})
    with report.step("a nightly job: embeddings"):
        stage.job("examples.demo.nightly")
    with report.step(f"an agent of {RUNAWAY[0]} that runs away: 30 steps, the whole history sent each time"):
        stage.request(*RUNAWAY, QUESTION)
    answered = len(stage.provider.served)
    with report.step(f"the provider has answered {answered} calls, and the ledger holds {answered}"):
        wait_for(f"{answered} calls are in the ledger", lambda: stage.metric(EVENTS) == answered or None, timeout=20)
    retries = sum(row["retries"] for row in _rows(stage, "tenant"))
    report.line(f"  Retries inside the client library: {retries}. One call, one row, one charge.")


def _at_once(stage: Stage, requests: Sequence[tuple[str, str]]) -> None:
    def send(request: tuple[str, str]) -> str:
        return stage.request(*request, QUESTION)

    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(send, requests):
            pass


def _real_traffic(report: Report, stage: Stage) -> None:
    report.title("2. Traffic, to the real providers")
    for tenant, feature in (("acme", "chat"), ("acme", "draft"), ("globex", "summary"), ("globex", "research")):
        with report.step(f"{feature} for {tenant}"):
            stage.request(tenant, feature, "In one short sentence: how do I return a parcel?")
    # chat, draft, summary, and research with three calls.
    wait_for("six calls are in the ledger", lambda: stage.metric(EVENTS) >= 6 or None, 30)


def _spend(report: Report, stage: Stage) -> None:
    report.title("3. Spend by tenant and model")
    arguments = ("usage", "--by", "tenant,model", *SINCE)
    report.command(arguments, stage.command(*arguments, "--data-dir", str(stage.directory)))
    unpriced = [row for row in _rows(stage, "provider,model") if row["unpriced_calls"]]
    for row in unpriced:
        report.line(
            f"[bold yellow]No price:[/] {row['provider']}/{row['model']}, {row['unpriced_calls']} calls. "
            "Their tokens are in the ledger, their cost is unknown: never 0."
        )


def _explained(report: Report, stage: Stage) -> None:
    report.title("4. One call, line by line to its price source")
    call = _rows(stage, "call_id,feature", "feature=chat")[0]
    arguments = ("prices", "explain", call["call_id"])
    report.command(arguments, stage.command(*arguments, "--data-dir", str(stage.directory)))


def _alerts(report: Report, stage: Stage, started: float) -> None:
    report.title("5. Alerts")
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
    sent = wait_for("Alertmanager has the alert", prometheus.sent_to_alertmanager, timeout=20)
    report.line(f"Alertmanager holds {', '.join(sorted({a['labels']['alertname'] for a in sent}))}.")
    report.line("An alert reads increase(), which extrapolates; a bill reads the ledger, which is exact.")


def _exemplar(report: Report, stage: Stage) -> None:
    if stage.prometheus is None:
        return
    report.title("6. From a histogram to one call")
    prometheus = stage.prometheus
    expression = f'{DURATION}{{service="{SERVICE}"}}'
    exemplars = wait_for("Prometheus has an exemplar", lambda: prometheus.exemplars(expression), timeout=20)
    trace = exemplars[0]["labels"]["trace_id"]
    calls = _rows(stage, "call_id,trace_id,tenant,feature,model", f"trace_id={trace}")
    report.facts(
        {
            "Histogram": f"{exemplars[0]['series']['__name__']}, model {exemplars[0]['series']['model']}",
            "Exemplar": f"{float(exemplars[0]['value']):.3f} s, trace {trace}",
            "In the ledger": "; ".join(f"{c['tenant']}, {c['feature']}: {c['cost_usd']} USD" for c in calls[:1]),
        }
    )


def _where_to_look(report: Report, stage: Stage, keep: bool) -> None:
    report.title("Where to look next")
    facts = {
        "Rules": "alert_rules/, loaded as docs/alerts.md says; runbooks in alert_rules/runbooks/",
        "Dashboard": "dashboards/llm-spend-overview.json, to import into Grafana; docs/dashboards.md",
        "Exporter": "docs/exporter.md",
        "Application": "docs/configuration.md",
    }
    if not keep:
        report.facts({**facts, "Live": "make demo KEEP=1 leaves everything running and prints the addresses"})
        return
    facts |= {"Metrics": stage.metrics_url, "OTLP": stage.otlp_url, "Ledger": str(stage.ledger)}
    if stage.prometheus:
        facts |= {"Prometheus": f"{stage.prometheus.url}/alerts", "Alertmanager": stage.prometheus.alertmanager_url}
    report.facts(facts)


def _keep(report: Report, stage: Stage) -> None:
    report.title("Running until Ctrl-C, with a request every two seconds")
    report.line(f"genai-meter usage --by tenant --data-dir {stage.directory}")
    while True:
        for tenant, feature in REQUESTS:
            if not stage.real:
                stage.request(tenant, feature, QUESTION)
            time.sleep(2)


def _rows(stage: Stage, by: str, where: str | None = None) -> list[dict[str, Any]]:
    """Rows of `genai-meter usage`."""
    arguments = ["usage", "--by", by, *SINCE, "--format", "json", "--data-dir", str(stage.directory)]
    if where:
        arguments += ["--where", where]
    return json.loads(stage.command(*arguments))["rows"]


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
