"""Traffic files: one recorded HTTP exchange a line of JSON, plain or gzipped."""

from __future__ import annotations

import base64
import gzip
import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

Json = Any


@dataclass(frozen=True, slots=True)
class Exchange:
    """One recorded request and its answer."""

    id: str
    provider: str
    detail: str | None
    """Who exactly, when the provider is `other`."""
    operation: str
    operation_detail: str | None
    method: str
    path: str
    """With query."""
    host: str | None
    """Whom the request was sent to; with a port that is not the scheme's own."""
    request: Json
    """The JSON body; None for forms and bodiless requests."""
    form: Mapping[str, Json] | None
    """Fields of a multipart request."""
    request_headers: Mapping[str, str]
    status: int
    headers: Mapping[str, str]
    body: bytes
    framing: str
    streaming: bool
    truth: Mapping[str, Json] | None
    """The usage in the answer, computed from its bytes by the recording's author."""
    no_truth_reason: str | None

    @property
    def bare_path(self) -> str:
        """The path without its query."""
        return self.path.partition("?")[0]

    @property
    def origin(self) -> str:
        """Where it was sent, without TLS (the replay server is the proxy of all hosts); empty when not told."""
        return f"http://{self.host}" if self.host else ""

    def json(self) -> Json:
        """The body of an answer that is no stream."""
        return json.loads(self.body)

    def events(self) -> list[Json]:
        """The events of a streamed answer, in order."""
        if self.framing == "sse":
            return list(sse_events(self.body))
        if self.framing == "ndjson":
            return [json.loads(line) for line in self.body.splitlines() if line.strip()]
        if self.framing == "eventstream":
            return list(aws_events(self.body))
        return list(json.loads(self.body))


def files(place: Path) -> list[Path]:
    """The traffic files in a directory (or the one named)."""
    if place.is_file():
        return [place]
    found = sorted([*place.glob("*.jsonl.gz"), *place.glob("*.jsonl")])
    return [path for path in found if _is_traffic(path)]


def load(paths: Sequence[Path]) -> list[Exchange]:
    """All exchanges of some files."""
    return [_exchange(record) for path in paths for record in _lines(path)]


def fields(value: Json) -> dict[str, Json]:
    """The value when it is a JSON object, else an empty one."""
    return cast(dict[str, Json], value) if isinstance(value, dict) else {}


def sse_events(body: bytes) -> Iterator[Json]:
    """The JSON data of server-sent events, `[DONE]` left out."""
    data: list[str] = []
    for line in [*body.decode().splitlines(), ""]:
        if line.startswith("data:"):
            data.append(line[5:].lstrip(" "))
        elif not line and data:
            text, data = "\n".join(data), []
            if text.strip() not in ("", "[DONE]"):
                yield json.loads(text)


def aws_events(body: bytes) -> Iterator[Json]:
    """The payloads of an AWS event stream: `{event type: payload}`, model chunks unwrapped."""
    start = 0
    while start + 16 <= len(body):
        total, head = struct.unpack(">II", body[start : start + 8])
        headers = body[start + 12 : start + 12 + head]
        payload = json.loads(body[start + 12 + head : start + total - 4] or b"{}")
        kind = re.search(rb":(?:event|exception)-type\x07..([A-Za-z]+)", headers, re.DOTALL)
        name = kind[1].decode() if kind else ""
        yield json.loads(base64.b64decode(payload["bytes"])) if name == "chunk" else {name: payload}
        start += total


def _lines(path: Path) -> Iterator[dict[str, Json]]:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


def _is_traffic(path: Path) -> bool:
    for first in _lines(path):
        return {"id", "method", "path", "status", "framing"} <= first.keys()
    return False


def _exchange(record: dict[str, Json]) -> Exchange:
    if "response_body_base64" in record:
        body = base64.b64decode(record["response_body_base64"])
    else:
        body = record.get("response_body_text", "").encode()
    return Exchange(
        id=record["id"],
        provider=record["provider"],
        detail=record.get("provider_detail"),
        operation=record["operation"],
        operation_detail=record.get("operation_detail"),
        method=record["method"],
        path=record["path"],
        host=record.get("host"),
        request=record.get("request_json"),
        form=record.get("request_form"),
        request_headers=record.get("request_headers") or {},
        status=record["status"],
        headers=record.get("response_headers") or {},
        body=body,
        framing=record["framing"],
        streaming=bool(record.get("streaming")),
        truth=record.get("usage_truth"),
        no_truth_reason=record.get("usage_null_reason"),
    )
