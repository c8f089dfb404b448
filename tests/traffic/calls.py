"""What a family plans: a call of a public method of a client, with its arguments; and its client."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from tests.traffic.recordings import Exchange
from tests.traffic.server import PIN


class NotReplayable(Exception):
    """No client of today sends this request; the text says why."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a public method of a client."""

    client: str
    """Kind of client, in the words of its family."""
    root: str
    """Where the client finds its API: a path, behind `Exchange.origin` when that is told."""
    method: str
    """Dotted name below the client, or `verb:/path` for its untyped request."""
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])
    deployment: str | None = None
    """Azure only."""


def base_url(call: Call, url: str) -> str:
    """Where the client of a call sends it: to the recorded host, else to the replay server itself."""
    return call.root if "://" in call.root else url + call.root


def known(function: Callable[..., Any], body: dict[str, Any]) -> dict[str, Any]:
    """Arguments that the method knows; the rest goes through `extra_body`."""
    names = _parameters(function)
    arguments = {name: value for name, value in body.items() if name in names}
    extra = {name: value for name, value in body.items() if name not in names}
    if extra:
        arguments["extra_body"] = extra
    return arguments


def pinned(arguments: dict[str, Any], exchange: Exchange) -> dict[str, Any]:
    """The arguments of a Stainless client, with the header that names the recording."""
    return {**arguments, "extra_headers": {PIN: exchange.id}}


@lru_cache
def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters) - {"self"}
