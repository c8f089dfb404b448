"""What `tests/test_cohere.py` asks of the real client, where it is installed.

`python -m tests.cohere_cases FILE`: each case returns what the test compares; all go to FILE as JSON.
"""

# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUntypedFunctionDecorator=false, reportUntypedBaseClass=false
# pyright: reportUnknownParameterType=false

from __future__ import annotations

import asyncio
import os
from typing import Any

import cohere
import httpx
from genai_meter import Blocked, attribute
from genai_meter.instrumentor import BotocoreInstrumentor, CohereInstrumentor
from opentelemetry import trace

from tests.client_cases import Stage, case, main, refusing, requiring

ASK: Any = {"model": "command-a-03-2025", "messages": [{"role": "user", "content": "Where should it go?"}]}
SAY: Any = {"model": "command-r", "message": "Where should it go?"}


class Seen(httpx.HTTPTransport):
    """Notes the current span of each request; for AWS, sends it to the stand-in instead."""

    def __init__(self, url: str = "") -> None:
        super().__init__(verify=False)
        self.url = url
        self.spans: list[str] = []
        self.hosts: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.spans.append(getattr(trace.get_current_span(), "name", ""))
        self.hosts.append(f"{request.url.host}{request.url.path}")
        if self.url:
            request.url = httpx.URL(self.url).copy_with(raw_path=request.url.raw_path)
        return super().handle_request(request)


def client(stage: Stage, name: str = "ClientV2", **options: Any) -> Any:
    given = {"api_key": "test-key", "base_url": f"{stage.provider.url}/cohere", **options}
    return getattr(cohere, name)(**given)


@case
def billed_and_processed(stage: Stage) -> Any:
    answer = client(stage).chat(**ASK)
    return [answer.usage.dict(), stage.events()]


@case
def units(stage: Stage) -> Any:
    client(stage).rerank(query="Where?", documents=["North"] * 120, model="rerank-v3.5")
    client(stage, "Client").classify(inputs=["a", "b", "c"], examples=[], model="embed-english-v3.0")
    return stage.events()


@case
def degraded(stage: Stage) -> Any:
    options: Any = {"additional_body_parameters": {"max_tokens": 900, "custom": 1}}
    with requiring("change", {"model": "command-r7b-12-2024", "max_tokens": 2}):
        client(stage).chat(**ASK, request_options=options)
        list(client(stage, "Client").chat_stream(**SAY))
        asyncio.run(client(stage, "AsyncClientV2").chat(**ASK))
    sent = [{k: served.request.get(k) for k in ("model", "max_tokens", "custom")} for served in stage.provider.served]
    return [sent, stage.events(), options]


@case
def blocked(stage: Stage) -> Any:
    async def blocked_async() -> str:
        try:
            return repr([event async for event in client(stage, "AsyncClient").chat_stream(**SAY)])
        except Blocked as error:
            return str(error)

    with refusing("no more"):
        found: list[str] = []
        for call in (lambda: client(stage).chat(**ASK), lambda: list(client(stage, "Client").chat_stream(**SAY))):
            try:
                found.append(repr(call()))
            except Blocked as error:
                found.append(str(error))
        found.append(asyncio.run(blocked_async()))
    return [found, len(stage.provider.attempts), stage.events()]


@case
def current_span(stage: Stage) -> Any:
    seen = Seen()
    with trace.get_tracer("app").start_as_current_span("work"):
        made = client(stage, httpx_client=httpx.Client(transport=seen))
        made.chat(**ASK)
        names = [getattr(trace.get_current_span(), "name", "") for _ in made.chat_stream(**ASK)]
        after = getattr(trace.get_current_span(), "name", "")
    return [seen.spans, sorted(set(names)), after]


@case
def threads(stage: Stage) -> Any:
    with trace.get_tracer("app").start_as_current_span("work"), attribute(tenant="acme", feature="index"):
        client(stage, "Client").embed(
            texts=["north"] * 200, model="embed-english-v3.0", input_type="search_document", batching=True
        )
    spans = {span.name: span for span in stage.telemetry.spans}
    parents = {span.parent.span_id for span in stage.telemetry.spans if span.name.startswith("embeddings")}
    return [stage.events(), parents == {spans["work"].context.span_id}]


@case
def attempts(stage: Stage) -> Any:
    made = client(stage, base_url="http://127.0.0.1:9", max_retries=1)
    try:
        made.chat(**ASK)
    except httpx.ConnectError as error:
        return [type(error).__name__, stage.attempts()]
    return "answered"


@case
def bedrock(stage: Stage) -> Any:
    os.environ |= {"AWS_EC2_METADATA_DISABLED": "true"}
    made = cohere.BedrockClient(aws_region="eu-west-1", aws_access_key="AKIANONE", aws_secret_key="none")
    seen = made._client_wrapper.httpx_client.httpx_client._transport = Seen(stage.provider.url)
    chat = made.chat(model="cohere.command-r-v1:0", message="Where should it go?")
    events = list(made.chat_stream(model="cohere.command-r-v1:0", message="Where should it go?"))
    made.embed(model="cohere.embed-english-v3", texts=["north"], input_type="search_query")
    return [chat.text, len(events), seen.hosts, stage.events()]


@case
def removed(stage: Stage) -> Any:
    made = client(stage)
    CohereInstrumentor().uninstrument()
    made.chat(**ASK)
    without = stage.events()
    CohereInstrumentor().instrument(skip_dep_check=True)
    made.chat(**ASK)
    return [len(without), len(stage.events())]


if __name__ == "__main__":
    main(CohereInstrumentor, BotocoreInstrumentor)
