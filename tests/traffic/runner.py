"""A whole run: the replay server, two processes of the driver (plugin off and on), the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.environments import ROOT, Environment
from tests.traffic.describe import first_difference
from tests.traffic.families import environments
from tests.traffic.judge import Verdict, judge
from tests.traffic.recordings import Exchange, files, load
from tests.traffic.report import Report
from tests.traffic.server import Replay

Environments = Mapping[Environment | None, Sequence[str]]
FORMS: Final = "sync,async,hidden"
EXPLAINED: Final = 12
"""So many differing exchanges are driven again to show where they differ."""


def run(place: Path, *, forms: str = FORMS, providers: str | None = None) -> Report:
    """Drive every exchange found at `place`."""
    found = files(place)
    if not found:
        raise SystemExit(f"no traffic files (*.jsonl.gz) in {place}")
    exchanges = load(found)
    with Replay(exchanges) as server, tempfile.TemporaryDirectory() as scratch:
        labels = providers.split(",") if providers else sorted({exchange.provider for exchange in exchanges})
        seen = _drive(server.url, found, environments(labels), ["--forms", forms], Path(scratch))
        verdicts = _judge(exchanges, forms, *seen)
        differing = [v for v in verdicts if v.problems.keys() & {"values", "broken"}][:EXPLAINED]
        if differing:
            ids = Path(scratch, "ids")
            ids.write_text("\n".join({verdict.exchange.id for verdict in differing}))
            narrowed = ["--forms", forms, "--only", str(ids)]
            _explain(differing, *_drive(server.url, found, environments(labels), narrowed, Path(scratch)))
    return Report(verdicts, seen[1]["end", ""]["end"])


Lines = Mapping[tuple[str, str], Mapping[str, Any]]


def _drive(
    url: str, found: Sequence[Path], wanted: Environments, narrowed: Sequence[str], scratch: Path
) -> tuple[Lines, Lines]:
    """Run the driver without and with the plugin, side by side, in one environment after the other."""
    lines: dict[str, dict[tuple[str, str], Mapping[str, Any]]] = {"off": {}, "on": {}}
    for environment, labels in wanted.items():
        python = sys.executable if environment is None else str(environment.python())
        running: list[tuple[str, subprocess.Popen[bytes], Path]] = []
        for mode in lines:
            out = scratch / f"{mode}.jsonl"
            command = [python, "-m", "tests.traffic.driver", "--url", url, "--out", str(out), *narrowed]
            command += ["--providers", ",".join(labels), *(["--plugin"] if mode == "on" else [])]
            process = subprocess.Popen([*command, *map(str, found)], cwd=ROOT, env=_environment(url))
            running.append((mode, process, out))
        for mode, process, out in running:
            if process.wait() != 0:
                raise SystemExit(f"the driver failed: {process.args}")
            _read(out, lines[mode])
    return lines["off"], lines["on"]


def _environment(url: str) -> dict[str, str]:
    """Of the driver: nothing of the user's OpenTelemetry or plugin settings; the replay server is the only proxy."""
    kept = {k: v for k, v in os.environ.items() if not k.upper().startswith(("OTEL_", "GENAI_METER_"))}
    kept = {k: v for k, v in kept.items() if not k.upper().endswith("_PROXY")}
    return {**kept, "http_proxy": url, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'instrumentation'}"}


def _read(out: Path, lines: dict[tuple[str, str], Mapping[str, Any]]) -> None:
    with out.open() as written:
        for text in written:
            line = json.loads(text)
            if "end" not in line:
                lines[line["id"], line["form"]] = line
                continue
            before = lines.get(("end", ""), {}).get("end", {})
            merged = {
                name: _more(before[name], value) if name in before else value for name, value in line["end"].items()
            }
            lines["end", ""] = {"end": merged}


def _more(before: Any, value: Any) -> Any:
    """What was left at the end of several processes."""
    if before is None:
        return value
    return before | value if isinstance(value, dict) else before + value


def _judge(exchanges: Sequence[Exchange], forms: str, without: Lines, with_plugin: Lines) -> list[Verdict]:
    return [
        judge(exchange, form, without[exchange.id, form], with_plugin[exchange.id, form])
        for form in forms.split(",")
        for exchange in exchanges
        if (exchange.id, form) in with_plugin
    ]


def _explain(verdicts: Sequence[Verdict], without: Lines, with_plugin: Lines) -> None:
    """Add to each difference the place where it is."""
    for verdict in verdicts:
        key = (verdict.exchange.id, verdict.form)
        place = first_difference(without[key]["items"], with_plugin[key]["items"])
        for problem in verdict.problems.keys() & {"values", "broken"}:
            verdict.problems[problem] += f": {place}"
