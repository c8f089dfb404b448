"""The attributes that any normaliser reads. Parsers look at nothing else, so content stays outside."""

from __future__ import annotations

from typing import Final

from genai_meter import schema

from genai_meter_exporter.normalise import flavours
from genai_meter_exporter.normalise.names import EVENT_NAME_ATTRIBUTE, EVENTS, OWN

__all__ = ["EVENTS", "EVENT_NAME_ATTRIBUTE", "OWN", "WANTED", "WANTED_RESOURCE"]

WANTED: Final = OWN | flavours.ATTRIBUTES

WANTED_RESOURCE: Final = frozenset(f.attribute for f in schema.FIELDS) | {"deployment.environment", "service.namespace"}
