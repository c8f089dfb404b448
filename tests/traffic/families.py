"""The client libraries of the traffic run: one module each, asked in this order.

A family module offers

    PROVIDERS                            provider labels of the traffic files that it has a client for
    plan(exchange) -> Call | None        how to send it; None: another family's; raises NotReplayable(reason)
    client(call, url, asynchronous)      a client; one is made for each (client, root, deployment) of a call

and may offer

    ENVIRONMENT                          an environment of `tests.environments` (else that of the test suite)
    METERED                              operations of the traffic files that are one metered call each
    invoke(client, call)                 makes the call; else `driver.invoke`
    unfold(result), unfold_async(result) what the caller gets, one by one; else `driver.unfold…`
    beyond(exchange) -> Mapping | None   usage of what is metered though the files do not count it; empty: none told

All hosts are the replay server (it is their `http_proxy`): a client for `http://api.example.com` is answered by it, and
the meter sees the host that was recorded. So `Call.root` starts with `Exchange.origin`, and `client` uses `base_url`.

A label that several families have is driven in the first of their environments that is not the test suite's.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, Final

from tests.environments import Environment
from tests.traffic.calls import Call, NotReplayable
from tests.traffic.recordings import Exchange

NAMES: Final = ("bedrock", "cohere", "google", "mistral", "compatible", "ollama", "huggingface", "openai_anthropic")
"""Modules of this folder; a library's own client before those that can do it too."""
NONE: Final = "no client yet"


def families() -> list[ModuleType]:
    """All of them."""
    return [importlib.import_module(f"tests.traffic.{name}") for name in NAMES]


def plan(exchange: Exchange) -> tuple[ModuleType, Call]:
    """Who sends a recorded request, and how; raises `NotReplayable`."""
    reasons: list[str] = []
    for family in families():
        if exchange.provider not in family.PROVIDERS:
            continue
        try:
            call: Call | None = family.plan(exchange)
        except NotReplayable as reason:
            reasons.append(str(reason))
            continue
        if call is not None:
            return family, call
    raise NotReplayable(reasons[0] if reasons else NONE)


def metered() -> frozenset[str]:
    """Operations, as the traffic files call them, that are one metered call each."""
    return frozenset[str]().union(*(getattr(family, "METERED", ()) for family in families()))


def beyond(exchange: Exchange) -> Mapping[str, Any] | None:
    """Usage of an exchange that is metered though the files do not count it; None for all others."""
    own = (family for family in families() if exchange.provider in family.PROVIDERS and hasattr(family, "beyond"))
    return next(filter(lambda told: told is not None, (family.beyond(exchange) for family in own)), None)


def environments(labels: Iterable[str]) -> dict[Environment | None, list[str]]:
    """Environments to drive provider labels in; None is that of the test suite."""
    found: dict[Environment | None, list[str]] = {}
    for label in labels:
        own = [getattr(family, "ENVIRONMENT", None) for family in families() if label in family.PROVIDERS]
        found.setdefault(next(filter(None, own), None), []).append(label)
    return found
