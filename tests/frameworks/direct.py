# pyright: basic, reportMissingImports=false
"""A call of the provider's own client, beside what the framework calls."""

from __future__ import annotations

from typing import Any

import openai


def direct(prompt: str = "Hello there") -> str:
    """Ask, and give the text of the answer."""
    messages: Any = [{"role": "user", "content": prompt}]
    answer = openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=messages)
    return answer.choices[0].message.content or ""
