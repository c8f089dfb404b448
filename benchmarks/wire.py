"""Real clients over a transport in the process: their CPU is measured, sockets are not."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import anthropic
import httpx2
import openai

from benchmarks.frames import frames_of
from benchmarks.workers import Case, Run
from examples.provider import anthropic_messages, openai_chat
from examples.provider.wire import Memory, Reply, Request

MODEL: Final = "gpt-4.1-mini"
CLAUDE: Final = "claude-haiku-4-5"
QUESTION: Final = "Which shelves are still empty, and where should the next delivery go?"
TURNS: Final = 60
"""Messages of the long conversation, of about two kilobytes each."""
CHUNKS: Final = 24
LONG_STREAM: Final = 1024

_Frames: Final = frames_of(httpx2)


def messages(turns: int = 1) -> list[Any]:
    """A conversation of so many turns."""
    if turns == 1:
        return [{"role": "user", "content": QUESTION}]
    roles = ("user", "assistant")
    return [{"role": roles[turn % 2], "content": f"{turn}: " + QUESTION * 30} for turn in range(turns)]


def _reply(request: Request) -> Reply:
    request.parse()
    answer = anthropic_messages.messages if request.path.endswith("/messages") else openai_chat.chat
    return answer(request, str(request.body["model"]))


def reply_to(path: str, body: dict[str, Any]) -> Reply:
    """What the stand-in provider would answer."""
    return _reply(Request("POST", path, {}, json.dumps(body).encode(), Memory()))


def transport(reply: Reply) -> httpx2.MockTransport:
    """A transport that always gives this answer."""
    frames, content = reply.frames, reply.content
    kind = "application/json" if frames is None else "text/event-stream; charset=utf-8"
    headers = {"content-type": kind, "x-request-id": "req_bench"}

    def handle(_request: httpx2.Request) -> httpx2.Response:
        if frames is not None:
            return httpx2.Response(200, headers=headers, stream=_Frames(frames))
        return httpx2.Response(200, headers=headers, content=content)

    return httpx2.MockTransport(handle)


def chat_client(reply: Reply) -> openai.OpenAI:
    return openai.OpenAI(api_key="any", http_client=httpx2.Client(transport=transport(reply)))


def stretched(reply: Reply, chunks: int) -> Reply:
    """A stream with that many pieces of text."""
    assert reply.frames is not None
    first, text, *_ = reply.frames
    last = reply.frames[-3:]
    reply.frames = [first, *[text] * chunks, *last]
    return reply


def chat_stream(chunks: int) -> Reply:
    body: dict[str, Any] = {"model": MODEL, "messages": messages(), "stream": True}
    body["stream_options"] = {"include_usage": True}
    return stretched(reply_to("/v1/chat/completions", body), chunks)


def chat(turns: int = 1) -> Run:
    asked = messages(turns)
    client = chat_client(reply_to("/v1/chat/completions", {"model": MODEL, "messages": asked}))

    def run(calls: int) -> None:
        for _ in range(calls):
            client.chat.completions.create(model=MODEL, messages=asked, max_tokens=100, temperature=0.2)

    return run


def parsed_chunks(chunks: int) -> list[Any]:
    """The chunks of a stream as the client hands them out."""
    client = chat_client(chat_stream(chunks))
    return list(client.chat.completions.create(model=MODEL, messages=messages(), stream=True))


def streamed(chunks: int) -> Run:
    asked = messages()
    client = chat_client(chat_stream(chunks))

    def run(calls: int) -> None:
        for _ in range(calls):
            for _chunk in client.chat.completions.create(
                model=MODEL, messages=asked, stream=True, stream_options={"include_usage": True}
            ):
                pass

    return run


def chat_async() -> Run:
    asked = messages()
    reply = reply_to("/v1/chat/completions", {"model": MODEL, "messages": asked})
    client = openai.AsyncOpenAI(api_key="any", http_client=httpx2.AsyncClient(transport=transport(reply)))
    loop = asyncio.new_event_loop()

    async def calls_of(calls: int) -> None:
        for _ in range(calls):
            await client.chat.completions.create(model=MODEL, messages=asked, max_tokens=100, temperature=0.2)

    def run(calls: int) -> None:
        loop.run_until_complete(calls_of(calls))

    return run


def claude() -> Run:
    asked = messages()
    reply = reply_to("/v1/messages", {"model": CLAUDE, "messages": asked, "max_tokens": 100})
    client = anthropic.Anthropic(api_key="any", http_client=httpx2.Client(transport=transport(reply)))

    def run(calls: int) -> None:
        for _ in range(calls):
            client.messages.create(model=CLAUDE, messages=asked, max_tokens=100)

    return run


def cases() -> list[Case]:
    """What is measured, in the order of the report."""
    return [
        Case("chat", chat(), 60),
        Case("async chat", chat_async(), 60),
        Case("chat stream", streamed(CHUNKS), 12),
        Case(f"conversation of {TURNS} turns", chat(TURNS), 6),
        Case("messages", claude(), 60),
    ]
