"""A dashboard as plain data: its variables, annotations, links and rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.models import dashboard, table

from dashboards.panels import AMBER, BLUE, RED, Row, build
from dashboards.queries import PROMETHEUS, Engine

TAG: Final = "genai-meter"

CALLS: Final = "genai_meter_requests_total"
VALUES: Final[Mapping[str, tuple[str, str, str]]] = {
    "environment": ("Environment", CALLS, "environment"),
    "team": ("Team", CALLS, "team"),
    "service": ("Service", CALLS, "service"),
    "feature": ("Feature", CALLS, "feature"),
    "provider": ("Provider", CALLS, "provider"),
    "model": ("Model", CALLS, "model"),
    "tenant": ("Tenant", "genai_meter_tenant_cost_usd_total", "tenant"),
    "budget": ("Budget", "genai_meter_budget_period_elapsed_ratio", "budget"),
    "owner": ("Owner", "genai_meter_budget_period_elapsed_ratio", "owner"),
    "window": ("Period", "genai_meter_budget_period_elapsed_ratio", "window"),
}
"""Variable → its name on the screen, and the metric and label whose values it offers."""

NO_CALLS: Final = "No call was metered in this time range and selection."
NO_EXPORTER: Final = "Prometheus has no data of the exporter: check that it runs and is scraped."
NO_RULES: Final = "The recording rules of genai-meter are not loaded, or have no history yet."
NO_BUDGETS: Final = "No budget is configured: see `budgets` in the exporter's configuration."


@dataclass(frozen=True, slots=True)
class Page:
    """One dashboard."""

    uid: str
    file: str
    """Name of its JSON file."""
    title: str
    description: str
    rows: Sequence[Row]
    filters: Sequence[str] = ()
    """Variables that narrow it, of `VALUES`."""
    since: str = "now-24h"
    """Its time range at first."""
    engine: Engine = PROMETHEUS
    links: Sequence[tuple[str, str]] = ()
    """Title and address of further links."""
    traces: bool = False
    """Whether it asks for a data source of traces."""


def scope(*labels: str) -> str:
    """PromQL matchers that follow the variables of the same names."""
    return ",".join(f'{label}=~"${label}"' for label in labels)


def drill_down(uid: str, **variables: str) -> str:
    """The address of another dashboard, at the same time, narrowed."""
    given = "".join(f"&var-{name}={value}" for name, value in variables.items())
    return f"/d/{uid}?${{__url_time_range}}{given}"


def dashboard_of(page: Page) -> dashboard.Dashboard:
    """The whole dashboard."""
    made = (
        builders.Dashboard(page.title)
        .uid(page.uid)
        .description(page.description)
        .tags([TAG, "llm", "cost"])
        .timezone("utc")
        .time(page.since, "now")
        .refresh("1m")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .link(_others())
    )
    for variable in _sources(page):
        made.with_variable(variable)
    for name in page.filters:
        made.with_variable(_filter(name))
    for title, url in page.links:
        made.link(builders.DashboardLink(title).type(dashboard.DashboardLinkType.LINK).url(url).icon("external link"))
    if page.engine is PROMETHEUS:
        for annotation in _annotations():
            made.annotation(annotation)
    model = made.build()
    model.panels = [builder.build() for builder in build(page.rows, page.engine)]
    _repair(model)
    return model


def _sources(page: Page) -> list[builders.DatasourceVariable]:
    if page.engine is not PROMETHEUS:
        return [builders.DatasourceVariable(page.engine.variable).label("Ledger").type(page.engine.plugin)]
    sources = [builders.DatasourceVariable("datasource").label("Prometheus").type("prometheus")]
    if page.traces:
        sources.append(builders.DatasourceVariable("traces").label("Traces").type("tempo"))
    return sources


def _others() -> builders.DashboardLink:
    """All dashboards of genai-meter; they keep the time and what is selected."""
    link = builders.DashboardLink("LLM dashboards").type(dashboard.DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.as_dropdown(True).include_vars(True).keep_time(True).icon("external link")


def _filter(name: str) -> builders.QueryVariable:
    title, metric, label = VALUES[name]
    query = f"label_values({metric}, {label})"
    return (
        builders.QueryVariable(name)
        .label(title)
        .datasource(PROMETHEUS.datasource)
        .query(query)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(dashboard.VariableOption(selected=True, text="All", value="$__all"))
    )


def _annotations() -> list[builders.AnnotationQuery]:
    prices = "genai_meter_price_book_info unless genai_meter_price_book_info offset 5m"
    releases = "max by (service, release) (genai_meter_release_timestamp_seconds) * 1000"
    alerts = 'ALERTS{alertname=~"GenAIMeter.+",alertstate="firing",severity="critical"}'
    return [
        _annotation("Prices", BLUE, prices, "Price book changed", "book {{book_id}}"),
        _annotation("Releases", AMBER, releases, "Release", "{{service}} {{release}}", use_value=True),
        _annotation("Critical alerts", RED, alerts, "{{alertname}}", "{{team}} {{service}} {{budget}}"),
    ]


def _annotation(
    name: str, colour: str, expr: str, title: str, text: str, *, use_value: bool = False
) -> builders.AnnotationQuery:
    made = builders.AnnotationQuery().name(name).datasource(PROMETHEUS.datasource).enable(True).icon_color(colour)
    query = prometheus.Dataquery().ref_id("Anno").expr(expr).interval("1m")
    if use_value:
        made.use_value_for_time(True)
    return made.target(query).title_format(title).text_format(text)


def _repair(model: dashboard.Dashboard) -> None:
    """Take out what version 0.0.21 of the library adds and Grafana's own types refuse, or what moves out of sight."""
    for link in model.links or []:
        link.placement = None  # pyright: ignore[reportAttributeAccessIssue]
    for annotation in (model.annotations.list_val if model.annotations else None) or []:
        annotation.placement = None  # pyright: ignore[reportAttributeAccessIssue]
    for variable in (model.templating.list_val if model.templating else None) or []:
        variable.auto = variable.auto_min = variable.auto_count = None
    for panel in model.panels or []:
        if isinstance(panel, dashboard.Panel) and isinstance(panel.options, table.Options):
            panel.options.footer = None
