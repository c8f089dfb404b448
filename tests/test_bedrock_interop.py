"""Bedrock beside other instrumentations: one span with cost and call id, one event that names it, one charge."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from exporter_kit import Served
from interop_kit import OURS, check, run

from examples.provider import Provider
from tests.environments import BEDROCK_INSTRUMENTATIONS

BOTOCORE: Final = "opentelemetry.instrumentation.botocore.bedrock-runtime"
OPENLLMETRY: Final = "opentelemetry.instrumentation.bedrock"
OPENINFERENCE: Final = "openinference.instrumentation.bedrock"

ALL: Final = ("converse", "converse_stream", "invoke", "invoke_stream", "titan", "embeddings")
ENRICHED: Final = {
    # The innermost has the span.
    "botocore-openinference": dict.fromkeys(ALL, BOTOCORE),
    # The span of this stream knows nothing of the model before the answer.
    "openinference": {**dict.fromkeys(ALL, OPENINFERENCE), "invoke_stream": OURS},
    # The spans of streams are never current.
    "openllmetry": {**dict.fromkeys(ALL, OPENLLMETRY), "converse_stream": OURS, "invoke_stream": OURS},
}
"""Environment → scenario → scope of the span that carries cost and call id."""
UNLINKED: Final = {"openllmetry": (f"{OPENLLMETRY}/span",)}
"""Charges too many: the span of `converse_stream` has no response id, and here nothing is above it and ours."""


def beside(name: str, provider: Provider, directory: Path) -> None:
    with Served(directory / "exporter") as served:
        found = run(BEDROCK_INSTRUMENTATIONS[name], "bedrock_child", provider.url, served, directory / "found.json")
        check(found, ENRICHED[name], served, unlinked=UNLINKED.get(name, ()))


def test_beside_botocores_and_openinference(provider: Provider, tmp_path: Path) -> None:
    beside("botocore-openinference", provider, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["openinference", "openllmetry"])
def test_beside_one_other(name: str, provider: Provider, tmp_path: Path) -> None:
    beside(name, provider, tmp_path)
