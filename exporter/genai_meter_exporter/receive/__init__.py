"""OTLP in: gRPC and HTTP, protobuf and JSON, all three signals."""
