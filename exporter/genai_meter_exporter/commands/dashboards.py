"""`genai-meter dashboards`: the Grafana dashboards as JSON to import or to provision."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from genai_meter_exporter import data


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "--output", type=Path, default=Path("."), metavar="DIR", help="directory to write to (the current one)"
    )


def run(options: argparse.Namespace) -> int:
    """Copy every dashboard; prints what was written."""
    options.output.mkdir(parents=True, exist_ok=True)
    for source in sorted(data.directory("dashboards").glob("*.json")):
        target = options.output / source.name
        shutil.copyfile(source, target)
        print(target)
    return 0
