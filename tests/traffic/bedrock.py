"""AWS: Bedrock's runtime and its agents through `botocore`, asynchronous through `aiobotocore`."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

from tests import aws_kit
from tests.environments import AIOBOTOCORE
from tests.traffic.calls import Call, NotReplayable, base_url
from tests.traffic.recordings import Exchange, fields
from tests.traffic.server import PIN

PROVIDERS: Final = frozenset({"aws.bedrock"})
ENVIRONMENT: Final = AIOBOTOCORE
METERED: Final = ("converse", "invoke_model")
SERVICES: Final = ("bedrock-runtime", "bedrock-agent-runtime")

_pins: Final[dict[int, str]] = {}
"""Client → recording that answers its next request."""


def plan(exchange: Exchange) -> Call | None:
    """How to send a recorded request; None when another client does."""
    service = exchange.origin.partition("//")[2].partition(".")[0]
    if service not in SERVICES:
        return None
    if exchange.bare_path.startswith(("/openai/", "/v1/")):
        return None
    path = unquote(unquote(exchange.bare_path))
    for operation, pattern in _operations(service):
        found = pattern.fullmatch(path)
        if found is not None:
            arguments = found.groupdict() | _arguments(operation, exchange)
            return Call(service, exchange.origin, f"{operation}#{exchange.id}", arguments)
    raise NotReplayable(f"no operation of {service} has this path")


def beyond(exchange: Exchange) -> Mapping[str, Any] | None:
    """Agents tell usage in their traces, which the truth of the files leaves out: summed here from the frames."""
    if not exchange.bare_path.startswith("/agents/"):
        return None
    found = re.findall(rb'"usage":\{"inputTokens":(\d+),"outputTokens":(\d+)\}', exchange.body)
    if not found:
        return {}
    return {"input_tokens": sum(int(n) for n, _ in found), "output_tokens": sum(int(n) for _, n in found)}


def client(call: Call, url: str, asynchronous: bool) -> Any:
    """A client for a call; for the asynchronous form what makes one."""
    settings: dict[str, Any] = {"proxies": {"http": url}, "retries": {"total_max_attempts": 1}}
    place, region = base_url(call, url), call.root.split(".")[1]
    if asynchronous:
        # Its clients are open when the process ends, and aiohttp says so.
        logging.getLogger("asyncio").disabled = True
        return aws_kit.making(call.client, place, region, **settings)
    return _pinned(aws_kit.client(call.client, place, region, **settings))


def invoke(client: Any, call: Call) -> Any:
    """Make the call; asynchronously with a client of its own."""
    operation, _, name = call.method.partition("#")
    if hasattr(client, "__aenter__"):
        return _invoke_async(client, operation, name, call.arguments)
    _pins[id(client)] = name
    return getattr(client, _method(operation))(**call.arguments)


async def _invoke_async(context: Any, operation: str, name: str, arguments: Mapping[str, Any]) -> Any:
    made = getattr(context, "made", None)
    if made is None:
        # Left open until the process ends: an application's client lives as long.
        made = context.made = _pinned(await context.__aenter__())
    _pins[id(made)] = name
    return await getattr(made, _method(operation))(**arguments)


def unfold(result: Any) -> Iterator[Any]:
    """The result, then the events of its stream or the bytes of its body."""
    yield {name: value for name, value in result.items() if not _is_read(value)}
    for name, value in result.items():
        if _is_read(value):
            yield [name, f"{type(value).__module__}.{type(value).__qualname__}"]
            yield from value if hasattr(value, "get_initial_response") else [value.read()]


async def unfold_async(result: Any) -> AsyncIterator[Any]:
    """As `unfold`."""
    result = await result
    yield {name: value for name, value in result.items() if not _is_read(value)}
    for name, value in result.items():
        if not _is_read(value):
            continue
        yield [name, f"{type(value).__module__}.{type(value).__qualname__}"]
        if hasattr(value, "get_initial_response"):
            async for event in value:
                yield event
        else:
            yield await value.read()


def _is_read(value: Any) -> bool:
    return hasattr(value, "get_initial_response") or hasattr(value, "iter_chunks")


def _pinned(made: Any) -> Any:
    """The client, whose requests name the recording that is to answer them."""

    def pin(request: Any, **_: Any) -> None:
        request.headers[PIN] = _pins[id(made)]

    made.meta.events.register("before-sign.*", pin)
    return made


@lru_cache
def _operations(service: str) -> list[tuple[str, re.Pattern[str]]]:
    """Operations of a service, each with a pattern of its path that names the parameters in it."""
    model = aws_kit.session().get_service_model(service)
    found: list[tuple[str, re.Pattern[str]]] = []
    for name in model.operation_names:
        operation: Any = model.operation_model(name)
        members: Mapping[str, Any] = operation.input_shape.members
        template: str = operation.http["requestUri"].rstrip("/")
        for member, shape in members.items():
            if shape.serialization.get("location") == "uri":
                slot = "{" + shape.serialization["name"] + "}"
                several = ".+" if member == "modelId" else "[^/]+"
                template = template.replace(slot, f"(?P<{member}>{several})")
        found.append((name, re.compile(template + "/?")))
    return found


def _arguments(operation: str, exchange: Exchange) -> dict[str, Any]:
    if operation.startswith("InvokeModel"):
        return {"body": json.dumps(exchange.request), "contentType": "application/json"}
    return _without_null(fields(exchange.request))


def _without_null(value: Any) -> Any:
    """What botocore would have been given: it takes no null."""
    if isinstance(value, dict):
        told = fields(value)
        return {name: _without_null(item) for name, item in told.items() if item is not None}
    return [_without_null(item) for item in value] if isinstance(value, list) else value  # pyright: ignore[reportUnknownVariableType]


def _method(operation: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()
