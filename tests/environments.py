"""Environments with pinned packages beside the test suite's own, made on demand under `.tools/envs` and kept.

A name, what is in it, no more: `Environment("clients", (...)).python()` is its interpreter. Whoever needs another
one adds a row below.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
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

    @property
    def is_own(self) -> bool:
        """True when the environment of the test suite is used."""
        return self.own and all(_installed(pin) for pin in self.packages)

    def version_of(self, package: str) -> str:
        """The pinned version of one of its packages."""
        return next(version for name, _, version in (pin.partition("==") for pin in self.packages) if name == package)

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
            wanted = "\n".join(self.requirements())
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
        for command in (
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place)],
            [uv, "pip", "install", "--quiet", "--python", python, *self.requirements()],
        ):
            subprocess.run(command, check=True, capture_output=True, text=True, env=variables)


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
LITELLM: Final = Environment("litellm", ("litellm==1.106.2",))
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
    "compatible-oldest", ("groq==0.9.0", "together==2.0.0", "cerebras-cloud-sdk==1.0.0", "httpx<0.28")
)

MATRIX: Final[dict[str, tuple[Environment, ...]]] = {
    "openai": OPENAI_ANTHROPIC,
    "anthropic": OPENAI_ANTHROPIC,
    "botocore": BOTOCORE,
    "aiobotocore": AIOBOTOCORES,
    "groq": (COMPATIBLE_OLDEST, CLIENTS),
    "together": (COMPATIBLE_OLDEST, CLIENTS),
    "cerebras": (COMPATIBLE_OLDEST, CLIENTS),
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


OTHER_INSTRUMENTATIONS: Final = {
    "sdk": _interop("sdk"),
    "genai": _interop("genai", *GENAI),
    "openllmetry": _interop("openllmetry", *OPENLLMETRY),
    "openinference": _interop("openinference", *OPENINFERENCE),
    "all": _interop("all", *GENAI, *OPENLLMETRY, *OPENINFERENCE),
}
"""`sdk` has the Anthropic SDK's own tracing alone; the others have it too."""
