"""`genai-meter batch`: fetch the results of a batch from its provider and send them to the ledger.

For batches whose results no metered application reads. The calls have the ids that such an application would
give them: what one of the two has sent, the ledger does not charge again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPMessage, HTTPResponse, IncompleteRead
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote, urlsplit

from genai_meter import __version__, attribution, environment, records, schema, semconv, settle
from genai_meter.call import Call, Target
from genai_meter.clients import batches
from genai_meter.clients.targets import provider_of
from genai_meter.pricing.cost import usd
from genai_meter.safety import guarded
from genai_meter.spool_files import Head, SpoolError, encode
from genai_meter.spool_shipping import REJECTED, Destination, Later, Sender, destination

from genai_meter_exporter import config as configuration
from genai_meter_exporter.config import ConfigError

PER_REQUEST: Final = 500
"""Calls in one OTLP request."""
TRIES: Final = 5
TIMEOUT: Final = 60.0
RETRYABLE: Final = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Provider:
    """How to ask one provider for its batches."""

    base_url: str
    key: str
    """Environment variable with the API key."""
    batch: str
    """Path of a batch."""
    headers: tuple[tuple[str, str], ...]
    """`{key}` is the API key."""


PROVIDERS: Final = {
    "openai": Provider(
        "https://api.openai.com/v1",
        "OPENAI_API_KEY",
        "/batches/{id}",
        (("authorization", "Bearer {key}"),),
    ),
    "anthropic": Provider(
        "https://api.anthropic.com",
        "ANTHROPIC_API_KEY",
        "/v1/messages/batches/{id}",
        (("x-api-key", "{key}"), ("anthropic-version", "2023-06-01")),
    ),
}


class BatchError(Exception):
    """What the user is told."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--provider", required=True, choices=PROVIDERS, help="whose API the batch is of")
    parser.add_argument("--id", required=True, action="append", help="the batch; may be repeated")
    parser.add_argument("--base-url", metavar="URL", help="another host that speaks the API (Azure, a gateway)")
    parser.add_argument("--endpoint", metavar="URL", help="OTLP/HTTP (default: where the configuration listens)")
    parser.add_argument("--config", metavar="FILE", type=Path, help="the exporter's configuration")
    parser.add_argument("--service", default="genai-meter batch", metavar="NAME", help="service the calls belong to")
    parser.add_argument(
        "--attribute", action="append", default=[], metavar="K=V", help="who pays (tenant, team …); may be repeated"
    )


def run(options: argparse.Namespace) -> int:
    """Fetch and send; 1 when something could not be, 2 for bad usage."""
    try:
        job = _job(options)
    except (ConfigError, BatchError, SpoolError) as error:
        print(f"genai-meter batch: {error}", file=sys.stderr)
        return 2
    try:
        for batch_id in options.id:
            print(job.charge(batch_id))
    except BatchError as error:
        print(f"genai-meter batch: {error}", file=sys.stderr)
        return 1
    return 0


def _job(options: argparse.Namespace) -> Job:
    provider = PROVIDERS[options.provider]
    key = os.environ.get(provider.key)
    if not key:
        raise BatchError(f"{provider.key} is not set")
    if not (key.isascii() and key.isprintable()):
        raise BatchError(f"{provider.key} has a line break, or another character that is in no key")
    receiver = _receiver(options)
    base_url = (options.base_url or os.environ.get(f"{options.provider.upper()}_BASE_URL") or provider.base_url).rstrip(
        "/"
    )
    host, port = _address(base_url)
    target = Target(provider_of(host, "", options.provider), host, port, api_key=key)
    payer = attribution.cleaned(dict(_attribute(text) for text in options.attribute))
    counts: Counter[str] = Counter()
    return Job(provider, base_url, key, target, payer, Sender(receiver, counts), counts, options.service)


def _address(base_url: str) -> tuple[str, int | None]:
    """Host and port."""
    try:
        url = urlsplit(base_url)
        if url.scheme in ("http", "https") and url.hostname:
            return url.hostname, url.port
    except ValueError:
        # A port that is no number, brackets that hold no address.
        pass
    raise BatchError(f"{base_url!r} is no http(s) address")


def _receiver(options: argparse.Namespace) -> Destination:
    """The exporter, with the token that the spool has, or else OpenTelemetry's."""
    endpoint = options.endpoint
    if endpoint is None:
        config = configuration.load(options.config)
        scheme = "https" if config.tls.certificate else "http"
        host = f"[{config.listen.host}]" if ":" in config.listen.host else config.listen.host
        endpoint = f"{scheme}://{host}:{config.listen.http_port}"
    to = destination(os.environ, endpoint)
    told = os.environ.get("OTEL_EXPORTER_OTLP_LOGS_HEADERS") or os.environ.get("OTEL_EXPORTER_OTLP_HEADERS") or ""
    try:
        return to._replace(headers={**environment.header_pairs(told), **to.headers}, timeout=TIMEOUT)
    except ValueError as error:
        raise BatchError(f"OTEL_EXPORTER_OTLP_HEADERS: wrong value, expected {error}") from None


