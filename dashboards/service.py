"""The dashboard "LLM service": one service in depth, down to the traces of single calls. For engineering."""

from __future__ import annotations

from typing import Final

from dashboards.pages import NO_CALLS, Page, scope
from dashboards.panels import AMBER, RED, Panel, Row
from dashboards.parts import calls_by_status, figure, spike, tokens_by_type
from dashboards.queries import Query, named, quantile, quantile_of_range, rate, spend, total

FILTERS: Final = ("environment", "team", "service", "feature", "provider", "model")
SCOPE: Final = scope(*FILTERS)
CALLS: Final = scope("service", "provider", "model")
SERVICES: Final = scope("environment", "team", "service")
MODELS: Final = "service, provider, model"
STATUSES: Final = "team, environment, service, feature, provider, model, operation, status"

DURATION: Final = "genai_meter_request_duration_seconds"
TOKENS: Final = "genai_meter_request_tokens"

NO_RETRIES: Final = "No call was retried in this time range and selection."

TRACES: Final = (
    "/explore?schemaVersion=1&panes="
    '{"a":{"datasource":"${traces}","queries":[{"refId":"A","queryType":"traceql","limit":50,'
    '"query":"{resource.service.name=~\\"${service:regex}\\" %26%26 span.genai_meter.call.id != nil}"}],'
    '"range":{"from":"${__from}","to":"${__to}"}}}'
)
"""Grafana's Explore with the inference spans of the service."""


def failed(by: str = "", scoped: str = SCOPE) -> str:
    """Failed calls over all calls of the time range."""
    every = total("genai_meter_requests_total", scoped, by, STATUSES)
    bad = total("genai_meter_requests_total", f'{scoped},status="error"', by, STATUSES)
    return f"({bad} or 0 * {every}) / ({every} > 0)"


def retried(by: str = "", scoped: str = SCOPE) -> str:
    """Retries over calls of the time range."""
    every = total("genai_meter_requests_total", scoped, by, STATUSES)
    return f"({total('genai_meter_retries_total', scoped, by)} or 0 * {every}) / ({every} > 0)"


def _glance() -> Row:
    calls = total("genai_meter_requests_total", SCOPE, labels=STATUSES)
    return Row(
        "At a glance",
        [
            figure("Spend", "Charges less corrections in the time range.", spend(SCOPE), "currencyUSD", decimals=2),
            figure("Calls", "Metered calls; retries are not counted.", calls, "short"),
            figure(
                "Cost per call", "Spend over all calls.", f"{spend(SCOPE)} / ({calls} > 0)", "currencyUSD", decimals=4
            ),
            figure(
                "Failed calls",
                "Calls that ended in an error, as a part of all.",
                failed(),
                "percentunit",
                decimals=1,
                steps=[(0.05, RED)],
            ),
            figure(
                "Retries per call",
                "HTTP attempts beyond the first, made inside the client library.",
                retried(),
                "short",
                decimals=2,
                steps=[(0.1, AMBER)],
            ),
            figure(
                "Duration p95",
                "95 of 100 calls took less, retries and the whole stream included.",
                quantile_of_range(0.95, DURATION, CALLS, MODELS),
                "s",
                decimals=1,
            ),
        ],
    )


def _cost() -> Row:
    charged = rate("genai_meter_cost_usd_total", SCOPE, "feature", 3600)
    per_call = (
        f"{rate('genai_meter_cost_usd_total', SCOPE, 'feature')}"
        f" / ({rate('genai_meter_requests_total', SCOPE, 'feature')} > 0)"
    )
    return Row(
        "Cost",
        [
            Panel(
                "Spend per hour by feature",
                "USD per hour as it was charged, by the feature that the application named.",
                "stacked",
                "currencyUSD",
                [Query(named(charged, "feature"), "{{feature}}")],
                NO_CALLS,
            ),
            Panel(
                "Cost per call by feature",
                "A step upward after a release is a longer prompt, a longer answer or another model.",
                "lines",
                "currencyUSD",
                [Query(named(per_call, "feature"), "{{feature}}")],
                NO_CALLS,
            ),
            spike("Last hour against the spike threshold", SERVICES),
        ],
    )


