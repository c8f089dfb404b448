"""Batches: one call for every line of a result file, when the application reads it.

The bytes are watched on their way to the caller, whichever way that is, and read on a thread of ours:
result files are long. A line that was not read is not charged; it is when somebody reads it, or by
`genai-meter batch`. The id of a call derives from the ids in its line, and its time from what the
provider says, so that a file may be read again, by any process: the ledger charges it once.
"""

from __future__ import annotations

import atexit
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import wrapt

from genai_meter import attribution, dialects, emit, identity
from genai_meter.call import Attempt, Call, Prepared, Target
from genai_meter.clients.observers import AsyncObserver, SyncObserver
from genai_meter.dialects.base import Json, RequestView, fields
from genai_meter.safety import guarded, logger

if TYPE_CHECKING:
    Proxy = wrapt.ObjectProxy[Any]
else:
    Proxy = wrapt.ObjectProxy

BATCH: Final = {"processing": "batch"}
PER_FLUSH: Final = 256
"""Calls after which the SDK's queue of log records is emptied; it holds 2048, and drops what is too much."""
PATIENCE: Final = 60.0
"""Seconds that the end of the process waits for lines that are still being read."""
MOST_BATCHES: Final = 4096
"""Batches whose time is remembered."""

_OBJECTS: Final = {
    "chat.completion": "openai_chat",
    "text_completion": "openai_completions",
    "response": "openai_responses",
    "list": "openai_embeddings",
}
"""What a body says it is → its format."""
_DATED: Final = re.compile(r"[a-z_]+_([0-9a-f]{8})[0-9a-f]{24,}")
"""Ids of OpenAI's begin with the second they were made in."""

created_at: Final[dict[str, int]] = {}
"""Id of a batch, or of one of its result files → Unix seconds of its creation."""
charged: Final[dict[bytes, None]] = {}
"""Calls that this process has charged already; its own counters must not count them again."""
MOST_CHARGED: Final = 100_000
LONGEST_LINE: Final = 64 * 1024 * 1024
"""Longest line that is waited for."""


@dataclass(slots=True)
class Source:
    """Where the lines of one file come from, and who reads them."""

    target: Target
    file: str
    """Id of the file, or of the message batch."""
    attribution: Mapping[str, str]
    batch: bool | None = None
    """The file holds results; None until its first line was seen."""
    warned: bool = False
    count: int = 0
    charge: Callable[[Call], None] = field(default=emit.charge)
    """What becomes of a call."""


# --- one line -----------------------------------------------------------------------------------------
def call_of(source: Source, line: Json) -> Call | None:
    """The call that a line of results tells; None when it is no such line."""
    told = fields(line)
    if source.batch is None:
        source.batch = "custom_id" in told and ("response" in told or "result" in told)
    if not source.batch:
        return None
    if "result" in told:
        return _anthropic(source, str(told.get("custom_id")), fields(told["result"]))
    return _openai(source, told)


def _openai(source: Source, told: Mapping[str, Json]) -> Call | None:
    answer, error = fields(told.get("response")), fields(told.get("error"))
    body = fields(answer.get("body"))
    line_id, request_id, status = told.get("id"), answer.get("request_id"), answer.get("status_code")
    created = _seconds(body.get("created") or body.get("created_at")) or _dated(line_id) or created_at.get(source.file)
    if created is None:
        return _undated(source)
    parts = (line_id,) if line_id else (source.file, str(told.get("custom_id")), str(request_id))
    call = _call(source, _dialect(source, body), created, "openai.batch", *parts)
    attempt = call.attempts[0]
    attempt.status = status if type(status) is int else None
    attempt.request_id = request_id if type(request_id) is str else None
    if attempt.status is not None and 200 <= attempt.status < 300:
        call.prepared.dialect.response(call.reading, body)
        call.error_type = call.reading.error_type
    else:
        refused = error or fields(body.get("error"))
        names = (_name(refused.get("code")), _name(refused.get("type")), _name(str(status or "")))
        call.error_type = next(filter(None, names), "_OTHER")
    return call


