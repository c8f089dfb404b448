"""Entry points of `opentelemetry_instrumentor`, and the instrumentor of each client library.

Nothing here imports a client library. A library that is imported later is patched right after the
module that is patched, one that is there already at once; both by wrapt's post-import hooks.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Collection
from types import ModuleType
from typing import Any, ClassVar, Final, Protocol

import wrapt
from opentelemetry.instrumentation.environment_variables import (  # pyright: ignore[reportMissingTypeStubs]
    OTEL_PYTHON_DISABLED_INSTRUMENTATIONS,
)
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # pyright: ignore[reportMissingTypeStubs]

from genai_meter import environment
from genai_meter.safety import guarded


class Seam(Protocol):
    """The patches of one client library; a module named in `Library.seam` makes it by `Seam(package)`."""

    def install(self, module: ModuleType) -> None:
        """Patch one of the modules of `Library.modules`, which has just been imported. Again is nothing."""

    def remove(self) -> None:
        """Put every original back."""


class Library:
    """One client library: to be patched as soon as it is imported."""

    def __init__(self, package: str, modules: Collection[str], seam: str) -> None:
        self.package = package
        self.modules = modules
        """Modules of the library that the seam patches."""
        self.seam = seam
        """The module of ours that knows how."""
        self._armed = False
        self._hooked = False
        self._seam: Seam | None = None

    def arm(self) -> None:
        """Patch the library, now or when it is imported."""
        if environment.settings().disabled:
            return
        self._armed = True
        if not self._hooked:
            self._hooked = True
            for name in self.modules:
                # Fires at once for a module that is imported already.
                wrapt.register_post_import_hook(self._imported, name)
            return
        for name in self.modules:
            if name in sys.modules:
                self._install(sys.modules[name])

    def disarm(self) -> None:
        """Put everything back; a hook that has not fired yet will do nothing."""
        self._armed = False
        if self._seam is not None:
            self._seam.remove()

    def _imported(self, module: ModuleType) -> None:
        # An exception that left this hook would break the user's import.
        guarded(self._install, module)

    def _install(self, module: ModuleType) -> None:
        if not self._armed:
            return
        seam = self._seam
        if seam is None:
            # Not before a client library is really used: everything that meters hangs on it.
            seam = self._seam = importlib.import_module(self.seam).Seam(self.package)
        seam.install(module)


def _bind(kwargs: dict[str, Any]) -> None:
    """Emit to the providers that a manual `instrument(tracer_provider=…)` names."""
    names = ("tracer_provider", "meter_provider", "logger_provider")
    given = {name: kwargs[name] for name in names if kwargs.get(name) is not None}
    if given:
        from genai_meter import emit

        emit.bind(**given)


class LibraryInstrumentor(BaseInstrumentor):
    """What all instrumentors do; each names its library."""

    library: ClassVar[Library]

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: features decide, not versions."""
        return []

    def _instrument(self, **kwargs: Any) -> None:
        guarded(_bind, kwargs)
        guarded(self.library.arm)

    def _uninstrument(self, **_kwargs: Any) -> None:
        guarded(self.library.disarm)


_STAINLESS: Final = "genai_meter.clients.stainless"


class OpenAIInstrumentor(LibraryInstrumentor):
    """Meters `openai`: OpenAI, Azure, Bedrock, and every OpenAI-compatible provider called through it."""

    library = Library(
        "openai",
        (
            "openai._base_client",
            "openai.resources.realtime.realtime",
            "openai.resources.beta.realtime.realtime",
            "openai.resources.responses.responses",
            "openai.resources.beta.responses.responses",
            "openai.resources.live.live",
        ),
        "genai_meter.clients.openai_sdk",
    )


class AnthropicInstrumentor(LibraryInstrumentor):
    """Meters `anthropic`: Anthropic, Bedrock, Vertex, Foundry."""

    library = Library("anthropic", ("anthropic._base_client",), _STAINLESS)


class GoogleGenAIInstrumentor(LibraryInstrumentor):
    """Meters `google-genai`: the Gemini API and Vertex AI."""

    library = Library(
        "google-genai",
        (
            "google.genai._api_client",
            "google.genai._interactions._base_client",
            "google.genai._gaos.basesdk",
            "google.genai._gaos._hooks.sdkhooks",
            "google.genai._gaos._hooks.asyncsdkhooks",
            "google.genai._gaos.utils.retries",
            "google.genai.live",
        ),
        "genai_meter.clients.google_genai",
    )


class GroqInstrumentor(LibraryInstrumentor):
    """Meters `groq`."""

    library = Library("groq", ("groq._base_client",), _STAINLESS)


