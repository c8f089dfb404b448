# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
"""Two calls in a graph of LangGraph, instrumented: `tree.py URL OUTPUT` writes the spans they left."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import anthropic
from langchain_anthropic import ChatAnthropic
from langgraph.graph import START, MessagesState, StateGraph
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

warnings.simplefilter("ignore")
URL, OUTPUT = sys.argv[1], Path(sys.argv[2])


def main() -> None:
    spans = InMemorySpanExporter()
    provider: Any = trace.get_tracer_provider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    client = anthropic.Anthropic(base_url=URL, api_key="k")
    model = ChatAnthropic(model="claude-sonnet-4-5", base_url=URL, api_key="k", max_tokens=50)

    def research(_state: Any) -> dict[str, Any]:
        answer = client.messages.create(
            model="claude-sonnet-4-5", max_tokens=50, messages=[{"role": "user", "content": "Hello there"}]
        )
        return {"messages": [("assistant", answer.content[0].text)]}

    graph = StateGraph(MessagesState)
    graph.add_node("research", research)
    # LangChain reads raw responses: they are parsed when the client's own span is over.
    graph.add_node("write", lambda state: {"messages": [model.invoke(state["messages"][:1])]})
    graph.add_edge(START, "research")
    graph.add_edge("research", "write")
    with trace.get_tracer("shop").start_as_current_span("POST /ask"):
        graph.compile(name="desk").invoke({"messages": [("user", "Hello there")]})
    found = [
        {
            "name": span.name,
            "scope": span.instrumentation_scope.name,
            "id": f"{span.context.span_id:016x}",
            "parent": f"{span.parent.span_id:016x}" if span.parent else None,
            "attributes": {k: v for k, v in span.attributes.items() if isinstance(v, str | int | float)},
        }
        for span in spans.get_finished_spans()
    ]
    OUTPUT.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
