"""An application under `opentelemetry-instrument` that calls models by LangChain; tells what each call left.

opentelemetry-instrument python langchain_child.py URL OUTPUT
"""

# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import sys
import warnings
from pathlib import Path
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.prompts import ChatPromptTemplate
from langchain_mistralai import ChatMistralAI, MistralAIEmbeddings
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from tokenizers import Tokenizer, models

from tests.interop.recorder import record

URL, OUTPUT = sys.argv[1], Path(sys.argv[2])
QUESTION = "Where to?"
LOOP = asyncio.new_event_loop()
"""One for all: LangChain keeps HTTP clients from call to call."""
warnings.simplefilter("ignore")  # the SDKs' own, about models


def mistral(**options: Any) -> Any:
    return ChatMistralAI(api_key="k", endpoint=f"{URL}/mistral/v1", model="mistral-large-2512", **options)


def invoke() -> None:
    mistral().invoke(QUESTION)


def stream() -> None:
    list(mistral().stream(QUESTION))


def streaming() -> None:
    mistral(streaming=True).invoke(QUESTION)


def invoke_async() -> None:
    LOOP.run_until_complete(mistral().ainvoke(QUESTION))


def stream_async() -> None:
    async def read() -> None:
        async for _ in mistral().astream(QUESTION):
            pass

    LOOP.run_until_complete(read())


def chain() -> None:
    list((ChatPromptTemplate.from_messages([("human", "{text}")]) | mistral()).stream({"text": QUESTION}))


def below() -> None:
    messages = [{"role": "user", "content": QUESTION}]
    mistral().completion_with_retry(messages=messages, model="mistral-large-2512")


def embeddings() -> None:
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    MistralAIEmbeddings(api_key="k", endpoint=f"{URL}/mistral/v1", tokenizer=tokenizer).embed_query(QUESTION)


def openai(**options: Any) -> Any:
    return ChatOpenAI(api_key="k", base_url=f"{URL}/v1", model="gpt-4o", **options)


def openai_invoke() -> None:
    openai().invoke(QUESTION)


def openai_stream() -> None:
    list(openai().stream(QUESTION))


def openai_invoke_async() -> None:
    LOOP.run_until_complete(openai().ainvoke(QUESTION))


def openai_stream_async() -> None:
    async def read() -> None:
        async for _ in openai().astream(QUESTION):
            pass

    LOOP.run_until_complete(read())


def openai_responses() -> None:
    openai(use_responses_api=True).invoke(QUESTION)


def openai_batch() -> None:
    openai().batch([QUESTION])


def openai_retried() -> None:
    openai(default_headers={"x-scenario": "500x1"}, max_retries=2).invoke(QUESTION)


def openai_text() -> None:
    OpenAI(api_key="k", base_url=f"{URL}/v1", model="gpt-3.5-turbo-instruct").invoke(QUESTION)


def openai_embeddings() -> None:
    OpenAIEmbeddings(
        api_key="k", base_url=f"{URL}/v1", model="text-embedding-3-small", check_embedding_ctx_length=False
    ).embed_query(QUESTION)


def client_in_a_tool() -> None:
    # The run of the model before is over, its span too.
    import openai as library

    library.OpenAI(api_key="k", base_url=f"{URL}/v1").chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": QUESTION}]
    )


def anthropic(**options: Any) -> Any:
    return ChatAnthropic(api_key="k", base_url=URL, model="claude-sonnet-4-5", max_tokens=50, **options)


def anthropic_invoke() -> None:
    anthropic().invoke(QUESTION)


def anthropic_stream() -> None:
    list(anthropic().stream(QUESTION))


SCENARIOS = (
    *(invoke, stream, streaming, invoke_async, stream_async, chain, below, embeddings),
    *(openai_invoke, openai_stream, openai_invoke_async, openai_stream_async, openai_responses, openai_batch),
    *(openai_retried, openai_text, openai_embeddings, client_in_a_tool),
    *(anthropic_invoke, anthropic_stream),
)


if __name__ == "__main__":
    record(SCENARIOS, OUTPUT)
