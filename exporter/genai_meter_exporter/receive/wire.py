"""OTLP's log requests with the attributes of their records left as bytes.

The same few attributes come again with nearly every usage event. Left as they were sent, they are looked up whole
(`normalise.quick`); only those not seen before are decoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

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
TEXT, INTEGER = 0x0A, 0x18
"""Tags of an `AnyValue`'s text and whole number."""
SHORT: Final = 0x80
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


def _integers() -> Any:
    """A message of many integers, each written as in an `AnyValue`: their encodings, joined, are one of this."""
    file = FileDescriptorProto(name="genai_meter/integers.proto", syntax="proto3")
    field = file.message_type.add(name="Integers").field.add(name="value", number=INTEGER >> 3)
    field.type, field.label = FieldDescriptorProto.TYPE_INT64, FieldDescriptorProto.LABEL_REPEATED
    field.options.packed = False
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName("Integers"))


LogsRequest: Final = _logs_request()
_Integers: Final = _integers()


def attributes(record: LogRecord) -> Sequence[bytes]:
    """A record's attributes, each an encoded `KeyValue`."""
    return cast("Sequence[bytes]", record.attributes)


def decoded(pairs: Iterable[bytes]) -> list[KeyValue]:
    """Encoded attributes as messages; raises `DecodeError`."""
    return [KeyValue.FromString(pair) for pair in pairs]


def integers(values: Sequence[bytes]) -> Sequence[int]:
    """Encoded `AnyValue`s of whole numbers, read at once; raises `DecodeError`."""
    return _Integers.FromString(b"".join(values)).value


def head(name: str) -> bytes:
    """How an encoded attribute of this (short) name begins, up to the length of its value."""
    return bytes((_KEY, len(name))) + name.encode() + bytes((_VALUE,))


def key(encoded: bytes) -> str:
    """The name of an encoded attribute; raises `DecodeError` or `UnicodeDecodeError`."""
    if len(encoded) > 2 and encoded[0] == _KEY and encoded[1] < SHORT:
        end = encoded[1] + 2
        if end < len(encoded) and encoded[end] == _VALUE:
            return encoded[2:end].decode()
    return KeyValue.FromString(encoded).key
