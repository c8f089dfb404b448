"""The dashboard "LLM spend overview": what it costs, who spends it, and whether it is within budget."""

from __future__ import annotations

from typing import Final

from dashboards.pages import NO_BUDGETS, NO_CALLS, Page, drill_down, scope
from dashboards.panels import AMBER, RED, Column, Panel, Row
from dashboards.parts import calls_by_status, dearest_tenants, figure, largest, spike, tokens_by_type
from dashboards.queries import Query, named, rate, spend, total

FILTERS: Final = ("environment", "team", "service", "provider", "model")
SCOPE: Final = scope(*FILTERS)
SERVICES: Final = scope("environment", "team", "service")
MODELS: Final = scope("provider", "model")

TROUBLE: Final = 'state=~"at_risk|soft_cap|over_budget"'


def _glance() -> Row:
    week, before = spend(SCOPE, over="7d"), spend(SCOPE, over="14d", until=" offset 7d")
    states = "max by (budget) (genai_meter_budget_state"
    return Row(
        "At a glance",
        [
            figure(
                "Spend",
                "Charges less corrections in the time range: what the ledger gained, to the cent.",
                spend(SCOPE),
                "currencyUSD",
                decimals=2,
            ),
            figure(
                "Week over week",
                "Growth of spend: the last 7 days against the 7 before, whatever time range is chosen.",
                f"{week} / ({before} > 0) - 1",
                "percentunit",
                "There is no spend of the week before to compare with yet.",
                decimals=0,
            ),
            figure(
                "Cost per call",
                "Spend over all calls of the time range, failed ones included.",
                f"{spend(SCOPE)} / ({total('genai_meter_requests_total', SCOPE, labels=_REQUESTS)} > 0)",
                "currencyUSD",
                decimals=4,
            ),
            figure(
                "Budgets at risk or over",
                "Budgets whose state is at_risk, soft_cap or over_budget now.",
                f"count({states}{{{TROUBLE}}}) == 1) or 0 * count({states}) == 1)",
                "short",
                NO_BUDGETS,
                steps=[(1, AMBER)],
                link=("Budgets and forecast", drill_down("genai-meter-budgets")),
            ),
            figure(
                "Unpriced calls",
                "Calls of models without a price: their cost is missing in every figure here.",
                f"{total('genai_meter_unpriced_requests_total', MODELS, labels='provider, model')} or vector(0)",
                "short",
                steps=[(1, AMBER)],
                link=("Data quality", drill_down("genai-meter-quality")),
            ),
            figure(
                "Alerts firing",
                "Firing alerts of genai-meter, whatever is selected above.",
                'count(ALERTS{alertname=~"GenAIMeter.+",alertstate="firing"}) or vector(0)',
                "short",
                steps=[(1, RED)],
            ),
        ],
    )


_REQUESTS: Final = "team, environment, service, feature, provider, model, operation, status"


def _where() -> Row:
    per_hour = f"{rate('genai_meter_cost_usd_total', SCOPE, 'team', 3600)}"
    used = (
        "max by (budget) (genai_meter_budget_spent_usd / genai_meter_budget_limit_usd"
        " or genai_meter_budget_spent_tokens / genai_meter_budget_limit_tokens"
        " or genai_meter_budget_spent_calls / genai_meter_budget_limit_calls)"
    )
    return Row(
        "Where the money goes",
        [
            Panel(
                "Spend per hour by team",
                "USD per hour as it was charged. Calls that name no team are `(none)`.",
                "stacked",
                "currencyUSD",
                [Query(named(per_hour, "team"), "{{team}}")],
                NO_CALLS,
                width=16,
                height=9,
            ),
            Panel(
                "Budgets: used so far",
                "Share of each budget's amount that is spent in its current period; the fullest first.",
                "ranking",
                "percentunit",
                [Query(f"sort_desc(topk(10, {used}))", "{{budget}}")],
                NO_BUDGETS,
                height=9,
                decimals=0,
                top=1,
                steps=[(1, RED)],
                link=("Budgets and forecast", drill_down("genai-meter-budgets", budget="${__field.labels.budget}")),
            ),
            *(_ranking(label) for label in ("feature", "model")),
            dearest_tenants(),
        ],
    )


def _ranking(label: str) -> Panel:
    uid = {"feature": "genai-meter-product", "model": "genai-meter-providers"}[label]
    return Panel(
        f"Spend by {label}",
        "Charges less corrections in the time range, the largest first.",
        "ranking",
        "currencyUSD",
        [Query(largest(spend(SCOPE, label), label), f"{{{{{label}}}}}")],
        NO_CALLS,
        link=(f"This {label}", drill_down(uid, **{label: f"${{__field.labels.{label}}}"})),
    )


def _table() -> Row:
    by = "team, service, feature, provider, model"
    return Row(
        "In detail",
        [
            Panel(
                "Spend by service, feature and model",
                "Charges less corrections, and calls, of the time range; a click leads to a dashboard of its own.",
                "table",
                "currencyUSD",
                [
                    Query(f"{spend(SCOPE, by)} > 0"),
                    Query(f"{total('genai_meter_requests_total', SCOPE, by, _REQUESTS)} > 0"),
                ],
                NO_CALLS,
                width=24,
                height=10,
                columns=[
                    Column("team", "Team"),
                    Column("service", "Service", link=drill_down("genai-meter-service", service="${__value.text}")),
                    Column("feature", "Feature", link=drill_down("genai-meter-product", feature="${__value.text}")),
                    Column("provider", "Provider"),
                    Column("model", "Model", link=drill_down("genai-meter-providers", model="${__value.text}")),
                    Column("Value #A", "Spend", "currencyUSD", 160, 2),
                    Column("Value #B", "Calls", "short", 120, 0),
                ],
                sort_by="Spend",
            ),
        ],
    )


def _more() -> Row:
    return Row(
        "Movement",
        [
            spike("Hourly spend against its spike threshold", SERVICES),
            tokens_by_type(SCOPE),
            calls_by_status(SCOPE),
        ],
    )


PAGE: Final = Page(
    uid="genai-meter-spend",
    file="llm-spend-overview.json",
    title="LLM spend overview",
    description="What LLM calls cost, for whom, and whether the budgets hold.",
    rows=[_glance(), _where(), _table(), _more()],
    filters=FILTERS,
    since="now-7d",
)
