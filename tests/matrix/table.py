"""Runs an environment in every mode and says, scenario by scenario, what is not as it should be."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from tests.environments import ROOT, Environment

from .scenario import SCENARIOS, Scenario

ABSENT: Final = "(absent)"
MODES: Final = ("off", "on", "chaos1", "chaos2")
PROCESSES: Final = (("on",), ("off", "chaos1", "chaos2"))
"""`on` patches libraries that are yet to be imported, the others in a fork of a process that has them."""
FORKED: Final = MODES
"""All in forks of one process: the libraries are imported once."""

Column: TypeAlias = dict[str, tuple[str, list[str]]]
"""Scenario → verdict, and what is wrong."""


def play(
    environment: Environment, names: Iterable[str], modes: Iterable[str], directory: Path
) -> dict[str, dict[str, Any]]:
    """The results of some families in some modes, all in one process, in one environment."""
    place = directory / environment.name
    paths = os.pathsep.join([str(ROOT), str(ROOT / "instrumentation")])
    variables = {
        k: v for k, v in os.environ.items() if not k.startswith(("GENAI_METER_", "OTEL_", "OPENAI_", "ANTHROPIC_"))
    }
    subprocess.run(
        [str(environment.python()), "-m", "tests.matrix.child", ",".join(modes), str(place), *names],
        check=True,
        cwd=ROOT,
        # Bytecode is kept: to compile a library takes longer than to run it.
        env={**variables, "PYTHONPATH": paths, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONDONTWRITEBYTECODE": ""},
        timeout=900,
    )
    return {mode: json.loads(Path(f"{place}-{mode}.json").read_text()) for mode in modes}


def judge(scenario: Scenario, by_mode: Mapping[str, Any]) -> list[str]:
    """What is wrong with one scenario; empty when nothing is."""
    off, on = by_mode["off"], by_mode["on"]
    wrong = [
        f"{mode}: the caller sees another {part}: {difference(off[part], by_mode[mode][part])}"
        for mode in MODES[1:]
        for part in ("value", "sent", "attempts")
        if not (scenario.resent and part == "attempts") and off[part] != by_mode[mode][part]
    ]
    if off["value"] != "n/a":
        wrong += _judge_records(scenario, on)
        if scenario.statuses and not by_mode["chaos1"]["errors"]:
            wrong.append("chaos1: nothing was broken")
        if scenario.statuses and not by_mode["chaos2"]["errors"]:
            wrong.append("chaos2: nothing was broken")
    return wrong


def _judge_records(scenario: Scenario, on: Any) -> Iterable[str]:
    """What is wrong with what was metered."""
    records = on["records"]
    statuses, wanted = sorted(record["status"] for record in records), sorted(scenario.statuses)
    if len(statuses) != len(wanted) or any(a not in b.split("|") for a, b in zip(statuses, wanted, strict=True)):
        yield f"on: ended {statuses}, not {wanted}"
        return
    if on["errors"] or on["complaints"]:
        yield f"on: {on['errors']} {on['complaints']}"
    spans = sorted(record["span"] for record in records)
    if len(set(spans)) != len(records) or not set(spans) <= set(on["spans"]):
        yield f"on: {len(set(spans))} spans for {len(records)} calls"
    if len(on["spans"]) != len(set(on["spans"])):
        yield "on: a span ended twice"
    if [record["attempts"] for record in records] != [scenario.attempts] * len(records) and not scenario.resent:
        yield f"on: attempts {[record['attempts'] for record in records]}, not {scenario.attempts}"
    if scenario.exact:
        told = sorted(usage for usage in on["reported"] if usage is not None)
        read = sorted([record["input"], record["output"]] for record in records if record["source"] == "provider")
        if told != read:
            yield f"on: usage {read}, reported {told}"


def difference(one: Any, other: Any, path: str = "") -> str:
    """The first place where two values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        these, those = cast(dict[str, Any], one), cast(dict[str, Any], other)
        for key in [*these, *(key for key in those if key not in these)]:
            if these.get(key, ABSENT) != those.get(key, ABSENT):
                return difference(these.get(key, ABSENT), those.get(key, ABSENT), f"{path}.{key}")
    if isinstance(one, list) and isinstance(other, list):
        for index, (a, b) in enumerate(zip(cast(list[Any], one), cast(list[Any], other), strict=False)):
            if a != b:
                return difference(a, b, f"{path}[{index}]")
    return f"{path or 'value'}: {repr(one)[:300]} / {repr(other)[:300]}"  # pyright: ignore[reportUnknownArgumentType]


def verdicts(family: str, by_mode: Mapping[str, Mapping[str, Any]]) -> Column:
    """`ok`, `n/a` or `FAIL` for every scenario of a family, with what is wrong."""
    result: Column = {}
    for scenario in scenarios(family):
        results = {mode: by_mode[mode][f"{family}: {scenario.name}"] for mode in by_mode}
        wrong = judge(scenario, results)
        result[scenario.name] = ("FAIL" if wrong else "n/a" if results["off"]["value"] == "n/a" else "ok", wrong)
    return result


def scenarios(family: str) -> list[Scenario]:
    """What is declared of a family."""
    return [scenario for scenario in SCENARIOS if scenario.library == family]


def table(family: str, columns: Mapping[str, Column]) -> str:
    """The scenarios of a family down, its versions across."""
    names = [scenario.name for scenario in scenarios(family)]
    width, widths = max(map(len, [family, *names])), [max(len(head), 4) for head in columns]
    lines = [f"{family:{width}}  " + "  ".join(head.ljust(w) for head, w in zip(columns, widths, strict=True))]
    for name in names:
        cells = [column[name][0].ljust(w) for column, w in zip(columns.values(), widths, strict=True)]
        lines.append(f"{name.ljust(width)}  {'  '.join(cells)}".rstrip())
    for head, column in columns.items():
        counts = [sum(1 for verdict, _ in column.values() if verdict == kind) for kind in ("ok", "n/a", "FAIL")]
        lines.append(f"{family} {head}: {counts[0]} ok, {counts[1]} n/a, {counts[2]} FAIL")
    return "\n".join(lines)
