"""What `tests/test_mistralai.py` asks of the real client, where it is installed.

`python -m tests.mistral_cases FILE`: each case returns what the test compares; all go to FILE as JSON.
"""

# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUntypedFunctionDecorator=false

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import httpx2
from genai_meter import Blocked, attribute
from genai_meter.instrumentor import MistralInstrumentor
from mistralai.azure.client import MistralAzure
from mistralai.client import Mistral
from mistralai.client.utils import BackoffStrategy, RetryConfig
from mistralai.extra.observability.telemetry import configure_telemetry
from mistralai.gcp.client import MistralGCP
from opentelemetry import trace

from tests.client_cases import Stage, case, main, refusing, requiring

ASK: Any = {"model": "mistral-large-latest", "messages": [{"role": "user", "content": "Where should it go?"}]}
RETRIES = RetryConfig("backoff", BackoffStrategy(1, 5, 1.1, 1000), True)


class Seen(httpx2.HTTPTransport):
    """Notes the current span and the length of each request."""

    def __init__(self) -> None:
        super().__init__(verify=False)
        self.spans: list[str] = []
        self.lengths: list[bool] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.spans.append(getattr(trace.get_current_span(), "name", ""))
        self.lengths.append(int(request.headers["content-length"]) == len(request.content))
        return super().handle_request(request)


class SeenAsync(httpx2.AsyncHTTPTransport):
    """As `Seen`."""

    def __init__(self) -> None:
        super().__init__(verify=False)
        self.spans: list[str] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.spans.append(getattr(trace.get_current_span(), "name", ""))
        return await super().handle_async_request(request)


def client(stage: Stage, scenario: str = "", **options: Any) -> Any:
    http: Any = {"headers": {"x-scenario": scenario}, "verify": False}
    given = {
        "api_key": "test-key",
        "server_url": f"{stage.provider.url}/mistral",
        "client": httpx2.Client(**http),
        "async_client": httpx2.AsyncClient(**http),
    }
    return Mistral(**{**given, **options})


def spans(stage: Stage) -> list[Any]:
    """Scope, name, claimed call, and whether it is an inference by the conventions."""
    stage.attributes()
    return sorted(
        [
            span.instrumentation_scope.name,
            span.name,
            "genai_meter.call.id" in span.attributes,
            span.attributes.get("gen_ai.usage.cost.amount") is not None,
        ]
        for span in stage.telemetry.spans
    )


@case
def cached(stage: Stage) -> Any:
    long: Any = [{"role": "user", "content": "Where? " * 100}]
    for _ in range(2):
        client(stage).chat.complete(model="mistral-large-2512", messages=long, max_tokens=3)
    return stage.events()


@case
def connectors(stage: Stage) -> Any:
    beta = client(stage).beta.conversations
    tools: Any = [{"type": "web_search"}]
    begun = beta.start(model="mistral-medium-2505", inputs="Where to?", tools=tools, completion_args={"max_tokens": 4})
    list(beta.append_stream(conversation_id=begun.conversation_id, inputs="And?", completion_args={"max_tokens": 2}))
    return stage.events()


@case
def pages_and_seconds(stage: Stage) -> Any:
    made = client(stage)
    document: Any = {"type": "document_url", "document_url": "https://example.org/a.pdf"}
    made.ocr.process(model="mistral-ocr-2512", document=document)
    made.audio.transcriptions.complete(
        model="voxtral-mini-latest", file={"file_name": "a.wav", "content": b"RIFF"}, language="en"
    )
    return stage.events()


@case
def degraded(stage: Stage) -> Any:
    seen = Seen()
    made = client(stage, client=httpx2.Client(transport=seen))
    with requiring("change", {"model": "mistral-small-latest", "max_tokens": 2}):
        made.chat.complete(**ASK)
        list(made.chat.stream(**ASK, max_tokens=900))
        asyncio.run(client(stage).chat.complete_async(**ASK))
        made.agents.complete(agent_id="ag_1", messages=ASK["messages"])
        made.beta.conversations.start(model="mistral-medium-2505", inputs="Where?", completion_args={"top_p": 0.5})
        gcp = MistralGCP(project_id="p", region="r", access_token="t", server_url=stage.provider.url)
        gcp.chat.complete(**ASK)
    sent: list[Any] = []
    for served in stage.provider.served:
        body = served.request
        sent.append([served.path, body.get("model"), body.get("max_tokens"), body.get("completion_args")])
    return [sent, seen.lengths, [event.get("gen_ai.response.model") for event in stage.events()]]


