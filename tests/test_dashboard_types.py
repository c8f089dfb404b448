"""The dashboards' JSON against the types that Grafana publishes, of every major version: `make dashboards-types`."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dashboard_kit import FILES, load, panels
from grafana.node import packages, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MAJORS = (11, 12, 13)
LOOSE = """
type Loose<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T
  : T extends (infer U)[] ? Loose<U>[] : { [K in keyof T]: Loose<T[K]> };
"""
"""String enums refuse the texts that JSON has for them."""

MODULES = {
    "timeseries": "timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen",
    "stat": "stat/panelcfg/x/StatPanelCfg_types.gen",
    "bargauge": "bargauge/panelcfg/x/BarGaugePanelCfg_types.gen",
    "table": "table/panelcfg/x/TablePanelCfg_types.gen",
    "heatmap": "heatmap/panelcfg/x/HeatmapPanelCfg_types.gen",
    "state-timeline": "statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen",
    "text": "text/panelcfg/x/TextPanelCfg_types.gen",
}
WITHOUT_FIELDS = {"stat", "bargauge", "text"}
"""Panels that have no field settings of their own."""


def program(pages: list[dict[str, Any]], major: int) -> str:
    """TypeScript that compiles when every dashboard and every panel is of Grafana's type."""
    package = f"schema-{major}"
    lines = [f'import type {{ Dashboard }} from "{package}";', LOOSE]
    for name, module in MODULES.items():
        ending = ".js" if major == MAJORS[0] else ""
        lines.append(f'import type * as {_name(name)} from "{package}/dist/esm/raw/composable/{module}{ending}";')
    for number, page in enumerate(pages):
        lines.append(f"export const page{number}: Loose<Dashboard> = {json.dumps(_general(page))};")
        for panel in panels(page):
            kind, name = _name(panel["type"]), f"{number}_{panel['id']}"
            lines.append(
                f"export const options{name}: Loose<Partial<{kind}.Options>> = {json.dumps(panel['options'])};"
            )
            custom = panel.get("fieldConfig", {}).get("defaults", {}).get("custom")
            if custom is not None and panel["type"] not in WITHOUT_FIELDS:
                lines.append(f"export const fields{name}: Loose<Partial<{kind}.FieldConfig>> = {json.dumps(custom)};")
    return "\n".join(lines) + "\n"


def _general(page: dict[str, Any]) -> dict[str, Any]:
    """Without what annotations have of their data source: the types know no data source."""
    general = copy.deepcopy(page)
    for annotation in general.get("annotations", {}).get("list", ()):
        annotation["target"] = {"refId": annotation["target"]["refId"]}
        for name in ("titleFormat", "textFormat", "useValueForTime"):
            annotation.pop(name, None)
    return general


def _name(kind: str) -> str:
    return kind.replace("-", "_")


def errors(pages: list[dict[str, Any]], major: int) -> list[str]:
    """What the compiler has against them."""
    directory = packages("types")
    file = directory / f"check{major}.ts"
    file.write_text(program(pages, major), encoding="utf-8")
    options = ["--noEmit", "--strict", "--skipLibCheck", "--module", "esnext", "--moduleResolution", "bundler"]
    try:
        run(["node", "node_modules/typescript/bin/tsc", *options, file.name], directory)
    except subprocess.CalledProcessError as failed:
        return failed.stdout.splitlines()
    return []


@pytest.mark.parametrize("major", MAJORS)
def test_dashboards_are_of_grafanas_types(major: int) -> None:
    assert errors([load(file) for file in FILES], major) == []


def _misspelt(page: dict[str, Any]) -> None:
    page["panels"][1]["transparant"] = True


def _wrong_type(page: dict[str, Any]) -> None:
    page["panels"][1]["gridPos"]["w"] = "wide"


def _unknown_option(page: dict[str, Any]) -> None:
    next(panel for panel in panels(page) if panel["type"] == "stat")["options"]["graphMode"] = "volcano"


def _unknown_field(page: dict[str, Any]) -> None:
    panel = next(panel for panel in panels(page) if panel["type"] == "timeseries")
    panel["fieldConfig"]["defaults"]["custom"]["lineWith"] = 2


@pytest.mark.parametrize("mistake", [_misspelt, _wrong_type, _unknown_option, _unknown_field])
def test_a_mistake_is_found(mistake: Callable[[dict[str, Any]], None]) -> None:
    """The check can fail."""
    page = copy.deepcopy(load(Path(FILES[-2])))
    mistake(page)
    assert errors([page], MAJORS[-1]) != []
