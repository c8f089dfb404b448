"""Thresholds with hysteresis: what is open ends later than it began."""

from __future__ import annotations

from collections.abc import Collection

from genai_meter_exporter.anomalies.model import HYSTERESIS, Kind


class Threshold:
    """From where on something is unusual, for whom."""

    def __init__(self, opened: Collection[tuple[str, tuple[tuple[str, str], ...]]]) -> None:
        self._opened = opened

    def __call__(self, kind: Kind, labels: tuple[tuple[str, str], ...], value: float) -> float:
        """The threshold; lower for what is open."""
        return value * HYSTERESIS if (kind, labels) in self._opened else value
