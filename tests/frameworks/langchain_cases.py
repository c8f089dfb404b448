# pyright: basic, reportMissingImports=false
"""LangChain and LangGraph: chains, graphs, agents, retrieval; sync, async, threads, streams."""

from __future__ import annotations

import asyncio
import os
from typing import Any
from uuid import UUID

from genai_meter import attribute
from langchain_core.documents import Document
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import MemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import create_react_agent

from tests.frameworks.direct import direct

LOOP = asyncio.Runner()
MODEL = ChatOpenAI(model="gpt-4o", base_url=os.environ["OPENAI_BASE_URL"])
RUN = UUID("00000000-0000-4000-8000-00000000000a")


def weather(city: str) -> str:
    """The weather of a city."""
    return direct(city)


class Shelf(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return [Document("one"), Document("two")]


CHAIN = ChatPromptTemplate.from_messages([("user", "{topic}")]) | MODEL
AGENT = create_react_agent(MODEL, [weather], name="helper")


def _graph() -> Any:
    graph = StateGraph(MessagesState)
    graph.add_node("front", lambda _state: {"messages": [("assistant", direct())]})
    graph.add_node("research", AGENT)
    graph.add_edge(START, "front")
    graph.add_edge("front", "research")
    return graph.compile(checkpointer=MemorySaver(), name="desk")


def _config(**more: Any) -> dict[str, Any]:
    return {"run_id": RUN, "run_name": "summary", **more}


def _texts(state: Any) -> list[str]:
    return [message.content for message in state["messages"]]


ASK = {"messages": [("user", "Please use a tool: weather")]}
THREAD = {"configurable": {"thread_id": "t1"}}


def chain() -> Any:
    return CHAIN.invoke({"topic": "Hello"}, _config(metadata={"session_id": "s1"})).content


def chain_async() -> Any:
    return LOOP.run(CHAIN.ainvoke({"topic": "Hello"}, _config())).content


def chain_stream() -> Any:
    found = []
    for chunk in CHAIN.stream({"topic": "Hello"}, _config()):
        if len(found) == 1:
            # The consumer's own call, between two chunks, is not the chain's.
            direct()
        found.append(chunk.content)
    return found


def chain_stream_async() -> Any:
    async def run() -> list[Any]:
        return [chunk.content async for chunk in CHAIN.astream({"topic": "Hello"}, _config())]

    return LOOP.run(run())


def batch() -> Any:
    return [
        answer.content for answer in CHAIN.batch([{"topic": f"Number {n}"} for n in range(3)], {"run_name": "many"})
    ]


def graph() -> Any:
    return _texts(_graph().invoke(ASK, {**THREAD, "run_id": RUN}))


def graph_async() -> Any:
    return _texts(LOOP.run(_graph().ainvoke(ASK, {**THREAD, "run_id": RUN})))


def graph_stream() -> Any:
    return [sorted(update) for update in _graph().stream(ASK, {**THREAD, "run_id": RUN}, stream_mode="updates")]


def rag() -> Any:
    def answer(_question: Any) -> str:
        found = Shelf().invoke("q")
        return f"{len(found)} {MODEL.invoke('Hello').content} {MODEL.invoke('Again').content}"

    return RunnableLambda(answer).invoke("q", _config())


def explicit() -> Any:
    with attribute(workflow="mine", run_id="r1"):
        return CHAIN.invoke({"topic": "Hello"}, _config()).content


def fails() -> Any:
    def broken(_question: Any) -> str:
        direct()
        raise ValueError("broken")

    try:
        RunnableLambda(broken).invoke("q", _config())
    except ValueError as error:
        return str(error)
    return None


def alone() -> Any:
    return [MODEL.invoke("Hello").content, direct()]


CASES = {
    case.__name__: case
    for case in (
        chain,
        chain_async,
        chain_stream,
        chain_stream_async,
        batch,
        graph,
        graph_async,
        graph_stream,
        rag,
        explicit,
        fails,
        alone,
    )
}
