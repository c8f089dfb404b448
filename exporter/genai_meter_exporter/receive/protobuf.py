"""OTLP protobuf → `Parsed`. Parsed once; of each record only the wanted attributes are read."""

from __future__ import annotations

from collections.abc import Iterable

from genai_meter.semconv import EVENT_USAGE
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from genai_meter_exporter.normalise import unknown
from genai_meter_exporter.normalise.wanted import EVENT_NAME_ATTRIBUTE, EVENTS, WANTED, WANTED_RESOURCE
from genai_meter_exporter.receive import wire
from genai_meter_exporter.receive.raw import Attributes, Garbage, Parsed, Raw, Signal
from genai_meter_exporter.receive.values import attributes_of, value_of


def parse(signal: Signal, body: bytes) -> Parsed:
    """Read one export request; raises `Garbage`."""
    try:
        if signal == "logs":
            return _logs(wire.LogsRequest.FromString(body))
        if signal == "traces":
            return _traces(ExportTraceServiceRequest.FromString(body))
        return _metrics(ExportMetricsServiceRequest.FromString(body))
    except (DecodeError, UnicodeDecodeError) as error:
        raise Garbage(f"not an OTLP {signal} request in protobuf: {error}") from None


def _logs(request: ExportLogsServiceRequest) -> Parsed:
    parsed = Parsed("logs")
    append = parsed.records.append
    for resource_logs in request.resource_logs:
        resource = attributes_of(resource_logs.resource.attributes, WANTED_RESOURCE)
        for scope_logs in resource_logs.scope_logs:
            scope = scope_logs.scope.name
            for record in scope_logs.log_records:
                encoded = wire.attributes(record)
                time = record.time_unix_nano or record.observed_time_unix_nano
                ids = record.trace_id, record.span_id
                name = record.event_name
                if name == EVENT_USAGE:
                    # Our own events are read by kind, without the step in between.
                    append(Raw("logs", name, {}, resource, scope, *ids, b"", time, time, encoded=encoded))
                    continue
                if found := _other(name, encoded):
                    name, attributes = found
                    append(Raw("logs", name, attributes, resource, scope, *ids, b"", time, time))
                else:
                    parsed.ignored += 1
    return parsed


def _other(name: str, encoded: Iterable[bytes]) -> tuple[str, Attributes] | None:
    """Name and attributes of a log record that is not our usage event; None when it is none of ours."""
    if name not in EVENTS:
        keys = [wire.key(pair) for pair in encoded]
        if not unknown.tells_tokens(keys) and (name or EVENT_NAME_ATTRIBUTE not in keys):
            return None
    pairs = wire.decoded(encoded)
    name = name or _old_event_name(pairs)
    attributes = attributes_of(pairs, WANTED)
    if name not in EVENTS:
        if not unknown.tells_tokens(pair.key for pair in pairs):
            return None
        attributes |= _unknown(pairs)
    return name, attributes


def _traces(request: ExportTraceServiceRequest) -> Parsed:
    parsed = Parsed("traces")
    error = Status.STATUS_CODE_ERROR
    for resource_spans in request.resource_spans:
        resource = attributes_of(resource_spans.resource.attributes, WANTED_RESOURCE)
        for scope_spans in resource_spans.scope_spans:
            scope = scope_spans.scope.name
            for span in scope_spans.spans:
                parsed.parents.append((span.trace_id + span.span_id, span.parent_span_id))
                attributes = attributes_of(span.attributes, WANTED)
                if unknown.tells_tokens(pair.key for pair in span.attributes):
                    attributes |= _unknown(span.attributes)
                if not attributes:
                    parsed.ignored += 1
                    continue
                parsed.records.append(
                    Raw(
                        "traces",
                        span.name,
                        attributes,
                        resource,
                        scope,
                        span.trace_id,
                        span.span_id,
                        span.parent_span_id,
                        span.start_time_unix_nano,
                        span.end_time_unix_nano,
                        span.status.code == error,
                    )
                )
    return parsed


def _metrics(request: ExportMetricsServiceRequest) -> Parsed:
    count = sum(len(s.metrics) for r in request.resource_metrics for s in r.scope_metrics)
    return Parsed("metrics", ignored=count)


def _unknown(pairs: Iterable[KeyValue]) -> Attributes:
    return unknown.metadata((pair.key, value_of(pair.value)) for pair in pairs)


def _old_event_name(pairs: Iterable[KeyValue]) -> str:
    return next((pair.value.string_value for pair in pairs if pair.key == EVENT_NAME_ATTRIBUTE), "")
