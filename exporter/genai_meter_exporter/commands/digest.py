"""`genai-meter digest`: what the configured messages say now, without sending them."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from genai_meter_exporter import config as configuration
from genai_meter_exporter.anomalies.watch import FILE
from genai_meter_exporter.budgets.engine import Engine, Standing
from genai_meter_exporter.budgets.history import History
from genai_meter_exporter.budgets.model import zone
from genai_meter_exporter.commands.anomalies import told
from genai_meter_exporter.config import Config, ConfigError
from genai_meter_exporter.digest.message import document, text
from genai_meter_exporter.digest.numbers import gather
from genai_meter_exporter.digest.periods import latest
from genai_meter_exporter.digest.settings import Entry
from genai_meter_exporter.digest.unusual import concerns, sentence
from genai_meter_exporter.lines import Lines
from genai_meter_exporter.store import Reader, StoreError, open_readonly


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("name", nargs="*", help="only these digests (default: all)")
    parser.add_argument("--config", metavar="FILE", type=Path, required=True, help="YAML configuration with digests")
    parser.add_argument("--data-dir", metavar="DIR", help="where the store lives (default: ~/.local/state/genai-meter)")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="json: all numbers")


def run(options: argparse.Namespace) -> int:
    """Print each message about the period that was over last."""
    try:
        config = configuration.load(options.config)
        entries = [entry for entry in config.digest.entries if not options.name or entry.name in options.name]
        known = [entry.name for entry in config.digest.entries]
        if not known or not set(options.name) <= set(known):
            there = f"only {', '.join(known)}" if known else "none (docs/budgets.md)"
            asked = ", ".join(name for name in options.name if name not in known) or "digests"
            print(f"genai-meter digest: {options.config} has no {asked}: {there}", file=sys.stderr)
            return 2
        now = time.time()
        reader = open_readonly(configuration.store_path(config, options.data_dir))
        try:
            standings = _standings(config, options.data_dir, reader, now)
            tz = zone(config.digest.timezone)
            found = [
                gather(entry, latest(entry, tz, now), reader, standings, _unusual(entry, options.data_dir, now))
                for entry in entries
            ]
        finally:
            reader.close()
    except (ConfigError, StoreError, ValueError) as error:
        print(f"genai-meter digest: {error}", file=sys.stderr)
        return 2
    if options.format == "json":
        print(json.dumps([document(numbers) for numbers in found], indent=2))
    else:
        print("\n\n".join(text(numbers) for numbers in found))
    return 0


def _unusual(entry: Entry, data_directory: str | None, now: float) -> Sequence[str]:
    """What the exporter has kept of anomalies that are open, oldest first."""
    lines = Lines(configuration.data_directory(data_directory), FILE, {"labels": dict}, read_only=True)
    return [
        sentence(row["kind"], row["who"], row["what"], row["due_to"])
        for row in reversed(told(lines.read(now), now))
        if row["closed"] is None and concerns(entry, row["who"])
    ]


def _standings(config: Config, data_directory: str | None, reader: Reader, now: float) -> Sequence[Standing]:
    history = History(configuration.data_directory(data_directory), read_only=True)
    engine = Engine(config.budgets, history)
    engine.load(reader, now)
    return engine.evaluate(now)
