"""Environments with pinned packages beside the test suite's own, made on demand under `.tools/envs` and kept.

A name, what is in it, no more: `Environment("clients", (...)).python()` is its interpreter. Whoever needs another
one adds a row below.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
SDK: Final = ("opentelemetry-sdk", "opentelemetry-instrumentation")
"""What every environment has of OpenTelemetry, in the versions of the test suite."""


@dataclass(frozen=True)
class Environment:
    """Some packages, each of one version."""

    name: str
    packages: tuple[str, ...]
    """Requirements as pip reads them; pins."""
    like_ours: tuple[str, ...] = SDK
    """Packages that are taken in the versions of the test suite."""
    own: bool = False
    """The test suite's own environment will do when it has just these versions."""
    editable: bool = False
    """This checkout is installed, with its entry points."""
    alone: bool = False
    """Without what the packages say that they need."""
    day: str = ""
    """When it was made; one whose packages have no versions is made anew each day."""

    @property
    def is_own(self) -> bool:
        """True when the environment of the test suite is used."""
        return self.own and all(_installed(pin) for pin in self.packages)

    def version_of(self, package: str) -> str:
        """The version of one of its packages: as pinned, else as installed."""
        pinned = next(pin.partition("==")[2] for pin in self.packages if pin.partition("==")[0] == package)
        if pinned:
            return pinned
        ask = f"from importlib.metadata import version; print(version({package!r}))"
        return subprocess.run([self.python(), "-c", ask], capture_output=True, text=True, check=True).stdout.strip()

    def unpinned(self) -> Environment:
        """The same packages in the newest versions there are."""
        names = tuple(pin.partition("==")[0] for pin in self.packages)
        return replace(self, name=f"{self.name}-unpinned", packages=names, own=False, day=f"{datetime.now(UTC):%F}")

    def requirements(self) -> list[str]:
        """What is installed."""
        ours = [f"{package}=={version(package)}" for package in self.like_ours]
        return [*self.packages, *ours, *(["-e", str(ROOT)] if self.editable else [])]

    def python(self) -> Path:
        """Its interpreter; makes the environment when it is not there yet."""
        if self.is_own:
            return Path(sys.executable)
        place = ROOT / ".tools" / "envs" / f"{self.name}-py{sys.version_info.major}{sys.version_info.minor}"
        place.parent.mkdir(parents=True, exist_ok=True)
        with (place.parent / f"{place.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # An entry point that is new is not there before this checkout is installed anew.
            points = [json.dumps(_entry_points())] if self.editable else []
            wanted = "\n".join([*self.requirements(), *points, *([self.day] if self.day else [])])
            ready = place / "requirements.txt"
            if not ready.exists() or ready.read_text() != wanted:
                self._make(place)
                ready.write_text(wanted)
        return place / "bin" / "python"

    def _make(self, place: Path) -> None:
        uv = shutil.which("uv", path=f"{ROOT}/.tools/bootstrap/bin:{os.environ.get('PATH', '')}")
        if uv is None:
            raise FileNotFoundError("uv is neither in .tools/bootstrap nor on the PATH; `make env` installs it")
        variables = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
        python = str(place / "bin" / "python")
        alone = ["--no-deps"] if self.alone else []
        for command in (
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place)],
            [uv, "pip", "install", "--quiet", "--python", python, *alone, *self.requirements()],
        ):
            subprocess.run(command, check=True, capture_output=True, text=True, env=variables)


