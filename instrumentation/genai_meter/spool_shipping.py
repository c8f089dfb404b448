"""From a spool directory to an OTLP/HTTP receiver, in JSON; a file goes when all of it was acknowledged."""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from genai_meter import __version__, environment, spool_files
from genai_meter.safety import logger
from genai_meter.spool_files import FEW, Head, SpoolError

if TYPE_CHECKING:
    import urllib.error
    import urllib.request
    from http.client import HTTPResponse

DEFAULT_ENDPOINT: Final = "http://localhost:4328"
"""Where our exporter listens unless told otherwise."""
_PATH: Final = "/v1/logs"
HEADERS: Final = "GENAI_METER_SPOOL_HEADERS"
_BATCH: Final = 512
"""Events in one request."""
_SECONDS: Final = 10.0
"""OpenTelemetry's default timeout."""
_MAX_ANSWER: Final = 64 * 1024

SPOOLED: Final = "spooled"
"""On disk before the call returned."""
HELD: Final = "held"
"""The disk did not take it: it waited in memory."""
ACKNOWLEDGED: Final = "acknowledged"
REJECTED: Final = "rejected"
"""Acknowledged, but kept apart by the receiver (partial success)."""
REFUSED: Final = "refused"
"""The receiver calls it unreadable: set aside in a file."""
DAMAGED: Final = "damaged"
"""Read back with a wrong checksum."""
GIVEN_UP: Final = "given_up"
"""Lost: neither disk nor memory had room."""


class Later(Exception):
    """The receiver did not acknowledge; the text says why."""

    def __init__(self, reason: str, seconds: float = 0.0, status: int = 0) -> None:
        super().__init__(reason)
        self.seconds = seconds
        """It asked to be left alone for so long."""
        self.status = status
        """Of its HTTP answer; 0 when it gave none, or none that is OTLP."""


class _Unreadable(Exception):
    """The receiver will never take this request as it is."""


# --- where to ---------------------------------------------------------------------------------------
class Destination(NamedTuple):
    """An OTLP/HTTP receiver of logs."""

    url: str
    headers: Mapping[str, str]
    timeout: float = _SECONDS
    compression: str = ""
    certificate: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None

    @property
    def shown(self) -> str:
        """The address without what may be a secret."""
        return self.url.partition("?")[0]


def destination(environ: Mapping[str, str], endpoint: str | None = None) -> Destination:
    """What the variables say, ours before OpenTelemetry's; raises `SpoolError`."""

    def told(name: str) -> str:
        return (
            environ.get(f"OTEL_EXPORTER_OTLP_LOGS_{name}") or environ.get(f"OTEL_EXPORTER_OTLP_{name}") or ""
        ).strip()

    settings = environment.settings()
    endpoint = endpoint or settings.spool_endpoint
    if endpoint is not None or not told("ENDPOINT"):
        # The headers of OpenTelemetry may hold a secret of another receiver.
        url, headers = _with_path(endpoint or DEFAULT_ENDPOINT), dict(settings.spool_headers)
    else:
        protocol = told("PROTOCOL") or "grpc"
        if not protocol.startswith("http/"):
            raise SpoolError(
                f"the spool ships by OTLP/HTTP, and OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}: set "
                "GENAI_METER_SPOOL_ENDPOINT to the HTTP address of the exporter (http://<host>:4328)"
            )
        whole = environ.get("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "").strip()
        url = whole or _with_path(told("ENDPOINT"))
        try:
            headers = {**environment.header_pairs(told("HEADERS")), **settings.spool_headers}
        except ValueError as error:
            raise SpoolError(f"OTEL_EXPORTER_OTLP_HEADERS: wrong value, expected {error}") from None
    if not url.startswith(("http://", "https://")):
        raise SpoolError("the address of the receiver must begin with http:// or https://")
    if "@" in url:
        raise SpoolError(f"the address of the receiver must have no password: {HEADERS} may")
    compression = told("COMPRESSION").lower()
    return Destination(
        url,
        headers,
        _seconds(told("TIMEOUT")),
        compression if compression in ("gzip", "deflate") else "",
        told("CERTIFICATE") or None,
        told("CLIENT_CERTIFICATE") or None,
        told("CLIENT_KEY") or None,
    )


def _with_path(base: str) -> str:
    base = base.rstrip("/")
    return base if base.endswith(_PATH) else base + _PATH


def _seconds(text: str) -> float:
    try:
        return float(text) if float(text) > 0 else _SECONDS
    except ValueError:
        return _SECONDS


# --- OTLP -------------------------------------------------------------------------------------------
def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value if math.isfinite(value) else _NOT_FINITE.get(value, "NaN")}
    return {"arrayValue": {"values": [_value(item) for item in value]}} if value else {}


