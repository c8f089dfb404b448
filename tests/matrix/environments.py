"""Environments with old client libraries, made on demand under `.tools/envs` and kept."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Environment:
    """One version of each client library."""

    name: str
    openai: str
    anthropic: str
    more: tuple[str, ...] = ()
    """Other packages these versions need."""

    @property
    def is_own(self) -> bool:
        """True when the environment of the test suite has just these versions."""
        return (version("openai"), version("anthropic")) == (self.openai, self.anthropic)

    def requirements(self) -> list[str]:
        """What is installed; the packages of OpenTelemetry are those of the test suite."""
        own = ("opentelemetry-sdk", "opentelemetry-instrumentation")
        return [
            f"openai=={self.openai}",
            f"anthropic=={self.anthropic}",
            *self.more,
            *(f"{package}=={version(package)}" for package in own),
        ]

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


ENVIRONMENTS: Final = (
    Environment("oldest", "1.40.0", "0.40.0", ("httpx<0.28",)),
    Environment("last-1", "1.109.1", "0.125.0"),
    Environment("first-2", "2.0.0", "1.0.0"),
    Environment("last-2", "2.54.0", "1.17.0"),
    Environment("first-3", "3.0.0", "2.0.0"),
    Environment("newest", "3.54.0", "2.12.0"),
)
"""Oldest supported and newest of each major; the pairs have nothing to do with each other."""
