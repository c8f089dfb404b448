"""The Prometheus rules: valid, proven by promtool, documented, and the same at any time scale."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import promql_parser
import pytest
import yaml
from genai_meter import semconv
from genai_meter_exporter import alerting
from genai_meter_exporter.alerting import Alerts
from genai_meter_exporter.anomalies.model import Anomalies
from tools_kit import needed

ROOT = Path(__file__).parent.parent
RULES = ROOT / "alert_rules" / "genai-meter.rules.yaml"
RUNBOOKS = ROOT / "alert_rules" / "runbooks"
UNIT_TESTS = sorted((ROOT / "alert_rules" / "tests").glob("*.test.yaml"))
SCALE = 60


@pytest.fixture(scope="session")
def promtool() -> Path:
    """The real promtool."""
    return needed("promtool")


def command(*options: str) -> subprocess.CompletedProcess[str]:
    """Run `genai-meter rules`."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from genai_meter_exporter.cli import main; raise SystemExit(main())",
            "rules",
            *options,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def run(*arguments: object) -> None:
    """Run a tool; its output is the message when it fails."""
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def rules(text: str) -> Iterator[dict[str, Any]]:
    """Every rule of a rules file."""
    for group in yaml.safe_load(text)["groups"]:
        yield from group["rules"]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules(RULES.read_text()) if "alert" in rule]


def test_shipped_file_is_the_command_at_time_scale_one() -> None:
    assert command().stdout == RULES.read_text()
    assert command("--time-scale", "1").stdout == RULES.read_text()


def test_promtool_accepts_the_shipped_rules(promtool: Path) -> None:
    run(promtool, "check", "rules", "--lint=all", "--lint-fatal", RULES)


@pytest.mark.parametrize("file", UNIT_TESTS, ids=lambda file: file.name)
def test_promtool_unit_tests(promtool: Path, file: Path) -> None:
    run(promtool, "test", "rules", file)


def _shortened() -> list[Any]:
    """Cases of days take long; at another time scale they are asked for by `make rules` only."""
    long = ("hourly-spend-spike", "data-quality", "exporter", "service-telemetry-lost", "silence", "budgets.")
    return [
        pytest.param(file, id=file.name, marks=pytest.mark.slow if file.name.startswith(long) else ())
        for file in UNIT_TESTS
    ]


@pytest.mark.parametrize("file", _shortened())
def test_unit_tests_hold_when_rules_and_time_run_faster(promtool: Path, file: Path, tmp_path: Path) -> None:
    """The same cases, with every interval of test and rules divided by the time scale."""
    scaled = tmp_path / "genai-meter.rules.yaml"
    assert command("--time-scale", str(SCALE), "--output", str(scaled)).returncode == 0
    run(promtool, "check", "rules", "--lint=all", "--lint-fatal", scaled)
    case = cast(dict[str, Any], faster(yaml.safe_load(file.read_text())))
    case["rule_files"] = [scaled.name]
    (tmp_path / "case.yaml").write_text(yaml.safe_dump(case, sort_keys=False))
    run(promtool, "test", "rules", tmp_path / "case.yaml")


def faster(node: object, key: str = "") -> object:
    """A promtool test file with its times divided, and the note that the scaled alerts carry."""
    if isinstance(node, list):
        return [faster(item) for item in cast(list[object], node)]
    if isinstance(node, dict):
        items = cast(dict[str, object], node)
        changed = {name: faster(value, name) for name, value in items.items()}
        series = str(items.get("series"))
        if "_per_second{" in series:
            # What grows so many times faster was planned to do so.
            changed["values"] = re.sub(r"^[\d.]+", lambda m: f"{float(m[0]) * SCALE:g}", str(items["values"]))
        if re.match(r"genai_meter_(price_book|\w+_evaluated)_timestamp_seconds", series):
            # Follows the clock.
            changed["values"] = str(items["values"]).replace("+60x", "+1x")
        if key == "exp_annotations":
            changed["time_scale"] = "time scale 60: where a name or a text says one hour, the rule looks at 1m"
        return changed
    if key in ("interval", "evaluation_interval", "eval_time"):
        return f"{int(promql_parser.parse_duration(str(node)).total_seconds() * 1000) // SCALE}ms"
    if key == "expr":
        return re.sub(r"\[1h\]", "[1m]", str(node))
    return node


def test_every_alert_has_a_firing_and_a_silent_case() -> None:
    firing: set[str] = set()
    silent: set[str] = set()
    for file in UNIT_TESTS:
        for case in yaml.safe_load(file.read_text())["tests"]:
            for check in case.get("alert_rule_test", []):
                (firing if check["exp_alerts"] else silent).add(check["alertname"])
            for check in case.get("promql_expr_test", []):
                if not check["exp_samples"] and check["expr"].startswith("ALERTS"):
                    named = re.search(r'alertname="(\w+)"', check["expr"])
                    silent |= {named[1]} if named else {alert["alert"] for alert in alerts()}
    names = {alert["alert"] for alert in alerts()}
    assert (names - firing, names - silent) == (set(), set())


