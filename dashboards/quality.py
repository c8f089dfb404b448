"""The dashboard "LLM data quality": whether the figures of all others can be trusted."""

from __future__ import annotations

from typing import Final

from dashboards.pages import NO_BUDGETS, NO_CALLS, NO_EXPORTER, Page, scope
from dashboards.panels import AMBER, GREEN, RED, Column, Panel, Row
from dashboards.parts import figure
from dashboards.queries import WHO, Query, rate, total

SERVICES: Final = scope("environment", "team", "service")
INGEST: Final = "genai_meter_ingest_events_total"


def _glance() -> Row:
    lost = total(INGEST, 'status=~"rejected|quarantined"', "", "status")
    return Row(
        "Can the figures be trusted?",
        [
            figure(
                "Rejected or quarantined",
                "Usage events of the time range that are in no figure; see `genai-meter quarantine`.",
                lost,
                "short",
                NO_EXPORTER,
                steps=[(1, RED)],
            ),
            figure(
                "Unpriced calls",
                "Calls of the time range without a price: their tokens are counted, their cost is not.",
                f"{total('genai_meter_unpriced_requests_total', '', '', 'provider, model')} or vector(0)",
                "short",
                NO_EXPORTER,
                steps=[(1, AMBER)],
            ),
            figure(
                "Last event",
                "Time since the end of the latest call of the selected services.",
                f"time() - max(genai_meter_last_event_timestamp_seconds{{{SERVICES}}})",
                "s",
                NO_EXPORTER,
                decimals=0,
                steps=[(1800, AMBER)],
            ),
            figure(
                "Age of the price book",
                "Time since the data of the prices in use.",
                "time() - max(genai_meter_price_book_timestamp_seconds)",
                "s",
                NO_EXPORTER,
                decimals=0,
                steps=[(30 * 86_400, AMBER)],
            ),
            figure(
                "Counters less ledger",
                "Spend by labels less the ledger's own total: 0, but for series that lost their place (folded below).",
                "round((sum(genai_meter_cost_usd_total) - (sum(genai_meter_credit_usd_total) or vector(0)))"
                " - (sum(genai_meter_ledger_cost_usd_total) - sum(genai_meter_ledger_credit_usd_total)), 0.0001) + 0",
                "currencyUSD",
                NO_EXPORTER,
                decimals=2,
            ),
            Panel(
                "Range is covered",
                "Spend panels compare the counters of now with those of the start of the time range. Where Prometheus "
                "has none of then, they show all that the ledger has since it began.",
                "stat",
                "short",
                [Query("clamp_max(count(genai_meter_ledger_events_total offset $__range), 1) or vector(0)")],
                NO_EXPORTER,
                width=4,
                height=4,
                mappings={"0": ("no", AMBER), "1": ("yes", GREEN)},
            ),
        ],
    )


def _arrival() -> Row:
    return Row(
        "Arrival",
        [
            Panel(
                "Usage events per minute by what became of them",
                "accepted: in the ledger. duplicate, linked: known already. rejected, quarantined: in no figure.",
                "stacked",
                "short",
                [Query(rate(INGEST, "", "status", 60), "{{status}}")],
                NO_EXPORTER,
                width=12,
                colours={"rejected": RED, "quarantined": AMBER, "accepted": GREEN},
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
                width=12,
            ),
            Panel(
                "Records that are no usage",
                "Per minute, by signal: accepted and dropped. Many are no harm; spans without any event mean that the "
                "logs pipeline is missing.",
                "lines",
                "short",
                [Query(rate("genai_meter_ingest_ignored_total", "", "signal", 60), "{{signal}}")],
                NO_EXPORTER,
                width=6,
            ),
            Panel(
                "Commits per minute",
                "Each synced to disk before its events were acknowledged.",
                "lines",
                "short",
                [Query(rate("genai_meter_store_syncs_total", "", "", 60), "commits")],
                NO_EXPORTER,
                width=6,
            ),
            Panel(
                "Ledger, all time",
                "Charges less credits of everything in the ledger: exact, whatever is selected above.",
                "stat",
                "currencyUSD",
                [Query("sum(genai_meter_ledger_cost_usd_total) - sum(genai_meter_ledger_credit_usd_total)")],
                NO_EXPORTER,
                width=4,
                decimals=2,
            ),
            Panel(
                "Charged twice",
                "Calls of the time range that two producers told under different names; found out and taken out.",
                "stat",
                "short",
                [Query(total("genai_meter_ledger_events_withdrawn_total", "", "", "job"))],
                NO_EXPORTER,
                width=4,
            ),
            Panel(
                "Corrections",
                "Credits of the time range: re-pricing, and better records of a call that had been charged.",
                "stat",
                "currencyUSD",
                [Query(f"{total('genai_meter_credit_usd_total', '', '', WHO)} or vector(0)")],
                NO_EXPORTER,
                width=4,
                decimals=2,
            ),
        ],
    )


def _prices() -> Row:
    return Row(
        "Prices, labels, parts",
        [
            Panel(
                "Unpriced calls by model",
                "Of the time range; each needs a price in the overlay. See the runbook of GenAIMeterUnpricedModel.",
                "table",
                "short",
                [
                    Query(
                        f"{total('genai_meter_unpriced_requests_total', '', 'provider, model', 'provider, model')} > 0"
                    )
                ],
                "Every model that was called has a price.",
                columns=[
                    Column("provider", "Provider"),
                    Column("model", "Model"),
                    Column("Value", "Calls", "short", 110, 0),
                ],
                sort_by="Calls",
            ),
            Panel(
                "Folded label sets by metric",
                "Label values beyond their bound: their figures are under `other`. The ledger keeps every value.",
                "ranking",
                "short",
                [Query("sort_desc(max by (family) (genai_meter_series_folded))", "{{family}}")],
                "Nothing is folded: every label value has series of its own.",
            ),
            Panel(
                "Exporters and price books",
                "One line for each exporter.",
                "table",
                "short",
                [
                    Query("max by (instance, version) (genai_meter_build_info)"),
                    Query("max by (instance, book_id) (genai_meter_price_book_info)"),
                ],
                NO_EXPORTER,
                columns=[
                    Column("instance", "Exporter"),
                    Column("version", "Version", width=100),
                    Column("book_id", "Price book"),
                ],
                hidden=["Value #A", "Value #B"],
            ),
            Panel(
                "Budgets: time since they were evaluated",
                "Of each exporter. Budgets read the ledger; when it does not answer, their state is unknown.",
                "lines",
                "s",
                [Query("time() - max by (instance) (genai_meter_budget_evaluated_timestamp_seconds)", "{{instance}}")],
                NO_BUDGETS,
                width=12,
            ),
            Panel(
                "Series of genai-meter",
                "What Prometheus holds of the exporters now: the bounds keep it in check.",
                "lines",
                "short",
                [Query('count({__name__=~"genai_meter_.+"})', "series")],
                NO_EXPORTER,
                width=12,
            ),
        ],
    )


PAGE: Final = Page(
    uid="genai-meter-quality",
    file="llm-data-quality.json",
    title="LLM data quality",
    description="Whether the figures of all other dashboards can be trusted.",
    rows=[_glance(), _arrival(), _prices()],
    filters=("environment", "team", "service"),
    since="now-24h",
)
