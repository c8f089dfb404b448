"""What the installed plugin adds to the start of every process under `opentelemetry-instrument`.

Two virtualenvs are made of links to this one's packages, one without ours; whole processes are
timed by the CPU they used, in turns.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path
from typing import Any, Final

CLIENTS: Final = ("openai", "anthropic", "httpx", "httpx2", "pydantic", "genai_prices")
INSTRUMENT: Final = "from opentelemetry.instrumentation.auto_instrumentation import run; run()"


def environment(directory: Path, *, ours: bool) -> Path:
    """A virtualenv with links to this one's packages; its interpreter."""
    venv.create(directory, symlinks=True, with_pip=False)
    python = directory / "bin" / "python"
    target = next((directory / "lib").glob("python3*/site-packages"))
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if ours or not entry.name.lstrip("_").startswith("genai_meter"):
            (target / entry.name).symlink_to(entry)
    return python


def cpu_of(python: Path, code: str) -> float:
    """CPU seconds of `opentelemetry-instrument python -c code`, launcher included."""
    quiet = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL", "PYTHON"))}
    command = [str(python), "-c", INSTRUMENT, str(python), "-c", code]
    child = subprocess.Popen(command, env={**kept, **quiet})
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"start-up failed with {child.returncode}: {' '.join(command)}")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    rounds = int(sys.argv[1])
    loaded = f"import sys; sys.exit(bool({set(CLIENTS)!r} & set(sys.modules)))"
    with tempfile.TemporaryDirectory() as directory:
        pythons = {name: environment(Path(directory) / name, ours=name == "with") for name in ("without", "with")}
        figures: dict[str, list[float]] = {name: [] for name in pythons}
        for python in pythons.values():
            # The first runs also compile; and no client library may be there afterwards.
            cpu_of(python, loaded)
        cpu_of(pythons["with"], "import sys; assert 'genai_meter.instrumentor' in sys.modules")
        for number in range(rounds):
            for name in list(pythons) if number % 2 else list(reversed(pythons)):
                figures[name].append(cpu_of(pythons[name], "pass"))
    added = [ours - base for ours, base in zip(figures["with"], figures["without"], strict=True)]
    report: dict[str, Any] = {name: statistics.median(values) for name, values in figures.items()}
    # Other load only ever adds.
    report["added"] = min(figures["with"]) - min(figures["without"])
    report["spread"] = (statistics.quantiles(added, n=4)[2] - statistics.quantiles(added, n=4)[0]) / 2
    print(json.dumps(report))


if __name__ == "__main__":
    main()
