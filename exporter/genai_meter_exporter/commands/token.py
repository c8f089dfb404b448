"""`genai-meter token`: who may send and read."""

from __future__ import annotations

import argparse
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from genai_meter_exporter import config as configuration
from genai_meter_exporter.access import tokens
from genai_meter_exporter.access.tokens import SCOPES, Grant, TokenError
from genai_meter_exporter.config import ConfigError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands and their options."""
    actions = parser.add_subparsers(dest="token", required=True, metavar="ACTION")
    shared = argparse.ArgumentParser(add_help=False)
    where = shared.add_mutually_exclusive_group(required=True)
    where.add_argument("--config", metavar="FILE", type=Path, help="the exporter's configuration, with access.tokens")
    where.add_argument("--file", metavar="FILE", type=Path, help="the file of tokens itself")
    create = actions.add_parser("create", parents=[shared], help="make a token and print it, once")
    create.add_argument("--name", required=True, help="who gets it")
    create.add_argument("--scope", action="append", required=True, choices=SCOPES, help="may be repeated")
    create.add_argument("--tenant", action="append", metavar="T", help="only this one; may be repeated (default: all)")
    create.add_argument("--expires", type=_span, metavar="DAYS", help="90d and its like (default: never)")
    actions.add_parser("list", parents=[shared], help="which there are; never the tokens themselves")
    revoke = actions.add_parser("revoke", parents=[shared], help="it holds no longer than a second from now")
    revoke.add_argument("id", help="as `list` shows it")


def run(options: argparse.Namespace) -> int:
    """Run one action."""
    try:
        path = options.file or _configured(options.config)
        if options.token == "create":
            return _create(path, options)
        if options.token == "list":
            return _list(tokens.read(path))
        revoked = tokens.revoke(path, options.id)
    except (ConfigError, TokenError) as error:
        print(f"genai-meter token: {error}", file=sys.stderr)
        return 2
    print(f"revoked: {revoked.name} ({revoked.id})")
    return 0


def _configured(file: Path) -> Path:
    name = configuration.load(file).access.tokens
    if name is None:
        raise ConfigError(f"{file}: access.tokens names no file; add it, e.g. `access: {{tokens: tokens.json}}`")
    return file.parent / name


def _create(path: Path, options: argparse.Namespace) -> int:
    if options.tenant and "admin" in options.scope:
        raise TokenError("admin concerns all tenants: leave --tenant out, or give ingest and read")
    now = datetime.now(UTC).replace(microsecond=0)
    grant, token = tokens.create(
        path,
        name=options.name,
        scopes=list(dict.fromkeys(options.scope)),
        tenants=options.tenant,
        created=now,
        expires=None if options.expires is None else now + options.expires,
    )
    print(token)
    print(f"{grant.name} ({grant.id}), in {path}: it is shown this once", file=sys.stderr)
    return 0


def _list(grants: list[Grant]) -> int:
    from rich import box
    from rich.table import Table

    from genai_meter_exporter.display import console, printable

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("id", "name", "scopes", "tenants", "created", "expires"):
        table.add_column(name, overflow="fold")
    now = datetime.now(UTC)
    for grant in grants:
        expires = "never" if grant.expires is None else f"{grant.expires:%Y-%m-%d %H:%M}"
        if grant.expires is not None and grant.expires <= now:
            expires += " (over)"
        tenants = "all" if grant.tenants is None else ", ".join(grant.tenants)
        told = (grant.id, grant.name, ", ".join(grant.scopes), tenants, f"{grant.created:%Y-%m-%d %H:%M}", expires)
        table.add_row(*map(printable, told))
    console().print(table if grants else "No tokens.")
    return 0


def _span(text: str) -> timedelta:
    match = re.fullmatch(r"([1-9][0-9]{0,4})d", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days: write 90d")
    return timedelta(days=int(match[1]))
