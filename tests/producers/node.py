"""Environments of Node with pinned packages, made on demand beside those of Python."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.environments import ROOT

_OTEL: Final = {
    "@opentelemetry/api": "1.9.1",
    "@opentelemetry/exporter-trace-otlp-proto": "0.223.1",
    "@opentelemetry/resources": "2.12.1",
    "@opentelemetry/sdk-trace-node": "2.12.0",
}

_PACKAGES: Final = (
    *("openai", "azure", "anthropic", "google", "google-vertex", "amazon-bedrock", "mistral", "cohere"),
    *("groq", "deepseek", "xai", "perplexity", "togetherai"),
)


def _vercel(core: Mapping[str, str], versions: str) -> dict[str, str]:
    """The packages of a version; `versions` in the order of `_PACKAGES`."""
    packages = zip(_PACKAGES, versions.split(), strict=True)
    return {**core, **{f"@ai-sdk/{name}": version for name, version in packages}}


VERCEL: Final[Mapping[str, Mapping[str, str]]] = {
    "7": _vercel(
        {"ai": "7.0.173", "@ai-sdk/otel": "1.0.173", "zod": "4.6.7"},
        "4.0.118 4.0.85 4.0.105 4.0.121 5.0.141 5.0.101 4.0.87 4.0.52 4.0.84 3.0.56 5.0.12 4.0.49 3.0.54",
    ),
    "6": _vercel(
        {"ai": "6.0.326", "zod": "4.6.7"},
        "3.0.141 3.0.128 3.0.139 3.0.141 4.0.208 4.0.186 3.0.69 3.0.63 3.0.71 2.0.69 3.0.138 3.0.61 2.0.84",
    ),
    "5": _vercel(
        {"ai": "5.0.277", "zod": "4.6.7"},
        "2.0.131 2.0.138 2.0.112 2.0.108 3.0.187 3.0.137 2.0.51 2.0.44 2.0.56 1.0.60 2.0.98 2.1.1 1.0.61",
    ),
    "4": _vercel(
        {"ai": "4.3.19", "zod": "3.25.76"},
        "1.3.24 1.3.25 1.2.12 1.2.22 2.2.27 2.2.12 1.2.8 1.2.10 1.2.9 0.2.16 1.2.18 1.1.9 0.2.16",
    ),
}
"""Version of the Vercel AI SDK → its packages."""


def modules(name: str, packages: Mapping[str, str]) -> Path:
    """A directory with these packages in it; makes it when it is not there yet."""
    place = ROOT / ".tools" / "envs" / f"producer-{name}"
    place.mkdir(parents=True, exist_ok=True)
    wanted = json.dumps({"private": True, "type": "module", "dependencies": {**_OTEL, **packages}}, indent=1)
    with (place.parent / f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ready = place / "ready.json"
        if not ready.exists() or ready.read_text() != wanted:
            npm = shutil.which("npm")
            if npm is None:
                raise FileNotFoundError("npm is not on the PATH")
            (place / "package.json").write_text(wanted)
            command = [npm, "install", "--no-audit", "--no-fund", "--silent"]
            subprocess.run(command, cwd=place, check=True, capture_output=True, text=True)
            ready.write_text(wanted)
    return place
