"""`genai-meter dashboards`: the Grafana dashboards as JSON to import or to provision."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Final

import yaml

from genai_meter_exporter import data

PROVIDERS: Final = "dashboards.yaml"


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "--output", type=Path, default=Path("."), metavar="DIR", help="directory to write to (the current one)"
    )
    parser.add_argument(
        "--provisioning",
        type=Path,
        metavar="DIR",
        help=f"also write {PROVIDERS}, by which Grafana finds them: /etc/grafana/provisioning/dashboards",
    )


def run(options: argparse.Namespace) -> int:
    """Copy every dashboard; prints what was written."""
    options.output.mkdir(parents=True, exist_ok=True)
    source = data.directory("dashboards")
    for file in sorted(source.glob("*.json")):
        target = options.output / file.name
        shutil.copyfile(file, target)
        print(target)
    if options.provisioning is not None:
        print(_provision(source / "provisioning" / PROVIDERS, options.provisioning, options.output.resolve()))
    return 0


def _provision(source: Path, directory: Path, output: Path) -> Path:
    told = yaml.safe_load(source.read_text(encoding="utf-8"))
    told["providers"][0]["options"]["path"] = str(output)
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / PROVIDERS
    target.write_text(yaml.safe_dump(told, sort_keys=False), encoding="utf-8")
    return target
