"""What every query of every dashboard must answer after the known traffic, worked out from the ledger's rows."""

from __future__ import annotations

import time
from datetime import datetime
from sqlite3 import Row
from typing import TypeAlias
from zoneinfo import ZoneInfo

from dashboard_checks import (
    Check,
    Figures,
    Ledger,
    between,
    durations,
    exactly,
    first_chunks,
    near,
    over,
    per,
    quantiles,
    renamed,
    sizes,
    unnamed,
)
from dashboard_kit import CREDIT_USD, LAST_WEEK_USD, OPENAI, UNPRICED, WEEK_BEFORE_USD, ZONE
from genai_meter.semconv import DURATION_BOUNDARIES, TOKEN_BOUNDARIES

BUDGETS = {
    "search-month": "ada@example.com/search/month",
    "all-day": "cfo@example.com/day",
}


SERVICES = ("shop (prod, search)", "shop (prod, )", "help (prod, support)")


# --- what is expected ---------------------------------------------------------------------------------
def figures(rows: list[Row]) -> dict[tuple[str, str, str], Check]:
    """Dashboard, panel and query → the check of its answer."""
    ledger = Ledger(rows)
    found: dict[tuple[str, str], list[Check]] = {
        **_overview(ledger),
        **_budgets(ledger),
        **_service(ledger),
        **_product(ledger),
        **_tenants(ledger),
        **_providers(ledger),
        **_quality(ledger),
    }
    return {
        (*where, letter): check
        for where, checks in found.items()
        for letter, check in zip("ABCDEFGHIJ", checks, strict=False)
    }


Expected: TypeAlias = dict[tuple[str, str], list[Check]]


def _in(dashboard: str, told: dict[str, list[Check]]) -> Expected:
    return {(dashboard, title): checks for title, checks in told.items()}


def _used(ledger: Ledger) -> Figures:
    """Of each budget."""
    midnight = datetime.now(ZoneInfo(ZONE)).replace(hour=0, minute=0, second=0, microsecond=0)
    today = midnight.timestamp() * 1e9
    month = midnight.replace(day=1).timestamp() * 1e9
    tokens = (row for row in ledger.rows if row["team"] == "support" and row["start"] >= today)
    return {
        "search-month": ledger.cost("", lambda row: row["team"] == "search" and row["start"] >= month)[""],
        "all-day": ledger.cost("", lambda row: row["start"] >= today)[""],
        "support-tokens": sum(row["input_tokens"] + row["output_tokens"] for row in tokens) / 100_000,
        "calls": ledger.calls()[""] / 1000,
    }


def _overview(ledger: Ledger) -> Expected:
    used = _used(ledger)
    used["search-month"] /= 1_000_000
    spent = ledger.cost()[""]
    by = "team, service, feature, provider, model"
    growth = (spent - LAST_WEEK_USD) / (LAST_WEEK_USD - WEEK_BEFORE_USD) - 1
    return _in(
        "llm-spend-overview",
        {
            "Spend": [exactly({"": spent})],
            "Week over week": [exactly({"": growth})],
            "Cost per call": [exactly({"": spent / ledger.calls()[""]})],
            "Budgets at risk or over": [exactly({"": 2})],
            "Unpriced calls": [exactly({"": 1})],
            "Alerts firing": [between(1, 50, "")],
            "Spend per hour by team": [near(unnamed(per(ledger.charges("team"), 3600)))],
            "Budgets: used so far": [exactly(used)],
            "Spend by feature": [exactly(unnamed(ledger.cost("feature")))],
            "Spend by model": [exactly(ledger.cost("model"))],
            "Spend by tenant": [exactly(ledger.charges("tenant"))],
            "Spend by service, feature and model": [exactly(ledger.cost(by)), exactly(ledger.calls(by))],
            "Hourly spend against its spike threshold": [
                between(0, 2 * spent, *SERVICES),
                exactly({f"{SERVICES[0]} threshold": 10}),
            ],
            "Tokens per minute by type": [near(per(ledger.tokens(), 60))],
            "Calls per minute by status": [near(per(ledger.calls("status"), 60))],
        },
    )


