"""The queries of panels: PromQL for Prometheus, SQL for the ledger's own database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.cog import builder as cog_builder
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.prometheus import PromQueryFormat


@dataclass(frozen=True, slots=True)
class Engine:
    """A kind of data source."""

    plugin: str
    """Its type in Grafana."""
    variable: str
    """The dashboard's variable that names the data source."""
    options: Mapping[str, Any]
    """What every query of it has besides its text."""
    text: str
    """Where the text of a query stands."""

    @property
    def datasource(self) -> common.DataSourceRef:
        """The chosen data source."""
        return common.DataSourceRef(type_val=self.plugin, uid=f"${{{self.variable}}}")


PROMETHEUS: Final = Engine("prometheus", "datasource", {}, "expr")
POSTGRESQL: Final = Engine(
    "grafana-postgresql-datasource", "ledger", {"format": "table", "rawQuery": True, "editorMode": "code"}, "rawSql"
)
CLICKHOUSE: Final = Engine(
    "grafana-clickhouse-datasource", "ledger", {"format": 1, "queryType": "table", "editorType": "sql"}, "rawSql"
)


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel."""

    expr: str
    """PromQL or SQL."""
    legend: str = ""
    exemplars: bool = False
    """Ask Prometheus for the exemplars of the histogram as well: each leads to the trace of one call."""


class SqlQuery(variants.Dataquery):
    """A query in SQL: the builders of grafana-foundation-sdk have none."""

    def __init__(self, engine: Engine, sql: str, name: str) -> None:
        self._engine = engine
        self._sql = sql
        self._name = name

    def to_json(self) -> dict[str, object]:
        """As Grafana keeps it."""
        return {
            "refId": self._name,
            "datasource": self._engine.datasource,
            self._engine.text: self._sql,
            **self._engine.options,
        }


class _Built(cog_builder.Builder[variants.Dataquery]):
    """What is built already."""

    def __init__(self, query: variants.Dataquery) -> None:
        self._query = query

    def build(self) -> variants.Dataquery:
        """That."""
        return self._query


def target(engine: Engine, query: Query, name: str, kind: str) -> cog_builder.Builder[variants.Dataquery]:
    """The query as a panel of that kind asks it."""
    if engine is not PROMETHEUS:
        return _Built(SqlQuery(engine, query.expr, name))
    made = prometheus.Dataquery().datasource(engine.datasource).ref_id(name).expr(query.expr)
    if query.legend:
        made.legend_format(query.legend)
    if query.exemplars:
        made.exemplar(True)
    if kind in ("stat", "ranking", "table"):
        made.instant()
    else:
        made.range()
    if kind == "table":
        made.format(PromQueryFormat.TABLE)
    if kind == "heatmap":
        made.format(PromQueryFormat.HEATMAP)
    return made


# --- PromQL -------------------------------------------------------------------------------------------
WHO: Final = "team, environment, service, feature, provider, model"
"""Labels of the families by who asked whom."""


def gained(metric: str, scope: str, labels: str = WHO, over: str = "$__range", until: str = "") -> str:
    """What each series of a counter gained: exact, because the exporter's counters survive restarts.

    `increase()` would extrapolate, and would read every sample of the range: a month of a thousand series is more
    than Prometheus loads. Summed by their own labels first, so that an exporter with another address goes on counting.
    """
    now = f"sum by ({labels}) ({metric}{{{scope}}}{until})"
    before = f"sum by ({labels}) ({metric}{{{scope}}} offset {over})"
    return f"({now} - {before} or {now})"


def total(metric: str, scope: str = "", by: str = "", labels: str = WHO, over: str = "$__range") -> str:
    """The gain of a counter in the time range, summed by some of its labels."""
    return f"sum{_by(by)} ({gained(metric, scope, labels, over)})"


def spend(scope: str, by: str = "", over: str = "$__range", until: str = "") -> str:
    """Charges less credits: what the ledger gained."""
    charges = gained("genai_meter_cost_usd_total", scope, over=over, until=until)
    credited = gained("genai_meter_credit_usd_total", scope, over=over, until=until)
    return f'sum{_by(by)} ({charges} or label_replace(-{credited}, "part", "credit", "", ""))'


def rate(metric: str, scope: str = "", by: str = "", per: int = 1) -> str:
    """The gain of a counter a second, or in so many seconds."""
    times = f" * {per}" if per != 1 else ""
    return f"sum{_by(by)} (rate({metric}{{{scope}}}[$__rate_interval])){times}"


def named(expr: str, label: str, name: str = "(none)") -> str:
    """The same with a name for series whose label is empty."""
    return f'label_replace({expr}, "{label}", "{name}", "{label}", "")'


def quantile(share: float, metric: str, scope: str, by: str = "") -> str:
    """A quantile of a histogram over the interval of the graph."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{{{scope}}}[$__rate_interval])))"


def quantile_of_range(share: float, metric: str, scope: str, labels: str, by: str = "") -> str:
    """A quantile of a histogram over the whole time range."""
    buckets = gained(f"{metric}_bucket", scope, f"{labels}, le")
    kept = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({kept}) ({buckets}))"


def threshold(name: str) -> str:
    """A threshold of the shipped alerts, as the exporter is configured."""
    return f'max(genai_meter_alert_threshold{{threshold="{name}"}})'


def spike_threshold(scope: str) -> str:
    """From where on GenAIMeterHourlySpendSpike looks closer."""
    median = f"last_over_time(service:genai_meter_cost_usd_increase1h:median7d{{{scope}}}[1h])"
    floor = f"scalar({threshold('spend_spike_floor_usd')})"
    return f"scalar({threshold('spend_spike_ratio')}) * clamp_min({median}, {floor})"


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""
