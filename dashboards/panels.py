"""A panel as plain data, and its translation into Grafana's v1 JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from grafana_foundation_sdk.builders import bargauge, heatmap, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import text as text_builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models import text as text_models

from dashboards.queries import Engine, Query, target

Kind: TypeAlias = Literal["stat", "lines", "stacked", "bars", "ranking", "table", "heatmap", "states", "text"]

AnyPanel: TypeAlias = (
    stat.Panel
    | timeseries.Panel
    | table.Panel
    | heatmap.Panel
    | bargauge.Panel
    | statetimeline.Panel
    | text_builders.Panel
)

INSTANT: Final = ("stat", "ranking", "table")
"""Kinds that show one value at the end of the time range."""

BLUE, GREEN, AMBER, RED, GREY = "#5794F2", "#73BF69", "#E0A030", "#E0544C", "#8E8E8E"
"""The colours that mean something; everything else is Grafana's classic palette."""

USD: Final = "currencyUSD"
TO_THE_CENT: Final = "currency:financial:$"
IN_FULL: Final = "locale"

Step: TypeAlias = tuple[float, str]
"""From this value on, this colour."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table, in the order in which columns are shown."""

    source: str
    """Name of the label, or of the query's value: `Value #A`."""
    title: str
    unit: str = ""
    width: int | None = None
    decimals: int | None = None
    gauge: float | None = None
    """Show a bar behind the value; full at this."""
    colours: Mapping[str, str] = field(default_factory=dict[str, str])
    """Text → its colour."""
    link: str = ""
    """Where a click on a cell leads; `${__value.text}` is the cell."""
    texts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Text → what is shown for it."""


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
    steps: Sequence[Step] = ()
    """Thresholds of colour. Limits that the configuration has come as series from their own metrics instead."""
    columns: Sequence[Column] = ()
    hidden: Sequence[str] = ()
    """What the queries return and the table does not show."""
    sort_by: str = ""
    """Title of the column by which a table starts sorted, largest first."""
    limits: Sequence[str] = ()
    """Legends (regular expressions) of series that are limits: drawn as dashed lines without a fill."""
    colours: Mapping[str, str] = field(default_factory=dict[str, str])
    """Legend → colour, for series whose colour means something."""
    mappings: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """Value as text → what is shown, and its colour."""
    link: tuple[str, str] | None = None
    """Title and address of where a click on a value leads."""
    interval: str = ""
    """Least distance of two points, for bars of whole days."""
    top: float | None = None
    """Largest value of the axis or the bar."""
    below_zero: bool = False
    """The axis does not begin at zero."""
    content: str = ""
    """Markdown of a text panel."""


@dataclass(frozen=True, slots=True)
class Row:
    """A headline and the panels below it."""

    title: str
    panels: Sequence[Panel]
    collapsed: bool = False
    """Opened by a click: detail that the first look does not need."""


def build(rows: Sequence[Row], engine: Engine) -> list[Builder[dashboard.Panel] | Builder[dashboard.RowPanel]]:
    """Builders of all rows and panels, numbered and laid out on the grid of 24 columns."""
    result: list[Builder[dashboard.Panel] | Builder[dashboard.RowPanel]] = []
    y, number = 0, 1
    for row in rows:
        headline = builders.Row(row.title).id(number).grid_pos(dashboard.GridPos(x=0, y=y, w=24, h=1))
        headline.collapsed(row.collapsed)
        result.append(headline)
        x, y, number, tallest = 0, y + 1, number + 1, 0
        for panel in row.panels:
            if x + panel.width > 24:
                x, y, tallest = 0, y + tallest, 0
            position = dashboard.GridPos(x=x, y=y, w=panel.width, h=panel.height)
            made = _panel(panel, engine).id(number).grid_pos(position)
            if row.collapsed:
                headline.with_panel(made)
            else:
                result.append(made)
            x, number, tallest = x + panel.width, number + 1, max(tallest, panel.height)
        if not row.collapsed:
            y += tallest
    return result


def _panel(panel: Panel, engine: Engine) -> AnyPanel:
    if panel.kind == "text":
        text = text_builders.Panel().mode(text_models.TextMode.MARKDOWN).content(panel.content)
        return text.title(panel.title).description(panel.description).transparent(True)
    builder = _visualisation(panel)
    builder.title(panel.title).description(panel.description).datasource(engine.datasource)
    unit, decimals = panel.unit, panel.decimals
    if panel.kind in INSTANT:
        unit, decimals = _in_full(unit, decimals)
    builder.unit(unit).no_value(panel.empty)
    if decimals is not None:
        builder.decimals(decimals)
    if panel.interval:
        builder.interval(panel.interval)
    if panel.top is not None:
        builder.min(0).max(panel.top)
    if panel.link:
        title, url = panel.link
        builder.data_links([builders.DashboardLink(title).url(url)])
    builder.thresholds(_thresholds(panel.steps))
    if panel.mappings:
        builder.mappings([_mapping(panel.mappings)])
    for legend, colour in panel.colours.items():
        builder.override_by_name(legend, [_fixed(colour)])
    builder.targets([target(engine, query, chr(ord("A") + i), panel.kind) for i, query in enumerate(panel.queries)])
    return builder


def _in_full(unit: str, decimals: int | None) -> tuple[str, int | None]:
    """Figures are not shortened: `currencyUSD` and `short` would show 4,213.57 as 4.21K."""
    if unit == USD:
        return TO_THE_CENT, 2 if decimals is None else decimals
    return (IN_FULL, decimals or 0) if unit == "short" else (unit, decimals)


def _thresholds(steps: Sequence[Step]) -> builders.ThresholdsConfig:
    base = dashboard.Threshold(value=None, color=GREEN if steps else BLUE)
    rest = [dashboard.Threshold(value=value, color=colour) for value, colour in steps]
    return builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps([base, *rest])


def _mapping(shown: Mapping[str, tuple[str, str]]) -> dashboard.ValueMap:
    results = {
        value: dashboard.ValueMappingResult(text=text, color=colour, index=index)
        for index, (value, (text, colour)) in enumerate(shown.items())
    }
    return dashboard.ValueMap(options=results)


def _fixed(colour: str) -> dashboard.DynamicConfigValue:
    return dashboard.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": colour})


def _visualisation(panel: Panel) -> AnyPanel:
    if panel.kind == "stat":
        return _stat(panel)
    if panel.kind == "ranking":
        return _ranking()
    if panel.kind == "table":
        return _table(panel)
    if panel.kind == "heatmap":
        colours = heatmap.HeatmapColorOptions().scheme("Blues").steps(64)
        return heatmap.Panel().calculate(False).color(colours).y_axis(heatmap.YAxisConfig().unit(panel.unit))
    if panel.kind == "states":
        colour = builders.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS)
        made = statetimeline.Panel().show_value(common.VisibilityMode.AUTO).row_height(0.8)
        return made.color_scheme(colour).legend(_legend().show_legend(False))
    return _timeseries(panel)


def _last() -> common_builders.ReduceDataOptions:
    return common_builders.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False)


def _stat(panel: Panel) -> stat.Panel:
    coloured = panel.steps or panel.mappings
    colour = common.BigValueColorMode.VALUE if coloured else common.BigValueColorMode.NONE
    made = stat.Panel().reduce_options(_last()).graph_mode(common.BigValueGraphMode.NONE).color_mode(colour)
    made.text(common_builders.VizTextDisplayOptions().value_size(30))
    return made.text_mode(common.BigValueTextMode.VALUE).justify_mode(common.BigValueJustifyMode.CENTER)


def _ranking() -> bargauge.Panel:
    made = bargauge.Panel().reduce_options(_last()).orientation(common.VizOrientation.HORIZONTAL)
    made.display_mode(common.BarGaugeDisplayMode.BASIC).value_mode(common.BarGaugeValueMode.TEXT).show_unfilled(False)
    made.name_placement(common.BarGaugeNamePlacement.LEFT).sizing(common.BarGaugeSizing.AUTO).min(0)
    made.text(common_builders.VizTextDisplayOptions().title_size(13).value_size(13))
    return made.color_scheme(builders.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))


def _timeseries(panel: Panel) -> timeseries.Panel:
    made = timeseries.Panel().line_width(1).tooltip(_tooltip()).legend(_legend())
    made.color_scheme(builders.FieldColor().mode(dashboard.FieldColorModeId.PALETTE_CLASSIC))
    if not panel.below_zero:
        made.min(0)
    made.show_points(common.VisibilityMode.NEVER)
    if panel.kind in ("stacked", "bars"):
        made.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
        # A line around a series of zeros would look like the top of the stack.
        made.fill_opacity(75).line_width(0)
    if panel.kind == "bars":
        made.draw_style(common.GraphDrawStyle.BARS).bar_alignment(common.BarAlignment.BEFORE)
    for legend in panel.limits:
        made.override_by_regexp(
            legend,
            [
                dashboard.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [8, 6]}),
                dashboard.DynamicConfigValue(id_val="custom.fillOpacity", value=0),
                dashboard.DynamicConfigValue(id_val="custom.drawStyle", value="line"),
                dashboard.DynamicConfigValue(id_val="custom.lineWidth", value=1),
                dashboard.DynamicConfigValue(id_val="custom.stacking", value={"mode": "none", "group": "limits"}),
            ],
        )
    return made


def _tooltip() -> common_builders.VizTooltipOptions:
    return common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)


def _legend() -> common_builders.VizLegendOptions:
    legend = common_builders.VizLegendOptions().show_legend(True)
    return legend.display_mode(common.LegendDisplayMode.LIST).placement(common.LegendPlacement.BOTTOM)


# --- tables -------------------------------------------------------------------------------------------
def _table(panel: Panel) -> table.Panel:
    made = table.Panel().show_header(True).cell_height(common.TableCellHeight.SM)
    if len(panel.queries) > 1:
        made.with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
    names = {column.source: column.title for column in panel.columns}
    order = {column.source: index for index, column in enumerate(panel.columns)}
    hidden = {"Time": True} | dict.fromkeys(panel.hidden, True)
    options = {"excludeByName": hidden, "indexByName": order, "renameByName": names}
    made.with_transformation(dashboard.DataTransformerConfig(id_val="organize", options=options))
    for column in panel.columns:
        made.override_by_name(column.title, _cells(column))
    if panel.sort_by:
        made.sort_by([common_builders.TableSortByFieldState().display_name(panel.sort_by).desc(True)])
    return made


def _cells(column: Column) -> list[dashboard.DynamicConfigValue]:
    """What one column differs in from the others."""
    # What an empty cell shows; the panel's own text is for a table without rows.
    # A label such as the tenant 4711 is no figure.
    unit, decimals = _in_full(column.unit, column.decimals) if column.unit else ("string", None)
    told: dict[str, Any] = {"noValue": "-", "unit": unit}
    if decimals is not None:
        told["decimals"] = decimals
    if column.width is not None:
        told["custom.width"] = column.width
    if column.gauge is not None:
        told["custom.cellOptions"] = {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}
        told |= {"min": 0, "max": column.gauge, "color": {"mode": "fixed", "fixedColor": BLUE}}
    if column.colours or column.texts:
        named = {**dict.fromkeys(column.colours, ""), **dict.fromkeys(column.texts, "")}
        told["mappings"] = [
            {
                "type": "value",
                "options": {
                    value: {"text": column.texts.get(value, value), "color": column.colours.get(value), "index": index}
                    for index, value in enumerate(named)
                },
            }
        ]
    if column.colours:
        told["custom.cellOptions"] = {"type": "color-text"}
    if column.link:
        told["links"] = [{"title": "Open", "url": column.link}]
    return [dashboard.DynamicConfigValue(id_val=name, value=value) for name, value in told.items()]
