"""A panel as plain data, and its translation into Grafana's v1 JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

Kind: TypeAlias = Literal["stat", "lines", "stacked", "table", "heatmap"]

AnyPanel: TypeAlias = stat.Panel | timeseries.Panel | table.Panel | heatmap.Panel

DATASOURCE: Final = common.DataSourceRef(type_val="prometheus", uid="${datasource}")


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL query of a panel."""

    expr: str
    legend: str = ""
    exemplars: bool = False
    """Ask Prometheus for the exemplars of the histogram as well: each leads to the trace of one call."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel, before it has a place and a number."""

    title: str
    description: str
    kind: Kind
    unit: str
    queries: Sequence[Query]
    empty: str
    """What is shown when there is no data: the likely reason."""
    width: int = 8
    height: int = 8
    decimals: int | None = None
    alarm: float | None = None
    """Value from which the panel turns red."""


@dataclass(frozen=True, slots=True)
class Row:
    """A headline and the panels below it."""

    title: str
    panels: Sequence[Panel]


def build(rows: Sequence[Row]) -> list[Builder[dashboard.Panel] | Builder[dashboard.RowPanel]]:
    """Builders of all rows and panels, numbered and laid out on the grid of 24 columns."""
    result: list[Builder[dashboard.Panel] | Builder[dashboard.RowPanel]] = []
    y, number = 0, 1
    for row in rows:
        result.append(builders.Row(row.title).id(number).grid_pos(dashboard.GridPos(x=0, y=y, w=24, h=1)))
        x, y, number, tallest = 0, y + 1, number + 1, 0
        for panel in row.panels:
            if x + panel.width > 24:
                x, y, tallest = 0, y + tallest, 0
            position = dashboard.GridPos(x=x, y=y, w=panel.width, h=panel.height)
            result.append(_panel(panel).id(number).grid_pos(position))
            x, number, tallest = x + panel.width, number + 1, max(tallest, panel.height)
        y += tallest
    return result


def _panel(panel: Panel) -> AnyPanel:
    builder = _visualisation(panel)
    builder.title(panel.title).description(panel.description).datasource(DATASOURCE)
    builder.unit(panel.unit).no_value(panel.empty)
    if panel.decimals is not None:
        builder.decimals(panel.decimals)
    if panel.alarm is not None:
        steps = [dashboard.Threshold(value=None, color="green"), dashboard.Threshold(value=panel.alarm, color="red")]
        builder.thresholds(builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps))
    builder.targets([_target(panel, query, chr(ord("A") + i)) for i, query in enumerate(panel.queries)])
    return builder


def _visualisation(panel: Panel) -> AnyPanel:
    if panel.kind == "stat":
        last = common_builders.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False)
        colour = common.BigValueColorMode.NONE if panel.alarm is None else common.BigValueColorMode.VALUE
        return stat.Panel().reduce_options(last).graph_mode(common.BigValueGraphMode.NONE).color_mode(colour)
    if panel.kind == "table":
        without_time = dashboard.DataTransformerConfig(id_val="organize", options={"excludeByName": {"Time": True}})
        return table.Panel().show_header(True).with_transformation(without_time)
    if panel.kind == "heatmap":
        colours = heatmap.HeatmapColorOptions().scheme("Blues").steps(64)
        return heatmap.Panel().calculate(False).color(colours).y_axis(heatmap.YAxisConfig().unit(panel.unit))
    builder = timeseries.Panel().line_width(1).min(0).tooltip(_tooltip()).legend(_legend())
    if panel.kind == "stacked":
        builder.fill_opacity(60).stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    return builder


def _tooltip() -> common_builders.VizTooltipOptions:
    return common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)


def _legend() -> common_builders.VizLegendOptions:
    legend = common_builders.VizLegendOptions().show_legend(True)
    return legend.display_mode(common.LegendDisplayMode.LIST).placement(common.LegendPlacement.BOTTOM)


def _target(panel: Panel, query: Query, name: str) -> prometheus.Dataquery:
    target = prometheus.Dataquery().datasource(DATASOURCE).ref_id(name).expr(query.expr)
    if query.legend:
        target.legend_format(query.legend)
    if query.exemplars:
        target.exemplar(True)
    if panel.kind in ("stat", "table"):
        target.instant()
    else:
        target.range()
    if panel.kind == "table":
        target.format(PromQueryFormat.TABLE)
    if panel.kind == "heatmap":
        target.format(PromQueryFormat.HEATMAP)
    return target
