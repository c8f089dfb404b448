"""The application of the demo: assistants for several customers, with the OpenAI and Anthropic SDKs.

Nothing in this file knows of metering. The clients find their provider and key in the environment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from anthropic import Anthropic
from openai import AsyncOpenAI, OpenAI

openai = OpenAI()
anthropic = Anthropic()

HANDBOOK: Final = "You are the support assistant. Answer from the handbook. " + 160 * (
    "A refund is possible within thirty days of delivery. "
)
"""A system prompt long enough for the provider's prompt cache."""


def chat(question: str, headers: Mapping[str, str]) -> str:
    """One buffered answer."""
    answer = openai.chat.completions.create(
        model="gpt-4.1-mini",
        messages=[{"role": "system", "content": HANDBOOK}, {"role": "user", "content": question}],
        max_completion_tokens=200,
        extra_headers=headers,
    )
    return answer.choices[0].message.content or ""


def draft(question: str, headers: Mapping[str, str]) -> str:
    """A streamed answer; usage is not asked for."""
    stream = openai.chat.completions.create(
        model="gpt-4.1",
        messages=[{"role": "user", "content": question}],
        max_completion_tokens=200,
        stream=True,
        extra_headers=headers,
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def summary(question: str, headers: Mapping[str, str]) -> str:
    """A streamed answer of another provider."""
    with anthropic.messages.stream(
        model="claude-sonnet-5",
        max_tokens=200,
        messages=[{"role": "user", "content": question}],
        extra_headers=headers,
    ) as stream:
        return stream.get_final_text()


def research(question: str, headers: Mapping[str, str]) -> str:
    """Three answers of a reasoning model at once."""

    async def ask(angle: str) -> str:
        answer = await client.responses.create(
            model="gpt-5-mini", input=f"{angle}: {question}", reasoning={"effort": "high"}, extra_headers=headers
        )
        return answer.output_text

    async def together() -> list[str]:
        async with client:
            return await asyncio.gather(*(ask(angle) for angle in ("For", "Against", "Numbers")))

    client = AsyncOpenAI()
    return "\n".join(asyncio.run(together()))


def preview(question: str, headers: Mapping[str, str]) -> str:
    """A model that is in no price list."""
    answer = openai.chat.completions.create(
        model="acme-house-model-1", messages=[{"role": "user", "content": question}], extra_headers=headers
    )
    return answer.choices[0].message.content or ""


def agent(question: str, headers: Mapping[str, str]) -> str:
    """A loop without a limit on its steps worth the name: each one sends the whole history again."""
    history = question
    for step in range(30):
        answer = anthropic.messages.create(
            model="claude-opus-4-1",
            max_tokens=100,
            messages=[{"role": "user", "content": history}],
            extra_headers=headers,
        )
        history += f"\nStep {step}: {answer.content[0].to_json()}\n" + "Result of the tool, word by word. " * 300
    return history[-200:]


FEATURES: Final[Mapping[str, Callable[[str, Mapping[str, str]], str]]] = {
    "chat": chat,
    "draft": draft,
    "summary": summary,
    "research": research,
    "preview": preview,
    "agent": agent,
}
"""Path → what answers it."""
