"""Real frameworks, oldest and newest supported version: what flows into the attribution of the calls made underneath.

Each case runs without and with the plug-in: what the framework returns is the same, every request served is one event,
and each event says what it should. Ids that the framework makes up are numbered by appearance.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
from environments import FRAMEWORKS, ROOT, Environment

from examples.provider import Provider

RUN: Final = "00000000-0000-4000-8000-00000000000a"
TRACE: Final = "trace_" + "a" * 32
NOTHING: Final[dict[str, str]] = {}

_DESK = {"workflow": "desk", "run_id": RUN, "conversation_id": "t1"}
_GRAPH = [
    {**_DESK, "step": "front"},
    {**_DESK, "step": "agent", "agent": "research"},
    {**_DESK, "step": "tools", "agent": "research", "tool": "weather"},
    {**_DESK, "step": "agent", "agent": "research"},
]
_SUMMARY = {"workflow": "summary", "run_id": RUN}
LANGCHAIN = {
    "chain": [{**_SUMMARY, "session_id": "s1"}],
    "chain_async": [_SUMMARY],
    "chain_stream": [NOTHING, _SUMMARY],
    "chain_stream_async": [_SUMMARY],
    "batch": [{"workflow": "many", "run_id": f"run {n}"} for n in (1, 2, 3)],
    "graph": _GRAPH,
    "graph_async": _GRAPH,
    "graph_stream": _GRAPH,
    "rag": [{**_SUMMARY, "documents": 2}, _SUMMARY],
    "explicit": [{"workflow": "mine", "run_id": "r1"}],
    "fails": [_SUMMARY],
    "alone": [NOTHING, NOTHING],
}

_TRACED = {"workflow": "desk", "run_id": TRACE, "conversation_id": "thread-1"}
_HELPED = [
    {**_TRACED, "agent": "helper"},
    {**_TRACED, "agent": "helper", "tool": "weather"},
    {**_TRACED, "agent": "helper"},
]
OPENAI_AGENTS = {
    "run": [{**_TRACED, "agent": "writer"}],
    "run_sync": [{**_TRACED, "agent": "writer"}],
    "tool": _HELPED,
    "agent_as_tool": [
        {**_TRACED, "agent": "boss"},
        {**_TRACED, "agent": "writer", "tool": "write"},
        {**_TRACED, "agent": "boss"},
    ],
    "streamed": _HELPED,
    "untraced": _HELPED,
    "one_trace_two_runs": [
        {"workflow": "both", "run_id": "run 1", "conversation_id": "thread-2", "agent": "writer"} for _ in range(2)
    ],
    "explicit": [{**_TRACED, "workflow": "mine", "agent": "me"}],
    "concurrent": [{"workflow": f"flow {n}", "run_id": f"run {n + 1}", "agent": "writer"} for n in range(3)],
}


def _agent(name: str, run: int = 1, **more: str) -> dict[str, str]:
    return {"workflow": name, "agent": name, "run_id": f"run {run}", **more}


PYDANTIC_AI = {
    "run": [_agent("writer")],
    "run_sync": [_agent("writer")],
    "tool": [_agent("helper"), _agent("helper", tool="weather"), _agent("helper")],
    "agent_in_tool": [
        _agent("boss"),
        {**_agent("boss"), "agent": "writer", "tool": "write"},
        _agent("boss"),
    ],
    "streamed": [_agent("writer")],
    "iterated": [{"run_id": "run 1"}],
    "after": [_agent("writer"), NOTHING],
    "concurrent": [_agent("helper", 1), _agent("helper", 1), _agent("helper", 1, tool="weather"), _agent("writer", 2)],
    "explicit": [{"workflow": "mine", "run_id": "r1", "agent": "writer"}],
}

_ENGINE = {"workflow": "RetrieverQueryEngine", "run_id": "run 1"}
_FLOW = {"workflow": "Desk", "run_id": "run 1"}
_FUNCTION_AGENT = {"workflow": "FunctionAgent", "run_id": "run 1", "agent": "helper"}
LLAMA_INDEX = {
    # The first query comes after the index was built, by a call that belongs to no run.
    "query": [NOTHING, _ENGINE, {**_ENGINE, "documents": 2}],
    "query_async": [_ENGINE, {**_ENGINE, "documents": 2}],
    # The model is asked when the caller reads, when the query is over.
    "query_stream": [_ENGINE, NOTHING],
    "workflow": [{**_FLOW, "step": "draft"}, {**_FLOW, "step": "polish"}],
    "agent": [
        {**_FUNCTION_AGENT, "step": "run_agent_step"},
        {**_FUNCTION_AGENT, "step": "call_tool", "tool": "weather"},
        {**_FUNCTION_AGENT, "step": "run_agent_step"},
    ],
    "tagged": [{**_ENGINE, "session_id": "s1"}, {**_ENGINE, "session_id": "s1", "documents": 1}],
    "explicit": [{"workflow": "mine", "run_id": "r1"}, {"workflow": "mine", "run_id": "r1", "documents": 1}],
    "alone": [NOTHING, NOTHING],
}


def _task(role: str, **more: str) -> dict[str, str]:
    return {"workflow": "desk", "run_id": "run 1", "step": f"{role}'s task", "agent": role, **more}


CREWAI = {
    "crew": [_task("writer"), _task("editor")],
    "crew_async": [_task("writer"), _task("editor")],
    "crew_native_async": [_task("writer"), _task("editor")],
    "tool": [_task("writer"), _task("writer", tool="weather"), _task("writer")],
    "flow": [
        {"workflow": "morning", "run_id": "run 1", "step": "brief"},
        {**_task("writer"), "workflow": "morning"},
        {**_task("editor"), "workflow": "morning"},
    ],
    "explicit": [
        {**_task("writer"), "workflow": "mine", "run_id": "r1"},
        {**_task("editor"), "workflow": "mine", "run_id": "r1"},
    ],
    "after": [NOTHING],
}

EXPECTED: Final[dict[str, dict[str, list[dict[str, Any]]]]] = {
    "langchain": LANGCHAIN,
    "openai_agents": OPENAI_AGENTS,
    "pydantic_ai": PYDANTIC_AI,
    "llama_index": LLAMA_INDEX,
    "crewai": CREWAI,
    "mcp": {"tool": [{"tool": "weather", "tenant": "acme"}]},
}
MADE_UP: Final = re.compile(r"(trace_)?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")


def _run(environment: Environment, framework: str, mode: str, url: str, scratch: Path) -> dict[str, Any]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "GENAI_METER_", "OPENAI_", "LANG"))}
    output = scratch / f"{mode}.json"
    done = subprocess.run(
        [environment.python(), "-m", "tests.frameworks.child", framework, mode, url, output],
        cwd=ROOT,
        env={
            **kept,
            "HOME": str(scratch),
            "PYTHONPATH": f"{ROOT / 'instrumentation'}{os.pathsep}{ROOT}",
            "GENAI_METER_BAGGAGE": "tenant",
        },
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(output.read_text())


def _numbered(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events in an order of their own when they ran side by side, with the framework's ids numbered."""
    numbers: dict[str, str] = {}
    told: list[dict[str, Any]] = []
    for event in events:
        kept = {name: value for name, value in event.items() if name != "operation"}
        if MADE_UP.fullmatch(kept.get("conversation_id", "")):
            del kept["conversation_id"]
        run = kept.get("run_id", "")
        if run not in (RUN, TRACE) and MADE_UP.fullmatch(run):
            kept["run_id"] = numbers.setdefault(run, f"run {len(numbers) + 1}")
        told.append(kept)
    return told


