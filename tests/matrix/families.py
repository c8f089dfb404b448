"""The client libraries of the caller matrix: one row each."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from tests.environments import MATRIX, Environment


@dataclass(frozen=True)
class Family:
    """One client library: its scenarios, and who makes its clients."""

    name: str
    module: str
    """What is imported to have the library; `Stage.library`."""
    package: str
    """The distribution whose version heads its columns."""
    parts: tuple[str, ...]
    """Modules of scenarios, in this folder."""
    stage: str = "tests.matrix.scenario:Stage"
    """Class that makes the clients, as `module:Class`; a `Stage`."""
    breaks: tuple[tuple[str, str], ...] = ()
    """More of ours that chaos2 makes raise: (module, name) of what records a call after it was prepared."""
    prepares: tuple[tuple[str, str], ...] = ()
    """More of ours that chaos1 makes raise: (module, name) of what prepares a call."""

    @property
    def environments(self) -> tuple[Environment, ...]:
        """Oldest supported version first, newest last."""
        return MATRIX[self.name]


COMPATIBLE: Final = ("compatible_calls",)
COMPATIBLE_STAGE: Final = "tests.matrix.compatible_calls:CompatibleStage"

BOTOCORE_BREAKS: Final = tuple(
    ("genai_meter.clients.botocore_streams", name) for name in ("watch_events", "watch_body")
)
BOTOCORE_PREPARES: Final = (("genai_meter.clients.botocore_calls", "prepare"),)

FAMILIES: Final = {
    family.name: family
    for family in (
        Family(
            "openai",
            "openai",
            "openai",
            ("openai_calls", "openai_streams", "openai_async", "openai_later"),
            breaks=tuple(("genai_meter.clients.background", name) for name in ("_ordered", "_retrieved")),
            prepares=(("genai_meter.clients.later", "visit"), ("genai_meter.clients.background", "order")),
        ),
        Family("anthropic", "anthropic", "anthropic", ("anthropic_calls",)),
        Family(
            "botocore",
            "botocore.session",
            "boto3",
            ("botocore_calls",),
            "tests.matrix.botocore_calls:BotocoreStage",
            BOTOCORE_BREAKS,
            BOTOCORE_PREPARES,
        ),
        Family(
            "aiobotocore",
            "aiobotocore.session",
            "aiobotocore",
            ("aiobotocore_calls",),
            "tests.matrix.aiobotocore_calls:AiobotocoreStage",
            BOTOCORE_BREAKS,
            BOTOCORE_PREPARES,
        ),
        Family(
            "mistralai",
            "mistralai",
            "mistralai",
            ("mistralai_calls",),
            "tests.matrix.mistralai_calls:MistralStage",
            tuple(("genai_meter.clients.mistralai", name) for name in ("_begin", "_refused", "_read", "_hold")),
        ),
        Family(
            "cohere",
            "cohere",
            "cohere",
            ("cohere_calls",),
            "tests.matrix.cohere_calls:CohereStage",
            (("genai_meter.clients.cohere", "_watched"), ("genai_meter.clients.cohere", "_answered")),
        ),
        Family(
            "google_genai",
            "google.genai",
            "google-genai",
            ("google_genai_calls", "google_genai_async", "google_genai_interactions"),
            "tests.matrix.google_genai_stage:GoogleStage",
            (("genai_meter.clients.google_genai_api", "observe"),),
        ),
        Family("groq", "groq", "groq", COMPATIBLE, COMPATIBLE_STAGE),
        Family("together", "together", "together", COMPATIBLE, COMPATIBLE_STAGE),
        Family("ollama", "ollama", "ollama", ("ollama_calls",), "tests.matrix.ollama_calls:OllamaStage"),
        Family(
            "huggingface_hub",
            "huggingface_hub",
            "huggingface_hub",
            ("huggingface_calls",),
            "tests.matrix.huggingface_calls:HubStage",
        ),
        Family("litellm", "litellm", "litellm", ("litellm_calls",), "tests.matrix.litellm_calls:LiteLLMStage"),
        Family(
            "lm15",
            "lm15",
            "lm15",
            ("lm15_calls",),
            "tests.matrix.lm15_calls:LM15Stage",
            (("genai_meter.clients.lm15", "_returned"),),
            (("genai_meter.clients.lm15", "_exchange"),),
        ),
        Family(
            "langchain_mistralai",
            "langchain_mistralai",
            "langchain-mistralai",
            ("langchain_mistralai_calls",),
            "tests.matrix.langchain_mistralai_calls:LangChainMistralStage",
            (("genai_meter.clients.langchain_mistralai", "_left"),),
        ),
        Family("cerebras", "cerebras.cloud.sdk", "cerebras-cloud-sdk", COMPATIBLE, COMPATIBLE_STAGE),
        Family("perplexity", "perplexity", "perplexityai", COMPATIBLE, COMPATIBLE_STAGE),
        Family("fireworks", "fireworks", "fireworks-ai", COMPATIBLE, COMPATIBLE_STAGE),
    )
}


def declare(*names: str) -> None:
    """Import the scenarios of some families; of all when none is named."""
    for name in names or tuple(FAMILIES):
        for part in FAMILIES[name].parts:
            importlib.import_module(f"tests.matrix.{part}")


Rows: TypeAlias = Literal["ends", "every", "unpinned"]
"""Oldest and newest supported version; every row; the newest there is, whatever it is."""


def environments(*names: str, rows: Rows = "ends") -> dict[Environment, tuple[str, ...]]:
    """Environments → families to run there."""
    found: dict[Environment, tuple[str, ...]] = {}
    for name in names or tuple(FAMILIES):
        for row in chosen(name, rows):
            found[row] = (*found.get(row, ()), name)
    return found


def chosen(name: str, rows: Rows) -> list[Environment]:
    """The environments of one family, in the order of its versions."""
    known = FAMILIES[name].environments
    if rows == "unpinned":
        return [known[-1].unpinned()]
    return list(known) if rows == "every" else list(dict.fromkeys((known[0], known[-1])))