class TogetherInstrumentor(LibraryInstrumentor):
    """Meters `together` from version 2 on; version 1 is other code, and is named in the log."""

    library = Library("together", ("together._base_client", "together.abstract.api_requestor"), _STAINLESS)


class CerebrasInstrumentor(LibraryInstrumentor):
    """Meters `cerebras-cloud-sdk`."""

    library = Library("cerebras", ("cerebras.cloud.sdk._base_client",), _STAINLESS)


class PerplexityInstrumentor(LibraryInstrumentor):
    """Meters `perplexityai`."""

    library = Library("perplexity", ("perplexity._base_client",), _STAINLESS)


class FireworksInstrumentor(LibraryInstrumentor):
    """Meters `fireworks-ai` from version 1 on."""

    library = Library("fireworks", ("fireworks._base_client",), _STAINLESS)


class BotocoreInstrumentor(LibraryInstrumentor):
    """Meters Bedrock through `botocore` and `aiobotocore` (`boto3`, `aioboto3`): runtime and agents."""

    library = Library(
        "botocore",
        (
            "botocore.response",
            "botocore.endpoint",
            "botocore.client",
            "aiobotocore.response",
            "aiobotocore.endpoint",
            "aiobotocore.client",
        ),
        "genai_meter.clients.botocore",
    )


class MistralInstrumentor(LibraryInstrumentor):
    """Meters `mistralai`, and its copies for Azure and Vertex."""

    library = Library(
        "mistralai",
        tuple(
            f"{root}.{part}"
            for root in (
                "mistralai",
                "mistralai.client",
                "mistralai.azure.client",
                "mistralai.gcp.client",
                "mistralai_azure",
                "mistralai_gcp",
            )
            for part in ("basesdk", "_hooks.sdkhooks", "utils.retries", "utils.eventstreaming")
        ),
        "genai_meter.clients.mistralai",
    )


class CohereInstrumentor(LibraryInstrumentor):
    """Meters `cohere`: both versions of its API, and its clients for AWS and Oracle."""

    library = Library("cohere", ("cohere.core.http_client", "cohere.client"), "genai_meter.clients.cohere")


# --- caches of libraries: no charge -------------------------------------------------------------------
_CACHES: Final = "genai_meter.clients.library_caches"


class LangChainCacheInstrumentor(LibraryInstrumentor):
    """Records answers from the cache of `langchain-core`, and what they did not cost."""

    library = Library(
        "langchain-core",
        ("langchain_core.language_models.chat_models", "langchain_core.language_models.llms"),
        _CACHES,
    )


class LiteLLMCacheInstrumentor(LibraryInstrumentor):
    """Records answers from the cache of `litellm`, and what they did not cost."""

    library = Library("litellm", ("litellm.caching.caching_handler",), _CACHES)


# --- frameworks: context, no charge -------------------------------------------------------------------
class LangChainInstrumentor(LibraryInstrumentor):
    """Reads from `langchain-core` what run, node, agent and tool a call belongs to; LangGraph's too."""

    library = Library(
        "langchain-core",
        ("langchain_core.callbacks.base", "langchain_core.tracers.context", "langchain_core.runnables.config"),
        "genai_meter.frameworks.langchain",
    )


class LangChainSpansInstrumentor(LibraryInstrumentor):
    """Finds the spans that other instrumentations of LangChain keep for the runs of its models."""

    library = Library("langchain-core", ("langchain_core.callbacks.manager",), "genai_meter.frameworks.langchain_spans")


class LlamaIndexInstrumentor(LibraryInstrumentor):
    """Reads from `llama-index-core` what engine, workflow, agent and tool a call belongs to."""

    library = Library(
        "llama-index-core",
        ("llama_index_instrumentation", "llama_index.core.instrumentation"),
        "genai_meter.frameworks.llama_index",
    )


class OpenAIAgentsInstrumentor(LibraryInstrumentor):
    """Reads from `openai-agents` what trace, agent and tool a call belongs to."""

    library = Library(
        "openai-agents", ("agents.tracing.scope", "agents.tracing.provider"), "genai_meter.frameworks.openai_agents"
    )


class PydanticAIInstrumentor(LibraryInstrumentor):
    """Reads from `pydantic-ai` what run, agent and tool a call belongs to."""

    library = Library(
        "pydantic-ai",
        ("pydantic_ai.agent", "pydantic_ai.run", "pydantic_ai.toolsets.function"),
        "genai_meter.frameworks.pydantic_ai",
    )


class CrewAIInstrumentor(LibraryInstrumentor):
    """Reads from `crewai` what flow, crew, task, agent and tool a call belongs to."""

    library = Library(
        "crewai", ("crewai.events.event_context", "crewai.events.event_bus"), "genai_meter.frameworks.crewai"
    )


