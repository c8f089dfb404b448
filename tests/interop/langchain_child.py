"""An application under `opentelemetry-instrument` that calls Mistral by LangChain; tells what each call left.

opentelemetry-instrument python langchain_child.py URL OUTPUT
"""

# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from langchain_core.prompts import ChatPromptTemplate
from langchain_mistralai import ChatMistralAI, MistralAIEmbeddings
from tokenizers import Tokenizer, models

from tests.interop.recorder import record

URL, OUTPUT = sys.argv[1], Path(sys.argv[2])
QUESTION = "Where to?"


def mistral(**options: Any) -> Any:
    return ChatMistralAI(api_key="k", endpoint=f"{URL}/mistral/v1", model="mistral-large-2512", **options)


def invoke() -> None:
    mistral().invoke(QUESTION)


def stream() -> None:
    list(mistral().stream(QUESTION))


def streaming() -> None:
    mistral(streaming=True).invoke(QUESTION)


def invoke_async() -> None:
    asyncio.run(mistral().ainvoke(QUESTION))


def stream_async() -> None:
    async def read() -> None:
        async for _ in mistral().astream(QUESTION):
            pass

    asyncio.run(read())


def chain() -> None:
    list((ChatPromptTemplate.from_messages([("human", "{text}")]) | mistral()).stream({"text": QUESTION}))


def below() -> None:
    messages = [{"role": "user", "content": QUESTION}]
    mistral().completion_with_retry(messages=messages, model="mistral-large-2512")


def embeddings() -> None:
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    MistralAIEmbeddings(api_key="k", endpoint=f"{URL}/mistral/v1", tokenizer=tokenizer).embed_query(QUESTION)


SCENARIOS = (invoke, stream, streaming, invoke_async, stream_async, chain, below, embeddings)


if __name__ == "__main__":
    record(SCENARIOS, OUTPUT)