_NOT_FINITE: Final = {math.inf: "Infinity", -math.inf: "-Infinity"}


def _pairs(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items() if value is not None]


def _log_record(event: Sequence[Any]) -> dict[str, Any]:
    name, time_ns, observed_ns, trace_id, span_id, flags, attributes = event
    return {
        "timeUnixNano": str(time_ns),
        "observedTimeUnixNano": str(observed_ns),
        "severityNumber": 9,
        "severityText": "INFO",
        "eventName": name,
        "traceId": trace_id,
        "spanId": span_id,
        "flags": flags,
        "attributes": _pairs(attributes),
    }


def request(head: Head | None, events: Sequence[Any], breathe: Callable[[], None]) -> bytes:
    """An export request of logs, as OTLP in JSON."""
    head = head or Head({}, "", "")
    records: list[str] = []
    for number, event in enumerate(events):
        if number % FEW == 0:
            breathe()
        records.append(_encode(_log_record(event)))
    resource = _encode({"attributes": _pairs(head.resource)})
    scope = _encode({"name": head.scope, "version": head.scope_version})
    text = (
        f'{{"resourceLogs":[{{"resource":{resource},"scopeLogs":[{{"scope":{scope},"logRecords":['
        f"{','.join(records)}]}}]}}]}}"
    )
    # Half a surrogate pair, which JSON can escape and UTF-8 cannot hold, becomes "?".
    return text.encode("utf-8", "replace")


_encode: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