SIDE_BY_SIDE: Final = {"concurrent", "batch"}


def _sorted(case: str, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def key(event: dict[str, Any]) -> tuple[str, ...]:
        return (event.get("workflow", ""), event.get("tool", ""), event.get("run_id", ""))

    return sorted(events, key=key) if case in SIDE_BY_SIDE else events


def _check(framework: str, environment: Environment, provider: Provider, scratch: Path) -> None:
    off = _run(environment, framework, "off", provider.url, scratch)
    provider.reset()
    on = _run(environment, framework, "on", provider.url, scratch)
    assert on["errors"] == {}
    assert on["cases"].keys() == EXPECTED[framework].keys()
    for case, found in on["cases"].items():
        assert found["result"] == off["cases"][case]["result"], case
        assert len(found["spans"]) == len(found["events"]), case
        assert _numbered(_sorted(case, found["events"])) == EXPECTED[framework][case], case
    assert sum(len(found["events"]) for found in on["cases"].values()) == len(provider.served)


HEAVY: Final = {"crewai", "llama_index"}
"""Their import alone takes seconds."""


@pytest.mark.parametrize(
    "framework", [pytest.param(name, marks=[pytest.mark.slow] if name in HEAVY else []) for name in EXPECTED]
)
def test_newest(framework: str, provider: Provider, tmp_path: Path) -> None:
    _check(framework, FRAMEWORKS[framework][-1], provider, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("framework", EXPECTED)
def test_oldest(framework: str, provider: Provider, tmp_path: Path) -> None:
    _check(framework, FRAMEWORKS[framework][0], provider, tmp_path)
