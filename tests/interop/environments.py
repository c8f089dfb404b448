"""Environments with other instrumentations, made on demand under `.tools/envs` and kept."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

from matrix.environments import ROOT, Environment


@dataclass(frozen=True)
class Interop(Environment):
    """Today's client libraries, this checkout, and other instrumentations."""

    @property
    def is_own(self) -> bool:
        """Never: the test suite's environment has no other instrumentation."""
        return False

    def requirements(self) -> list[str]:
        """What is installed; the packages of OpenTelemetry are those of the test suite."""
        own = ("opentelemetry-distro", "opentelemetry-exporter-otlp-proto-http")
        return [
            *Environment.requirements(self),
            *(f"{package}=={version(package)}" for package in own),
            "-e",
            str(ROOT),
        ]


GENAI: Final = (
    "opentelemetry-instrumentation-genai-openai==1.3b0",
    "opentelemetry-instrumentation-genai-anthropic==1.3b0",
)
OPENLLMETRY: Final = ("opentelemetry-instrumentation-openai==0.62.4", "opentelemetry-instrumentation-anthropic==0.62.4")
OPENINFERENCE: Final = (
    "openinference-instrumentation-openai==0.1.66",
    "openinference-instrumentation-anthropic==3.1.0",
)


def _interop(name: str, *packages: str) -> Interop:
    return Interop(f"interop-{name}", "3.54.0", "2.12.0", packages)


ENVIRONMENTS: Final = {
    "sdk": _interop("sdk"),
    "genai": _interop("genai", *GENAI),
    "openllmetry": _interop("openllmetry", *OPENLLMETRY),
    "openinference": _interop("openinference", *OPENINFERENCE),
    "all": _interop("all", *GENAI, *OPENLLMETRY, *OPENINFERENCE),
}
"""`sdk` has the Anthropic SDK's own tracing alone; the others have it too."""