def _entry_points() -> dict[str, dict[str, str]]:
    """What this checkout registers."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]


def _installed(pin: str) -> bool:
    package, _, wanted = pin.partition("==")
    try:
        return version(package) == wanted
    except PackageNotFoundError:
        return False


def _pair(name: str, openai: str, anthropic: str, *more: str) -> Environment:
    return Environment(name, (f"openai=={openai}", f"anthropic=={anthropic}", *more), own=True)


OPENAI_ANTHROPIC: Final = (
    _pair("oldest", "1.40.0", "0.40.0", "httpx<0.28"),
    _pair("last-1", "1.109.1", "0.125.0"),
    _pair("first-2", "2.0.0", "1.0.0"),
    _pair("last-2", "2.54.0", "1.17.0"),
    _pair("first-3", "3.0.0", "2.0.0"),
    _pair("newest", "3.54.0", "2.12.0"),
)
"""Oldest supported and newest of each major; the pairs have nothing to do with each other."""

CLIENTS: Final = Environment(
    "clients",
    (
        "openai==3.54.0",
        "anthropic==2.12.0",
        "google-genai==3.4.0",
        "boto3==1.44.5",
        "mistralai==3.7.0",
        "cohere==7.3.1",
        "groq==1.7.0",
        "together==3.1.1",
        "cerebras-cloud-sdk==1.91.0",
        "ollama==0.6.3",
        "huggingface_hub==2.4.0",
    ),
)
"""The newest of every family that goes with the others."""
LITELLM: Final = Environment("litellm", ("litellm==1.106.2", "mcp==2.3.0"))
"""Wants an older `openai`."""
AIOBOTOCORE: Final = Environment("aiobotocore", ("aiobotocore==3.10.0", "openai==3.54.0", "anthropic==2.12.0"))
"""Wants an older `botocore`."""

BOTOCORE: Final = (
    Environment("botocore-oldest", ("boto3==1.28.57", "botocore==1.31.57")),
    Environment("botocore-converse", ("boto3==1.34.116", "botocore==1.34.116")),
    CLIENTS,
)
"""The first with Bedrock, the first with Converse, the newest."""
AIOBOTOCORES: Final = (
    Environment("aiobotocore-oldest", ("aiobotocore==2.13.1", "setuptools<81")),
    AIOBOTOCORE,
)
"""The first with Converse, the newest."""

COMPATIBLE_OLDEST: Final = Environment(
    "compatible-oldest", ("groq==0.9.0", "together==2.0.0", "cerebras-cloud-sdk==1.50.0", "httpx<0.28")
)
OLLAMA_OLDEST: Final = Environment("ollama-oldest", ("ollama==0.3.0", "httpx<0.28"))
HUB: Final = (
    Environment("huggingface-oldest", ("huggingface_hub==0.30.0", "aiohttp==3.11.18")),
    Environment("huggingface-last-0", ("huggingface_hub==0.36.2", "aiohttp==3.11.18")),
    Environment("huggingface-last-1", ("huggingface_hub==1.33.0",)),
)
LITELLM_OLDEST: Final = Environment("litellm-oldest", ("litellm==1.75.0",))

MISTRAL_COHERE: Final = (
    Environment("mistral-cohere-oldest", ("mistralai==1.0.0", "cohere==5.0.0", "httpx==0.27.2")),
    Environment("mistral-cohere-last-1", ("mistralai==1.12.4", "cohere==5.21.1")),
    Environment("mistral-cohere-last-2", ("mistralai==2.10.1", "cohere==6.1.0")),
    CLIENTS,
)
"""Oldest supported and newest of each major; the pairs have nothing to do with each other."""

GOOGLE: Final = (
    Environment("google-oldest", ("google-genai==1.0.0",)),
    Environment("google-middle-1", ("google-genai==1.20.0",)),
    Environment("google-last-1", ("google-genai==1.75.0",)),
    Environment("google-first-2", ("google-genai==2.0.0",)),
    Environment("google-last-2", ("google-genai==2.34.0",)),
    Environment("google-aiohttp", ("google-genai==3.3.0", "aiohttp==3.11.18")),
)
"""Interactions have a client of another make after 2.0; with `aiohttp` the asynchronous client uses that."""
PERPLEXITY_FIREWORKS: Final = Environment("perplexity-fireworks", ("perplexityai==0.46.1", "fireworks-ai==1.2.28"))
LM15: Final = (Environment("lm15-oldest", ("lm15==1.0.0rc3",)), Environment("lm15", ("lm15==1.5.0",)))
"""What `dspy` 3.4 brings along, and the newest."""
LANGCHAIN_MISTRALAI: Final = (
    Environment("langchain-mistralai-oldest", ("langchain-mistralai==0.2.0", "langchain-core==0.3.63", "httpx<0.28")),
    Environment("langchain-mistralai-last-0", ("langchain-mistralai==0.2.12", "langchain-core==0.3.86")),
    Environment("langchain-mistralai", ("langchain-mistralai==1.1.6", "langchain-core==1.7.2")),
)
"""The first for `pydantic` 2, the first that repeats what was refused, the newest."""

MATRIX: Final[dict[str, tuple[Environment, ...]]] = {
    "openai": OPENAI_ANTHROPIC,
    "anthropic": OPENAI_ANTHROPIC,
    "botocore": BOTOCORE,
    "aiobotocore": AIOBOTOCORES,
    "mistralai": MISTRAL_COHERE,
    "cohere": MISTRAL_COHERE,
    "google_genai": (*GOOGLE, CLIENTS),
    "groq": (COMPATIBLE_OLDEST, CLIENTS),
    "together": (COMPATIBLE_OLDEST, CLIENTS),
    "cerebras": (COMPATIBLE_OLDEST, CLIENTS),
    "perplexity": (PERPLEXITY_FIREWORKS,),
    "fireworks": (PERPLEXITY_FIREWORKS,),
    "ollama": (OLLAMA_OLDEST, CLIENTS),
    "huggingface_hub": (*HUB, CLIENTS),
    "litellm": (LITELLM_OLDEST, LITELLM),
    "lm15": LM15,
    "langchain_mistralai": LANGCHAIN_MISTRALAI,
}
"""Family of the caller matrix → its environments, oldest supported version first, newest last."""

INTEROP: Final = ("opentelemetry-distro", "opentelemetry-exporter-otlp-proto-http")
GENAI: Final = (
    "opentelemetry-instrumentation-genai-openai==1.3b0",
    "opentelemetry-instrumentation-genai-anthropic==1.3b0",
)
OPENLLMETRY: Final = ("opentelemetry-instrumentation-openai==0.62.4", "opentelemetry-instrumentation-anthropic==0.62.4")
OPENINFERENCE: Final = (
    "openinference-instrumentation-openai==0.1.66",
    "openinference-instrumentation-anthropic==3.1.0",
)


def _interop(name: str, *packages: str) -> Environment:
    pins = ("openai==3.54.0", "anthropic==2.12.0", *packages)
    return Environment(f"interop-{name}", pins, (*SDK, *INTEROP), editable=True)


def _bedrock(name: str, *packages: str) -> Environment:
    return Environment(f"interop-bedrock-{name}", ("boto3==1.44.5", *packages), (*SDK, *INTEROP), editable=True)


OPENINFERENCE_BEDROCK: Final = "openinference-instrumentation-bedrock==0.1.61"
BEDROCK_INSTRUMENTATIONS: Final = {
    "botocore-openinference": _bedrock("both", OPENINFERENCE_BEDROCK, "opentelemetry-instrumentation-botocore==0.66b2"),
    "openinference": _bedrock("openinference", OPENINFERENCE_BEDROCK),
    "openllmetry": _bedrock("openllmetry", "opentelemetry-instrumentation-bedrock==0.62.4"),
}
"""OpenLLMetry and OpenInference break each other here, with us or without."""
BEDROCK_GENAI: Final = _bedrock("genai", "opentelemetry-instrumentation-genai-bedrock==1.3b0")
"""For `make bench`."""


def _google(name: str, *packages: str) -> Environment:
    return Environment(f"interop-google-{name}", packages, (*SDK, *INTEROP), editable=True)


OTEL_GOOGLE: Final = "opentelemetry-instrumentation-google-genai==1.3b0"
OPENLLMETRY_GOOGLE: Final = "opentelemetry-instrumentation-google-generativeai==0.62.4"
OPENINFERENCE_GOOGLE: Final = "openinference-instrumentation-google-genai==1.4.14"
GOOGLE_INSTRUMENTATIONS: Final = {
    "all": _google("all", "google-genai==2.34.0", OTEL_GOOGLE, OPENLLMETRY_GOOGLE, OPENINFERENCE_GOOGLE),
    "otel": _google("otel", "google-genai==2.34.0", OTEL_GOOGLE),
    "openllmetry": _google("openllmetry", "google-genai==3.4.0", OPENLLMETRY_GOOGLE),
    "openinference": _google("openinference", "google-genai==3.4.0", OPENINFERENCE_GOOGLE),
}
"""OpenTelemetry's own is for `google-genai` before 3."""

