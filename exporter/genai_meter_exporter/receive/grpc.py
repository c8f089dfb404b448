"""OTLP/gRPC: generic handlers on raw bytes, so that the body is parsed once, by us."""

from __future__ import annotations

from typing import Any, Final

import grpc
import grpc.aio

from genai_meter_exporter.access.gate import Closed, Forbidden, Gate, TooMany, Unauthenticated
from genai_meter_exporter.pipeline import Busy, Pipeline
from genai_meter_exporter.receive import answers, protobuf
from genai_meter_exporter.receive.raw import Garbage, Signal
from genai_meter_exporter.store.base import StoreError

_SERVICES: Final[dict[str, Signal]] = {
    "opentelemetry.proto.collector.logs.v1.LogsService": "logs",
    "opentelemetry.proto.collector.trace.v1.TraceService": "traces",
    "opentelemetry.proto.collector.metrics.v1.MetricsService": "metrics",
}

_DETAILS: Final = "grpc-status-details-bin"

_grpc: Any = grpc
"""The stubs leave the types of raw handlers unknown."""


def server(pipeline: Pipeline, gate: Gate, max_body: int) -> grpc.aio.Server:
    """A server without ports."""
    made = _grpc.aio.server(
        options=(
            # Checked on what was received and, by gRPC itself, on what it inflates to.
            ("grpc.max_receive_message_length", max_body),
            # Two exporters on one port would each get half of the events.
            ("grpc.so_reuseport", 0),
        )
    )
    made.add_generic_rpc_handlers(
        tuple(
            _grpc.method_handlers_generic_handler(service, {"Export": _handler(pipeline, gate, signal)})
            for service, signal in _SERVICES.items()
        )
    )
    return made


def _handler(pipeline: Pipeline, gate: Gate, signal: Signal) -> Any:
    async def export(body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        seconds = answers.RETRY_SECONDS
        try:
            caller = gate.admit(_authorization(context), _address(context.peer()), "ingest")
            return answers.accepted(signal, await pipeline.accept(signal, body, protobuf.parse, caller.tenants))
        except Unauthenticated as error:
            code, message = grpc.StatusCode.UNAUTHENTICATED, str(error)
        except Forbidden as error:
            code, message = grpc.StatusCode.PERMISSION_DENIED, str(error)
        except Garbage as error:
            code, message = grpc.StatusCode.INVALID_ARGUMENT, str(error)
        except TooMany as error:
            code, message, seconds = grpc.StatusCode.UNAVAILABLE, str(error), error.seconds
        except Busy:
            code, message = grpc.StatusCode.UNAVAILABLE, "the queue is full: send again later"
        except (Closed, StoreError) as error:
            code, message = grpc.StatusCode.UNAVAILABLE, str(error)
        pipeline.reject(message)
        if code is grpc.StatusCode.UNAVAILABLE:
            number: int = code.value[0]
            context.set_trailing_metadata(((_DETAILS, answers.status(number, message, retry=seconds)),))
        # `abort` would raise, and the traceback would hold the body until garbage is collected.
        context.set_code(code)
        context.set_details(message)
        return b""

    return _grpc.unary_unary_rpc_method_handler(export)


def _authorization(context: grpc.aio.ServicerContext[bytes, bytes]) -> str | None:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            return value if isinstance(value, str) else None
    return None


def _address(peer: str) -> str:
    """Of `ipv4:127.0.0.1:40000` the address: a connection is not somebody else."""
    return peer.rpartition(":")[0]
