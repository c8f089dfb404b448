"""The dashboard "LLM spend overview"."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard

from dashboards.panels import DATASOURCE, Panel, Query, Row, build

UID: Final = "genai-meter-spend"
FILE: Final = "llm-spend-overview.json"

FILTERS: Final = ("environment", "team", "service", "provider", "model")
"""Labels that the dashboard can be narrowed to, each by a variable of the same name."""

SCOPE: Final = ",".join(f'{label}=~"${label}"' for label in FILTERS)
SERVICES: Final = 'environment=~"$environment",team=~"$team",service=~"$service"'
CALLS: Final = 'service=~"$service",provider=~"$provider",model=~"$model"'
MODELS: Final = 'provider=~"$provider",model=~"$model"'

NO_CALLS: Final = "No call was metered in this time range and selection."
NO_EXPORTER: Final = "Prometheus has no data of the exporter: check that it runs and is scraped."
NO_RULES: Final = "The rules of genai-meter are not loaded, or have no history yet."


def overview() -> dashboard.Dashboard:
    """The whole dashboard."""
    page = (
        builders.Dashboard("LLM spend overview")
        .uid(UID)
        .description("What LLM calls cost, for whom, and whether the figures can be trusted.")
        .tags(["genai-meter", "llm", "cost"])
        .timezone("utc")
        .time("now-24h", "now")
        .refresh("1m")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .with_variable(builders.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for label in FILTERS:
        page.with_variable(_filter(label))
    model = page.build()
    model.panels = [builder.build() for builder in build([totals(), spend(), tokens(), calls(), trust()])]
    return model


def _filter(label: str) -> builders.QueryVariable:
    query = f"label_values(genai_meter_requests_total, {label})"
    return (
        builders.QueryVariable(label)
        .label(label.capitalize())
        .datasource(DATASOURCE)
        .query(query)
        .definition(query)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(dashboard.VariableOption(selected=True, text="All", value="$__all"))
    )


def totals() -> Row:
    """The time range in six figures."""
    requests = f"sum(increase(genai_meter_requests_total{{{SCOPE}}}[$__range]))"
    failed = f'(sum(increase(genai_meter_requests_total{{{SCOPE},status="error"}}[$__range])) or vector(0))'
    return Row(
        "At a glance",
        [
            _figure(
                "Spend",
                "Charges in the time range. `increase()` extrapolates: bills come from `genai-meter usage`.",
                f"sum(increase(genai_meter_cost_usd_total{{{SCOPE}}}[$__range]))",
                "currencyUSD",
            ),
            _figure(
                "Ledger, all time",
                "Charges minus credits of everything in the ledger: exact, whatever is selected above.",
                "sum(genai_meter_ledger_cost_usd_total) - sum(genai_meter_ledger_credit_usd_total)",
                "currencyUSD",
                empty=NO_EXPORTER,
            ),
            _figure("Calls", "Metered calls; retries are not counted.", requests, "short"),
            _figure(
                "Failed calls",
                "Calls that ended in an error, as a part of all.",
                f"{failed} / ({requests} > 0)",
                "percentunit",
                alarm=0.05,
            ),
            _figure(
                "Unpriced calls",
                "Calls of models without a price: their cost is missing in every figure here.",
                f"sum(increase(genai_meter_unpriced_requests_total{{{MODELS}}}[$__range])) or vector(0)",
                "short",
                alarm=1,
            ),
            _figure(
                "Alerts firing",
                "Firing alerts of genai-meter.",
                'count(ALERTS{alertname=~"GenAIMeter.+",alertstate="firing"}) or vector(0)',
                "short",
                alarm=1,
            ),
        ],
    )


def _figure(
    title: str, description: str, expr: str, unit: str, empty: str = NO_CALLS, alarm: float | None = None
) -> Panel:
    return Panel(title, description, "stat", unit, [Query(expr)], empty, width=4, height=4, alarm=alarm)


def spend() -> Row:
    """Spend over time, by everything it can be charged to."""
    return Row(
        "Spend",
        [
            _spend_by("tenant", "genai_meter_tenant_cost_usd_total", "", "The largest tenants; the rest is `other`."),
            _spend_by("feature", "genai_meter_cost_usd_total", SCOPE, "By the feature that the application named."),
            _spend_by("model", "genai_meter_cost_usd_total", SCOPE, "By the model that served."),
            _spend_by("service", "genai_meter_cost_usd_total", SCOPE, "By the service that made the calls."),
            _spend_by("workflow", "genai_meter_workflow_cost_usd_total", 'team=~"$team"', "The largest workflows."),
            Panel(
                "Hourly spend against its spike threshold",
                "The last hour of each service, and the value from which GenAIMeterHourlySpendSpike fires: five times "
                "the seven-day median, 10 USD at least.",
                "lines",
                "currencyUSD",
                [
                    Query(f"service:genai_meter_cost_usd:increase1h{{{SERVICES}}}", "{{service}}"),
                    Query(
                        "5 * clamp_min(last_over_time("
                        f"service:genai_meter_cost_usd_increase1h:median7d{{{SERVICES}}}[1h]), 2)",
                        "{{service}} threshold",
                    ),
                ],
                NO_RULES,
            ),
            Panel(
                "Spend by service, feature and model",
                "Charges in the time range, largest first.",
                "table",
                "currencyUSD",
                [
                    Query(
                        "sort_desc(sum by (service, feature, provider, model) "
                        f"(increase(genai_meter_cost_usd_total{{{SCOPE}}}[$__range])) > 0)"
                    )
                ],
                NO_CALLS,
                width=24,
            ),
        ],
    )


def _spend_by(label: str, metric: str, scope: str, description: str) -> Panel:
    selected = f"{metric}{{{scope}}}" if scope else metric
    rate = f"sum by ({label}) (rate({selected}[$__rate_interval])) * 3600"
    return Panel(
        f"Spend per hour by {label}",
        f"USD per hour. {description}",
        "stacked",
        "currencyUSD",
        [Query(f'label_replace({rate}, "{label}", "(none)", "{label}", "")', f"{{{{{label}}}}}")],
        NO_CALLS if scope == SCOPE else f"No call with a {label} was metered in this time range.",
    )


def tokens() -> Row:
    """What was bought."""
    return Row(
        "Tokens",
        [
            Panel(
                "Tokens per minute by type",
                "Exclusive classes: cached tokens are no part of `input`, reasoning is no part of `output`.",
                "stacked",
                "short",
                [
                    Query(
                        f"sum by (token_type) (rate(genai_meter_tokens_total{{{SCOPE}}}[$__rate_interval])) * 60",
                        "{{token_type}}",
                    )
                ],
                NO_CALLS,
            ),
            Panel(
                "Tokens per call",
                "Median and 95th percentile of gross input and output.",
                "lines",
                "short",
                [
                    Query(_quantile(q, "genai_meter_request_tokens", "direction"), f"{{{{direction}}}} p{int(q * 100)}")
                    for q in (0.5, 0.95)
                ],
                NO_CALLS,
            ),
            Panel(
                "Cost of 1,000 tokens",
                "Of each model, over all its tokens and prices.",
                "lines",
                "currencyUSD",
                [Query(f"genai_meter_cost_usd_per_1k_tokens{{{MODELS}}}", "{{model}}")],
                "No priced call was metered yet.",
            ),
        ],
    )


def _quantile(quantile: float, metric: str, *labels: str) -> str:
    by = ", ".join(("le", *labels))
    rate = f"rate({metric}_bucket{{{CALLS}}}[$__rate_interval])"
    return f"histogram_quantile({quantile}, sum by ({by}) ({rate}))"


def calls() -> Row:
    """How the calls went."""
    return Row("Calls", [*_counts(), *_durations()])


def _counts() -> list[Panel]:
    return [
        Panel(
            "Calls per minute by status",
            "How calls ended: ok, error, cancelled, closed early, abandoned, blocked.",
            "stacked",
            "short",
            [
                Query(
                    f"sum by (status) (rate(genai_meter_requests_total{{{SCOPE}}}[$__rate_interval])) * 60",
                    "{{status}}",
                )
            ],
            NO_CALLS,
        ),
        Panel(
            "Retries per minute by service",
            "HTTP attempts beyond the first, made inside the client library.",
            "lines",
            "short",
            [
                Query(
                    f"sum by (service) (rate(genai_meter_retries_total{{{SCOPE}}}[$__rate_interval])) * 60",
                    "{{service}}",
                )
            ],
            "No retry was metered in this time range and selection.",
        ),
        Panel(
            "Unpriced calls per minute by model",
            "Each needs a price in the overlay; see the runbook of GenAIMeterUnpricedModel.",
            "lines",
            "short",
            [
                Query(
                    "sum by (provider, model) "
                    f"(rate(genai_meter_unpriced_requests_total{{{MODELS}}}[$__rate_interval])) * 60",
                    "{{provider}} {{model}}",
                )
            ],
            "Every model that was called has a price.",
        ),
    ]


def _durations() -> list[Panel]:
    duration = "genai_meter_request_duration_seconds"
    return [
        Panel(
            "Duration of calls",
            "Calls by duration; each exemplar leads to the trace of one call.",
            "heatmap",
            "s",
            [Query(f"sum by (le) (increase({duration}_bucket{{{CALLS}}}[$__rate_interval]))", "{{le}}", True)],
            NO_CALLS,
            width=12,
        ),
        Panel(
            "Duration quantiles by model",
            "Median and 95th percentile, entry into the client library to the last byte.",
            "lines",
            "s",
            [
                Query(_quantile(q, duration, "model"), f"{{{{model}}}} p{int(q * 100)}", exemplars=True)
                for q in (0.5, 0.95)
            ],
            NO_CALLS,
            width=12,
        ),
    ]


def trust() -> Row:
    """Whether the figures above can be trusted."""
    return Row(
        "Ingest",
        [
            Panel(
                "Usage events per minute by status",
                "accepted: in the ledger. duplicate, linked: known already. rejected, quarantined: missing above.",
                "stacked",
                "short",
                [Query("sum by (status) (rate(genai_meter_ingest_events_total[$__rate_interval])) * 60", "{{status}}")],
                NO_EXPORTER,
            ),
            Panel(
                "Age of the last event by service",
                "A service that keeps rising has stopped sending.",
                "lines",
                "s",
                [
                    Query(
                        "time() - max by (environment, service) "
                        f"(genai_meter_last_event_timestamp_seconds{{{SERVICES}}})",
                        "{{service}} {{environment}}",
                    )
                ],
                NO_CALLS,
            ),
            Panel(
                "Age of the price book",
                "Time since the prices in use were published.",
                "lines",
                "s",
                [
                    Query("time() - max(genai_meter_price_book_timestamp_seconds)", "price book"),
                ],
                NO_EXPORTER,
                width=4,
            ),
            Panel(
                "Folded label values",
                "Label values beyond their bound: their figures are under `other`.",
                "lines",
                "short",
                [Query("sum by (family) (genai_meter_series_folded) or vector(0)")],
                NO_EXPORTER,
                width=4,
            ),
        ],
    )