def _budgets(ledger: Ledger) -> Expected:
    used = _used(ledger)
    usd = {"all-day", "search-month"}
    rows = {f"{name}/{BUDGETS[name]}": used[name] for name in usd}
    limits = {f"all-day/{BUDGETS['all-day']}": 1.0, f"search-month/{BUDGETS['search-month']}": 1_000_000.0}
    shares = {**used, "search-month": used["search-month"] / 1_000_000}
    spent = ledger.cost()[""]
    return _in(
        "llm-budgets",
        {
            "Over budget": [exactly({"": 2})],
            "At risk": [exactly({"": 0})],
            "Within budget": [exactly({"": 2})],
            "Forecast above the amount": [exactly({"": 1})],
            "Forecasts were off by": [exactly({"": 0.15})],
            "Evaluated": [between(0, 90, "")],
            "Budgets in USD": [
                exactly(
                    {
                        "all-day/cfo@example.com/over_budget/day": 1,
                        "search-month/ada@example.com/within_budget/search/month": 1,
                    }
                ),
                exactly(rows),
                exactly(limits),
                exactly(over(rows, limits)),
                between(0, 1, *rows),
                between(min(rows.values()), spent * 50_000, *rows),
                between(used["search-month"] / 1_000_000, spent * 50_000, *rows),
            ],
            "Used share of each budget": [
                exactly(shares),
                exactly({"limit: at_risk": 0.8, "limit: soft": 0.95, "limit: hard": 1}),
            ],
            "Forecast share of each budget": [
                between(0, spent * 50_000, *(usd | {"support-tokens"})),
                between(0, spent * 50_000, *(f"{name} upper" for name in usd | {"support-tokens"})),
                exactly({"limit: amount": 1}),
            ],
            "State of each budget": [exactly({"search-month": 0, "all-day": 3, "support-tokens": 3, "calls": 0})],
            "Spend over plan": [
                between(0, 1e9),
                between(0, 1e9),
                exactly({"limit: 1h": 14.4}),
                exactly({"limit: 6h": 6}),
            ],
            "Spend per day by team": [exactly(unnamed(ledger.cost("team")))],
            "Whom to ask and what to do": [
                exactly(
                    {
                        "search-month/#search/Ask Ada./ada@example.com/https://runbooks.example.com/search": 1,
                        "all-day/cfo@example.com": 1,
                        "support-tokens": 1,
                        "calls": 1,
                    }
                )
            ],
            "Forecast error by day of the period": [exactly({"search-month/5": 0.2, "search-month/10": 0.1})],
            "Budgets in tokens and calls": [
                exactly({"support-tokens": used["support-tokens"], "calls": used["calls"]})
            ],
        },
    )


def _service(ledger: Ledger) -> Expected:
    spent, calls = ledger.cost()[""], ledger.calls()[""]
    charged, counted = ledger.charges("feature"), ledger.calls("feature")
    tokens = ledger.tokens()
    model, size = durations(ledger, "model"), sizes(ledger, "")
    return _in(
        "llm-service",
        {
            "Spend": [exactly({"": spent})],
            "Calls": [exactly({"": calls})],
            "Cost per call": [exactly({"": spent / calls})],
            "Failed calls": [exactly({"": 1 / calls})],
            "Retries per call": [exactly({"": ledger.retries()[""] / calls})],
            "Duration p95": [quantiles(0.95, durations(ledger, ""), DURATION_BOUNDARIES)],
            "Spend per hour by feature": [near(unnamed(per(charged, 3600)))],
            "Cost per call by feature": [near(unnamed(over(charged, counted)))],
            "Last hour against the spike threshold": [
                between(0, 2 * spent, *SERVICES),
                exactly({f"{SERVICES[0]} threshold": 10}),
            ],
            "Duration of calls": [
                quantiles(q, renamed(model, f"{{}} p{q * 100:.0f}"), DURATION_BOUNDARIES) for q in (0.5, 0.95)
            ],
            "Distribution of durations": [_buckets(calls)],
            "Calls per minute by status": [near(per(ledger.calls("status"), 60))],
            "Retries per minute by model": [near(per(ledger.retries("model"), 60))],
            "Time to the first chunk p95 by model": [
                quantiles(0.95, first_chunks(ledger, "model"), DURATION_BOUNDARIES)
            ],
            "Tokens per minute by type": [near(per(tokens, 60))],
            "Tokens per call": [
                quantiles(q, renamed(size, f"{{}} p{q * 100:.0f}"), TOKEN_BOUNDARIES) for q in (0.5, 0.95, 0.99)
            ],
            "Prompt cache share": [near({"cached": tokens["cache_read"] / (tokens["cache_read"] + tokens["input"])})],
            "Saved by own caches": [exactly({"": 0.25})],
            "Spend per hour by workflow": [
                near(per(ledger.cost("workflow", lambda row: row["workflow"] is not None), 3600))
            ],
            "Dearest run against its cap": [
                exactly(ledger.cost("workflow", lambda row: row["run_id"] == "run-1")),
                exactly({"triage cap": 0.8}),
            ],
        },
    )


