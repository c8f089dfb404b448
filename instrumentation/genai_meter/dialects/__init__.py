"""Wire formats: one module each, chosen by path (`for_path`), by name or by flavour."""

from __future__ import annotations

from genai_meter.dialects.base import Dialect, Fidelity, Json, Reading, RequestView
from genai_meter.dialects.flavours import by_flavor
from genai_meter.dialects.paths import NOT_METERED, by_name, for_path, not_metered

__all__ = [
    "NOT_METERED",
    "Dialect",
    "Fidelity",
    "Json",
    "Reading",
    "RequestView",
    "by_flavor",
    "by_name",
    "for_path",
    "not_metered",
]
