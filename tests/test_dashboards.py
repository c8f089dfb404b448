"""The dashboards: what is checked in is what is built, and it is sound. Its queries run in test_end_to_end."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from grafana_foundation_sdk.models import units

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "dashboards").glob("*.json"))
BUILTIN = {"__range": "6h", "__rate_interval": "5m", "__interval": "1m"}


def load(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())


def panels(page: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel that is no row."""
    return (panel for panel in page["panels"] if panel["type"] != "row")


def targets() -> list[Any]:
    return [
        pytest.param(panel, target, id=f"{panel['title']}-{target['refId']}")
        for file in FILES
        for panel in panels(load(file))
        for target in panel["targets"]
    ]


def interpolate(expression: str) -> str:
    """The query as Grafana sends it when everything is selected."""
    return re.sub(r"\$(\w+)", lambda match: BUILTIN.get(match[1], ".*"), expression)


def test_the_one_build_of_the_sdk_that_emits_todays_panels() -> None:
    """Its version scheme has epochs: any looser pin installs a build for Grafana 10.1."""
    assert importlib.metadata.version("grafana-foundation-sdk").removeprefix("v") == "0.0.21"


def test_checked_in_json_is_what_the_code_builds(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "dashboards", str(tmp_path)], cwd=ROOT, check=True, timeout=60)
    built = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert built == {file.name: file.read_text() for file in FILES}, "run `make dashboards` and commit the JSON"


def test_command_writes_the_checked_in_json(tmp_path: Path) -> None:
    code = "from genai_meter_exporter.cli import main; raise SystemExit(main())"
    options = ["dashboards", "--output", str(tmp_path / "new")]
    done = subprocess.run(
        [sys.executable, "-c", code, *options], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == [str(tmp_path / "new" / file.name) for file in FILES]
    assert [(tmp_path / "new" / file.name).read_text() for file in FILES] == [file.read_text() for file in FILES]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_layout(file: Path) -> None:
    page = load(file)
    numbers = [panel["id"] for panel in page["panels"]]
    assert numbers == sorted(set(numbers))
    for panel in page["panels"]:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
    for a, b in itertools.combinations(page["panels"], 2):
        one, other = a["gridPos"], b["gridPos"]
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (a["title"], b["title"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_panel_explains_itself_and_its_emptiness(file: Path) -> None:
    known_units = {value for name, value in vars(units).items() if not name.startswith("_") and isinstance(value, str)}
    for panel in panels(load(file)):
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["description"].endswith(".")
        assert defaults["noValue"].endswith("."), panel["title"]
        assert defaults["unit"] in known_units
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEF"[: len(panel["targets"])])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_variables_used_are_defined_and_variables_defined_are_used(file: Path) -> None:
    page = load(file)
    defined = {variable["name"] for variable in page["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(page["panels"]))) - set(BUILTIN)
    assert used == defined


@pytest.mark.parametrize(("panel", "target"), targets())
def test_query(panel: dict[str, Any], target: dict[str, Any]) -> None:
    """PromQL that parses and type-checks, on the chosen data source, in the form its panel needs."""
    tree = promql_parser.parse(interpolate(target["expr"]))
    assert tree is not None
    assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert target["instant"] == (panel["type"] in ("stat", "table"))
    assert target["range"] != target["instant"]
    assert target.get("format") == {"table": "table", "heatmap": "heatmap"}.get(panel["type"])
    if target.get("exemplar"):
        assert "_bucket{" in target["expr"], "only histograms have exemplars"
    grouped = re.search(r"by \(([^)]*)\)", target["expr"])
    if grouped:
        labels = {label.strip() for label in grouped[1].split(",")}
        assert set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", ""))) <= labels
