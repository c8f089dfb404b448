# pyright: basic, reportMissingImports=false
"""CrewAI: a crew of two, a tool that calls, a flow that starts a crew, an agent on its own; sync and async."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from crewai import LLM, Agent, Crew, Task
from crewai.flow.flow import Flow, start
from crewai.tools import tool as crew_tool
from genai_meter import attribute

from tests.frameworks.direct import direct

MODEL = LLM(model="openai/gpt-4o", base_url=os.environ["OPENAI_BASE_URL"], api_key="k")


@crew_tool("weather")
def weather(city: str) -> str:
    """The weather of a city."""
    return direct()


def _crew(*, tools: bool = False) -> Crew:
    agents = [
        Agent(role=role, goal="Work.", backstory="Nobody.", llm=MODEL, tools=[weather] if tools else [], max_iter=3)
        for role in ("writer", "editor")[: 1 if tools else 2]
    ]
    text = "Please use a tool: weather" if tools else "Say hello."
    tasks = [
        Task(name=f"{agent.role}'s task", description=text, expected_output="A word.", agent=agent) for agent in agents
    ]
    return Crew(name="desk", agents=agents, tasks=tasks)


class Morning(Flow):
    name = "morning"

    @start()
    def brief(self) -> str:
        return f"{direct()} {_crew().kickoff().raw}"


def crew() -> Any:
    return _crew().kickoff().raw


def crew_async() -> Any:
    return asyncio.run(_crew().kickoff_async()).raw


def crew_native_async() -> Any:
    return asyncio.run(_crew().akickoff()).raw


def tool() -> Any:
    return _crew(tools=True).kickoff().raw


def flow() -> Any:
    return Morning().kickoff()


def explicit() -> Any:
    with attribute(workflow="mine", run_id="r1"):
        return _crew().kickoff().raw


def after() -> Any:
    return direct()


CASES = {case.__name__: case for case in (crew, crew_async, crew_native_async, tool, flow, explicit, after)}