class MCPInstrumentor(LibraryInstrumentor):
    """Names the tool for calls made underneath an MCP tool call, and hands the attribution on to the server."""

    library = Library("mcp", ("mcp.client.session", "mcp.server.lowlevel.server"), "genai_meter.frameworks.mcp")


class ProcessesInstrumentor(LibraryInstrumentor):
    """Sends what was metered before `uvicorn` lets a signal kill it, and before a worker of `Pool` may be killed."""

    library = Library("processes", ("uvicorn.server", "multiprocessing.pool"), "genai_meter.frameworks.processes")


class OllamaInstrumentor(LibraryInstrumentor):
    """Meters `ollama`."""

    library = Library("ollama", ("ollama._client",), "genai_meter.clients.ollama")


class HuggingFaceInstrumentor(LibraryInstrumentor):
    """Meters the inference clients of `huggingface_hub`."""

    library = Library(
        "huggingface_hub",
        ("huggingface_hub.inference._client", "huggingface_hub.inference._generated._async_client"),
        "genai_meter.clients.huggingface_hub",
    )


class LiteLLMInstrumentor(LibraryInstrumentor):
    """Meters what `litellm` sends itself; what it sends by `openai` and others is metered there."""

    library = Library("litellm", ("litellm.llms.custom_httpx.http_handler",), "genai_meter.clients.litellm")


class LM15Instrumentor(LibraryInstrumentor):
    """Meters what `dspy` sends by its own engine, the `lm15` it brings along, and `lm15` by itself."""

    library = Library(
        "lm15",
        tuple(f"{root}.transports.{part}" for root in ("lm15", "dspy._vendor.lm15") for part in ("_sync", "_async")),
        "genai_meter.clients.lm15",
    )


class LangChainMistralInstrumentor(LibraryInstrumentor):
    """Meters `langchain-mistralai`, which calls Mistral past every client library."""

    library = Library(
        "langchain-mistralai",
        ("langchain_mistralai.chat_models", "langchain_mistralai.embeddings"),
        "genai_meter.clients.langchain_mistralai",
    )


LIBRARIES: Final[dict[str, type[LibraryInstrumentor]]] = {
    "genai_meter_groq": GroqInstrumentor,
    "genai_meter_together": TogetherInstrumentor,
    "genai_meter_cerebras": CerebrasInstrumentor,
    "genai_meter_perplexity": PerplexityInstrumentor,
    "genai_meter_fireworks": FireworksInstrumentor,
    "genai_meter_ollama": OllamaInstrumentor,
    "genai_meter_huggingface_hub": HuggingFaceInstrumentor,
    "genai_meter_litellm": LiteLLMInstrumentor,
    "genai_meter_lm15": LM15Instrumentor,
    "genai_meter_google_genai": GoogleGenAIInstrumentor,
    "genai_meter_botocore": BotocoreInstrumentor,
    "genai_meter_mistralai": MistralInstrumentor,
    "genai_meter_langchain_mistralai": LangChainMistralInstrumentor,
    "genai_meter_cohere": CohereInstrumentor,
    "genai_meter_langchain": LangChainInstrumentor,
    "genai_meter_langchain_cache": LangChainCacheInstrumentor,
    "genai_meter_langchain_spans": LangChainSpansInstrumentor,
    "genai_meter_litellm_cache": LiteLLMCacheInstrumentor,
    "genai_meter_llama_index": LlamaIndexInstrumentor,
    "genai_meter_openai_agents": OpenAIAgentsInstrumentor,
    "genai_meter_pydantic_ai": PydanticAIInstrumentor,
    "genai_meter_crewai": CrewAIInstrumentor,
    "genai_meter_mcp": MCPInstrumentor,
    "genai_meter_processes": ProcessesInstrumentor,
}
"""What `genai_meter_libraries` switches on, by the names that `OTEL_PYTHON_DISABLED_INSTRUMENTATIONS` knows."""


class LibrariesInstrumentor(BaseInstrumentor):
    """Every other library behind one entry point.

    The loader reads the metadata of our distribution twice for each entry point, a millisecond each time: with one
    a library that alone would be most of what we add to the start of every Python process.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: features decide, not versions."""
        return []

    def _instrument(self, **kwargs: Any) -> None:
        disabled = {name.strip() for name in os.environ.get(OTEL_PYTHON_DISABLED_INSTRUMENTATIONS, "").split(",")}
        for name, instrumentor in LIBRARIES.items():
            if name not in disabled:
                guarded(instrumentor().instrument, skip_dep_check=True, **kwargs)

    def _uninstrument(self, **kwargs: Any) -> None:
        for instrumentor in LIBRARIES.values():
            made = instrumentor()
            if made.is_instrumented_by_opentelemetry:
                guarded(made.uninstrument, **kwargs)
