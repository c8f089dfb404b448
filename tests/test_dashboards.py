"""The dashboards: what is checked in is what is built, and it is sound. Their queries run in test_dashboards_live."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import promql_parser
import pytest
import yaml
from dashboard_kit import FILES, Asked, interpolate, load, panels, queries
from grafana_foundation_sdk.models import units

ROOT = Path(__file__).parent.parent
BROWSER = {"__range", "__rate_interval", "__interval", "__url_time_range", "__field", "__value", "__from", "__to"}
"""What Grafana fills in by itself."""

SQL = {"grafana-postgresql-datasource", "grafana-clickhouse-datasource"}

ASKED = queries("prometheus")
PAGES = {load(file)["uid"]: load(file) for file in FILES}


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
    numbers = [panel["id"] for row in page["panels"] for panel in (row, *row.get("panels", ()))]
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
        assert panel["description"].endswith(".")
        if panel["type"] == "text":
            continue
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["noValue"].endswith("."), panel["title"]
        assert defaults["unit"] in known_units | {"currency:financial:$"}
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGHIJ"[: len(panel["targets"])])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_variables_used_are_defined_and_variables_defined_are_used(file: Path) -> None:
    page = load(file)
    defined = {variable["name"] for variable in page["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps([page["panels"], page["links"]]))) - BROWSER
    assert {name for name in used if not name.startswith("__")} == defined


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_links_lead_to_dashboards_that_have_the_variable(file: Path) -> None:
    addresses = re.findall(r'"url": "(/d/[^"]+)"', json.dumps(load(file)))
    for address in addresses:
        uid, _, parameters = address.removeprefix("/d/").partition("?")
        page = PAGES[uid]
        names = set(re.findall(r"&var-(\w+)=", parameters))
        assert names <= {variable["name"] for variable in page["templating"]["list"]}, address
        assert parameters.startswith("${__url_time_range}")


def test_every_dashboard_offers_all_others() -> None:
    for page in PAGES.values():
        assert page["tags"][0] == "genai-meter"
        assert [link["tags"] for link in page["links"] if link["type"] == "dashboards"] == [["genai-meter"]]


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: "-".join(asked.key))
def test_query(asked: Asked) -> None:
    """PromQL that parses and type-checks, on the chosen data source, in the form its panel needs."""
    target, kind = asked.target, asked.panel["type"]
    assert promql_parser.parse(interpolate(target["expr"])) is not None
    assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert target["instant"] == (kind in ("stat", "bargauge", "table"))
    assert target["range"] != target["instant"]
    assert target.get("format") == {"table": "table", "heatmap": "heatmap"}.get(kind)
    if target.get("exemplar"):
        assert "_bucket{" in target["expr"], "only histograms have exemplars"


def test_table_columns_are_what_the_queries_return() -> None:
    """A label or a value that no query has would leave an empty column."""
    for asked in ASKED:
        if asked.panel["type"] != "table":
            continue
        organize = next(t for t in asked.panel["transformations"] if t["id"] == "organize")["options"]
        letters = [target["refId"] for target in asked.panel["targets"]]
        values = {f"Value #{letter}" for letter in letters} if len(letters) > 1 else {"Value"}
        placed = set(organize["renameByName"]) | set(organize["excludeByName"])
        assert values <= placed, asked.key
        text = " ".join(target["expr"] for target in asked.panel["targets"])
        for column in placed - values - {"Time"}:
            assert re.search(rf"by \([^)]*\b{column}\b", text), (asked.key, column)


def test_provisioning_names_the_directory_that_was_written(tmp_path: Path) -> None:
    code = "from genai_meter_exporter.cli import main; raise SystemExit(main())"
    where, place = tmp_path / "json", tmp_path / "provisioning"
    options = ["dashboards", "--output", str(where), "--provisioning", str(place)]
    subprocess.run([sys.executable, "-c", code, *options], check=True, capture_output=True, timeout=60)
    (provider,) = yaml.safe_load((place / "dashboards.yaml").read_text())["providers"]
    assert provider["type"] == "file"
    assert provider["options"] == {"path": str(where)}
    assert len(list(where.glob("*.json"))) == len(FILES)


def test_example_of_data_sources_leads_from_exemplars_to_traces() -> None:
    text = (ROOT / "dashboards" / "provisioning" / "datasources.yaml").read_text()
    sources = {source["type"]: source for source in yaml.safe_load(text)["datasources"]}
    (destination,) = sources["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert destination == {"name": "trace_id", "datasourceUid": sources["tempo"]["uid"]}
    asked = {asked.target["datasource"]["type"] for asked in queries("prometheus", *SQL)}
    assert asked <= set(sources)


def test_alerts_lead_to_dashboards_that_have_the_variable() -> None:
    rules = (ROOT / "alert_rules" / "genai-meter.rules.yaml").read_text()
    addresses = re.findall(r"dashboard_url: \S+/d/(\S+)", rules)
    assert addresses
    for address in addresses:
        uid, _, parameters = address.partition("?")
        names = {part.removeprefix("var-").partition("=")[0] for part in parameters.split("&") if part}
        names = {name for name in names if re.fullmatch(r"\w+", name)}
        assert names <= {variable["name"] for variable in PAGES[uid]["templating"]["list"]}, address