def _anthropic(source: Source, custom_id: str, result: Mapping[str, Json]) -> Call | None:
    created, kind = created_at.get(source.file), result.get("type")
    if created is None:
        return _undated(source)
    dialect = dialects.by_name("anthropic_messages")
    call = _call(source, dialect, created, "anthropic.batch", source.file, custom_id)
    if kind == "succeeded":
        call.attempts[0].status = 200
        dialect.response(call.reading, result.get("message"))
        return call
    error = fields(result.get("error"))
    call.error_type = _name(fields(error.get("error")).get("type")) or _name(kind) or "_OTHER"
    return call


def _call(source: Source, dialect: dialects.Dialect, created: int, *parts: str) -> Call:
    at_ns = created * 1_000_000_000
    prepared = Prepared(source.target, dialect, RequestView(context=dict(BATCH)), source.attribution, at_ns)
    call = Call(prepared, identity.derived_call_id(at_ns, *parts), start_ns=at_ns, end_ns=at_ns)
    call.attempts.append(Attempt(at_ns, at_ns))
    return call


def _dialect(source: Source, body: Mapping[str, Json]) -> dialects.Dialect:
    name = _OBJECTS.get(str(body.get("object")))
    if name is None and "results" in body:
        name = "openai_moderations"
    elif name is None and "data" in body:
        name = "openai_images"
    return dialects.by_name(name) if name else dialects.by_flavor(source.target.provider, None, body)


def _undated(source: Source) -> None:
    if not source.warned:
        source.warned = True
        logger.warning(
            "genai_meter: results of the batch %s are not metered: they tell no time, and the batch was not "
            "retrieved by this process; `genai-meter batch` can charge them",
            source.file,
        )


def _seconds(value: Json) -> int | None:
    return int(value) if type(value) in (int, float) and value > 0 else None


def _dated(value: Json) -> int | None:
    found = _DATED.fullmatch(value) if type(value) is str else None
    return int(found[1], 16) if found else None


def _name(value: Json) -> str | None:
    return value[:64] if type(value) is str and value else None


# --- many lines ---------------------------------------------------------------------------------------
def take(source: Source, line: bytes) -> None:
    """Charge one line."""
    if source.batch is False or not line.strip():
        return
    if source.batch is None and not _may_be(line):
        source.batch = False
        return
    call = call_of(source, json.loads(line))
    if call is None or call.call_id in charged:
        return
    _remember(charged, call.call_id, None, MOST_CHARGED)
    call.status = "ok" if call.error_type is None else "error"
    source.charge(call)
    source.count += 1
    if source.count % PER_FLUSH == 0:
        emit.drain()


def _may_be(start: bytes) -> bool:
    return start.lstrip()[:1] == b"{" and b'"custom_id"' in start


def _remember(known: dict[Any, Any], key: Any, value: Any, most: int) -> None:
    known[key] = value
    if len(known) > most:
        known.pop(next(iter(known)), None)


class Lines:
    """The body of one file on its way to the caller. Takes bytes; its work is done on a thread of ours."""

    def __init__(self, source: Source, response: Any) -> None:
        self.busy = False
        self._source = source
        self._decoder = _decoder(response)
        self._kept: list[bytes] = []
        """The beginning of a line."""
        self._kept_size = 0

    def take(self, item: bytes) -> bool:
        """Note bytes on their way to the caller. Never raises."""
        if self._source.batch is not False:
            guarded(emit.aside, partial(self._read, item))
        return False

    def exhausted(self) -> None:
        """The caller read to the end."""
        if self._source.batch is not False:
            emit.aside(self._end)

    def failed(self, error: BaseException) -> None:
        """An exception came out of the body: the lines read so far are charged."""

    def _read(self, data: bytes) -> None:
        if self._source.batch is not False:
            self._split(_joined(self._decoder.decode(data)))

    def _end(self) -> None:
        self._split(_joined(self._decoder.flush()) + b"\n")

    def _split(self, data: bytes) -> None:
        lines = data.split(b"\n")
        self._kept.append(lines[0])
        self._kept_size += len(lines[0])
        if len(lines) > 1:
            lines[0] = b"".join(self._kept)
            self._kept = [lines.pop()]
            self._kept_size = len(self._kept[0])
            for line in lines:
                guarded(take, self._source, line)
        elif self._kept_size > LONGEST_LINE or self._kept[0][:1] not in (b"{", b""):
            self._source.batch = False
            self._kept.clear()


