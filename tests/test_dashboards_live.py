"""Every query of every dashboard on a live Prometheus: data, labels, unit, and the figures of the ledger."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from dashboard_checks import Check, Figures
from dashboard_figures import figures
from dashboard_kit import FILES, RANGE_S, Asked, Live, Traffic, interpolate, live, load, queries
from tools_kit import stack_needed

from examples.children import wait_for
from examples.prometheus import Sample

pytestmark = pytest.mark.timeout(300)

ASKED = queries("prometheus")
NOT_OURS = {"__name__", "instance", "job"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Everything running, with the traffic in the ledger and in Prometheus."""
    stack_needed()
    with live(tmp_path_factory.mktemp("stage")) as made:
        yield made


@pytest.fixture
def stage(running: Live) -> Live:
    """The same, after a scrape that took less than a second: another one leaves nothing to ask for."""
    wait_for("a scrape", lambda: running.prometheus.query('up{job="genai-meter"} == 1'), 60)
    return running


@pytest.fixture(scope="module")
def expected(running: Live) -> dict[tuple[str, str, str], Check]:
    return figures(running.rows())


def shown(samples: list[Sample], legend: str | None) -> Figures:
    """Figures by their legend, or by the values of their labels."""

    def name(sample: Sample) -> str:
        if legend:
            return re.sub(r"\{\{(\w+)\}\}", lambda match: sample.labels.get(match[1], ""), legend)
        return "/".join(value for key, value in sorted(sample.labels.items()) if key not in NOT_OURS)

    found = [(name(sample), sample.value) for sample in samples]
    assert len(dict(found)) == len(found), f"two series look the same: {found}"
    return dict(found)


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: "-".join(asked.key))
def test_answer_is_what_the_ledger_says(stage: Live, expected: dict[tuple[str, str, str], Check], asked: Asked) -> None:
    expression = interpolate(asked.target["expr"])
    samples = stage.prometheus.query(expression)
    legend = asked.target.get("legendFormat")
    named = set(re.findall(r"\{\{(\w+)\}\}", legend or ""))
    assert all(named <= set(sample.labels) | {"owner", "team"} for sample in samples)
    expected[asked.key](shown(samples, legend))
    if asked.target["range"]:
        now = time.time()
        points = stage.prometheus.ask(
            "query_range", query=expression, start=f"{now - 30:.3f}", end=f"{now:.3f}", step="5"
        )
        assert points["result"]
    if asked.target.get("exemplar"):
        assert stage.prometheus.exemplars(expression)


def test_every_figure_is_expected_by_somebody(expected: dict[tuple[str, str, str], Check]) -> None:
    assert set(expected) == {asked.key for asked in ASKED}


@pytest.mark.parametrize(
    "asked",
    [asked for asked in ASKED if "genai_meter_alert_threshold" not in asked.target["expr"]],
    ids=lambda asked: "-".join(asked.key),
)
def test_unit_is_that_of_the_figures(asked: Asked) -> None:
    """Money where metrics of money stand undivided, shares where like is divided by like, and so on."""
    assert IN_SHORT.get(asked.unit, asked.unit) == unit_of(asked.target["expr"]), asked.key


IN_SHORT = {"currency:financial:$": "currencyUSD", "locale": "short"}
"""Unit of figures that stand in full → the one that graphs have."""

AROUND = re.compile(r"^(sort_desc|topk|label_replace|avg|(sum|max)( by \([^)]*\))?)? ?\(")
"""A function or an aggregation that leaves the unit as it is."""


def unit_of(expression: str) -> str:
    """What an expression counts: by the units in its metrics' names, above and below its division."""
    bare = _inside(re.sub(r"\{[^}]*\}|\[[^\]]*\]| and .*", "", expression))
    if bare.startswith("count(") or "budget_state" in bare:
        return "short"
    parts = [_dimension(part) for part in _quotient(bare)]
    if len(parts) == 1:
        return {"usd": "currencyUSD", "time": "s", "share": "percentunit"}.get(parts[0], "short")
    if parts[0] == parts[1]:
        return "percentunit"
    return "currencyUSD" if parts == ["usd", "count"] else "short"


def _inside(expression: str) -> str:
    """Without what is around it as a whole."""
    while found := AROUND.match(expression):
        if _closes_at(expression, found.end() - 1) != len(expression) - 1:
            break
        expression = expression[found.end() : -1].removeprefix("10, ").removeprefix("8, ").removeprefix("12, ")
    return expression


