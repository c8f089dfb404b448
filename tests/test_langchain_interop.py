"""Mistral by LangChain beside instrumentations of LangChain: one span with cost and call id, one event, one charge."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

import pytest
from exporter_kit import Served
from interop_kit import OURS, check, run

from examples.provider import Provider
from tests.environments import LANGCHAIN_INSTRUMENTATIONS

SCOPES: Final = {
    "openinference": "openinference.instrumentation.langchain",
    "openllmetry": "opentelemetry.instrumentation.langchain",
}
RUNS: Final = ("invoke", "stream", "streaming", "invoke_async", "stream_async", "chain")
"""What LangChain tells its callbacks of."""
NO_RUNS: Final = ("below", "embeddings")


@pytest.mark.parametrize("name", SCOPES)
def test_span_of_the_run_is_claimed(name: str, provider: Provider, tmp_path: Path) -> None:
    environment = LANGCHAIN_INSTRUMENTATIONS[name]
    try:
        environment.python()
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the environment {name} cannot be made here: {error}")
    enriched = {**dict.fromkeys(RUNS, SCOPES[name]), **dict.fromkeys(NO_RUNS, OURS)}
    with Served(tmp_path / "exporter") as served:
        found = run(environment, "langchain_child", provider.url, served, tmp_path / "found.json")
        check(found, enriched, served)