REST_INSTRUMENTATIONS: Final = {
    name: Environment(f"interop-rest-{name}", packages, (*SDK, *INTEROP), editable=True)
    for name, packages in (
        (
            "openinference",
            (
                "mistralai==3.7.0",
                "cohere==7.3.1",
                "openinference-instrumentation-mistralai==2.2.2",
                "openinference-instrumentation-cohere==0.1.15",
            ),
        ),
        (
            "openllmetry",
            (
                "mistralai==1.12.4",
                "cohere==7.3.1",
                "opentelemetry-instrumentation-mistralai==0.62.4",
                "opentelemetry-instrumentation-cohere==0.62.4",
            ),
        ),
    )
}
"""OpenLLMetry knows version 1 of `mistralai` only. The library's own tracing is there in both."""

LANGCHAIN: Final = (
    *("langchain-core==1.7.2", "langchain==1.4.7", "langchain-mistralai==1.1.6"),
    *("langchain-openai==1.7.3", "langchain-anthropic==1.7.7"),
)
OF_LANGCHAIN: Final[dict[str, tuple[str, ...]]] = {
    "openinference": ("openinference-instrumentation-langchain==0.1.80",),
    "openllmetry": ("opentelemetry-instrumentation-langchain==0.62.4",),
}
OF_LANGCHAIN["all"] = (*OF_LANGCHAIN["openinference"], *OF_LANGCHAIN["openllmetry"], OPENINFERENCE[0])
LANGCHAIN_INSTRUMENTATIONS: Final = {
    name: Environment(f"interop-langchain-{name}", (*LANGCHAIN, *packages), (*SDK, *INTEROP), editable=True)
    for name, packages in OF_LANGCHAIN.items()
}
"""What follows LangChain's callbacks; OpenLLMetry's is not loaded without `langchain` itself."""

