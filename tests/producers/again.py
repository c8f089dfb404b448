# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
"""An application that makes recorded calls again: `again.py URL PRODUCER,… FAMILY,… FILE OUT`.

Each call is in a trace of its own. OUT tells of each line of FILE its trace, and what the call ended with.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.producers import child, wrapping
from tests.traffic.calls import Call, NotReplayable
from tests.traffic.recordings import Exchange, load

URL = sys.argv[1]
_clients: dict[Any, Any] = {}


def plan(exchange: Exchange, families: list[str]) -> Callable[[], Any]:
    """What makes the call; raises `NotReplayable`."""
    reasons = ["no client"]
    for name in families:
        if name in wrapping.PLANS:
            return wrapping.PLANS[name](exchange, URL)
        family: Any = importlib.import_module(f"tests.traffic.{name}")
        if exchange.provider not in family.PROVIDERS:
            continue
        try:
            call = family.plan(exchange)
        except NotReplayable as reason:
            reasons.append(str(reason))
            continue
        if call is not None and call.method.startswith("_"):
            raise NotReplayable("no public method of the client sends this")
        if call is not None:
            return lambda family=family, call=call: send(family, call)
    raise NotReplayable(reasons[-1])


def send(family: Any, call: Call) -> None:
    """Make the call and read all of its answer."""
    key = family.__name__, call.client, call.root, call.deployment
    if key not in _clients:
        _clients[key] = family.client(call, URL, False)
    read(getattr(family, "invoke", invoke)(_clients[key], call))


def invoke(client: Any, call: Call) -> Any:
    """Call the client's method."""
    verb, colon, path = call.method.partition(":")
    if colon:
        return getattr(client, verb)(path, **call.arguments)
    for name in call.method.split("."):
        client = getattr(client, name)
    return client(**call.arguments)


def read(result: Any) -> None:
    """Streams to their end, whoever has wrapped them."""
    if isinstance(result, dict):
        for value in result.values():
            if hasattr(value, "read"):
                value.read()
            elif not isinstance(value, dict | list | str | bytes) and hasattr(value, "__iter__"):
                list(value)
    elif hasattr(result, "__next__") or "Stream" in type(result).__name__:
        list(result)


def main() -> None:
    producers, families, file, out = sys.argv[2].split(","), sys.argv[3].split(","), *map(Path, sys.argv[4:6])
    logging.disable(logging.ERROR)
    for name in producers:
        child.PRODUCERS[name]()
    from opentelemetry import _logs, context, trace

    tracer = trace.get_tracer("shop")
    with out.open("w", encoding="utf-8") as lines:
        for exchange in load([file]):
            told: dict[str, Any] = {"id": exchange.id}
            with tracer.start_as_current_span("POST /shop", context=context.Context()) as span:
                told |= {"trace": f"{span.get_span_context().trace_id:032x}", "from": time.time_ns()}
                try:
                    plan(exchange, families)()
                except NotReplayable as reason:
                    told["skipped"] = str(reason)
                except Exception as error:  # noqa: BLE001 - what the recording ends with, or the library cannot read
                    told["raised"] = f"{type(error).__module__}.{type(error).__name__}: {error}"[:300]
            told["to"] = time.time_ns()
            lines.write(json.dumps(told) + "\n")
    time.sleep(1 if "litellm" in producers else 0)  # its callbacks are in a thread
    for current in (trace.get_tracer_provider(), _logs.get_logger_provider()):
        if hasattr(current, "force_flush"):
            current.force_flush()


if __name__ == "__main__":
    main()
