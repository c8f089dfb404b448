"""Models of LangChain beside instrumentations of LangChain: one span with the cost, one event, one charge."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Final

import pytest
from exporter_kit import Served
from interop_kit import OURS, check, run

from examples.provider import Provider
from tests.environments import LANGCHAIN_INSTRUMENTATIONS

OPENINFERENCE: Final = "openinference.instrumentation.langchain"
OPENLLMETRY: Final = "opentelemetry.instrumentation.langchain"
CLIENT: Final = "openinference.instrumentation.openai"
NATIVE: Final = "com.anthropic.sdk.python"
"""The Anthropic SDK's own tracing, which is on."""

MISTRAL: Final = ("invoke", "stream", "streaming", "invoke_async", "stream_async", "chain")
OPENAI: Final = (
    *("openai_invoke", "openai_stream", "openai_invoke_async", "openai_stream_async", "openai_responses"),
    *("openai_batch", "openai_retried", "openai_text"),
)
ANTHROPIC: Final = ("anthropic_invoke", "anthropic_stream")
"""Scenarios that are runs of LangChain; the others it tells nobody of."""
MISTRAL_ALONE: Final = ("below", "embeddings")
OPENAI_ALONE: Final = ("openai_embeddings", "client_in_a_tool")


@pytest.mark.parametrize(("name", "scope"), [("openinference", OPENINFERENCE), ("openllmetry", OPENLLMETRY)])
def test_the_span_of_the_run_is_claimed(name: str, scope: str, provider: Provider, tmp_path: Path) -> None:
    enriched = {
        **dict.fromkeys((*MISTRAL, *OPENAI), scope),
        **dict.fromkeys((*MISTRAL_ALONE, *OPENAI_ALONE), OURS),
        **dict.fromkeys(ANTHROPIC, NATIVE),
    }
    judge(name, enriched, dict.fromkeys(ANTHROPIC, frozenset({scope})), provider, tmp_path)


def test_all_spans_of_the_run_name_its_call(provider: Provider, tmp_path: Path) -> None:
    enriched = {
        **dict.fromkeys(MISTRAL, OPENINFERENCE),
        **dict.fromkeys((*OPENAI, *OPENAI_ALONE), CLIENT),
        **dict.fromkeys(MISTRAL_ALONE, OURS),
        **dict.fromkeys(ANTHROPIC, NATIVE),
    }
    others = {
        **dict.fromkeys(MISTRAL, frozenset({OPENLLMETRY})),
        **dict.fromkeys((*OPENAI, *ANTHROPIC), frozenset({OPENINFERENCE, OPENLLMETRY})),
    }
    judge("all", enriched, others, provider, tmp_path)


def judge(
    name: str, enriched: Mapping[str, str], others: Mapping[str, Set[str]], provider: Provider, tmp_path: Path
) -> None:
    environment = LANGCHAIN_INSTRUMENTATIONS[name]
    try:
        environment.python()
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the environment {name} cannot be made here: {error}")
    with Served(tmp_path / "exporter") as served:
        found = run(environment, "langchain_child", provider.url, served, tmp_path / "found.json")
        check(found, enriched, served, named=others)
