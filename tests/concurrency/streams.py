# pyright: basic, reportMissingImports=false
"""Streams side by side in one loop: each read to its end, each with a tenant of its own."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import openai
from genai_meter import attribute


async def ask(client: openai.AsyncOpenAI, number: int) -> None:
    with attribute(tenant=f"tenant-{number % 3}"):
        messages: Any = [{"role": "user", "content": f"Stream {number}"}]
        stream = await client.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True)
        async with stream:
            async for _chunk in stream:
                await asyncio.sleep(0)


async def main() -> None:
    async with openai.AsyncOpenAI(max_retries=5, timeout=120) as client:
        await asyncio.gather(*(ask(client, number) for number in range(int(sys.argv[1]))))


if __name__ == "__main__":
    asyncio.run(main())
