"""The dashboards drawn by Grafana's own components in Chromium, with a month of the demo: `make pictures`.

The pictures in docs/images come from here. What Grafana draws by plugins of its own (heat maps, state timelines) is
left out, and so are its variables and its menus.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dashboard_kit import FILES, interpolate, load, panels
from grafana import chromium, node
from grafana.month import DAY, STEP, month
from tools_kit import stack_needed

from examples.prometheus import Prometheus

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parent.parent
SOURCES = Path(__file__).parent / "grafana" / "pictures"
IMAGES = ROOT / "docs" / "images"
WIDTH, MARGIN, CELL = 1400, 32, 38
DAYS = 7
WRITE = os.environ.get("WRITE_PICTURES") == "1"
LEFT_OUT = {"heatmap", "state-timeline"}
BUNDLE = [
    *("--bundle", "--minify", "--outfile=bundle.js", "--log-level=error", '--define:process.env.NODE_ENV="production"'),
    *("--loader:.woff=dataurl", "--loader:.woff2=dataurl", "--loader:.ttf=empty"),
]


@dataclass
class Drawn:
    """A dashboard as it was drawn."""

    page: Mapping[str, Any]
    answers: Mapping[str, Any]
    complaints: list[str]
    panels: Mapping[str, Mapping[str, Any]]
    """Title → its text, and whether anything is on its canvas."""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Drawn]]:
    """All dashboards, drawn."""
    stack_needed()
    chromium.find()
    directory = node.packages("pictures")
    for name in ("page.jsx", "shrink.mjs"):
        shutil.copyfile(SOURCES / name, directory / name)
    node.run(["node", "node_modules/esbuild/install.js"], directory)
    node.run(["node_modules/.bin/esbuild", "page.jsx", *BUNDLE], directory)
    with month(tmp_path_factory.mktemp("month")) as (prometheus, end):
        yield {file.stem: draw(file, prometheus, end, directory) for file in FILES if asks_prometheus(file)}


def asks_prometheus(file: Path) -> bool:
    return all(
        t["datasource"]["type"] == "prometheus" for panel in panels(load(file)) for t in panel.get("targets", ())
    )


def draw(file: Path, prometheus: Prometheus, end: int, directory: Path) -> Drawn:
    page = load(file)
    answers = {
        f"{panel['id']}{target['refId']}": ask(prometheus, panel, target, end)
        for panel in panels(page)
        for target in panel.get("targets", ())
    }
    told = {"page": page, "answers": answers, "range": [end - DAYS * DAY, end], "width": WIDTH}
    text = json.dumps(told).replace("</", "<\\/")
    html, picture = directory / f"{file.stem}.html", directory / f"{file.stem}.png"
    html.write_text((SOURCES / "page.html").read_text(encoding="utf-8").replace('"TOLD"', text), encoding="utf-8")
    places = [panel["gridPos"] for panel in page["panels"]]
    height = max(place["y"] + place["h"] for place in places) * CELL + 70
    console = chromium.draw(html, picture, WIDTH + MARGIN, height)
    if WRITE:
        IMAGES.mkdir(exist_ok=True)
        node.run(["node", "shrink.mjs", picture, IMAGES / f"{file.stem}.png"], directory)
    found = re.search(r'CONSOLE:\d+\] "DRAWN (.*)", source: ', console)
    assert found, console[-2000:]
    complaints = [line for line in console.splitlines() if "CONSOLE" in line and "DRAWN" not in line]
    return Drawn(page, answers, complaints, {panel["title"]: panel for panel in json.loads(found[1])})


def ask(prometheus: Prometheus, panel: Mapping[str, Any], target: Mapping[str, Any], end: int) -> Any:
    """As Grafana asks, with the time of the month."""
    chosen = {"__range": f"{DAYS * DAY}s", "__rate_interval": f"{4 * STEP}s", "__interval": f"{STEP}s"}
    query = interpolate(target["expr"], chosen)
    if target["instant"]:
        return prometheus.ask("query", query=query, time=str(end))["result"]
    step = DAY if panel.get("interval") == "1d" else STEP
    start = str(end - DAYS * DAY)
    return prometheus.ask("query_range", query=query, start=start, end=str(end), step=str(step))["result"]


def test_nothing_is_complained_about(drawn: Mapping[str, Drawn]) -> None:
    assert {name: page.complaints for name, page in drawn.items() if page.complaints} == {}


def test_every_panel_shows_its_data_or_why_there_is_none(drawn: Mapping[str, Drawn]) -> None:
    for name, dashboard in drawn.items():
        for panel in panels(dashboard.page):
            if panel["type"] in LEFT_OUT | {"text"}:
                continue
            shown = dashboard.panels[panel["title"]]
            where = f"{name}: {panel['title']}: {shown}"
            if not any(dashboard.answers[f"{panel['id']}{t['refId']}"] for t in panel["targets"]):
                assert panel["fieldConfig"]["defaults"]["noValue"] in shown["text"].replace("\n", " "), where
            elif panel["type"] == "timeseries":
                assert shown["inked"], where
            elif panel["type"] == "table":
                labels = dashboard.answers[f"{panel['id']}A"][0]["metric"].values()
                assert any(value in shown["text"] for value in labels if value), where
            else:
                figure = shown["text"].removeprefix(panel["title"]).strip()
                assert figure, where
                assert panel["fieldConfig"]["defaults"]["noValue"] not in figure, where


def test_money_stands_to_the_cent(drawn: Mapping[str, Drawn]) -> None:
    for name, title in (
        ("llm-spend-overview", "Spend"),
        ("llm-tenants", "Margin"),
        ("llm-data-quality", "Ledger, all time"),
    ):
        dashboard = drawn[name]
        panel = next(panel for panel in panels(dashboard.page) if panel["title"] == title)
        amount = float(dashboard.answers[f"{panel['id']}A"][0]["value"][1])
        assert dashboard.panels[title]["text"].splitlines()[-1] == f"${amount:,.2f}"


def test_every_dashboard_has_its_picture(drawn: Mapping[str, Drawn]) -> None:
    """Small ones: they are in the repository."""
    for name in drawn:
        picture = IMAGES / f"{name}.png"
        assert picture.exists(), "run `make pictures` and commit docs/images"
        assert picture.stat().st_size < 200_000
