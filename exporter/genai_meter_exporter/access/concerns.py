"""What `genai-meter config check` warns of: a configuration that is right, and open to others."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

from genai_meter_exporter.access import tokens
from genai_meter_exporter.access.tls import certificates
from genai_meter_exporter.access.tokens import TokenError
from genai_meter_exporter.charging import PriceError, read_prices
from genai_meter_exporter.config import Config, ConfigError
from genai_meter_exporter.store import shown


def concerns(config: Config, directory: Path) -> Iterator[str]:
    """One line each; relative paths start at `directory`."""
    encrypted = config.tls.certificate is not None
    known = config.access.tokens is not None or config.tls.client_ca is not None
    host = config.listen.host
    if not loopback(host):
        if not known:
            yield f"listen.host {host} is open to the network, and anybody may send and read: set access.tokens"
        if not encrypted:
            yield f"listen.host {host} is open to the network without TLS: set tls.certificate and tls.key"
    if config.store.url is not None and shown(config.store.url) != config.store.url:
        yield "store.url has a password in it: give it by PGPASSWORD or a password file"
    yield from _files(config, directory)


def loopback(host: str) -> bool:
    """Reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _files(config: Config, directory: Path) -> Iterator[str]:
    try:
        certificates(config.tls, directory)
    except ConfigError as error:
        yield str(error)
    if config.prices.overlay is not None:
        try:
            read_prices(directory / config.prices.overlay)
        except PriceError as error:
            yield f"prices.overlay: {error}"
    if config.tls.key is not None:
        yield from _readable("tls.key", directory / config.tls.key, 0o077, "others than its owner can read it")
    if config.access.tokens is None:
        return
    path = directory / config.access.tokens
    try:
        found = tokens.read(path)
    except TokenError as error:
        yield f"access.tokens: {error}"
        return
    if not found:
        yield f"access.tokens: {path} has no token: nobody can send or read (`genai-meter token create`)"
    yield from _readable("access.tokens", path, 0o007, "everybody can read it")
    yield from _readable("access.tokens", path, 0o022, "others than its owner can write it")


def _readable(field: str, path: Path, mask: int, reason: str) -> Iterator[str]:
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if mode & mask:
        yield f"{field}: {path} has the mode {mode & 0o777:04o}: {reason}; chmod 600 {path}"