COMPATIBLE_INSTRUMENTATIONS: Final = {
    "openllmetry": Environment(
        "interop-compatible-openllmetry",
        (
            "groq==1.7.0",
            "ollama==0.6.3",
            "opentelemetry-instrumentation-groq==0.62.4",
            "opentelemetry-instrumentation-ollama==0.62.4",
        ),
        (*SDK, *INTEROP),
    ),
    "openinference": Environment(
        "interop-compatible-openinference",
        (
            "groq==1.7.0",
            "litellm==1.106.2",
            "openinference-instrumentation-groq==0.1.33",
            "openinference-instrumentation-litellm==0.1.51",
        ),
        (*SDK, *INTEROP),
    ),
}
"""For `make bench`."""

OTHER_INSTRUMENTATIONS: Final = {
    "sdk": _interop("sdk"),
    "genai": _interop("genai", *GENAI),
    "openllmetry": _interop("openllmetry", *OPENLLMETRY),
    "openinference": _interop("openinference", *OPENINFERENCE),
    "all": _interop("all", *GENAI, *OPENLLMETRY, *OPENINFERENCE),
}
"""`sdk` has the Anthropic SDK's own tracing alone; the others have it too."""
TREE: Final = _interop(
    "tree", *GENAI, *OPENINFERENCE, "langchain-core==1.7.2", "langgraph==1.2.22", "langchain-anthropic==1.7.7"
)
"""Two instrumentations of the client, the client's own tracing, and a framework above."""


