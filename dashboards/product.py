"""The dashboard "LLM product": what a feature costs, what it achieves, and for whom."""

from __future__ import annotations

from typing import Final

from dashboards.pages import NO_CALLS, Page, drill_down, scope
from dashboards.panels import Column, Panel, Row
from dashboards.parts import dearest_tenants, figure
from dashboards.queries import Query, named, quantile_of_range, rate, spend, total
from dashboards.service import MODELS, STATUSES, TOKENS

SCOPE: Final = scope("environment", "team", "feature")
GOALS: Final = scope("team", "feature")
OUTCOME: Final = "team, feature, outcome, success"

NO_OUTCOMES: Final = "No outcome was recorded: call `outcome(...)` where the work is done."


def outcomes(more: str = "", by: str = "") -> str:
    """Outcomes of the time range."""
    return total("genai_meter_outcomes_total", f"{GOALS}{more}", by, OUTCOME)


def _value(by: str = "") -> str:
    return total("genai_meter_outcome_value_usd_total", GOALS, by, "team, feature, outcome")


SUCCESS: Final = ',success="true"'


def _glance() -> Row:
    calls = total("genai_meter_requests_total", SCOPE, labels=STATUSES)
    return Row(
        "At a glance",
        [
            figure("Spend", "Charges less corrections in the time range.", spend(SCOPE), "currencyUSD", decimals=2),
            figure(
                "Cost per call", "Spend over all calls.", f"{spend(SCOPE)} / ({calls} > 0)", "currencyUSD", decimals=4
            ),
            figure(
                "Successes",
                "Outcomes that were told as successful.",
                outcomes(SUCCESS),
                "short",
                NO_OUTCOMES,
                decimals=0,
            ),
            figure(
                "Success rate",
                "Successful outcomes over all.",
                f"{outcomes(SUCCESS)} / ({outcomes()} > 0)",
                "percentunit",
                NO_OUTCOMES,
                decimals=0,
            ),
            figure(
                "Cost per success",
                "Spend of features that tell outcomes, over their successes: the price of one good result.",
                f"sum({_spend_of_goals()}) / ({outcomes(SUCCESS)} > 0)",
                "currencyUSD",
                NO_OUTCOMES,
                decimals=4,
            ),
            figure(
                "Value per USD spent",
                "Value of outcomes over the spend of the features that tell outcomes.",
                f"{_value()} / sum({_spend_of_goals()} > 0)",
                "short",
                "No outcome with a value was recorded: give `outcome(...)` a `value_usd`.",
                decimals=2,
            ),
        ],
    )


def _spend_of_goals() -> str:
    by = "team, feature"
    return f"({spend(SCOPE, by)} and on ({by}) {outcomes('', by)} > 0)"


def _features() -> Row:
    by = "team, feature"
    calls = total("genai_meter_requests_total", SCOPE, by, STATUSES)
    return Row(
        "Features",
        [
            Panel(
                "Unit cost of each feature",
                "Spend, calls, outcomes and what one of each costs, in the time range.",
                "table",
                "short",
                [
                    Query(f"{spend(SCOPE, by)} > 0"),
                    Query(f"{calls} > 0"),
                    Query(f"{spend(SCOPE, by)} / ({calls} > 0)"),
                    Query(f"{outcomes('', by)} > 0"),
                    Query(f"{outcomes(SUCCESS, by)} / ({outcomes('', by)} > 0)"),
                    Query(f"{spend(SCOPE, by)} / ({outcomes(SUCCESS, by)} > 0)"),
                    Query(f"{total('genai_meter_cost_avoided_usd_total', SCOPE, by)} > 0"),
                ],
                NO_CALLS,
                width=24,
                height=9,
                columns=[
                    Column("team", "Team", width=140),
                    Column("feature", "Feature", link=drill_down("genai-meter-product", feature="${__value.text}")),
                    Column("Value #A", "Spend", "currencyUSD", 130, 2),
                    Column("Value #B", "Calls", "short", 100, 0),
                    Column("Value #C", "Cost per call", "currencyUSD", 130, 4),
                    Column("Value #D", "Outcomes", "short", 110, 0),
                    Column("Value #E", "Success rate", "percentunit", 120, 0),
                    Column("Value #F", "Cost per success", "currencyUSD", 150, 4),
                    Column("Value #G", "Not spent (caches)", "currencyUSD", 160, 2),
                ],
                sort_by="Spend",
            ),
            Panel(
                "Cost per call by feature",
                "A step upward after a release is a longer prompt, a longer answer or another model.",
                "lines",
                "currencyUSD",
                [Query(_per_call(), "{{feature}}")],
                NO_CALLS,
            ),
            Panel(
                "Cost per success by feature",
                "Spend over successful outcomes, of each interval of the graph.",
                "lines",
                "currencyUSD",
                [Query(_per_success(), "{{feature}}")],
                NO_OUTCOMES,
            ),
            dearest_tenants(),
        ],
    )


def _per_call() -> str:
    calls = rate("genai_meter_requests_total", SCOPE, "feature")
    return named(f"{rate('genai_meter_cost_usd_total', SCOPE, 'feature')} / ({calls} > 0)", "feature")


def _per_success() -> str:
    cost = total("genai_meter_cost_usd_total", SCOPE, "feature", over="$__rate_interval")
    good = total("genai_meter_outcomes_total", f"{GOALS}{SUCCESS}", "feature", OUTCOME, over="$__rate_interval")
    return named(f"{cost} / ({good} > 0)", "feature")


def _requests() -> Row:
    scoped = scope("provider", "model")
    return Row(
        "Tokens per request",
        [
            Panel(
                "Tokens per request by model",
                "Gross input and output of one call in the time range. A 99th percentile far above the median is a few "
                "calls that cost as much as all others.",
                "table",
                "short",
                [
                    Query(quantile_of_range(q, TOKENS, scoped, f"{MODELS}, direction", "provider, model, direction"))
                    for q in (0.5, 0.95, 0.99)
                ],
                NO_CALLS,
                width=16,
                height=9,
                columns=[
                    Column("provider", "Provider"),
                    Column("model", "Model", link=drill_down("genai-meter-providers", model="${__value.text}")),
                    Column("direction", "Direction", width=110),
                    Column("Value #A", "Median", "short", 110, 0),
                    Column("Value #B", "p95", "short", 110, 0),
                    Column("Value #C", "p99", "short", 110, 0),
                ],
                sort_by="p99",
            ),
            Panel(
                "Experiments, prompts, users",
                "Where figures are that have too many values for Prometheus.",
                "text",
                "short",
                [],
                NO_CALLS,
                width=8,
                height=9,
                content=(
                    "Experiment variants, prompt versions, releases, users and runs have too many values for "
                    "Prometheus. They are in the ledger:\n\n"
                    "- dashboard **LLM ledger**, when the ledger is in PostgreSQL or ClickHouse;\n"
                    "- `genai-meter usage --by experiment,variant --since 7d`;\n"
                    "- `genai-meter outcomes --by feature,variant`: success rate and cost per success."
                ),
            ),
        ],
    )


PAGE: Final = Page(
    uid="genai-meter-product",
    file="llm-product.json",
    title="LLM product",
    description="What a feature costs, what it achieves, and for whom.",
    rows=[_glance(), _features(), _requests()],
    filters=("environment", "team", "feature", "provider", "model"),
    since="now-7d",
)
