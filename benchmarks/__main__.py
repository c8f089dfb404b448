"""Runs every benchmark in processes of its own, writes RESULTS.md, and fails when a goal is missed."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from benchmarks import report

ROOT: Final = Path(__file__).resolve().parent.parent
RESULTS: Final = Path(__file__).with_name("RESULTS.md")
GENERATIONS: Final = ("both", "latest", "legacy")


def child(module: str, *arguments: object, **variables: str) -> Any:
    """Run one benchmark; what it measured."""
    print(f"{module} {' '.join(map(str, arguments))} {' '.join(f'{k}={v}' for k, v in variables.items())}", flush=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL", "GENAI_METER"))}
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)],
        cwd=ROOT,
        env={**kept, **variables},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def machine() -> str:
    cpu = next((line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")), "")
    packages = ", ".join(f"{name} {version(name)}" for name in ("opentelemetry-sdk", "openai", "anthropic"))
    cores = f"{os.cpu_count()} × {cpu or platform.machine()}"
    load = os.getloadavg()[0]
    return f"{cores}, load {load:.1f}, Python {platform.python_version()}, {packages}, {datetime.now(UTC):%Y-%m-%d}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What metering costs.")
    parser.add_argument("--rounds", type=int, default=64, help="turns of each variant (default 64)")
    parser.add_argument("--calls", type=int, default=50_000, help="calls of the memory run (default 50,000)")
    options = parser.parse_args()
    seen = machine()
    results = {
        "book": child("book"),
        "startup": child("startup", max(5, options.rounds // 3)),
        "calls": [child("calls", options.rounds, GENAI_METER_SEMCONV=name) for name in GENERATIONS],
        "families": child("families", max(6, options.rounds // 6)),
        "memory": child("memory", options.calls),
        "ingest": child("ingest"),
        "budgets": child("budgets"),
    }
    text = report.render(results, seen, "make bench")
    RESULTS.write_text(text)
    print("\n" + text)
    missed = [goal for goal in report.goals(results) if not goal.met]
    for goal in missed:
        print(f"missed: {goal.what}: {goal.measured}, goal {goal.goal}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
