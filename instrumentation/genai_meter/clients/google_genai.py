"""The seam of `google-genai`, for the Gemini API and Vertex AI alike.

The library has several clients in one package; each is patched where all its public methods end:

    _api_client             models, chats, caches, files …: `google_genai_api`
    _interactions, _gaos    `client.interactions` until 2.0 and since: the Stainless seam, `google_genai_gaos`
    live                    sessions over a websocket: `google_genai_live`
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from genai_meter.call import Target
from genai_meter.clients.targets import provider_of

if TYPE_CHECKING:
    from genai_meter.instrumentor import Seam as Part

SDK: Final = "google.genai"

PARTS: Final = {
    "google.genai._api_client": "google_genai_api",
    "google.genai._gaos.basesdk": "google_genai_gaos",
    "google.genai._gaos._hooks.sdkhooks": "google_genai_gaos",
    "google.genai._gaos._hooks.asyncsdkhooks": "google_genai_gaos",
    "google.genai._gaos.utils.retries": "google_genai_gaos",
    "google.genai._interactions._base_client": "stainless",
    "google.genai.live": "google_genai_live",
}
"""Module of the library → module of ours whose `Seam` patches it."""


class Seam:
    """The patches of the whole package."""

    def __init__(self, package: str) -> None:
        self.package = package
        self._parts: dict[str, Part] = {}

    def install(self, module: ModuleType) -> None:
        """Patch one of the modules in `PARTS`."""
        name = module.__name__
        part = self._parts.get(name)
        if part is None:
            ours = importlib.import_module(f"genai_meter.clients.{PARTS[name]}")
            part = self._parts[name] = ours.Seam(SDK)
        part.install(module)

    def remove(self) -> None:
        """Put every original back."""
        for part in self._parts.values():
            part.remove()


@dataclass(frozen=True, slots=True)
class Route:
    """What the address of a request tells."""

    path: str
    host: str
    port: int | None
    model: str | None
    """`gemini-…`; with its collection when it is a tuned model or an endpoint."""
    deployment: str | None
    """The endpoint or tuned model that is called in place of a model."""
    account: str | None
    """Project of Google Cloud."""
    region: str | None
    """Location of Vertex AI."""


@lru_cache(maxsize=512)
def route_of(address: str) -> Route:
    """The parts of an address without its query."""
    url = urlsplit(address)
    segments = url.path.strip("/").split("/")
    collection, last = segments[-2] if len(segments) > 1 else "", unquote(segments[-1])
    name = last.rpartition(":")[0]
    model = deployment = None
    if name:
        model = name
        if collection != "models":
            model = deployment = f"{collection}/{name}"
    return Route(
        path=url.path,
        host=url.hostname or "",
        port=url.port,
        model=model,
        deployment=deployment,
        account=_after(segments, "projects"),
        region=_after(segments, "locations"),
    )


def _after(segments: list[str], name: str) -> str | None:
    return segments[segments.index(name) + 1] if name in segments[:-1] else None


def target_of(client: Any, route: Route, *, asynchronous: bool) -> Target:
    """Where `client`, the library's own `BaseApiClient`, sends a request."""
    vertex = bool(getattr(client, "vertexai", False))
    api_key = getattr(client, "api_key", None)
    return Target(
        # Behind a gateway the host says nothing, but the client knows whose API it speaks.
        provider=provider_of(route.host, "", "gcp.vertex_ai" if vertex else "gcp.gemini"),
        host=route.host,
        port=route.port,
        region=route.region or (_text(client, "location") if vertex else None),
        account=route.account or (_text(client, "project") if vertex else None),
        deployment=route.deployment,
        api_key=api_key if isinstance(api_key, str) and api_key else None,
        sdk=f"{SDK}.AsyncClient" if asynchronous else f"{SDK}.Client",
    )


def _text(client: Any, name: str) -> str | None:
    value = getattr(client, name, None)
    return value if isinstance(value, str) and value else None
