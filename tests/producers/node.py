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

VERCEL: Final[Mapping[str, Mapping[str, str]]] = {
    "7": {
        "ai": "7.0.173",
        "@ai-sdk/otel": "1.0.173",
        "@ai-sdk/openai": "3.0.141",
        "@ai-sdk/anthropic": "3.0.139",
        "zod": "4.6.7",
    },
    "4": {"ai": "4.3.19", "@ai-sdk/openai": "1.3.24", "@ai-sdk/anthropic": "1.2.12", "zod": "3.25.76"},
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
