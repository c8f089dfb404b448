"""`google-genai` beside other instrumentations: one span with cost and call id, one event that names it, one charge."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from exporter_kit import Served
from interop_kit import OURS, check, run

from examples.provider import Provider
from tests.environments import GOOGLE_INSTRUMENTATIONS

OTEL: Final = "opentelemetry.instrumentation.google_genai"
OPENLLMETRY: Final = "opentelemetry.instrumentation.google_generativeai"
OPENINFERENCE: Final = "openinference.instrumentation.google_genai"

STREAMS: Final = ("stream", "async_stream")
WHOLE: Final = ("generate", "chat", "async_generate")
ENRICHED: Final = {
    # The innermost has the span. A stream is sent when it is read: OpenInference's span has ceased to be current.
    "all": dict.fromkeys((*WHOLE, *STREAMS, "embeddings"), OTEL) | {"interaction": OURS},
    "otel": dict.fromkeys((*WHOLE, *STREAMS, "embeddings"), OTEL) | {"interaction": OURS},
    # The spans of this one are never current.
    "openllmetry": dict.fromkeys((*WHOLE, *STREAMS, "embeddings", "interaction"), OURS),
    "openinference": dict.fromkeys((*WHOLE, "embeddings", "interaction"), OPENINFERENCE) | dict.fromkeys(STREAMS, OURS),
}
"""Environment → scenario → scope of the span that carries cost and call id."""
UNLINKED: Final = {"all": (f"{OPENINFERENCE}/span",), "openinference": (f"{OPENINFERENCE}/span",) * 2}
"""Charges too many: OpenInference's span of a stream has no response id and is no relative of ours."""


def beside(name: str, provider: Provider, directory: Path) -> None:
    with Served(directory / "exporter") as served:
        found = run(GOOGLE_INSTRUMENTATIONS[name], "google_child", provider.url, served, directory / "found.json")
        check(found, ENRICHED[name], served, unlinked=UNLINKED.get(name, ()))


def test_beside_all_others(provider: Provider, tmp_path: Path) -> None:
    beside("all", provider, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["otel", "openllmetry", "openinference"])
def test_beside_one_other(name: str, provider: Provider, tmp_path: Path) -> None:
    beside(name, provider, tmp_path)
