"""What a producer is told, in protobuf or JSON, as the OTLP specification words it."""

from __future__ import annotations

from typing import Any, Final

import orjson
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from genai_meter_exporter.pipeline import Accepted
from genai_meter_exporter.receive.raw import Signal

RETRY_SECONDS: Final = 5
"""What a producer is asked to wait before it sends again."""


def accepted(signal: Signal, result: Accepted) -> bytes:
    """Success, or partial success, in protobuf. Success has no fields: no bytes."""
    if not result.rejected:
        return b""
    if signal == "logs":
        response = ExportLogsServiceResponse()
        response.partial_success.rejected_log_records = result.rejected
    else:
        response = ExportTraceServiceResponse()
        response.partial_success.rejected_spans = result.rejected
    response.partial_success.error_message = result.reason
    return response.SerializeToString()


def accepted_json(signal: Signal, result: Accepted) -> bytes:
    """The same in JSON; 64-bit integers are text there."""
    if not result.rejected:
        return b"{}"
    field = "rejectedLogRecords" if signal == "logs" else "rejectedSpans"
    return orjson.dumps({"partialSuccess": {field: str(result.rejected), "errorMessage": result.reason}})


def status(code: int, message: str, *, retry: int = 0) -> bytes:
    """`google.rpc.Status` in protobuf, with the seconds to wait when the producer should send again."""
    body = Status(code=code, message=message)
    if retry:
        details = AnyMessage()
        details.Pack(RetryInfo(retry_delay=Duration(seconds=retry)))
        body.details.append(details)
    return body.SerializeToString()


def status_json(code: int, message: str) -> bytes:
    """`google.rpc.Status` in JSON."""
    body: dict[str, Any] = {"code": code, "message": message}
    return orjson.dumps(body)
