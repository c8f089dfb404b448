# pyright: basic, reportMissingImports=false
"""LlamaIndex: query engines, retrieval, workflows, streams, a model on its own."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from genai_meter import attribute
from llama_index.core import Document, Settings, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.instrumentation.dispatcher import instrument_tags
from llama_index.core.tools import FunctionTool
from llama_index.core.workflow import Event, StartEvent, StopEvent, Workflow, step
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI

from tests.frameworks.direct import direct

LOOP = asyncio.Runner()
MODEL = OpenAI(model="gpt-4o", api_base=os.environ["OPENAI_BASE_URL"], api_key="k")
EMBEDDING = OpenAIEmbedding(model="text-embedding-3-small", api_base=os.environ["OPENAI_BASE_URL"], api_key="k")
Settings.llm, Settings.embed_model = MODEL, EMBEDDING
INDEX = VectorStoreIndex.from_documents([Document(text=f"Document {n}") for n in range(3)])


class Written(Event):
    text: str


class Desk(Workflow):
    @step
    async def draft(self, ev: StartEvent) -> Written:
        return Written(text=(await MODEL.acomplete("Hello")).text)

    @step
    async def polish(self, ev: Written) -> StopEvent:
        return StopEvent(result=[ev.text, direct()])


def query() -> Any:
    return str(INDEX.as_query_engine(similarity_top_k=2).query("What?"))


def query_async() -> Any:
    return str(LOOP.run(INDEX.as_query_engine(similarity_top_k=2).aquery("What?")))


def query_stream() -> Any:
    found = INDEX.as_query_engine(similarity_top_k=2, streaming=True).query("What?")
    return list(found.response_gen)


def workflow() -> Any:
    async def work() -> Any:
        return await Desk(timeout=30).run()

    return LOOP.run(work())


def agent() -> Any:
    async def work() -> Any:
        tool = FunctionTool.from_defaults(
            fn=lambda city: direct(), name="weather", description="The weather of a city."
        )
        helper = FunctionAgent(name="helper", description="Helps.", tools=[tool], llm=MODEL, streaming=False)
        return str(await helper.run("Please use a tool: weather"))

    return LOOP.run(work())


def tagged() -> Any:
    with instrument_tags({"session_id": "s1"}):
        return str(INDEX.as_query_engine(similarity_top_k=1).query("What?"))


def explicit() -> Any:
    with attribute(workflow="mine", run_id="r1"):
        return str(INDEX.as_query_engine(similarity_top_k=1).query("What?"))


def alone() -> Any:
    return [MODEL.complete("Hello").text, direct()]


CASES = {case.__name__: case for case in (query, query_async, query_stream, workflow, agent, tagged, explicit, alone)}
