"""An application that asks through the gateway of `OPENAI_BASE_URL`, for several tenants at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from genai_meter import attribute
from openai import OpenAI

client = OpenAI(api_key="application")


def ask(number: int) -> None:
    asked: dict[str, Any] = {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": f"question {number} " * number}],
    }
    with attribute(tenant=f"tenant-{number % 3}"):
        if number % 2:
            client.chat.completions.create(**asked)
        else:
            for _ in client.chat.completions.create(**asked, stream=True):
                pass


if __name__ == "__main__":
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(24)))
