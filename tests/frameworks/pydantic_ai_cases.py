# pyright: basic, reportMissingImports=false
"""Pydantic AI: runs, tools that call, agents within tools, streams, manual iteration."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from genai_meter import attribute
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.frameworks.direct import direct

LOOP = asyncio.Runner()
MODEL = OpenAIChatModel("gpt-4o", provider=OpenAIProvider(base_url=os.environ["OPENAI_BASE_URL"], api_key="k"))
ASK = "Please use a tool: weather"

writer = Agent(MODEL, name="writer")
helper = Agent(MODEL, name="helper")
boss = Agent(MODEL, name="boss")


@helper.tool_plain
def weather(city: str) -> str:
    """The weather of a city."""
    return direct()


@boss.tool_plain
async def write(topic: str) -> str:
    """Have something written."""
    return (await writer.run(topic)).output


def run() -> Any:
    return LOOP.run(writer.run("Hello")).output


def run_sync() -> Any:
    async def nothing() -> None: ...

    LOOP.run(nothing())
    asyncio.set_event_loop(LOOP.get_loop())
    return writer.run_sync("Hello").output


def tool() -> Any:
    return LOOP.run(helper.run(ASK)).output


def agent_in_tool() -> Any:
    return LOOP.run(boss.run("Please use a tool: write")).output


def streamed() -> Any:
    async def work() -> Any:
        async with writer.run_stream("Hello") as result:
            return [text async for text in result.stream_text(debounce_by=None)]

    return LOOP.run(work())


def iterated() -> Any:
    async def work() -> Any:
        unnamed = Agent(MODEL)
        async with unnamed.iter("Hello") as agent_run:
            kinds = [type(node).__name__ async for node in agent_run]
        return [unnamed.name, kinds, agent_run.result.output, type(unnamed.iter("x")).__name__]

    return LOOP.run(work())


def after() -> Any:
    async def work() -> Any:
        return [(await writer.run("Hello")).output, direct()]

    return LOOP.run(work())


def concurrent() -> Any:
    async def work() -> Any:
        return [result.output for result in await asyncio.gather(writer.run("One"), helper.run("Two"))]

    return LOOP.run(work())


def explicit() -> Any:
    @attribute(workflow="mine", run_id="r1")
    async def work() -> Any:
        return (await writer.run("Hello")).output

    return LOOP.run(work())


CASES = {
    case.__name__: case
    for case in (run, run_sync, tool, agent_in_tool, streamed, iterated, after, concurrent, explicit)
}