def _attribute(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if name not in {f.name for f in schema.ATTRIBUTION} or not value:
        raise BatchError(f"--attribute {text}: not the form NAME=VALUE with a field of attribution")
    return name, value


@dataclass(slots=True)
class Job:
    """Fetches from one provider and sends to one exporter."""

    provider: Provider
    base_url: str
    key: str = field(repr=False)
    target: Target
    payer: Mapping[str, str]
    sender: Sender
    counts: Counter[str]
    """What the exporter said of the calls."""
    service: str

    def charge(self, batch_id: str) -> str:
        """Send every result of one batch; a line that says what was sent."""
        asked = self.provider.batch.format(id=quote(batch_id, safe=""))
        batch = self._batch(asked)
        batches.learn(batch)
        status = batch.get("status") or batch.get("processing_status")
        files = self._files(batch_id, batch)
        if not files:
            raise BatchError(f"{batch_id} is {status}: there are no results yet")
        sent = _Sent()
        for file, path in files:
            source = batches.Source(self.target, file, self.payer, charge=sent.pending.append)
            try:
                with self._get(path) as response:
                    for line in response:
                        guarded(batches.take, source, line)
                        if len(sent.pending) >= PER_REQUEST:
                            self._send(sent)
                    if response.length:
                        # Lines end where the connection does, and nobody says that more was promised.
                        raise IncompleteRead(b"", response.length)
            except (OSError, HTTPException) as error:
                raise BatchError(
                    f"the results of {batch_id} broke off after {sent.calls} calls ({type(error).__name__}): "
                    "run it again, no call is charged twice"
                ) from None
            self._send(sent)
        return f"{batch_id} is {status}: {sent.calls} calls sent, {sent.errors} of them refused ones, {sent.cost()}"

    def _batch(self, path: str) -> dict[str, Any]:
        with self._get(path) as response:
            try:
                found = json.load(response)
                if isinstance(found, dict):
                    return cast("dict[str, Any]", found)
            except (ValueError, HTTPException):
                pass
        raise BatchError(
            f"{self.base_url}{path} answers no JSON object: does {self.base_url} speak the provider's API?"
        )

    def _files(self, batch_id: str, batch: Mapping[str, Any]) -> list[tuple[str, str]]:
        """(id under which the calls are known, path) of what holds results."""
        if "results_url" in batch:
            path = self.provider.batch.format(id=quote(batch_id, safe="")) + "/results"
            return [(batch_id, path)] if batch["results_url"] else []
        names = (batch.get("output_file_id"), batch.get("error_file_id"))
        return [(name, f"/files/{quote(name, safe='')}/content") for name in names if name]

    def _get(self, path: str) -> HTTPResponse:
        headers = {name: value.format(key=self.key) for name, value in self.provider.headers}
        return _open(urllib.request.Request(self.base_url + path, headers=headers))

    def _send(self, sent: _Sent) -> None:
        calls, sent.pending[:] = list(sent.pending), []
        if not calls:
            return
        events = [json.loads(encode(sent.count(call))) for call in calls]
        now = time.time_ns()
        self._deliver([[semconv.EVENT_USAGE, event[_END], now, "", "", 0, event] for event in events])

    def _deliver(self, events: list[Any]) -> None:
        """Have events acknowledged, again while the exporter asks for patience."""
        head = Head({semconv.SERVICE_NAME: self.service}, semconv.SCOPE, __version__)
        for wait in _waits():
            try:
                refused = self.sender.send(head, events)
            except Later as error:
                if wait is None or error.status not in (0, *RETRYABLE):
                    raise BatchError(str(error)) from None
                time.sleep(max(wait, min(error.seconds, TIMEOUT)))
            else:
                if count := len(refused) + self.counts[REJECTED]:
                    raise BatchError(f"the exporter refused {count} of {len(events)} calls")
                return


_END: Final = schema.BY_NAME["end"].attribute


class _Sent:
    """What was sent so far."""

    def __init__(self) -> None:
        self.pending: list[Call] = []
        self.calls = self.errors = self._pico = self._unpriced = 0

    def count(self, call: Call) -> dict[str, Any]:
        """The event of one call."""
        outcome = settle.settle(call)
        call.attributes = records.at_start(call, records.start_of(call))
        self.calls += 1
        self.errors += call.status == "error"
        if outcome.cost is not None:
            self._pico += outcome.cost.effective_pico or 0
            self._unpriced += outcome.cost.effective_pico is None
        return records.event(call, outcome, records.kind_of(call, outcome), records.at_end(call, outcome))

    def cost(self) -> str:
        """Their cost, for people."""
        unpriced = f" ({self._unpriced} without a price)" if self._unpriced else ""
        return f"{usd(self._pico):f} USD{unpriced}"


# --- HTTP ---------------------------------------------------------------------------------------------
class _Redirects(urllib.request.HTTPRedirectHandler):
    """Another host gets no key."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None and urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            new.headers.clear()
        return new


_opener: Final = urllib.request.build_opener(_Redirects)


def _open(request: urllib.request.Request) -> HTTPResponse:
    """Send a request, again while the other side asks for patience."""
    host = urlsplit(request.full_url).netloc
    for wait in _waits():
        try:
            return cast(HTTPResponse, _opener.open(request, timeout=TIMEOUT))
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"{host} answered {error.code} {error.reason} to {urlsplit(request.full_url).path}"
            if error.code not in RETRYABLE or wait is None:
                raise BatchError(reason) from None
        except (OSError, HTTPException) as error:
            if wait is None:
                raise BatchError(f"{host} cannot be reached: {getattr(error, 'reason', error)}") from None
        time.sleep(wait)
    raise BatchError(f"{host} does not answer")


def _waits() -> Iterator[float | None]:
    yield from (0.5 * 2**tried for tried in range(TRIES - 1))
    yield None
