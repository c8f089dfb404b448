"""The wheel as a user gets it: built, installed without extras, and asked what it can do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
VERSION = "0.1.0"


def run(command: Sequence[str | Path], directory: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run away from the checkout and without its paths."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "OTEL"))}
    return subprocess.run(
        command, cwd=directory, input=stdin, env=kept, capture_output=True, text=True, timeout=240, check=False
    )


def succeed(command: Sequence[str | Path], directory: Path) -> str:
    done = run(command, directory)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def uv() -> Path:
    found = shutil.which("uv", path=os.pathsep.join([str(ROOT / ".tools/bootstrap/bin"), os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip("uv is neither in .tools/bootstrap (make env) nor on PATH")
    return Path(found)


@pytest.fixture(scope="module")
def wheel(uv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    succeed([uv, "build", "--quiet", "--wheel", "--out-dir", directory, "--python", sys.executable, ROOT], directory)
    [built] = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bare(uv: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtualenv with the wheel and its base dependencies only; the directory of its programs."""
    directory = tmp_path_factory.mktemp("bare")
    succeed([uv, "venv", "--quiet", "--python", sys.executable, directory / "venv"], directory)
    python = directory / "venv/bin/python"
    succeed([uv, "pip", "install", "--quiet", "--python", python, wheel], directory)
    return python.parent


def test_the_wheel_holds_what_the_code_reads(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert wheel.name == f"genai_meter-{VERSION}-py3-none-any.whl"
    for expected in (
        "genai_meter/py.typed",
        "genai_meter_exporter/py.typed",
        f"genai_meter-{VERSION}.dist-info/licenses/LICENSE",
    ):
        assert expected in names
    assert [name for name in names if name.startswith("genai_meter/pricing/") and "book" in name and ".json" in name]
    assert [
        name for name in names if name.startswith("genai_meter_exporter/alert_rules/") and name.endswith(".rules.yaml")
    ]
    assert [name for name in names if name.startswith("genai_meter_exporter/alert_rules/runbooks/")]
    assert [name for name in names if name.startswith("genai_meter_exporter/dashboards/") and name.endswith(".json")]
    assert [name for name in names if "__pycache__" in name or name.startswith(("tests/", "examples/"))] == []


def test_without_extras_the_application_half_imports_and_names_its_entry_points(bare: Path, tmp_path: Path) -> None:
    code = """
import sys, genai_meter, genai_meter.instrumentor
from importlib.metadata import entry_points
print(sorted(e.name for e in entry_points(group="opentelemetry_instrumentor") if e.load()))
print(sorted(m for m in ("opentelemetry.sdk", "openai", "anthropic", "pydantic", "yaml") if m in sys.modules))
"""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = project["entry-points"]["opentelemetry_instrumentor"]
    assert {"genai_meter_anthropic", "genai_meter_openai"} <= declared.keys()
    assert succeed([bare / "python", "-c", code], tmp_path).splitlines() == [str(sorted(declared)), "[]"]


def test_without_extras_the_command_prices_and_names_the_extra_for_the_rest(bare: Path, tmp_path: Path) -> None:
    assert succeed([bare / "genai-meter", "--version"], tmp_path) == f"genai-meter {VERSION}\n"
    question = {
        "id": "one",
        "provider": "openai",
        "model": "gpt-4.1-mini",
        "api_flavor": "chat",
        "at": "2025-10-01T12:00:00Z",
        "context": {},
        "raw": {"usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}},
    }
    done = run([bare / "genai-meter", "prices", "calc"], tmp_path, json.dumps(question) + "\n")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    # 1,000 tokens at 0.40 USD and 100 at 1.60 USD per million.
    assert (answer["id"], answer["cost_usd"], answer["status"]) == ("one", "0.00056", "exact")
    refused = run([bare / "genai-meter", "usage"], tmp_path)
    assert refused.returncode == 2
    assert "pip install 'genai-meter[exporter]'" in refused.stderr


def test_without_an_sdk_one_line_says_that_usage_goes_nowhere(bare: Path, tmp_path: Path) -> None:
    code = "import genai_meter\nfor _ in range(2): genai_meter.record_cost('0.25', what='search')"
    done = run([bare / "opentelemetry-instrument", bare / "python", "-c", code], tmp_path)
    assert (done.returncode, done.stderr) == (
        0,
        "genai_meter: usage goes nowhere, no OpenTelemetry SDK is installed: pip install 'genai-meter[otlp]'\n",
    )
