"""`genai-meter config check`: is a configuration file right?"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from genai_meter_exporter import config as configuration
from genai_meter_exporter.config import ConfigError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    help_line = "name every mistake with file, line and field; exit code 2 when there is one"
    check = commands.add_parser("check", help=help_line, description=help_line)
    check.add_argument("file", type=Path, help="YAML configuration (docs/exporter.md)")


def run(options: argparse.Namespace) -> int:
    """Check the file."""
    try:
        found = configuration.load(options.file)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{options.file}: right; {len(found.attribution.rules)} rule(s) of attribution")
    return 0