def _quotient(expression: str) -> list[str]:
    """The expression, split at its first division outside of all parentheses."""
    depth = 0
    for index, sign in enumerate(expression):
        depth += (sign == "(") - (sign == ")")
        if sign == "/" and depth == 0:
            return [expression[:index], expression[index + 1 :].partition(" or ")[0]]
    return [expression]


def _closes_at(expression: str, opened: int) -> int:
    depth = 0
    for index in range(opened, len(expression)):
        depth += (expression[index] == "(") - (expression[index] == ")")
        if depth == 0:
            return index
    return -1


def _dimension(part: str) -> str:
    for mark, dimension in _MARKS:
        if re.search(mark, part):
            return dimension
    return "count"


_MARKS = (
    ("outcome_value_usd", "value"),
    ("_usd", "usd"),
    ("retries", "retry"),
    (r"(histogram_quantile|time\(\)|increase).*_seconds", "time"),
    ("_ratio", "share"),
)


# --- ranges, filters, variables -----------------------------------------------------------------------
def panel_query(dashboard: str, title: str) -> str:
    return next(asked for asked in ASKED if asked.key == (dashboard, title, "A")).target["expr"]


def value(stage: Live, expression: str, **chosen: str) -> float:
    (sample,) = stage.prometheus.query(interpolate(expression, chosen))
    return sample.value


def test_spend_of_a_time_range_is_what_the_ledger_gained_in_it(stage: Live) -> None:
    """To the cent, where `increase()` would extrapolate."""
    query = panel_query("llm-spend-overview", "Spend")
    before = sum(row["cost"] or 0 for row in stage.rows())
    time.sleep(5)
    began = time.time()
    made = Traffic(time.time_ns())
    made.send(made.call("search", "chat", "acme", input_tokens=1_000_000, output_tokens=123_456))
    made.send(made.call("search", "new-feature", "acme", input_tokens=10_000, output_tokens=0))
    stage.send(made)
    gained = (sum(row["cost"] or 0 for row in stage.rows()) - before) / 1e12
    assert gained == pytest.approx(2.5 + 1.23456 + 0.025)
    # It begins in the five seconds in which nothing happened.
    seconds = f"{time.time() - began + 2:.0f}s"
    assert value(stage, query, __range=seconds) == pytest.approx(gained, abs=1e-9)


def test_what_is_chosen_narrows_the_figures(stage: Live) -> None:
    query = panel_query("llm-spend-overview", "Spend")
    support = sum(row["cost"] or 0 for row in stage.rows("team = 'support'")) / 1e12
    assert value(stage, query, team="support") == pytest.approx(support, abs=1e-9)
    both = sum(row["cost"] or 0 for row in stage.rows("team IN ('support', 'search')")) / 1e12
    assert value(stage, query, team="(support|search)") == pytest.approx(both, abs=1e-9)
    assert stage.prometheus.query(interpolate(query, {"team": "nobody"})) == []


def variables() -> list[Any]:
    found = {
        variable["query"]: variable
        for file in FILES
        for variable in load(file)["templating"]["list"]
        if variable["type"] == "query"
    }
    return [pytest.param(definition, id=definition) for definition in sorted(found)]


@pytest.mark.parametrize("definition", variables())
def test_variable_offers_values(stage: Live, definition: str) -> None:
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", definition).groups()  # type: ignore[union-attr]
    now = time.time()
    assert stage.prometheus.ask(f"label/{label}/values", **{"match[]": metric, "start": f"{now - RANGE_S:.0f}"})


def marks() -> list[Any]:
    found = {a["name"]: a for file in FILES for a in load(file).get("annotations", {}).get("list", ())}
    return [pytest.param(annotation, id=name) for name, annotation in found.items()]


@pytest.mark.parametrize("annotation", marks())
def test_annotation_marks_what_happened(stage: Live, annotation: dict[str, Any]) -> None:
    query = annotation["target"]["expr"]
    samples = wait_for(query, lambda: stage.prometheus.query(query), 60)
    if annotation.get("useValueForTime"):
        # Milliseconds of the release: that of the first call, to the quarter of an hour.
        assert all(0 <= time.time() - sample.value / 1000 < 3600 for sample in samples)
    named = set(re.findall(r"\{\{(\w+)\}\}", annotation["titleFormat"]))
    assert all(named <= set(sample.labels) for sample in samples)