def _latency() -> Row:
    buckets = f"sum by (le) (increase({DURATION}_bucket{{{CALLS}}}[$__rate_interval]))"
    return Row(
        "Calls and traces",
        [
            Panel(
                "Duration of calls",
                "Each dot is an exemplar: a click leads to the trace of that call, when the Prometheus data source "
                "names where traces are.",
                "lines",
                "s",
                [
                    Query(quantile(q, DURATION, CALLS, "model"), f"{{{{model}}}} p{int(q * 100)}", exemplars=True)
                    for q in (0.5, 0.95)
                ],
                NO_CALLS,
                width=12,
                height=9,
            ),
            Panel(
                "Distribution of durations",
                "Calls by duration; the exemplars lead to their traces.",
                "heatmap",
                "s",
                [Query(buckets, "{{le}}", exemplars=True)],
                NO_CALLS,
                width=12,
                height=9,
            ),
            calls_by_status(SCOPE),
            Panel(
                "Retries per minute by model",
                "HTTP attempts beyond the first, made inside the client library; each may be billed.",
                "lines",
                "short",
                [Query(rate("genai_meter_retries_total", SCOPE, "model", 60), "{{model}}")],
                NO_RETRIES,
            ),
            Panel(
                "Time to the first chunk p95 by model",
                "Of streamed calls: what a reader waits before the answer begins.",
                "lines",
                "s",
                [
                    Query(
                        quantile(0.95, "genai_meter_time_to_first_chunk_seconds", scope("provider", "model"), "model"),
                        "{{model}}",
                    )
                ],
                "No streamed call was metered in this time range and selection.",
            ),
        ],
    )


def _tokens() -> Row:
    cached = rate("genai_meter_tokens_total", f'{SCOPE},token_type="cache_read"')
    read = rate("genai_meter_tokens_total", f'{SCOPE},token_type=~"input|cache_read|cache_write"')
    return Row(
        "Tokens and caches",
        [
            tokens_by_type(SCOPE),
            Panel(
                "Tokens per call",
                "Gross input and output: median, 95th and 99th percentile; exemplars lead to traces.",
                "lines",
                "short",
                [
                    Query(
                        quantile(q, TOKENS, CALLS, "direction"),
                        f"{{{{direction}}}} p{int(q * 100)}",
                        exemplars=q == 0.99,
                    )
                    for q in (0.5, 0.95, 0.99)
                ],
                NO_CALLS,
            ),
            Panel(
                "Prompt cache share",
                "Input that the provider served from its prompt cache, over all input. A sudden drop is a changed "
                "prompt prefix, and costs money.",
                "lines",
                "percentunit",
                [Query(f"({cached} or 0 * {read}) / ({read} > 0)", "cached")],
                NO_CALLS,
                width=4,
            ),
            Panel(
                "Saved by own caches",
                "What answers from the application's own caches would have cost, in the time range.",
                "stat",
                "currencyUSD",
                [Query(total("genai_meter_cost_avoided_usd_total", SCOPE))],
                "No answer came from a cache of the application's own.",
                width=4,
                decimals=2,
            ),
        ],
    )


def _workflows() -> Row:
    return Row(
        "Workflows",
        [
            Panel(
                "Spend per hour by workflow",
                "The dearest workflows of the team, over all its services.",
                "stacked",
                "currencyUSD",
                [Query(rate("genai_meter_workflow_cost_usd_total", scope("team"), "workflow", 3600), "{{workflow}}")],
                "No call with a workflow was metered in this time range.",
                width=12,
            ),
            Panel(
                "Dearest run against its cap",
                "Cost of the dearest run with a call in the last 15 minutes, and what one run may cost.",
                "lines",
                "currencyUSD",
                [
                    Query(
                        f"max by (workflow) (genai_meter_workflow_run_cost_max_usd{{{scope('team')}}})", "{{workflow}}"
                    ),
                    Query(
                        f"max by (workflow) (genai_meter_workflow_run_cap_usd{{{scope('team')}}})", "{{workflow}} cap"
                    ),
                ],
                "No run of a workflow was metered, or none names its run id.",
                width=12,
                limits=[".* cap"],
            ),
        ],
    )


PAGE: Final = Page(
    uid="genai-meter-service",
    file="llm-service.json",
    title="LLM service",
    description="One service in depth: cost, calls, latency, tokens, and the traces behind them.",
    rows=[_glance(), _cost(), _latency(), _tokens(), _workflows()],
    filters=FILTERS,
    since="now-6h",
    links=[("Traces", TRACES)],
    traces=True,
)