def _framework(name: str, *packages: str) -> Environment:
    return Environment(f"framework-{name}", packages)


FRAMEWORKS: Final[dict[str, tuple[Environment, ...]]] = {
    "langchain": (
        _framework(
            "langchain-oldest",
            "langchain-core==0.3.63",
            "langchain-openai==0.3.18",
            "langgraph==0.4.7",
            "langgraph-checkpoint==2.0.26",
            "langgraph-prebuilt==0.2.1",
            "openai==1.82.0",
        ),
        _framework(
            "langchain", "langchain-core==1.7.2", "langchain-openai==1.7.3", "langgraph==1.2.22", "openai==3.54.0"
        ),
    ),
    "openai_agents": (
        _framework("openai-agents-oldest", "openai-agents==0.1.0", "openai==1.87.0"),
        _framework("openai-agents", "openai-agents==0.24.0", "openai==3.54.0"),
    ),
    "pydantic_ai": (
        _framework("pydantic-ai-oldest", "pydantic-ai-slim[openai]==1.40.0", "openai==3.54.0"),
        _framework("pydantic-ai", "pydantic-ai-slim[openai]==2.68.0", "openai==3.54.0"),
    ),
    "llama_index": (
        _framework(
            "llama-index-oldest",
            "llama-index-core==0.13.0",
            "llama-index-llms-openai==0.5.0",
            "llama-index-embeddings-openai==0.5.0",
            "openai==1.99.9",
        ),
        _framework(
            "llama-index",
            "llama-index-core==0.14.25",
            "llama-index-llms-openai==0.8.3",
            "llama-index-embeddings-openai==0.7.0",
            "openai==2.54.0",
        ),
    ),
    # Versions before demand an OpenTelemetry older than ours.
    "crewai": (
        _framework("crewai-oldest", "crewai==1.15.25", "openai==2.54.0"),
        _framework("crewai", "crewai==1.15.30", "openai==2.54.0"),
    ),
    "mcp": (
        _framework("mcp-oldest", "mcp==1.9.0", "pydantic==2.11.7", "openai==3.54.0"),
        _framework("mcp", "mcp==2.3.0", "openai==3.54.0"),
    ),
}
"""Framework → its oldest supported version and the newest."""

OTLP: Final = ("opentelemetry-exporter-otlp-proto-http", *SDK)


def _producer(name: str, *packages: str, like_ours: tuple[str, ...] = OTLP) -> Environment:
    return Environment(f"producer-{name}", packages, like_ours)


