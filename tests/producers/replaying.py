"""Producers on recorded calls: which, in which environment, through which clients; and what came of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.environments import (
    BEDROCK_INSTRUMENTATIONS,
    COMPATIBLE_INSTRUMENTATIONS,
    EVERY_PRODUCER,
    GOOGLE_INSTRUMENTATIONS,
    PRODUCERS,
    REST_INSTRUMENTATIONS,
    ROOT,
    Environment,
)
from tests.producers import running


class Run(NamedTuple):
    """A process that makes recorded calls under producers."""

    environment: Environment
    producers: str
    """As `child.PRODUCERS` has them."""
    families: str
    """Modules of `tests.traffic`, or plans of `wrapping`."""
    providers: frozenset[str]
    """Of the recordings."""

    def again(self, endpoint: str, proxy: str, file: Path, out: Path) -> list[dict[str, Any]]:
        """Make the calls of a traffic file; of each its trace, and how it ended."""
        program = [self.environment.python(), "-m", "tests.producers.again"]
        command = [*program, proxy, self.producers, self.families, file, out]
        return running.lines(command, _environ(endpoint, proxy), out)


_COMPATIBLE: Final = (
    *("openai", "azure.ai.openai", "deepseek", "groq", "openrouter", "perplexity", "together", "x_ai"),
    *("mistral_ai", "huggingface", "ollama", "gcp.gemini", "cohere", "aws.bedrock", "other"),
)
_PROVIDERS: Final = {
    "openai": frozenset(_COMPATIBLE),
    "anthropic": frozenset({"anthropic"}),
    "bedrock": frozenset({"aws.bedrock"}),
    "google": frozenset({"gcp.gemini", "gcp.vertex_ai"}),
    "mistral": frozenset({"mistral_ai"}),
    "cohere": frozenset({"cohere"}),
    "groq": frozenset({"groq", "ollama"}),
    "litellm": frozenset(_COMPATIBLE) | {"anthropic"},
    "pydantic_ai": frozenset({"openai", "anthropic"}),
    "azure_ai": frozenset({"azure.ai.openai", "other"}),
}
_FAMILIES: Final = {
    "openai": "openai_anthropic",
    "anthropic": "openai_anthropic",
    "groq": "compatible,ollama",
}


def _run(environment: Environment, producers: str, calls: str) -> Run:
    kinds = calls.split(",")
    families = ",".join(dict.fromkeys(_FAMILIES.get(kind, kind) for kind in kinds))
    return Run(environment, producers, families, frozenset[str]().union(*(_PROVIDERS[kind] for kind in kinds)))


RUNS: Final = {
    **{name: _run(PRODUCERS[name], name, calls) for name, calls in running.CALLS.items()},
    **{
        f"{name}_google": _run(GOOGLE_INSTRUMENTATIONS[name], "installed", "google")
        for name in ("otel", "openllmetry", "openinference")
    },
    "openinference_rest": _run(REST_INSTRUMENTATIONS["openinference"], "installed", "mistral,cohere"),
    "openllmetry_cohere": _run(REST_INSTRUMENTATIONS["openllmetry"], "installed", "cohere"),
    "openllmetry_bedrock": _run(BEDROCK_INSTRUMENTATIONS["openllmetry"], "installed", "bedrock"),
    "openllmetry_groq": _run(COMPATIBLE_INSTRUMENTATIONS["openllmetry"], "installed", "groq"),
    "openinference_groq": _run(COMPATIBLE_INSTRUMENTATIONS["openinference"], "installed", "groq"),
}
"""Producer of Python → what it is made to see."""

_OTHERS: Final = "otel,openllmetry,openinference,logfire"
TOGETHER: Final = {
    "together": _run(EVERY_PRODUCER, _OTHERS, "openai,anthropic"),
    "together_and_ours": _run(EVERY_PRODUCER, f"genai_meter,{_OTHERS},langfuse", "openai,anthropic"),
    "bedrock_and_ours": _run(BEDROCK_INSTRUMENTATIONS["botocore-openinference"], "genai_meter,installed", "bedrock"),
    "openllmetry_bedrock_and_ours": _run(BEDROCK_INSTRUMENTATIONS["openllmetry"], "genai_meter,installed", "bedrock"),
    "google_and_ours": _run(GOOGLE_INSTRUMENTATIONS["all"], "genai_meter,installed", "google"),
    "rest_and_ours": _run(REST_INSTRUMENTATIONS["openinference"], "genai_meter,installed", "mistral,cohere"),
}
"""Several producers on the same calls, as many as go together."""


def _environ(endpoint: str, proxy: str) -> dict[str, str]:
    """All hosts are the replay server, which is their proxy; nothing is dropped for want of room."""
    kept = {k: v for k, v in running.environ(endpoint, "shop").items() if not k.upper().endswith("_PROXY")}
    return {
        **kept,
        "http_proxy": proxy,
        "no_proxy": "127.0.0.1",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'instrumentation'}",
        "OTEL_BSP_MAX_QUEUE_SIZE": "100000",
        "OTEL_BLRP_MAX_QUEUE_SIZE": "100000",
        # OpenLLMetry of Bedrock tells no usage without.
        "TRACELOOP_METRICS_ENABLED": "true",
    }
