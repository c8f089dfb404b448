"""The section `telemetry` of the configuration."""

from __future__ import annotations

from typing import Literal

from genai_meter_exporter.section import Section


class Telemetry(Section):
    """What the exporter tells of itself. Where to is said by `OTEL_EXPORTER_OTLP_*`, never to itself."""

    log_format: Literal["text", "json"] = "text"
    """Lines of text, or one JSON object a line."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """What the log has at least."""

    traces: bool = False
    """Spans of requests that had usage in them, and of commits."""

    metrics: bool = False
    """Durations and sizes by OTLP, beside `/metrics`."""
