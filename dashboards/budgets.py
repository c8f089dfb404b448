"""The dashboard "LLM budgets and forecast": for finance."""

from __future__ import annotations

from typing import Final

from dashboards.pages import NO_BUDGETS, NO_CALLS, NO_RULES, Page, drill_down, scope
from dashboards.panels import AMBER, GREEN, GREY, RED, Column, Panel, Row
from dashboards.queries import Query, named, spend, threshold

SCOPE: Final = scope("budget", "team", "owner", "window")
MEDIAN: Final = 'quantile="0.5"'
UPPER: Final = 'quantile="0.9"'
LABELS: Final = "budget, team, owner, window"
STATES: Final = {
    "within_budget": ("within budget", GREEN),
    "at_risk": ("at risk", AMBER),
    "soft_cap": ("soft cap", AMBER),
    "over_budget": ("over budget", RED),
    "unknown": ("unknown", GREY),
}
"""State → how it is shown."""


def metric(name: str, more: str = "", by: str = LABELS) -> str:
    """A metric of the selected budgets, once however many exporters show it."""
    matchers = f"{SCOPE},{more}" if more else SCOPE
    return f"max by ({by}) (genai_meter_budget_{name}{{{matchers}}})"


def share(amount: str, more: str = "", by: str = LABELS) -> str:
    """Amounts over the budgets' own, whatever they are counted in."""
    parts = (f"{metric(f'{amount}_{unit}', more, by)} / {metric(f'limit_{unit}', '', by)}" for unit in _UNITS)
    return f"({' or '.join(parts)})"


_UNITS: Final = ("usd", "tokens", "calls")


def _count(title: str, states: str, description: str, colour: str) -> Panel:
    by = metric("state", f'state=~"{states}"', "budget")
    every = metric("state", "", "budget")
    return Panel(
        title,
        description,
        "stat",
        "short",
        [Query(f"count({by} == 1) or 0 * count({every})")],
        NO_BUDGETS,
        width=4,
        height=4,
        steps=[(1, colour)],
    )


def _glance() -> Row:
    return Row(
        "Where the budgets stand",
        [
            _count("Over budget", "over_budget", "Budgets that have spent more than their amount.", RED),
            _count(
                "At risk", "at_risk|soft_cap", "Budgets past a threshold, or with a forecast above the amount.", AMBER
            ),
            _count("Within budget", "within_budget", "Budgets of which nothing is to be told.", GREEN),
            Panel(
                "Forecast above the amount",
                "Budgets in USD that will end above their amount, by the median forecast.",
                "stat",
                "short",
                [
                    Query(
                        f"count({metric('forecast_usd', MEDIAN)} > {metric('limit_usd')})"
                        f" or 0 * count({metric('limit_usd')})"
                    )
                ],
                NO_BUDGETS,
                width=4,
                height=4,
                steps=[(1, AMBER)],
            ),
            Panel(
                "Forecasts were off by",
                "Mean of |forecast - actual| / actual over past periods, horizons and the selected budgets.",
                "stat",
                "percentunit",
                [
                    Query(
                        "avg(max by (budget, horizon_days)"
                        ' (genai_meter_budget_forecast_error_ratio{budget=~"$budget"}))'
                    )
                ],
                "No period with a forecast has ended yet.",
                width=4,
                height=4,
                decimals=0,
            ),
            Panel(
                "Evaluated",
                "Time since the exporter last looked at the budgets; it does so at every commit and every minute.",
                "stat",
                "s",
                [Query("time() - max(genai_meter_budget_evaluated_timestamp_seconds)")],
                NO_BUDGETS,
                width=4,
                height=4,
                decimals=0,
                steps=[(300, RED)],
            ),
        ],
    )


def _table() -> Row:
    return Row(
        "Budgets",
        [
            Panel(
                "Budgets in USD",
                "The current period of each: what is spent of the amount, how much of the time has gone by, where it "
                "will end (median forecast), and spend over plan in the last hour.",
                "table",
                "currencyUSD",
                [
                    Query(f"{metric('state', by=f'{LABELS}, state')} == 1 and on (budget) {metric('limit_usd')}"),
                    Query(metric("spent_usd")),
                    Query(metric("limit_usd")),
                    Query(f"{metric('spent_usd')} / {metric('limit_usd')}"),
                    Query(f"{metric('period_elapsed_ratio')} and {metric('limit_usd')}"),
                    Query(metric("forecast_usd", MEDIAN)),
                    Query(f"{metric('forecast_usd', MEDIAN)} / {metric('limit_usd')}"),
                ],
                NO_BUDGETS,
                width=24,
                height=10,
                columns=[
                    Column("budget", "Budget", link=drill_down("genai-meter-budgets", budget="${__value.text}")),
                    Column("team", "Team", width=110),
                    Column("owner", "Owner"),
                    Column("window", "Period", width=90),
                    Column(
                        "state",
                        "State",
                        width=130,
                        colours={name: colour for name, (_, colour) in STATES.items()},
                        texts={name: text for name, (text, _) in STATES.items()},
                    ),
                    Column("Value #B", "Spent", "currencyUSD", 110, 2),
                    Column("Value #C", "Amount", "currencyUSD", 110, 2),
                    Column("Value #D", "Used", "percentunit", 150, 0, gauge=1),
                    Column("Value #E", "Time gone", "percentunit", 110, 0),
                    Column("Value #F", "Forecast", "currencyUSD", 110, 2),
                    Column("Value #G", "Forecast share", "percentunit", 120, 0),
                ],
                hidden=["Value #A"],
                sort_by="Used",
            ),
        ],
    )


