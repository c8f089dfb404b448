"""OTLP's log requests with the attributes of their records left as bytes.

The same few attributes come again with nearly every usage event. Left as they were sent, they are looked up whole
(`normalise.quick`); only those not seen before are decoded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, cast

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import DESCRIPTOR as LOGS_SERVICE
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import DESCRIPTOR as COMMON
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import DESCRIPTOR as LOGS
from opentelemetry.proto.resource.v1.resource_pb2 import DESCRIPTOR as RESOURCE

if TYPE_CHECKING:
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

_FILES: Final = (COMMON, RESOURCE, LOGS, LOGS_SERVICE)
"""In the order in which they import each other."""

_KEY, _VALUE = 0x0A, 0x12
"""Tags of the fields of a `KeyValue`."""
_SHORT: Final = 0x80
"""Lengths below it are one byte."""


def _logs_request() -> type[ExportLogsServiceRequest]:
    """OTLP's own message, but for `LogRecord.attributes`: a message and its bytes are the same on the wire."""
    pool = DescriptorPool()
    for original in _FILES:
        file = FileDescriptorProto.FromString(original.serialized_pb)
        for message in file.message_type:
            for field in message.field:
                if (message.name, field.name) == ("LogRecord", "attributes"):
                    field.type = FieldDescriptorProto.TYPE_BYTES
                    field.ClearField("type_name")
        pool.AddSerializedFile(file.SerializeToString())
    name = ExportLogsServiceRequest.DESCRIPTOR.full_name
    return cast("type[ExportLogsServiceRequest]", GetMessageClass(pool.FindMessageTypeByName(name)))


LogsRequest: Final = _logs_request()


def attributes(record: LogRecord) -> Iterable[bytes]:
    """A record's attributes, each an encoded `KeyValue`."""
    return cast("Iterable[bytes]", record.attributes)


def decoded(pairs: Iterable[bytes]) -> list[KeyValue]:
    """Encoded attributes as messages; raises `DecodeError`."""
    return [KeyValue.FromString(pair) for pair in pairs]


def key(encoded: bytes) -> str:
    """The name of an encoded attribute; raises `DecodeError` or `UnicodeDecodeError`."""
    if len(encoded) > 2 and encoded[0] == _KEY and encoded[1] < _SHORT:
        end = encoded[1] + 2
        if end < len(encoded) and encoded[end] == _VALUE:
            return encoded[2:end].decode()
    return KeyValue.FromString(encoded).key
