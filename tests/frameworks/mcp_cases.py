# pyright: basic, reportMissingImports=false
"""MCP: a server whose tool calls a model, asked by a client in the same process over memory streams."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
from genai_meter import attribute

try:
    from mcp import Client
    from mcp.server import MCPServer as Server
except ImportError:
    from mcp.server.fastmcp import FastMCP as Server
    from mcp.shared.memory import create_connected_server_and_client_session

    Client = None

server = Server("desk")


@server.tool()
async def weather(city: str) -> str:
    """The weather of a city."""
    client = openai.AsyncOpenAI()
    messages: Any = [{"role": "user", "content": city}]
    answer = await client.chat.completions.create(model="gpt-4o-mini", messages=messages)
    return answer.choices[0].message.content or ""


async def _ask() -> Any:
    if Client is not None:
        async with Client(server) as client:
            with attribute(tenant="acme"):
                result = await client.call_tool("weather", {"city": "Oslo"})
    else:
        async with create_connected_server_and_client_session(server._mcp_server) as session:
            with attribute(tenant="acme"):
                result = await session.call_tool("weather", {"city": "Oslo"})
    return result.content[0].text


def tool() -> Any:
    return asyncio.run(_ask())


CASES = {"tool": tool}
