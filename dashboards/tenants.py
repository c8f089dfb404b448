"""The dashboard "LLM tenant margin": what each customer costs and pays."""

from __future__ import annotations

from typing import Final

from dashboards.pages import NO_RULES, Page, drill_down, scope
from dashboards.panels import RED, Column, Panel, Row
from dashboards.parts import figure
from dashboards.queries import Query, named, rate, total

SCOPE: Final = scope("tenant")
NO_CONTRACTS: Final = "No contract is configured: see `budgets.contracts` in the exporter's configuration."
NO_TENANTS: Final = "No call with a tenant was metered in this time range."

COST: Final = f"max by (tenant) (genai_meter_tenant_cost_30d_usd{{{SCOPE}}})"
REVENUE: Final = f"max by (tenant) (genai_meter_tenant_revenue_30d_usd{{{SCOPE}}})"
HOURLY: Final = f"max by (tenant) (genai_meter_tenant_contract_usd_per_hour{{{SCOPE}}})"
MARGIN: Final = f"({REVENUE} - {COST})"


def _glance() -> Row:
    return Row(
        "Last 30 days, tenants with a contract",
        [
            figure(
                "Revenue",
                "What the contracts bring in 30 days.",
                f"sum({REVENUE})",
                "currencyUSD",
                NO_CONTRACTS,
                decimals=2,
            ),
            figure(
                "Cost",
                "What the ledger charged these tenants in the last 30 days, exactly.",
                f"sum({COST} and {REVENUE})",
                "currencyUSD",
                NO_CONTRACTS,
                decimals=2,
            ),
            figure("Margin", "Revenue less cost.", f"sum({MARGIN})", "currencyUSD", NO_CONTRACTS, decimals=2),
            figure(
                "Margin of revenue",
                "Margin over revenue.",
                f"sum({MARGIN}) / sum({REVENUE})",
                "percentunit",
                NO_CONTRACTS,
                decimals=0,
            ),
            figure(
                "Cost more than they pay",
                "Tenants whose cost of 30 days is above their revenue.",
                f"count({MARGIN} < 0) or 0 * count({MARGIN})",
                "short",
                NO_CONTRACTS,
                decimals=0,
                steps=[(1, RED)],
            ),
            figure(
                "Over their hourly contract",
                "Tenants whose last hour cost more than the contract covers.",
                f"count(max by (tenant) (tenant:genai_meter_cost_usd:increase1h{{{SCOPE}}}) > {HOURLY})"
                f" or 0 * count({HOURLY})",
                "short",
                NO_CONTRACTS,
                decimals=0,
                steps=[(1, RED)],
            ),
        ],
    )


def _table() -> Row:
    return Row(
        "Tenants",
        [
            Panel(
                "Margin of each tenant",
                "Cost and revenue of the last 30 days; the contract beside the last hour. A full bar is no margin.",
                "table",
                "currencyUSD",
                [
                    Query(REVENUE),
                    Query(COST),
                    Query(MARGIN),
                    Query(f"{COST} / ({REVENUE} > 0)"),
                    Query(HOURLY),
                    Query(f"max by (tenant) (tenant:genai_meter_cost_usd:increase1h{{{SCOPE}}}) and {COST}"),
                ],
                NO_CONTRACTS,
                width=24,
                height=9,
                columns=[
                    Column("tenant", "Tenant", link=drill_down("genai-meter-tenants", tenant="${__value.text}")),
                    Column("Value #A", "Revenue", "currencyUSD", 140, 2),
                    Column("Value #B", "Cost", "currencyUSD", 140, 2),
                    Column("Value #C", "Margin", "currencyUSD", 140, 2),
                    Column("Value #D", "Cost of revenue", "percentunit", 200, 0, gauge=1),
                    Column("Value #E", "Contract per hour", "currencyUSD", 160, 2),
                    Column("Value #F", "Last hour", "currencyUSD", 140, 2),
                ],
                sort_by="Cost of revenue",
            ),
        ],
    )


def _time() -> Row:
    gain = total("genai_meter_tenant_cost_usd_total", SCOPE, "tenant", "tenant")
    charged = rate("genai_meter_tenant_cost_usd_total", SCOPE, "tenant", 3600)
    return Row(
        "All tenants",
        [
            Panel(
                "Spend by tenant",
                "The dearest tenants of the time range, with or without a contract. Corrections are not deducted.",
                "ranking",
                "currencyUSD",
                [Query(f"sort_desc(topk(12, {named(gain, 'tenant')} > 0))", "{{tenant}}")],
                NO_TENANTS,
                height=9,
            ),
            Panel(
                "Spend per hour by tenant",
                "USD per hour as it was charged; the largest tenants have a name, the rest is `other`.",
                "stacked",
                "currencyUSD",
                [Query(f"topk(12, {named(charged, 'tenant')})", "{{tenant}}")],
                NO_TENANTS,
                height=9,
            ),
            Panel(
                "Last hour against the contract",
                "Tenants with an hourly contract. GenAIMeterTenantOverContract fires above the dashed line.",
                "lines",
                "currencyUSD",
                [
                    Query(
                        f"max by (tenant) (tenant:genai_meter_cost_usd:increase1h{{{SCOPE}}}) and {HOURLY}",
                        "{{tenant}}",
                    ),
                    Query(HOURLY, "{{tenant}} contract"),
                ],
                NO_RULES,
                height=9,
                limits=[".* contract"],
            ),
            Panel(
                "Margin over time",
                "Revenue less cost of the 30 days before each moment.",
                "lines",
                "currencyUSD",
                [Query(MARGIN, "{{tenant}}")],
                NO_CONTRACTS,
                width=24,
                below_zero=True,
            ),
        ],
    )


PAGE: Final = Page(
    uid="genai-meter-tenants",
    file="llm-tenants.json",
    title="LLM tenant margin",
    description="What each customer costs, pays, and leaves.",
    rows=[_glance(), _table(), _time()],
    filters=("tenant",),
    since="now-7d",
)