def test_thresholds_in_the_cases_are_the_shipped_ones() -> None:
    shipped = {
        sample.labels["threshold"]: sample.value for metric in alerting.collect(Alerts()) for sample in metric.samples
    }
    for file in UNIT_TESTS:
        for name, value in re.findall(r'threshold="(\w+)"}\', values: \'([-\d.]+)x', file.read_text()):
            assert float(value) == shipped[name], (file.name, name)


def test_the_table_of_alerts_says_what_the_rules_say() -> None:
    text = (ROOT / "docs" / "alerts.md").read_text()
    (table,) = re.findall(r"^\| alert \| severity \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    told: list[tuple[str, ...]] = []
    for row in table.splitlines():
        name, severity, category, audience, _, threshold, hold = (cell.strip() for cell in row.strip("|").split(" | "))
        told.append((told[-1][0] if name == "same" else name.strip("`"), severity, category, audience, hold))
        for key, value in re.findall(r"`(\w+)` ([\d.]+)", threshold):
            assert float(value) == getattr(Alerts(), key), key
        assert all(key in Anomalies.model_fields for key in re.findall(r"`anomalies\.(\w+)`", threshold))
    assert sorted(told) == sorted(
        (
            alert["alert"],
            alert["labels"]["severity"] + (", `review: weekly`" if "review" in alert["labels"] else ""),
            alert["labels"]["category"],
            alert["labels"]["audience"],
            alert["for"],
        )
        for alert in alerts()
    )


def test_thresholds_in_the_rules_are_all_there_is() -> None:
    read = set(re.findall(r'genai_meter_alert_threshold{threshold="(\w+)"}', RULES.read_text()))
    assert read == set(Alerts.model_fields)


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    names = {alert["alert"] for alert in alerts()}
    assert {page.stem for page in RUNBOOKS.glob("GenAIMeter*.md")} == names
    situations = {page.stem for page in RUNBOOKS.glob("*.md")} - names
    assert situations == {
        "budget-exceedance",
        "model-deprecation",
        "price-migration",
        "provider-outage",
        "telemetry-lost",
        "token-miscount",
    }
    for name in names | situations:
        text = (RUNBOOKS / f"{name}.md").read_text()
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        assert headings == [name, "Meaning", "Impact", "Diagnosis", "Mitigation"]


def test_every_dashboard_that_an_alert_links_to_is_there_with_its_variables() -> None:
    pages = [json.loads(file.read_text()) for file in (ROOT / "dashboards").glob("*.json")]
    known = {page["uid"]: {variable["name"] for variable in page["templating"]["list"]} for page in pages}
    for alert in alerts():
        uid, _, query = (
            alert["annotations"]["dashboard_url"].removeprefix("https://grafana.example.com/d/").partition("?")
        )
        asked = set(re.findall(r"var-(\w+)=", query))
        assert asked <= known[uid], alert["alert"]


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """Words and options that a command understands."""
    found: set[str] = set()
    for action in parser._actions:  # pyright: ignore[reportPrivateUsage]
        found |= set(action.option_strings) | {str(choice) for choice in action.choices or ()}
        choices: object = action.choices  # pyright: ignore[reportUnknownMemberType]
        parts = cast(dict[str, object], choices) if isinstance(choices, dict) else {}
        for part in parts.values():
            found |= options_of(part) if isinstance(part, argparse.ArgumentParser) else set()
    return found


def test_commands_that_alerts_and_runbooks_name_are_there() -> None:
    pages = [*RUNBOOKS.glob("*.md"), RULES, ROOT / "docs" / "alerts.md", ROOT / "docs" / "anomalies.md"]
    named = {
        found for page in pages for found in re.findall(r"`genai-meter ([^`]+)`", " ".join(page.read_text().split()))
    }
    assert len(named) > 40
    for line in sorted(named):
        name, *rest = line.split()
        parser = argparse.ArgumentParser()
        importlib.import_module(f"genai_meter_exporter.commands.{name}").configure(parser)
        known = options_of(parser)
        assert {word for word in rest if word.startswith("--")} <= known, line
        if rest and re.fullmatch(r"[a-z]+", rest[0]):
            assert rest[0] in known, line


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_alert_says_what_to_do(alert: dict[str, Any]) -> None:
    assert re.fullmatch(r"GenAIMeter([A-Z][a-z]+)+", alert["alert"])
    wanted = {"summary", "description", "owner", "action", "runbook_url", "dashboard_url"}
    assert set(alert["annotations"]) - {"primarily_due_to"} == wanted
    assert "{{" not in alert["annotations"]["summary"], "a summary is the headline of grouped alerts: static"
    assert alert["annotations"]["runbook_url"].endswith(f"/{alert['alert']}.md")
    labels = alert["labels"]
    assert set(labels) - {"long", "review"} == {"severity", "category", "audience"}
    assert labels["severity"] in {"critical", "warning"}
    assert labels["audience"] in {"engineering", "finance", "product", "operations"}
    assert labels["category"] in {
        *("budget", "spend", "anomaly", "efficiency", "economics", "endpoint", "data-quality"),
    }
    assert set(alert) == {"alert", "expr", "for", "labels", "annotations"}


def test_time_scale_shortens_every_time_and_nothing_else() -> None:
    shipped = list(rules(RULES.read_text()))
    scaled = list(rules(command("--time-scale", str(SCALE)).stdout))
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    pattern = re.compile(r"\b(\d+)([smhd])\b")
    for before, after in zip(shipped, scaled, strict=True):
        in_seconds = [
            [int(n) * units[u] for n, u in pattern.findall(str(rule["expr"]) + " " + str(rule.get("for", "")))]
            for rule in (before, after)
        ]
        assert [t // SCALE for t in in_seconds[0]] == in_seconds[1]
        assert pattern.sub("T", before["expr"]) == pattern.sub("T", after["expr"])


@pytest.mark.parametrize("scale", ["0", "61", "-1", "1.5", "x"])
def test_time_scale_out_of_range_is_refused(scale: str) -> None:
    done = command("--time-scale", scale)
    assert (done.returncode, done.stdout) == (2, "")
    assert "whole number from 1 to 60" in done.stderr


def metric_selectors(expression: str) -> dict[str, set[str]]:
    """Metric name → matchers it is read with, from the parsed expression."""
    found: dict[str, set[str]] = {}

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector) and node.name:
            found.setdefault(node.name, set()).update(f"{m.name}={m.value}" for m in node.matchers.matchers)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def of_applications() -> set[str]:
    """Metrics that applications send, under the names that OpenTelemetry counters have in Prometheus."""
    return {semconv.METRIC_SPOOL_EVENTS.replace(".", "_") + "_total"}


def test_selector_reaches_every_exposed_metric_and_no_recorded_series(promtool: Path, tmp_path: Path) -> None:
    file = tmp_path / "selected.yaml"
    assert command("--selector", 'job="genai-meter",cluster="eu"', "--output", str(file)).returncode == 0
    run(promtool, "check", "rules", file)
    seen: set[str] = set()
    for rule in rules(file.read_text()):
        for name, matchers in metric_selectors(rule["expr"]).items():
            seen.add(name)
            of_exporter = ":" not in name and name not in of_applications()
            assert ({"job=genai-meter", "cluster=eu"} <= matchers) == of_exporter, (name, matchers)
    assert {"genai_meter_cost_usd_total", *of_applications()} <= seen
    # The queries inside the annotations as well.
    for query in re.findall(r"printf `([^`]*)`", file.read_text()):
        exposed = re.findall(r"(?<!:)\b(genai_meter_\w+)\{([^}]*)\}", query)
        assert all('job="genai-meter",cluster="eu"' in matchers for _, matchers in exposed)


def test_prefix_reaches_the_same_metrics_and_no_recorded_series(promtool: Path, tmp_path: Path) -> None:
    file = tmp_path / "prefixed.yaml"
    assert command("--prefix", "acme_", "--selector", 'job="a"', "--output", str(file)).returncode == 0
    run(promtool, "check", "rules", file)
    for shipped, prefixed in zip(rules(RULES.read_text()), rules(file.read_text()), strict=True):
        selectors = metric_selectors(prefixed["expr"])
        assert {name.removeprefix("acme_") for name in selectors} == set(metric_selectors(shipped["expr"]))
        assert all(name.startswith("acme_genai_meter_") == (":" not in name) for name in selectors)
        assert shipped.get("record") == prefixed.get("record")
    for query in re.findall(r"printf `([^`]*)`", file.read_text()):
        assert re.findall(r"(?<![\w:])genai_meter_\w+", query) == []


@pytest.mark.parametrize("prefix", ["", "1a", "a-b", "a b"])
def test_prefix_that_no_metric_can_have_is_refused(prefix: str) -> None:
    assert command("--prefix", prefix).returncode == 2


@pytest.mark.parametrize("selector", ['job="a', "job", 'a="x`y"', 'a="x%sy"', 'a="{{.}}"', 'a="x: y"', 'a="x #y"'])
def test_selector_that_would_break_a_rule_is_refused(selector: str) -> None:
    done = command("--selector", selector)
    assert (done.returncode, done.stdout) == (2, "")


def test_prometheus_rule_holds_the_same_groups() -> None:
    manifest = yaml.safe_load(command("--prometheus-rule").stdout)
    assert (manifest["apiVersion"], manifest["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert manifest["spec"] == yaml.safe_load(RULES.read_text())


def test_links_follow_the_installation() -> None:
    text = command("--runbook-url", "https://wiki.corp/rb/", "--dashboard-url", "https://grafana.corp").stdout
    assert "example.com" not in text
    links = {rule["annotations"]["runbook_url"] for rule in rules(text) if "alert" in rule}
    assert links == {f"https://wiki.corp/rb/{alert['alert']}.md" for alert in alerts()}