def _buckets(calls: float) -> Check:
    """Cumulative: the last bucket has all calls."""

    def check(found: Figures) -> None:
        assert len(found) == len(DURATION_BOUNDARIES) + 1
        assert calls / 1.5 <= found["+Inf"] <= calls * 1.5
        assert found["0.01"] == 0

    return check


def _product(ledger: Ledger) -> Expected:
    by = "team, feature"
    spent, calls = ledger.cost()[""], ledger.calls()[""]
    bot = ledger.cost("feature")["bot"]
    rows, counted = ledger.cost(by), ledger.calls(by)
    models = "provider, model"
    return _in(
        "llm-product",
        {
            "Spend": [exactly({"": spent})],
            "Cost per call": [exactly({"": spent / calls})],
            "Successes": [exactly({"": 2})],
            "Success rate": [exactly({"": 2 / 3})],
            "Cost per success": [exactly({"": bot / 2})],
            "Value per USD spent": [exactly({"": 2.5 / bot})],
            "Unit cost of each feature": [
                exactly(rows),
                exactly(counted),
                exactly({key: amount / counted[key] for key, amount in rows.items()}),
                exactly({"bot/support": 3}),
                exactly({"bot/support": 2 / 3}),
                exactly({"bot/support": bot / 2}),
                exactly({"bot/support": 0.25}),
            ],
            "Cost per call by feature": [near(unnamed(over(ledger.charges("feature"), ledger.calls("feature"))))],
            "Cost per success by feature": [exactly({"bot": bot / 2})],
            "Spend by tenant": [exactly(ledger.charges("tenant"))],
            "Tokens per request by model": [
                quantiles(q, sizes(ledger, models), TOKEN_BOUNDARIES) for q in (0.5, 0.95, 0.99)
            ],
        },
    )


def _tenants(ledger: Ledger) -> Expected:
    revenue = {"acme": 900.0, "globex": 0.5}
    cost = {name: ledger.cost("tenant")[name] for name in revenue}
    margin = {name: revenue[name] - cost[name] for name in revenue}
    spent = ledger.cost()[""]
    return _in(
        "llm-tenants",
        {
            "Revenue": [exactly({"": 900.5})],
            "Cost": [exactly({"": sum(cost.values())})],
            "Margin": [exactly({"": sum(margin.values())})],
            "Margin of revenue": [exactly({"": sum(margin.values()) / 900.5})],
            "Cost more than they pay": [exactly({"": 1})],
            "Over their hourly contract": [between(0, 2, "")],
            "Margin of each tenant": [
                exactly(revenue),
                exactly(cost),
                exactly(margin),
                exactly(over(cost, revenue)),
                exactly({"acme": 1.5, "globex": 50}),
                between(0, 2 * spent, "acme", "globex"),
            ],
            "Spend by tenant": [exactly(ledger.charges("tenant"))],
            "Spend per hour by tenant": [near(per(ledger.charges("tenant"), 3600))],
            "Last hour against the contract": [
                between(0, 2 * spent, "acme", "globex"),
                exactly({"acme contract": 1.5, "globex contract": 50}),
            ],
            "Margin over time": [exactly(margin)],
        },
    )


