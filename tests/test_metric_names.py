"""Metrics: what rules and dashboards name is exposed, what is exposed is documented, what is documented is exposed."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from dashboard_kit import FILES, config, first_part, interpolate, load, queries
from exporter_kit import Served, fetch

ROOT = Path(__file__).parent.parent
RULES = ROOT / "alert_rules" / "genai-meter.rules.yaml"
DOCS = sorted((ROOT / "docs").glob("*.md"))


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[set[str]]:
    """Names of all samples of an exporter that has seen something of everything."""
    with Served(tmp_path_factory.mktemp("served"), config()) as served:
        for signal, body in first_part(time.time_ns()).requests:
            assert served.post(signal, body).status == 200
        page = fetch(served.metrics_url).body.decode()
        yield set(re.findall(r"^# TYPE (\w+)", page, re.MULTILINE)) | set(
            re.findall(r"^(genai_meter_\w+)[{ ]", page, re.MULTILINE)
        )


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]


def metrics_of(expressions: Iterable[str]) -> set[str]:
    """Names of the metrics that PromQL expressions select."""
    named: set[str] = set()

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector) and node.name:
            named.add(node.name)

    for expression in expressions:
        promql_parser.walk(promql_parser.parse(expression), visit)
    return named


def in_templates() -> Iterator[str]:
    """Metrics that the annotations of alerts ask for, in backquoted or quoted PromQL."""
    for rule in rules():
        for text in rule.get("annotations", {}).values():
            yield from re.findall(r"genai_meter_\w+", text)


def in_dashboards() -> set[str]:
    expressions = [interpolate(asked.target["expr"]) for asked in queries("prometheus")]
    for file in FILES:
        page = load(file)
        expressions += [a["target"]["expr"] for a in page.get("annotations", {}).get("list", ())]
        definitions = [v["query"] for v in page["templating"]["list"] if v["type"] == "query"]
        expressions += [definition.removeprefix("label_values(").partition(",")[0] for definition in definitions]
    return metrics_of(expressions)


def recorded() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


def test_every_metric_that_rules_name_is_exposed_or_recorded(exposed: set[str]) -> None:
    named = metrics_of(rule["expr"] for rule in rules())
    # One is the applications' own: tests/test_collector.py sees under which name it arrives.
    assert named - exposed - recorded() == {"genai_meter_spool_events_total"}
    bare = {name.partition(":")[2].partition(":")[0] for name in recorded()}
    assert set(in_templates()) - exposed - bare == set()


def test_every_metric_that_dashboards_name_is_exposed_or_recorded(exposed: set[str]) -> None:
    assert in_dashboards() - exposed - recorded() == {"ALERTS"}


def documented() -> set[str]:
    """Names in the tables of metrics: those whose first column is headed `metric`."""
    found: set[str] = set()
    for file in DOCS:
        text = file.read_text(encoding="utf-8")
        for table in re.findall(r"^\| metric \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE):
            for row in re.findall(r"^\| (.+?) \|", table, re.MULTILINE):
                for name in re.findall(r"`([a-z_0-9<>]+)`", row):
                    full = name if name.startswith("genai_meter_") else f"genai_meter_{name}"
                    found |= {full.replace("<unit>", unit) for unit in ("usd", "tokens", "calls")}
    return found


def families(exposed: set[str]) -> set[str]:
    """One name for each: what a histogram's parts and a counter's `_total` belong to."""
    return {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in exposed}


def test_every_exposed_metric_is_documented(exposed: set[str]) -> None:
    assert {name for name in families(exposed) if name.startswith("genai_meter_")} - documented() == set()


def test_every_documented_metric_is_exposed(exposed: set[str]) -> None:
    assert documented() - families(exposed) == set()
