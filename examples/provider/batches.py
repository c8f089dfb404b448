"""Batches of OpenAI and of Anthropic: done by the time they are asked for, one result a request."""

from __future__ import annotations

import json
import re
import secrets
import time
from datetime import UTC, datetime
from typing import Any, Final, cast

from . import anthropic_messages, openai_chat, openai_media, openai_responses
from .wire import JSON, Reply, Request, dump, now

ENDPOINTS: Final = {
    "/v1/chat/completions": openai_chat.chat,
    "/v1/responses": openai_responses.responses,
    "/v1/embeddings": openai_media.embeddings,
}
DAY: Final = 86_400
RESULTS: Final = re.compile(r"/v1/messages/batches/([^/]+)(/results)?")
FILE: Final = re.compile(r"/(?:openai/)?v1/files/([^/]+)(/content)?")
BATCH: Final = re.compile(r"/(?:openai/)?v1/batches/([^/]+)")


def get(request: Request) -> Reply | None:
    """What is known of a batch, and its results."""
    memory, path = request.memory, request.path
    if found := RESULTS.fullmatch(path):
        batch = memory.batches.get(found[1])
        if batch is None or not found[2]:
            return _object(batch)
        return Reply("batch", content=memory.files[found[1]], content_type="application/x-jsonl", metered=False)
    if found := FILE.fullmatch(path):
        content = memory.files.get(found[1])
        if content is None or not found[2]:
            return None
        return Reply("files", content=content, content_type="application/octet-stream", metered=False)
    if found := BATCH.fullmatch(path):
        return _object(memory.batches.get(found[1]))
    if path.endswith("/v1/batches"):
        return _object({"object": "list", "data": list(memory.batches.values()), "has_more": False})
    return None


def upload(request: Request, _model: str) -> Reply:
    """`POST /v1/files`."""
    content = cast(bytes, request.body["file"])
    file_id = _keep(request, content)
    told = {"id": file_id, "object": "file", "bytes": len(content), "created_at": now(), "filename": "input.jsonl"}
    return _object({**told, "purpose": request.body["purpose"], "status": "processed"}) or Reply("files")


def create(request: Request, _model: str) -> Reply:
    """`POST /v1/batches`: a request without a model is refused, in the file of errors."""
    body = request.body
    lines = [json.loads(line) for line in request.memory.files[body["input_file_id"]].splitlines() if line]
    done, refused = bytearray(), bytearray()
    for line in lines:
        result = _openai_line(request, line)
        (done if result["error"] is None else refused).extend(dump(result) + b"\n")
    made: JSON = {
        "id": f"batch_{secrets.token_hex(12)}",
        "object": "batch",
        "endpoint": body["endpoint"],
        "input_file_id": body["input_file_id"],
        "completion_window": body["completion_window"],
        "status": "completed",
        "created_at": now() - DAY,
        "output_file_id": _keep(request, bytes(done)) if done else None,
        "error_file_id": _keep(request, bytes(refused)) if refused else None,
    }
    request.memory.batches[made["id"]] = made
    return _object(made) or Reply("batch")


def create_messages(request: Request, _model: str) -> Reply:
    """`POST /v1/messages/batches`."""
    batch_id = f"msgbatch_{secrets.token_hex(12)}"
    content = b"".join(dump(_anthropic_line(request, entry)) + b"\n" for entry in request.body["requests"])
    made = datetime.fromtimestamp(now() - DAY, UTC).isoformat().replace("+00:00", "Z")
    batch: JSON = {
        "id": batch_id,
        "type": "message_batch",
        "processing_status": "ended",
        "request_counts": {"processing": 0, "succeeded": 1, "errored": 0, "canceled": 0, "expired": 0},
        "created_at": made,
        "expires_at": made,
        "ended_at": made,
        "archived_at": None,
        "cancel_initiated_at": None,
        "results_url": f"http://{request.headers['host']}/v1/messages/batches/{batch_id}/results",
    }
    with request.memory.lock:
        request.memory.batches[batch_id] = batch
        request.memory.files[batch_id] = content
    return _object(batch) or Reply("batch")


def _openai_line(request: Request, line: JSON) -> JSON:
    line_id = f"batch_req_{int(time.time()):08x}{secrets.token_hex(12)}"
    answered, error = None, None
    body = cast(JSON, line["body"])
    if body.get("model"):
        inner = Request("POST", line["url"], {}, b"", request.memory, body)
        answer = json.loads(ENDPOINTS[line["url"]](inner, str(body["model"])).content)
        answered = {"status_code": 200, "request_id": secrets.token_hex(8), "body": answer}
    else:
        error = {"code": "model_not_found", "message": "There is no such model."}
    return {"id": line_id, "custom_id": line["custom_id"], "response": answered, "error": error}


def _anthropic_line(request: Request, entry: JSON) -> JSON:
    params = cast(JSON, entry["params"])
    result: JSON
    if params.get("messages"):
        inner = Request("POST", "/v1/messages", {}, b"", request.memory, params)
        message = json.loads(anthropic_messages.messages(inner, str(params["model"])).content)
        message["usage"]["service_tier"] = "batch"
        result = {"type": "succeeded", "message": message}
    else:
        error = {"type": "invalid_request_error", "message": "messages: at least one message is required"}
        result = {"type": "errored", "error": {"type": "error", "error": error}}
    return {"custom_id": entry["custom_id"], "result": result}


def _keep(request: Request, content: bytes) -> str:
    file_id = f"file-{secrets.token_hex(12)}"
    with request.memory.lock:
        request.memory.files[file_id] = content
    return file_id


def _object(value: Any) -> Reply | None:
    return None if value is None else Reply("batch", content=dump(value), metered=False)