class _Plain:
    @staticmethod
    def decode(data: bytes) -> bytes:
        return data

    @staticmethod
    def flush() -> bytes:
        return b""


def _joined(decoded: Any) -> bytes:
    """What a decoder gives: bytes in `httpx`, several pieces in `httpx2`."""
    return decoded if isinstance(decoded, bytes) else b"".join(decoded)


def _decoder(response: Any) -> Any:
    """What undoes the content encoding; the response's own one is in use."""
    encoding = response.headers.get("content-encoding", "identity")
    if encoding == "identity":
        return _Plain
    return response.__class__(200, headers={"content-encoding": encoding})._get_content_decoder()


class Tap(Proxy):
    """The byte stream below an HTTP response, watched."""

    def __init__(self, wrapped: Any, lines: Lines) -> None:
        super().__init__(wrapped)
        self._self_lines = lines

    def __iter__(self) -> Iterator[bytes]:
        return SyncObserver(iter(self.__wrapped__), self._self_lines)  # pyright: ignore[reportArgumentType]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return AsyncObserver(aiter(self.__wrapped__), self._self_lines)  # pyright: ignore[reportArgumentType]


# --- visits -------------------------------------------------------------------------------------------
class _Untouched:
    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, kwargs


class Download(_Untouched):
    """Somebody reads a file, which may be the results of a batch."""

    def __init__(self, target: Target, file: str) -> None:
        self._source = Source(target, file, guarded(attribution.current) or {})

    def returned(self, result: Any) -> None:
        """Read what has come, watch what is to come."""
        response = _response_of(result)
        if isinstance(result, bytes | str):
            self._whole(result.encode() if isinstance(result, str) else result)
        elif response is None:
            return
        elif response.is_closed:
            self._whole(response.content)
        else:
            _at_exit()
            response.stream = Tap(response.stream, Lines(self._source, response))

    def _whole(self, content: bytes) -> None:
        _at_exit()
        emit.aside(partial(_take_all, self._source, content))


def _take_all(source: Source, content: bytes) -> None:
    at = 0
    while at < len(content) and source.batch is not False:
        end = content.find(b"\n", at)
        end = len(content) if end < 0 else end
        guarded(take, source, content[at:end])
        at = end + 1


def _response_of(result: Any) -> Any:
    """The HTTP response inside whatever the SDK returned."""
    for found in (getattr(result, "http_response", None), getattr(result, "response", None), result):
        if hasattr(found, "is_closed") and hasattr(found, "headers"):
            return found
    return None


class Look(_Untouched):
    """Somebody asks about batches: when they were made, and which files are theirs."""

    def returned(self, result: Any) -> None:
        """Remember what the answer tells."""
        response = getattr(result, "http_response", None)
        if response is not None:
            if not response.is_closed:
                return
            result = json.loads(response.content)
        told = fields(result)
        for batch in told.get("data") or (result,):
            learn(batch)


def learn(batch: Json) -> None:
    """Remember when a batch was made."""
    told = fields(batch)
    created = told.get("created_at")
    if isinstance(created, str):
        created = datetime.fromisoformat(created.replace("Z", "+00:00"))
    seconds = int(created.timestamp()) if isinstance(created, datetime) else _seconds(created)
    if seconds is None:
        return
    for name in ("id", "output_file_id", "error_file_id"):
        known = told.get(name)
        if type(known) is str:
            _remember(created_at, known, seconds, MOST_BATCHES)


# --- the end of the process ---------------------------------------------------------------------------
_registered = False


def _at_exit() -> None:
    """Let the lines be read before the SDK shuts down, which was set up before the first of them came."""
    global _registered
    if not _registered:
        _registered = True
        atexit.register(_finish)


def _finish() -> None:
    emit.flush(PATIENCE)