@case
def blocked(stage: Stage) -> Any:
    async def blocked_async() -> str:
        try:
            return repr(await client(stage).chat.stream_async(**ASK))
        except Blocked as error:
            return str(error)

    found: list[str] = []
    with refusing("no more"):
        for call in (lambda: client(stage).chat.complete(**ASK), lambda: list(client(stage).chat.stream(**ASK))):
            try:
                found.append(repr(call()))
            except Blocked as error:
                found.append(str(error))
        found.append(asyncio.run(blocked_async()))
    return [found, len(stage.provider.attempts), [event["genai_meter.status"] for event in stage.events()]]


@case
def current_span(stage: Stage) -> Any:
    seen, seen_async = Seen(), SeenAsync()
    made = client(stage, client=httpx2.Client(transport=seen), async_client=httpx2.AsyncClient(transport=seen_async))

    async def work() -> list[str]:
        await made.chat.complete_async(**ASK)
        events = await made.chat.stream_async(**ASK)
        names = [getattr(trace.get_current_span(), "name", "") async for _ in events]
        return sorted(set(names))

    with trace.get_tracer("app").start_as_current_span("work"), attribute(tenant="acme"):
        made.chat.complete(**ASK)
        reading = sorted({getattr(trace.get_current_span(), "name", "") for _ in made.chat.stream(**ASK)})
        reading_async = asyncio.run(work())
        after = getattr(trace.get_current_span(), "name", "")
    tenants = [event["genai_meter.tenant"] for event in stage.events()]
    return [seen.spans, seen_async.spans, reading, reading_async, after, tenants]


@case
def attempts(stage: Stage) -> Any:
    client(stage, "500x2", retry_config=RETRIES).chat.complete(**ASK)
    once = RetryConfig("backoff", BackoffStrategy(1, 5, 1.1, 1), True)
    try:
        client(stage, server_url="http://127.0.0.1:9", retry_config=once).chat.complete(**ASK)
    except httpx2.ConnectError:
        first, second = stage.attempts()
        return [first, {one["error_type"] for one in second or [{"error_type": "ConnectError"}]} == {"ConnectError"}]
    return "answered"


@case
def native(stage: Stage) -> Any:
    """The library's own tracing, on."""
    logging.getLogger("mistralai").setLevel(logging.ERROR)

    def traced(scenario: str = "", **options: Any) -> Any:
        made = client(stage, scenario, **options)
        configure_telemetry(made, provider="global")
        return made

    async def work() -> None:
        made = traced()
        await asyncio.gather(*(made.chat.complete_async(**ASK) for _ in range(4)))
        assert [event async for event in await made.chat.stream_async(**ASK)]

    def closed() -> None:
        with traced("slow").chat.stream(**ASK) as events:
            next(events)

    def dropped() -> None:
        next(traced("slow").chat.stream(**ASK))
        gc.collect()

    def refused() -> None:
        try:
            traced("400").chat.complete(**ASK)
        except Exception:  # noqa: BLE001 - it is about the spans
            return

    cases: Any = {
        "chat": lambda: traced().chat.complete(**ASK),
        "stream": lambda: list(traced().chat.stream(**ASK)),
        "retried": lambda: traced("500x2", retry_config=RETRIES).chat.complete(**ASK),
        "async": lambda: asyncio.run(work()),
        "closed": closed,
        "dropped": dropped,
        "refused": refused,
        "conversation": lambda: traced().beta.conversations.start(model="mistral-medium-2505", inputs="Where to?"),
    }
    found: dict[str, Any] = {}
    for name, run in cases.items():
        stage.provider.reset()
        stage.telemetry.clear()
        run()
        found[name] = [spans(stage), [event.get("genai_meter.span.scope") for event in stage.events()]]
    return found


@case
def azure(stage: Stage) -> Any:
    made = MistralAzure(api_key="test-key", server_url=f"{stage.provider.url}/mistral")
    made.chat.complete(**ASK)
    list(made.chat.stream(**ASK))
    gcp = MistralGCP(project_id="p", region="r", access_token="t", server_url=stage.provider.url)
    list(gcp.chat.stream(**ASK))
    return stage.events()


@case
def removed(stage: Stage) -> Any:
    made = client(stage)
    MistralInstrumentor().uninstrument()
    list(made.chat.stream(**ASK))
    without = stage.events()
    MistralInstrumentor().instrument(skip_dep_check=True)
    list(made.chat.stream(**ASK))
    return [len(without), len(stage.events())]


if __name__ == "__main__":
    main(MistralInstrumentor)
