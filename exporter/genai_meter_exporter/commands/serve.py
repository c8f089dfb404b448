"""`genai-meter serve`: receive OTLP, price, store and expose usage."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from functools import partial
from pathlib import Path

from genai_meter_exporter import config as configuration
from genai_meter_exporter.charging import PriceError
from genai_meter_exporter.config import Config, ConfigError
from genai_meter_exporter.server import Exporter, ListenError
from genai_meter_exporter.store import StoreError, shown
from genai_meter_exporter.telemetry import configure_log


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--config", metavar="FILE", type=Path, help="YAML configuration (docs/exporter.md)")
    parser.add_argument("--data-dir", metavar="DIR", help="where the store lives (default: ~/.local/state/genai-meter)")
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--grpc-port", type=_port, metavar="N", help="OTLP/gRPC (default: 4327; 0: any free)")
    parser.add_argument("--http-port", type=_port, metavar="N", help="OTLP/HTTP (default: 4328; 0: any free)")
    parser.add_argument("--metrics-port", type=_port, metavar="N", help="/metrics (default: 4329; 0: any free)")


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    # Told to reload before it listens to that, it must not end: what it reads now is the newest.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        config = _read(options)
        configure_log(config.telemetry.log_format, config.telemetry.log_level)
        exporter = Exporter(config, configuration.data_directory(options.data_dir), options.config)
        serving = exporter.serve(partial(_announce, exporter), partial(_read, options))
        return 0 if asyncio.run(serving) else 1
    except (ConfigError, PriceError, StoreError, ListenError) as error:
        print(f"genai-meter serve: {error}", file=sys.stderr)
        return 2


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port from 0 to 65535")
    return int(text)


def _read(options: argparse.Namespace) -> Config:
    """The file; options win over it."""
    config = configuration.load(options.config)
    given = {
        name: value
        for name in ("host", "grpc_port", "http_port", "metrics_port")
        if (value := getattr(options, name)) is not None
    }
    return config.model_copy(update={"listen": config.listen.model_copy(update=given)})


def _announce(exporter: Exporter) -> None:
    width = max(map(len, exporter.addresses))
    for name, address in exporter.addresses.items():
        print(f"{name:<{width}}  {address}")
    print(f"{'ledger':<{width}}  {shown(exporter.store_path)}", flush=True)
