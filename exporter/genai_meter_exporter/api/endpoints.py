"""Every endpoint of the API: who may use it, what it takes. The application and its description are made from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from genai_meter_exporter.access.tokens import Scope
from genai_meter_exporter.api import events, usage
from genai_meter_exporter.api.parameters import Parameter


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path; all are read by GET (or HEAD)."""

    path: str
    name: str
    """`operationId`, and the method that answers."""
    summary: str
    scope: Scope | None = None
    """What a token must allow; None: any token that holds."""
    public: bool = False
    """Without a token."""
    all_tenants: bool = False
    """Not for tokens of some tenants: what it shows is of all."""
    parameters: Sequence[Parameter] = ()
    content_type: str = "application/json"


ENDPOINTS: Final = (
    Endpoint("/v1/usage", "usage", "Calls, tokens and cost, by any dimension", "read", parameters=usage.PARAMETERS),
    Endpoint("/v1/events/{id}", "event", "One call with all it was charged for", "read", parameters=events.PARAMETERS),
    Endpoint("/v1/health", "health", "Whether calls can be taken; to tokens of all tenants also why, and how much"),
    Endpoint("/v1/tokens", "tokens", "The tokens that hold, without their secrets", "admin", all_tenants=True),
    Endpoint("/v1/openapi.json", "description", "This description", public=True),
    Endpoint("/metrics", "metrics", "Counters for Prometheus", "read", all_tenants=True, content_type="text/plain"),
    Endpoint("/healthz", "alive", "The process lives", public=True, content_type="text/plain"),
    Endpoint("/readyz", "ready", "Calls can be taken, or why not (503)", public=True, content_type="text/plain"),
)