def _providers(ledger: Ledger) -> Expected:
    by = "provider, model"
    spent, calls = ledger.cost()[""], ledger.calls()[""]
    counted = ledger.calls(by)
    failed = ledger.calls(by, lambda row: row["status"] == "error")
    priced = {key: amount + (CREDIT_USD if OPENAI in key else 0) for key, amount in ledger.cost(by).items()}
    size = ledger.sum(by, lambda row: (row["input_tokens"] or 0) + (row["output_tokens"] or 0))
    thousand = {key: amount * 1000 / (size[key] + (40_000 if OPENAI in key else 0)) for key, amount in priced.items()}
    again = ledger.retries("provider")
    return _in(
        "llm-providers",
        {
            "Spend": [exactly({"": spent})],
            "Calls": [exactly({"": calls})],
            "Failed calls": [exactly({"": 1 / calls})],
            "Retries per call": [exactly({"": ledger.retries()[""] / calls})],
            "Duration p95": [quantiles(0.95, durations(ledger, ""), DURATION_BOUNDARIES)],
            "First chunk p95": [quantiles(0.95, first_chunks(ledger, ""), DURATION_BOUNDARIES)],
            "Models side by side": [
                exactly(ledger.cost(by)),
                exactly(counted),
                exactly(thousand),
                exactly(over(failed, counted)),
                exactly(over(ledger.retries(by), counted)),
                quantiles(0.5, durations(ledger, by), DURATION_BOUNDARIES),
                quantiles(0.95, durations(ledger, by), DURATION_BOUNDARIES),
                quantiles(0.95, first_chunks(ledger, by), DURATION_BOUNDARIES),
            ],
            "Failed calls by provider": [
                near(over(ledger.calls("provider", lambda row: row["status"] == "error"), ledger.calls("provider"))),
                exactly({"limit: alert": 0.05}),
            ],
            "Retries per call by provider": [
                near({key: amount / ledger.calls("provider")[key] for key, amount in again.items() if amount}),
                exactly({"limit: alert": 0.3}),
            ],
            "Spend per hour by provider": [near(per(ledger.charges("provider"), 3600))],
            "Duration p95 by model": [quantiles(0.95, durations(ledger, "model"), DURATION_BOUNDARIES)],
            "First chunk p95 by model": [quantiles(0.95, first_chunks(ledger, "model"), DURATION_BOUNDARIES)],
            "Cost of 1,000 tokens": [exactly({key.partition("/")[0]: amount for key, amount in thousand.items()})],
        },
    )


def _quality(ledger: Ledger) -> Expected:
    last = max(row["end"] for row in ledger.rows) / 1e9
    age = time.time() - last
    return _in(
        "llm-data-quality",
        {
            "Rejected or quarantined": [exactly({"": 1})],
            "Unpriced calls": [exactly({"": 1})],
            "Last event": [between(age - 2, age + 300, "")],
            "Age of the price book": [between(0, 400 * 86_400, "")],
            "Counters less ledger": [exactly({"": 0})],
            "Range is covered": [exactly({"": 0})],
            "Usage events per minute by what became of them": [
                near(per({"accepted": ledger.calls()[""] + 4, "linked": 1, "quarantined": 1}, 60))
            ],
            "Age of the last event by service": [between(0, age + 300, "shop prod", "help prod")],
            "Records that are no usage": [near(per({"traces": 1}, 60))],
            "Commits per minute": [between(0.2, 20, "commits")],
            "Ledger, all time": [exactly({"": ledger.cost()[""]})],
            "Charged twice": [exactly({"": 0})],
            "Corrections": [exactly({"": CREDIT_USD})],
            "Unpriced calls by model": [exactly({f"{UNPRICED}/acme-house": 1})],
            "Folded label sets by metric": [exactly({"tenant_cost_usd": 1})],
            "Exporters and price books": [between(1, 1), between(1, 1)],
            "Budgets: time since they were evaluated": [between(0, 90)],
            "Series of genai-meter": [between(200, 5000, "series")],
        },
    )
