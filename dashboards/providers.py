"""The dashboard "LLM provider health": latency, first chunk, errors and retries, beside what they cost."""

from __future__ import annotations

from typing import Final

from dashboards.pages import NO_CALLS, Page, drill_down, scope
from dashboards.panels import AMBER, RED, Column, Panel, Row
from dashboards.parts import figure
from dashboards.queries import Query, quantile, quantile_of_range, rate, spend, threshold, total
from dashboards.service import DURATION, MODELS, NO_RETRIES, STATUSES, failed, retried

SCOPE: Final = scope("environment", "service", "provider", "model")
CALLS: Final = scope("service", "provider", "model")
PRICES: Final = scope("provider", "model")
FIRST: Final = "genai_meter_time_to_first_chunk_seconds"
NO_STREAMS: Final = "No streamed call was metered in this time range and selection."


def _glance() -> Row:
    return Row(
        "At a glance",
        [
            figure("Spend", "Charges less corrections in the time range.", spend(SCOPE), "currencyUSD", decimals=2),
            figure(
                "Calls",
                "Metered calls; retries are not counted.",
                total("genai_meter_requests_total", SCOPE, labels=STATUSES),
                "short",
                decimals=0,
            ),
            figure(
                "Failed calls",
                "Calls that ended in an error, as a part of all.",
                failed("", SCOPE),
                "percentunit",
                decimals=1,
                steps=[(0.02, AMBER), (0.05, RED)],
            ),
            figure(
                "Retries per call",
                "HTTP attempts beyond the first, made inside the client libraries.",
                retried("", SCOPE),
                "short",
                decimals=2,
                steps=[(0.1, AMBER), (0.3, RED)],
            ),
            figure(
                "Duration p95",
                "95 of 100 calls took less, retries and the whole stream included.",
                quantile_of_range(0.95, DURATION, CALLS, MODELS),
                "s",
                decimals=1,
            ),
            figure(
                "First chunk p95",
                "Of streamed calls: 95 of 100 readers waited less for the answer to begin.",
                quantile_of_range(0.95, FIRST, PRICES, "provider, model"),
                "s",
                NO_STREAMS,
                decimals=1,
            ),
        ],
    )


def _table() -> Row:
    by = "provider, model"
    return Row(
        "Models",
        [
            Panel(
                "Models side by side",
                "What each model costs and how it answered, in the time range.",
                "table",
                "short",
                [
                    Query(f"{spend(SCOPE, by)} > 0"),
                    Query(f"{total('genai_meter_requests_total', SCOPE, by, STATUSES)} > 0"),
                    Query(f"max by ({by}) (genai_meter_cost_usd_per_1k_tokens{{{PRICES}}})"),
                    Query(failed(by, SCOPE)),
                    Query(retried(by, SCOPE)),
                    Query(quantile_of_range(0.5, DURATION, CALLS, MODELS, by)),
                    Query(quantile_of_range(0.95, DURATION, CALLS, MODELS, by)),
                    Query(quantile_of_range(0.95, FIRST, PRICES, by, by)),
                ],
                NO_CALLS,
                width=24,
                height=9,
                columns=[
                    Column("provider", "Provider", width=140),
                    Column("model", "Model", link=drill_down("genai-meter-providers", model="${__value.text}")),
                    Column("Value #A", "Spend", "currencyUSD", 120, 2),
                    Column("Value #B", "Calls", "short", 90, 0),
                    Column("Value #C", "1,000 tokens", "currencyUSD", 130, 5),
                    Column("Value #D", "Failed", "percentunit", 90, 1),
                    Column("Value #E", "Retries per call", "short", 140, 2),
                    Column("Value #F", "Median", "s", 100, 2),
                    Column("Value #G", "p95", "s", 100, 2),
                    Column("Value #H", "First chunk p95", "s", 150, 2),
                ],
                sort_by="Spend",
            ),
        ],
    )


def _time() -> Row:
    every = f"({rate('genai_meter_requests_total', SCOPE, 'provider')} > 0)"
    bad = rate("genai_meter_requests_total", f'{SCOPE},status="error"', "provider")
    again = rate("genai_meter_retries_total", SCOPE, "provider")
    return Row(
        "Over time",
        [
            Panel(
                "Failed calls by provider",
                "Calls that ended in an error, as a part of all.",
                "lines",
                "percentunit",
                [
                    Query(f"({bad} or 0 * {every}) / {every}", "{{provider}}"),
                    Query(threshold("endpoint_error_ratio"), "limit: alert"),
                ],
                NO_CALLS,
                limits=["limit: .*"],
            ),
            Panel(
                "Retries per call by provider",
                "A retry storm shows here before it shows in the bill.",
                "lines",
                "short",
                [
                    Query(f"{again} / {every}", "{{provider}}"),
                    Query(threshold("retry_storm_ratio"), "limit: alert"),
                ],
                NO_RETRIES,
                limits=["limit: .*"],
            ),
            Panel(
                "Spend per hour by provider",
                "USD per hour as it was charged.",
                "stacked",
                "currencyUSD",
                [Query(rate("genai_meter_cost_usd_total", SCOPE, "provider", 3600), "{{provider}}")],
                NO_CALLS,
            ),
            Panel(
                "Duration p95 by model",
                "95th percentile, entry into the client library to the last byte.",
                "lines",
                "s",
                [
                    Query(quantile(0.95, DURATION, CALLS, "model"), "{{model}}", exemplars=True),
                ],
                NO_CALLS,
            ),
            Panel(
                "First chunk p95 by model",
                "95th percentile of streamed calls, whatever service is selected.",
                "lines",
                "s",
                [
                    Query(quantile(0.95, FIRST, PRICES, "model"), "{{model}}", exemplars=True),
                ],
                NO_STREAMS,
            ),
            Panel(
                "Cost of 1,000 tokens",
                "Of each model, over all its tokens and prices since the ledger began.",
                "lines",
                "currencyUSD",
                [Query(f"max by (model) (genai_meter_cost_usd_per_1k_tokens{{{PRICES}}})", "{{model}}")],
                "No priced call was metered yet.",
                decimals=5,
            ),
        ],
    )


PAGE: Final = Page(
    uid="genai-meter-providers",
    file="llm-providers.json",
    title="LLM provider health",
    description="Latency, errors and retries of providers and models, beside what they cost.",
    rows=[_glance(), _table(), _time()],
    filters=("environment", "service", "provider", "model"),
    since="now-6h",
)
