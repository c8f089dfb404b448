"""Mistral and Cohere beside other instrumentations: one span with cost and call id, one event, one charge."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

import pytest
from exporter_kit import Served
from interop_kit import OURS, check, run

from examples.provider import Provider
from tests.environments import REST_INSTRUMENTATIONS

NATIVE: Final = "mistralai_sdk_tracer"
INFERENCE: Final = "openinference.instrumentation."
TRACELOOP: Final = "opentelemetry.instrumentation.cohere"

MISTRAL: Final = ("mistral_chat", "mistral_stream", "mistral_async")
TRACED: Final = ("mistral_traced", "mistral_stream_traced")
COHERE: Final = ("cohere_chat", "cohere_async", "cohere_embed")
BELOW: Final = ("mistral_conversation_traced", "mistral_embeddings", "cohere_stream")
"""A run of an agent is a wrapper, nobody else spans these embeddings, and a generator runs under no span."""

ENRICHED: Final = {
    "openinference": {
        **dict.fromkeys(MISTRAL, f"{INFERENCE}mistralai"),
        # The innermost has the span.
        **dict.fromkeys(TRACED, NATIVE),
        **dict.fromkeys(COHERE, f"{INFERENCE}cohere"),
        **dict.fromkeys(BELOW, OURS),
    },
    "openllmetry": {
        # Neither the library's first tracing nor OpenLLMetry's makes its span current, or ends it whatever happens.
        **dict.fromkeys((*MISTRAL, *TRACED, *BELOW), OURS),
        **dict.fromkeys(COHERE, TRACELOOP),
    },
}
"""Environment → scenario → scope of the span that carries cost and call id."""

UNLINKED: Final = {"openinference": (f"{INFERENCE}cohere/span",)}
"""Charges too many: OpenInference's span of Cohere's stream has no response id and tells other tokens."""


def beside(name: str, provider: Provider, directory: Path) -> None:
    environment = REST_INSTRUMENTATIONS[name]
    try:
        environment.python()
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the environment {name} cannot be made here: {error}")
    with Served(directory / "exporter") as served:
        found = run(environment, "rest_child", provider.url, served, directory / "found.json")
        check(found, ENRICHED[name], served, unlinked=UNLINKED.get(name, ()))


def test_beside_openinference_and_the_librarys_own_tracing(provider: Provider, tmp_path: Path) -> None:
    beside("openinference", provider, tmp_path)


@pytest.mark.slow
def test_beside_openllmetry_and_the_first_tracing_of_the_library(provider: Provider, tmp_path: Path) -> None:
    beside("openllmetry", provider, tmp_path)