def _time() -> Row:
    hard = f"max by (threshold) (genai_meter_budget_threshold_ratio{{{SCOPE}}})"
    return Row(
        "Over time",
        [
            Panel(
                "Used share of each budget",
                "Spent over the amount, with the thresholds that the configuration sets (the highest of each).",
                "lines",
                "percentunit",
                [Query(share("spent", by="budget"), "{{budget}}"), Query(hard, "limit: {{threshold}}")],
                NO_BUDGETS,
                width=12,
                limits=["limit: .*"],
            ),
            Panel(
                "Forecast share of each budget",
                "Where the period will end, over the amount: median, and the line that nine of ten ends stay below.",
                "lines",
                "percentunit",
                [
                    Query(share("forecast", MEDIAN, "budget"), "{{budget}}"),
                    Query(share("forecast", UPPER, "budget"), "{{budget}} upper"),
                    Query(f'max(genai_meter_budget_threshold_ratio{{{SCOPE},threshold="hard"}})', "limit: amount"),
                ],
                "No budget with a forecast: rolling budgets have none, others after their first events.",
                width=12,
                limits=["limit: .*", ".* upper"],
            ),
            Panel(
                "State of each budget",
                "As the exporter judges it, with its thresholds and hysteresis; unknown is no answer from the ledger.",
                "states",
                "short",
                [Query(_code(), "{{budget}}")],
                NO_BUDGETS,
                width=12,
                mappings={str(code): shown for code, shown in enumerate(STATES.values())},
            ),
            Panel(
                "Spend over plan",
                "Burn rate of one hour and of six: 1 is the plan, which follows weekday and hour. The dashed lines are "
                "where GenAIMeterBudgetBurnRate alerts.",
                "lines",
                "short",
                [
                    *(
                        Query(f"budget:genai_meter_burn_rate:ratio{hours}{{{SCOPE}}}", f"{{{{budget}}}} {hours}")
                        for hours in ("1h", "6h")
                    ),
                    *(Query(threshold(f"burn_rate_{hours}"), f"limit: {hours}") for hours in ("1h", "6h")),
                ],
                NO_RULES,
                width=12,
                limits=["limit: .*"],
            ),
            Panel(
                "Spend per day by team",
                "Charges less corrections of each day (UTC) of the selected teams, whatever budget is selected.",
                "bars",
                "currencyUSD",
                [Query(named(spend(scope("team"), "team", "1d"), "team"), "{{team}}")],
                NO_CALLS,
                width=24,
                interval="1d",
            ),
        ],
    )


def _code() -> str:
    """The state as its number in `STATES`."""
    states = (metric("state", f'state="{name}"', "budget") for name in STATES)
    return " or ".join(f"({state} == 1) * {code}" for code, state in enumerate(states))


def _beside() -> Row:
    shown = "budget, owner, channel, escalation, next_step, runbook"
    info = f'max by ({shown}) (genai_meter_budget_info{{budget=~"$budget"}})'
    return Row(
        "Who acts, and how good the forecast was",
        [
            Panel(
                "Whom to ask and what to do",
                "Of each budget, as configured.",
                "table",
                "short",
                [Query(info)],
                NO_BUDGETS,
                width=12,
                columns=[
                    Column("budget", "Budget"),
                    Column("owner", "Owner"),
                    Column("channel", "Channel"),
                    Column("escalation", "Next in line"),
                    Column("next_step", "Next step"),
                    Column("runbook", "Runbook"),
                ],
                hidden=["Value"],
            ),
            Panel(
                "Forecast error by day of the period",
                "Mean of |forecast - actual| / actual of past periods, so many days into them.",
                "table",
                "percentunit",
                [Query('max by (budget, horizon_days) (genai_meter_budget_forecast_error_ratio{budget=~"$budget"})')],
                "No period with a forecast has ended yet.",
                width=6,
                columns=[
                    Column("budget", "Budget"),
                    Column("horizon_days", "Days in", width=80),
                    Column("Value", "Error", "percentunit", 80, 0),
                ],
            ),
            Panel(
                "Budgets in tokens and calls",
                "Used share of budgets that are not counted in USD.",
                "ranking",
                "percentunit",
                [
                    Query(
                        f"{metric('spent_tokens')} / {metric('limit_tokens')}"
                        f" or {metric('spent_calls')} / {metric('limit_calls')}",
                        "{{budget}}",
                    )
                ],
                "No budget in tokens or calls is configured.",
                width=6,
                decimals=0,
                top=1,
                steps=[(1, RED)],
            ),
        ],
    )


PAGE: Final = Page(
    uid="genai-meter-budgets",
    file="llm-budgets.json",
    title="LLM budgets and forecast",
    description="What is left of each budget, where it will end, who owns it and what to do.",
    rows=[_glance(), _table(), _time(), _beside()],
    filters=("team", "owner", "window", "budget"),
    since="now-30d",
)
