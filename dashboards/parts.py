"""Panels that stand on several dashboards."""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.pages import NO_CALLS, NO_RULES, drill_down
from dashboards.panels import Panel, Step
from dashboards.queries import Query, named, rate, spike_threshold, total


def figure(
    title: str,
    description: str,
    expr: str,
    unit: str,
    empty: str = NO_CALLS,
    *,
    decimals: int | None = None,
    steps: Sequence[Step] = (),
    link: tuple[str, str] | None = None,
) -> Panel:
    """One figure of the first row: six of them stand side by side."""
    return Panel(
        title,
        description,
        "stat",
        unit,
        [Query(expr)],
        empty,
        width=4,
        height=4,
        decimals=decimals,
        steps=steps,
        link=link,
    )


def spike(title: str, scope: str) -> Panel:
    """The last hour of services, and where the alert on it looks closer."""
    who = "{{service}} ({{environment}}, {{team}})"
    return Panel(
        title,
        "The last hour of each service, and from where on GenAIMeterHourlySpendSpike looks closer: many times "
        "the median hour of seven days.",
        "lines",
        "currencyUSD",
        [
            Query(f"service:genai_meter_cost_usd:increase1h{{{scope}}}", who),
            Query(spike_threshold(scope), f"{who} threshold"),
        ],
        NO_RULES,
        limits=[".* threshold"],
    )


def tokens_by_type(scope: str) -> Panel:
    """What was bought."""
    return Panel(
        "Tokens per minute by type",
        "Exclusive classes: cached tokens are no part of `input`, reasoning is no part of `output`.",
        "stacked",
        "short",
        [Query(rate("genai_meter_tokens_total", scope, "token_type", 60), "{{token_type}}")],
        NO_CALLS,
    )


def calls_by_status(scope: str) -> Panel:
    """How calls went."""
    return Panel(
        "Calls per minute by status",
        "How calls ended: ok, error, cancelled, closed early, abandoned, blocked.",
        "stacked",
        "short",
        [Query(rate("genai_meter_requests_total", scope, "status", 60), "{{status}}")],
        NO_CALLS,
    )


def largest(expr: str, label: str, count: int = 8) -> str:
    """The largest of an expression by a label; without a value it has a name."""
    return f"sort_desc(topk({count}, {named(expr, label)} > 0))"


def dearest_tenants() -> Panel:
    """Tenants of the time range; a click leads to their margin."""
    return Panel(
        "Spend by tenant",
        "The dearest tenants of the time range, whatever is selected above. Corrections are not deducted.",
        "ranking",
        "currencyUSD",
        [Query(largest(total("genai_meter_tenant_cost_usd_total", "", "tenant", "tenant"), "tenant"), "{{tenant}}")],
        "No call with a tenant was metered in this time range.",
        link=("Tenant margin", drill_down("genai-meter-tenants", tenant="${__field.labels.tenant}")),
    )
