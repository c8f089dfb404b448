"""`genai-meter config check`: is a configuration file right, and who is let in by it?"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from genai_meter_exporter import config as configuration
from genai_meter_exporter.access.concerns import concerns
from genai_meter_exporter.config import ConfigError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    help_line = "name every mistake with file, line and field (exit code 2), and what is open to others"
    check = commands.add_parser("check", help=help_line, description=help_line)
    check.add_argument("file", type=Path, help="YAML configuration (docs/exporter.md)")
    check.add_argument("--strict", action="store_true", help="exit code 1 when something is warned of")


def run(options: argparse.Namespace) -> int:
    """Check the file."""
    try:
        found = configuration.load(options.file)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    warned = list(concerns(found, options.file.parent))
    for line in warned:
        print(f"{options.file}: warning: {line}", file=sys.stderr)
    print(f"{options.file}: right; {len(found.attribution.rules)} rule(s) of attribution")
    return 1 if warned and options.strict else 0
