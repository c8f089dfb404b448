"""The third port: the read API, `/metrics`, `/healthz`, `/readyz`. Plain ASGI over the table of endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, Final

import orjson
from genai_meter.pricing.cost import usd

from genai_meter_exporter.access.gate import ANYBODY, Caller, Gate
from genai_meter_exporter.access.tokens import Grant
from genai_meter_exporter.api import events, usage
from genai_meter_exporter.api.description import description
from genai_meter_exporter.api.endpoints import ENDPOINTS, Endpoint
from genai_meter_exporter.api.parameters import read_one, read_query
from genai_meter_exporter.api.problems import CONTENT_TYPE, Problem
from genai_meter_exporter.metrics import Exposition
from genai_meter_exporter.pipeline import Pipeline
from genai_meter_exporter.receive.answers import RETRY_SECONDS
from genai_meter_exporter.receive.http import Headers, Receive, Refused, Scope, Send, admit, answer
from genai_meter_exporter.store.base import Reader, StoreError

_JSON: Final = b"application/json"
_TEXT: Final = b"text/plain; charset=utf-8"

_READS: Final = 4
"""Reports under way at a time; others wait."""

_WAITING: Final = 64
"""Reports that wait; beyond it, 503."""

_Answer = tuple[int, bytes, bytes]
"""Status, content type, body."""

_Report = Callable[[Reader, Mapping[str, Any], Caller], Mapping[str, Any]]


class Api:
    """The application."""

    def __init__(
        self, pipeline: Pipeline, exposition: Exposition, gate: Gate, open_reader: Callable[[], Reader]
    ) -> None:
        self._pipeline = pipeline
        self._exposition = exposition
        self._gate = gate
        self._open_reader = open_reader
        self._free = asyncio.Semaphore(_READS)
        self._waiting = 0
        self._text = orjson.dumps(description(), option=orjson.OPT_INDENT_2)

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            status, content_type, body = await self._answer(scope)
            headers = ()
        except Problem as problem:
            status, content_type, body, headers = problem.status, CONTENT_TYPE, problem.body, problem.headers
        await answer(send, status, content_type, body, headers)

    async def _answer(self, scope: Scope) -> _Answer:
        endpoint, told = _route(scope["path"])
        headers: Headers = dict(scope["headers"])
        caller = ANYBODY if endpoint.public else self._caller(endpoint, scope, headers)
        if scope["method"] not in ("GET", "HEAD"):
            raise Problem(405, "this is read by GET")
        values = read_query(scope["query_string"], endpoint.parameters)
        for parameter in endpoint.parameters:
            if parameter.in_path:
                values[parameter.name] = read_one(parameter, told)
        method: Any = getattr(self, f"_{endpoint.name}")
        return await method(values, caller, headers)

    def _caller(self, endpoint: Endpoint, scope: Scope, headers: Headers) -> Caller:
        try:
            caller = admit(self._gate, scope, headers, endpoint.scope)
        except Refused as refused:
            raise Problem(refused.status, refused.message, retry=refused.retry) from None
        if endpoint.all_tenants and caller.tenants is not None:
            raise Problem(403, "this shows all tenants; the token is for some")
        return caller

    async def _usage(self, values: Mapping[str, Any], caller: Caller, _headers: Headers) -> _Answer:
        return await self._read(usage.usage, values, caller)

    async def _event(self, values: Mapping[str, Any], caller: Caller, _headers: Headers) -> _Answer:
        return await self._read(events.event, values, caller)

    async def _read(self, report: _Report, values: Mapping[str, Any], caller: Caller) -> _Answer:
        """In a thread, on a connection of its own: a long report holds up nobody."""
        if self._waiting >= _WAITING:
            raise Problem(503, "too many reports at a time: ask again later", retry=RETRY_SECONDS)
        self._waiting += 1
        try:
            async with self._free:
                return 200, _JSON, await asyncio.to_thread(self._report, report, values, caller)
        except StoreError as error:
            raise Problem(503, str(error), retry=RETRY_SECONDS) from None
        finally:
            self._waiting -= 1

    def _report(self, report: _Report, values: Mapping[str, Any], caller: Caller) -> bytes:
        with closing(self._open_reader()) as reader:
            return orjson.dumps(report(reader, values, caller))

    async def _health(self, _values: Mapping[str, Any], caller: Caller, _headers: Headers) -> _Answer:
        reason = await self._reason()
        told: dict[str, Any] = {"status": "unready" if reason else "ready"}
        if caller.tenants is None:
            state = await asyncio.to_thread(self._pipeline.state)
            told |= {
                "reason": reason,
                "leads": state.leads,
                "queue": {"requests": state.requests, "bytes": state.bytes},
                "price_book": state.book_id,
                "ledger": {"events": state.calls, "cost_usd": f"{usd(state.cost):f}"},
                "tokens": None if self._gate.keyring is None else len(self._gate.keyring),
            }
        return 503 if reason else 200, _JSON, orjson.dumps(told)

    async def _tokens(self, _values: Mapping[str, Any], _caller: Caller, _headers: Headers) -> _Answer:
        grants = self._gate.keyring.grants() if self._gate.keyring else []
        return 200, _JSON, orjson.dumps({"tokens": [_shown(grant) for grant in grants]})

    async def _description(self, _values: Mapping[str, Any], _caller: Caller, _headers: Headers) -> _Answer:
        return 200, _JSON, self._text

    async def _alive(self, _values: Mapping[str, Any], _caller: Caller, _headers: Headers) -> _Answer:
        return 200, _TEXT, b"ok\n"

    async def _ready(self, _values: Mapping[str, Any], _caller: Caller, _headers: Headers) -> _Answer:
        reason = await self._reason()
        return 503 if reason else 200, _TEXT, f"{reason or 'ready'}\n".encode()

    async def _reason(self) -> str | None:
        """Why nothing can be taken now."""
        if self._gate.keyring is not None:
            self._gate.keyring.look()
            if self._gate.keyring.error is not None:
                return "the tokens cannot be read"
        return await self._pipeline.ready()

    async def _metrics(self, _values: Mapping[str, Any], _caller: Caller, headers: Headers) -> _Answer:
        # In a thread: the snapshot waits for a commit that is under way, and ten thousand series take a while.
        body, content_type = await asyncio.to_thread(self._scrape, headers.get(b"accept", b"").decode("latin-1"))
        return 200, content_type.encode(), body

    def _scrape(self, accept: str) -> tuple[bytes, str]:
        rendered = self._exposition.render(accept)
        self._pipeline.record_shown()
        return rendered


def _route(path: str) -> tuple[Endpoint, str]:
    """The endpoint of a path, and what stands in the place of its parameter; raises `Problem`."""
    for endpoint in ENDPOINTS:
        head, _, parameter = endpoint.path.partition("{")
        if path == head or (parameter and path.startswith(head) and "/" not in path.removeprefix(head)):
            return endpoint, path.removeprefix(head)
    raise Problem(404, "there is nothing here; see /v1/openapi.json")


def _shown(grant: Grant) -> dict[str, Any]:
    return grant.model_dump(mode="json", exclude={"sha256"})
