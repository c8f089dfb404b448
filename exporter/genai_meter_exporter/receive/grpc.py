"""OTLP/gRPC: generic handlers on raw bytes, so that the body is parsed once, by us."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
import grpc.aio

from genai_meter_exporter.pipeline import Busy, Pipeline
from genai_meter_exporter.receive import answers, protobuf
from genai_meter_exporter.receive.raw import Garbage, Signal
from genai_meter_exporter.store.base import StoreError

_METHODS: Final[dict[str, Signal]] = {
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": "logs",
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": "traces",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": "metrics",
}

_DETAILS: Final = "grpc-status-details-bin"


class OtlpGrpc(grpc.GenericRpcHandler):
    """The three export services."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._handlers = {method: self._handler(signal) for method, signal in _METHODS.items()}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of a method; None is answered as unimplemented."""
        return self._handlers.get(handler_call_details.method)

    def _handler(self, signal: Signal) -> grpc.RpcMethodHandler[Any, Any]:
        async def export(body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            return await self._export(signal, body, context)

        behaviour: Callable[..., Awaitable[bytes]] = export
        return grpc.unary_unary_rpc_method_handler(behaviour)  # pyright: ignore[reportArgumentType]

    async def _export(self, signal: Signal, body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            return answers.accepted(signal, await self._pipeline.accept(signal, body, protobuf.parse))
        except Garbage as error:
            code, message, retry = grpc.StatusCode.INVALID_ARGUMENT, str(error), False
        except Busy:
            code, message, retry = grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full: send again later", True
        except StoreError as error:
            code, message, retry = grpc.StatusCode.UNAVAILABLE, str(error), True
        self._pipeline.reject()
        if retry:
            # RESOURCE_EXHAUSTED is retryable only with these details.
            number: int = code.value[0]
            context.set_trailing_metadata(((_DETAILS, answers.status(number, message, retry=True)),))
        await context.abort(code, message)
        raise AssertionError("abort raises")


def server(pipeline: Pipeline, max_body: int) -> grpc.aio.Server:
    """A server without ports."""
    made = grpc.aio.server(
        options=(
            # Checked on what was received and, by gRPC itself, on what it inflates to.
            ("grpc.max_receive_message_length", max_body),
            # Two exporters on one port would each get half of the events.
            ("grpc.so_reuseport", 0),
        )
    )
    made.add_generic_rpc_handlers((OtlpGrpc(pipeline),))
    return made
