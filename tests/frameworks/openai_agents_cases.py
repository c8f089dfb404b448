# pyright: basic, reportMissingImports=false
"""OpenAI Agents SDK: runs, tools that call, agents as tools; its tracing on and off, its processors gone."""

from __future__ import annotations

import asyncio
from typing import Any

import agents
import openai
from agents import Agent, OpenAIChatCompletionsModel, RunConfig, Runner, function_tool, trace
from genai_meter import attribute

from tests.frameworks.direct import direct

LOOP = asyncio.Runner()
CLIENT = openai.AsyncOpenAI()
MODEL = OpenAIChatCompletionsModel(model="gpt-4o", openai_client=CLIENT)
agents.set_trace_processors([])
"""Nothing is exported, and no processor of anybody is left."""


@function_tool
def weather(city: str) -> str:
    """The weather of a city."""
    return direct(city)


PLAIN = Agent(name="writer", instructions="Write.", model=MODEL)
TOOLED = Agent(name="helper", instructions="Help.", model=MODEL, tools=[weather])
BOSS = Agent(name="boss", instructions="Lead.", model=MODEL, tools=[PLAIN.as_tool("write", "Writes something.")])
ASK = "Please use a tool: weather"


def _config(**more: Any) -> RunConfig:
    return RunConfig(workflow_name="desk", trace_id="trace_" + "a" * 32, group_id="thread-1", **more)


def run() -> Any:
    return LOOP.run(Runner.run(PLAIN, "Hello", run_config=_config())).final_output


def run_sync() -> Any:
    return Runner.run_sync(PLAIN, "Hello", run_config=_config()).final_output


def tool() -> Any:
    return LOOP.run(Runner.run(TOOLED, ASK, run_config=_config())).final_output


def agent_as_tool() -> Any:
    return LOOP.run(Runner.run(BOSS, "Please use a tool: write", run_config=_config())).final_output


def streamed() -> Any:
    async def work() -> Any:
        result = Runner.run_streamed(TOOLED, ASK, run_config=_config())
        kinds = [event.type async for event in result.stream_events()]
        return [kinds, result.final_output]

    return LOOP.run(work())


def untraced() -> Any:
    return LOOP.run(Runner.run(TOOLED, ASK, run_config=_config(tracing_disabled=True))).final_output


def one_trace_two_runs() -> Any:
    async def work() -> Any:
        with trace("both", group_id="thread-2"):
            return [(await Runner.run(PLAIN, text)).final_output for text in ("one", "two")]

    return LOOP.run(work())


def explicit() -> Any:
    @attribute(workflow="mine", agent="me")
    async def work() -> Any:
        return (await Runner.run(PLAIN, "Hello", run_config=_config())).final_output

    return LOOP.run(work())


def concurrent() -> Any:
    async def work() -> Any:
        runs = [Runner.run(PLAIN, f"Number {n}", run_config=RunConfig(workflow_name=f"flow {n}")) for n in range(3)]
        return [result.final_output for result in await asyncio.gather(*runs)]

    return LOOP.run(work())


CASES = {
    case.__name__: case
    for case in (run, run_sync, tool, agent_as_tool, streamed, untraced, one_trace_two_runs, explicit, concurrent)
}
