# pyright: basic, reportMissingImports=false
"""A WSGI application: each request is one call, streamed when the path says so. Preloading makes a call, too."""

from __future__ import annotations

import functools
import os
from typing import Any

import openai


@functools.cache
def client_of(_process: int) -> openai.OpenAI:
    """The client of a process: a connection must not be shared by processes that were forked."""
    return openai.OpenAI()


def ask(*, stream: bool = False) -> str:
    """One call."""
    client = client_of(os.getpid())
    messages: Any = [{"role": "user", "content": f"Hello from process {os.getpid()}"}]
    if not stream:
        return client.chat.completions.create(model="gpt-4o-mini", messages=messages).choices[0].message.content or ""
    chunks = client.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


ask()


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answer with the text and the process."""
    text = ask(stream=environ["PATH_INFO"] == "/stream")
    start_response("200 OK", [("content-type", "text/plain"), ("x-process", str(os.getpid()))])
    return [text.encode()]
