"""The `genai-meter` command. Each subcommand is a module of `commands`, imported only when asked for."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

COMMANDS: Final = {
    "serve": "receive OTLP, price, store and expose usage",
    "config": "check a configuration file before it is used",
    "token": "make, list and revoke the tokens of those who may send and read",
    "usage": "spend and tokens from the ledger, by any dimension",
    "batch": "charge the results of a batch that no metered application reads",
    "anomalies": "what was unusual in the ledger, since when, and what it came from",
    "budgets": "where every budget stands, what to look at, what would have alerted",
    "digest": "what the digests and reviews that go out by webhook say now",
    "outcomes": "what came of the spend: success rate, value, cost per success",
    "caches": "answers from the applications' own caches, and what they did not cost",
    "estimates": "how far token estimates are from the providers' counts",
    "prices": "calculate, show, explain, compile, compare and update prices",
    "reprice": "price calls of the ledger by another book; differences become revisions",
    "quarantine": "what could not be read: who sent it and why; read it again, or throw it away",
    "spool": "ship what applications that have died left in their spool directory",
    "store": "check the ledger; bring it to this version's schema; write days to files, read them back",
    "rules": "write the Prometheus rules",
    "dashboards": "write the Grafana dashboards",
}
"""Subcommand → one line of help. The module of the same name in `commands` has `configure` and `run`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code.

    1: the answer is no, something is left to do, or a file or a receiver failed meanwhile; 2: an argument, a file, the
    configuration or the store cannot be used, or a package is missing.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _have_streams()
    _write_utf8()
    parser = argparse.ArgumentParser(prog="genai-meter", description="The meter of LLM calls.")
    parser.add_argument("--version", action="version", version=_version())
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((a for a in arguments if not a.startswith("-")), None)
    for name, help_line in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=help_line, description=help_line)
        if name == chosen:
            try:
                module = importlib.import_module(f"genai_meter_exporter.commands.{name}")
            except ModuleNotFoundError as error:
                print(f"genai-meter {name} needs the package {error.name!r}: {_install(error)}", file=sys.stderr)
                return 2
            module.configure(subparser)
    options = parser.parse_args(arguments)
    try:
        return importlib.import_module(f"genai_meter_exporter.commands.{options.command}").run(options)
    except ModuleNotFoundError as error:
        print(f"this needs the package {error.name!r}: {_install(error)}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except (OSError, UnicodeEncodeError) as error:
        print(f"genai-meter {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _have_streams() -> None:
    """Python has none where the caller has closed them (`>&-`): what is written goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - until the end


def _write_utf8() -> None:
    """Names are of any script: what is written is UTF-8 in every locale, unless `PYTHONIOENCODING` says otherwise."""
    if "PYTHONIOENCODING" not in os.environ:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() != "utf-8":
                stream.reconfigure(encoding="utf-8")


_BROUGHT_BY: Final = {
    "psycopg": "'genai-meter[exporter,postgres]'",
    "clickhouse_connect": "'genai-meter[exporter,clickhouse]'",
    "duckdb": "'genai-meter[exporter,duckdb]'",
    "grafana_foundation_sdk": "'genai-meter[dashboards]'",
    "genai_prices": "genai-prices",
}
"""Package → what to install for it; all others come with the extra `exporter`."""


def _install(missing: ModuleNotFoundError) -> str:
    package = (missing.name or "").partition(".")[0]
    return "pip install " + _BROUGHT_BY.get(package, "'genai-meter[exporter]'")


def _version() -> str:
    from importlib.metadata import version

    return f"genai-meter {version('genai-meter')}"