# --- on the way -------------------------------------------------------------------------------------
class Sender:
    """Posts requests, one after the other."""

    def __init__(self, to: Destination, counts: Counter[str], breathe: Callable[[], None] = lambda: None) -> None:
        self._to = to
        self._counts = counts
        self.breathe = breathe
        """Called now and then during longer work."""
        self._opener = _opener(to)
        self._told: set[str] = set()

    def send(self, head: Head | None, events: Sequence[Any]) -> list[Any]:
        """Have events acknowledged; gives those that the receiver cannot read. Raises `Later`."""
        refused: list[Any] = []
        for start in range(0, len(events), _BATCH):
            batch = events[start : start + _BATCH]
            try:
                self._post(head, batch)
            except _Unreadable as error:
                self._prove()
                refused += self._in_parts(head, batch, str(error))
        return refused

    def _prove(self) -> None:
        """Whoever refuses even an empty request has nothing against our events in particular."""
        try:
            self._post(None, ())
        except _Unreadable as error:
            raise Later(f"{self._to.shown} is no OTLP receiver: {error} for an empty request") from None

    def _in_parts(self, head: Head | None, events: Sequence[Any], why: str) -> list[Any]:
        """One of them is to blame, or all of them are too many."""
        if len(events) == 1:
            self._tell("cannot read an event of the spool, which is set aside", why)
            return list(events)
        refused: list[Any] = []
        for half in (events[: len(events) // 2], events[len(events) // 2 :]):
            try:
                self._post(head, half)
            except _Unreadable as error:
                refused += self._in_parts(head, half, str(error))
        return refused

    def _tell(self, what: str, why: str) -> None:
        if what not in self._told:
            self._told.add(what)
            logger.warning("genai_meter: %s %s: %s (logged once)", self._to.shown, what, why)

    def _post(self, head: Head | None, events: Sequence[Any]) -> None:
        import http.client
        import urllib.error

        ready = self._request(request(head, events, self.breathe))
        try:
            with self._opener.open(ready, timeout=self._to.timeout) as answer:
                self._acknowledged(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise Later(f"{self._to.shown} cannot be reached: {reason}") from None
        self._counts[ACKNOWLEDGED] += len(events)

    def _request(self, body: bytes) -> urllib.request.Request:
        import urllib.request
        import zlib

        headers = {
            "content-type": "application/json",
            "user-agent": f"genai-meter-spool/{__version__}",
            **self._to.headers,
        }
        if self._to.compression:
            headers["content-encoding"] = self._to.compression
            packer = zlib.compressobj(1, wbits=31 if self._to.compression == "gzip" else 15)
            body = packer.compress(body) + packer.flush()
        return urllib.request.Request(self._to.url, body, headers)

    def _acknowledged(self, answer: HTTPResponse) -> None:
        """Nothing but the answer of an OTLP receiver counts: log-in pages and health checks have status 200 as well."""
        told = answer.read(_MAX_ANSWER)
        kind = answer.headers.get_content_type()
        says = told or "content-type" in answer.headers
        if answer.status != 200 or (says and kind not in ("application/json", "application/x-protobuf")):
            raise Later(f"{self._to.shown} is no OTLP receiver: it answers {answer.status} with {kind}")
        if not told or kind != "application/json":
            return
        try:
            partial: dict[str, Any] = json.loads(told).get("partialSuccess") or {}
            rejected = int(partial.get("rejectedLogRecords") or 0)
        except (ValueError, AttributeError, TypeError):
            raise Later(f"{self._to.shown} is no OTLP receiver: its answer cannot be read") from None
        self._counts[REJECTED] += rejected
        if rejected:
            self._tell(f"keeps {rejected} events of the spool apart", str(partial.get("errorMessage"))[:200])

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        if error.code in (400, 413, 422):
            return _Unreadable(f"HTTP {error.code}")
        reason = f"{self._to.shown} answers HTTP {error.code}{_message(error)}"
        if error.code in (401, 403):
            reason += f" ({HEADERS} is for a token with the scope ingest)"
        return Later(reason, _retry_after(error.headers.get("retry-after")), error.code)


def _message(error: urllib.error.HTTPError) -> str:
    """What the receiver says beside the status, behind a colon."""
    from http.client import HTTPException

    try:
        told = json.loads(error.read(_MAX_ANSWER)).get("message")
    except (OSError, HTTPException, ValueError, AttributeError):
        return ""
    return f": {told[:200]}" if told and isinstance(told, str) else ""


def _opener(to: Destination) -> urllib.request.OpenerDirector:
    import ssl
    import urllib.request

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        """A redirected POST becomes a GET, whose 200 would be no acknowledgement."""

        def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
            return None

    handlers: list[urllib.request.BaseHandler] = [NoRedirect()]
    if to.url.startswith("https://"):
        try:
            context = ssl.create_default_context(cafile=to.certificate)
            if to.client_certificate:
                context.load_cert_chain(to.client_certificate, to.client_key)
        except OSError as error:
            raise SpoolError(f"the certificates for {to.shown} cannot be read: {error}") from None
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)


def _retry_after(text: str | None) -> float:
    if not text:
        return 0.0
    if text.isdigit():
        return float(text)
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return 0.0


# --- a directory ------------------------------------------------------------------------------------
class Shipped(NamedTuple):
    """What one look at a directory came to."""

    files: int = 0
    """Acknowledged and removed."""
    living: int = 0
    """In the hands of another process."""


@dataclass
class Job:
    """A directory, and whom to send it to."""

    directory: str
    sender: Sender
    counts: Counter[str]
    go_on: Callable[[], bool] = lambda: True
    """Asked before each file."""

    def run(self, *, suffix: str = spool_files.EVENTS, writer: str = "") -> Shipped:
        """Send every file whose writer is through, and remove what was acknowledged. Raises `Later`, OSError."""
        files = living = 0
        for name in spool_files.names(self.directory, suffix, writer):
            if not self.go_on():
                break
            path = os.path.join(self.directory, name)
            with spool_files.adopted(path) as data:
                if data is not None:
                    self._ship(path, data, suffix)
                    files += 1
                else:
                    living += os.path.exists(path)
        return Shipped(files, living)

    def _ship(self, path: str, data: bytes, suffix: str) -> None:
        contents = spool_files.parse(data, self.sender.breathe)
        if contents.damaged:
            self.counts[DAMAGED] += contents.damaged
            logger.warning("genai_meter: %d lines of %s are damaged and skipped", contents.damaged, path)
        refused = self.sender.send(contents.head, contents.events)
        if refused:
            self.counts[REFUSED] += len(refused)
            spool_files.set_aside(path, contents.head, refused)
        if not refused or suffix != spool_files.REFUSED:
            os.unlink(path)