_OPENAI_AND_ANTHROPIC: Final = ("openai==3.54.0", "anthropic==2.12.0")
_OLDER_OTLP: Final = ("opentelemetry-sdk==1.45.1", "opentelemetry-exporter-otlp-proto-http==1.45.1")
PRODUCERS: Final = {
    "otel": _producer("otel", *_OPENAI_AND_ANTHROPIC, *GENAI),
    "otel_old": _producer(
        "otel-old",
        "openai==1.109.1",
        "opentelemetry-instrumentation-openai-v2==2.1b0",
        "opentelemetry-sdk==1.28.2",
        "opentelemetry-exporter-otlp-proto-http==1.28.2",
        like_ours=(),
    ),
    "otel_bedrock": _producer("otel-bedrock", "boto3==1.44.5", "opentelemetry-instrumentation-genai-bedrock==1.3b0"),
    "botocore": _producer("botocore", "boto3==1.44.5", "opentelemetry-instrumentation-botocore==0.66b2"),
    "anthropic_sdk": _producer("anthropic-sdk", "anthropic==2.12.0"),
    "openllmetry": _producer("openllmetry", *_OPENAI_AND_ANTHROPIC, *OPENLLMETRY),
    "openllmetry_old": _producer(
        "openllmetry-old",
        "openai==1.59.9",
        "anthropic==0.42.0",
        "httpx<0.28",
        "opentelemetry-instrumentation-openai==0.33.12",
        "opentelemetry-instrumentation-anthropic==0.33.12",
        "opentelemetry-sdk==1.28.2",
        "opentelemetry-exporter-otlp-proto-http==1.28.2",
        like_ours=(),
    ),
    "traceloop": _producer(
        "traceloop", *_OPENAI_AND_ANTHROPIC, "traceloop-sdk==0.62.4", "httpx==0.28.1", *_OLDER_OTLP, like_ours=()
    ),
    "openinference": _producer("openinference", *_OPENAI_AND_ANTHROPIC, *OPENINFERENCE),
    "openinference_bedrock": _producer("openinference-bedrock", "boto3==1.44.5", OPENINFERENCE_BEDROCK),
    "openlit": _producer(
        "openlit", "openai==2.54.0", "anthropic==0.125.0", "openlit==1.45.0", *_OLDER_OTLP, like_ours=()
    ),
    "logfire": _producer("logfire", *_OPENAI_AND_ANTHROPIC, "logfire==5.2.0"),
    "langfuse": _producer("langfuse", "openai==3.54.0", "langfuse==5.0.4"),
    "litellm": _producer("litellm", "litellm==1.106.2", "mcp==2.3.0"),
    "pydantic_ai": _producer("pydantic-ai", *_OPENAI_AND_ANTHROPIC, "pydantic-ai-slim==2.68.0"),
    "azure_ai": _producer("azure-ai", "azure-ai-inference==1.0.0b9", "azure-core-tracing-opentelemetry==1.0.0b13"),
}
"""Producers of usage that are not ours, the newest of each; two of old, for the names of those days."""

EVERY_PRODUCER: Final = Environment(
    "producer-every",
    (
        *_OPENAI_AND_ANTHROPIC,
        *GENAI,
        *OPENLLMETRY,
        *OPENINFERENCE,
        "logfire==5.2.0",
        "langfuse==5.0.4",
    ),
    OTLP,
    editable=True,
)
"""As many as go together, and ours."""

WEB: Final = Environment(
    "web",
    (
        "celery==5.7.0",
        "fastapi==0.165.0",
        "flask==3.1.3",
        "django==5.2.19",
        "gunicorn==27.0.1",
        "uvicorn==0.54.0",
        "openai==3.54.0",
        "opentelemetry-sdk==1.45.1",
        "opentelemetry-distro==0.66b1",
        "opentelemetry-exporter-otlp-proto-http==1.45.1",
        *(
            f"opentelemetry-instrumentation-{name}==0.66b1"
            for name in ("celery", "django", "fastapi", "flask", "httpx", "threading", "wsgi", "asgi")
        ),
    ),
    (),
    editable=True,
)
"""Web frameworks and a queue, with OpenTelemetry's instrumentations of them, which want the rest in one version."""

CHDB: Final = Environment("chdb", ("chdb==4.4.0", "chdb-core==26.9.0"), (), alone=True)
"""ClickHouse in a process; without pandas and pyarrow, which only its DataFrames need."""

ROTEL: Final = Environment("rotel", ("rotel==0.0.1a15",), (), alone=True)
"""A collector that is not the OpenTelemetry Collector; a binary in a wheel."""

KUBERNETES: Final = Environment("kubernetes", ("kubernetes-validate==1.37.0",), ())
"""The schemas of Kubernetes, of many versions."""

if __name__ == "__main__":
    # python -m tests.environments: the interpreter of WEB, for `make two-services`.
    print(WEB.python())
