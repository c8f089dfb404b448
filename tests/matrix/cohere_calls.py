"""`cohere`: both versions of its API, sync and async, and every way to read what comes back."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportUnknownLambdaType=false

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
from typing import Any, Final

from .scenario import MESSAGES, NotThere, Stage, accepts, attempt, scenario
from .view import kind, view

SAY: Any = {"model": "command-r", "message": "Where should the next delivery go?"}
CHAT: Any = {"model": "command-a-03-2025", "messages": MESSAGES}
TEXTS: Final = [f"Shelf {place} is empty." for place in range(200)]
"""Three requests of the library."""


class CohereStage(Stage):
    """Clients of both versions; their HTTP clients ask for trouble."""

    def made(self, name: str, trouble: str = "", timeout: float = 20, **options: Any) -> Any:
        """A client of one of the library's classes."""
        import httpx  # pyright: ignore[reportMissingImports]

        found = getattr(self.library, name, None)
        if found is None:
            raise NotThere(name)
        http = httpx.AsyncClient if name.startswith("Async") else httpx.Client
        # Until 5.4 the version of the API is part of the address.
        old = "path" not in inspect.signature(self.library.core.http_client.HttpClient.request).parameters
        given = {
            "api_key": "k",
            "base_url": f"{self.provider.url}/cohere{'/v1' if old else ''}",
            "httpx_client": http(headers={"x-scenario": trouble}, verify=False, timeout=timeout),
        }
        return found(**{**given, **options})

    def client(self, **options: Any) -> Any:
        return self.made("Client", **options)

    def async_client(self, **options: Any) -> Any:
        return self.made("AsyncClient", **options)

    def v2(self, **options: Any) -> Any:
        """A client of version 2."""
        return self.made("ClientV2", **options)

    def reported(self, usage: dict[str, Any] | None) -> list[int] | None:
        if usage is None:
            return None
        units = usage["billed_units"]
        return [units.get("input_tokens", 0), units.get("output_tokens", 0)]


async def arrived(stage: Stage) -> None:
    """Wait until the provider has the request."""
    while not stage.provider.attempts:
        await asyncio.sleep(0.01)


def refusal(error: Any) -> Any:
    """An error without the headers in its text."""
    return [kind(error), getattr(error, "status_code", None), view(getattr(error, "body", None))]


def plain(value: Any) -> Any:
    """An answer of whatever pydantic version."""
    return [kind(value), view(value.dict())]


def asking(retries: int) -> dict[str, Any]:
    """Options of a call."""
    return {"request_options": {"max_retries": retries}}


# --- version 1 ----------------------------------------------------------------------------------------
@scenario("cohere", "chat")
def chat(stage: CohereStage) -> Any:
    return plain(stage.client().chat(**SAY))


@scenario("cohere", "chat: body by options")
def chat_options(stage: CohereStage) -> Any:
    options: Any = {"additional_body_parameters": {"max_tokens": 3, "custom": [1]}}
    kept = copy.deepcopy(options)
    answer = stage.client().chat(**SAY, max_tokens=10, request_options=options)
    return [plain(answer), options == kept]


@scenario("cohere", "chat: stream")
def stream(stage: CohereStage) -> Any:
    events = stage.client().chat_stream(**SAY)
    return [kind(events), [plain(event) for event in events]]


@scenario("cohere", "chat: stream, closed early", "closed_early", exact=False)
def stream_closed(stage: CohereStage) -> Any:
    events = stage.client(trouble="slow").chat_stream(**SAY)
    seen = [plain(next(events)), plain(next(events))]
    return [seen, kind(attempt(events.close))]


@scenario("cohere", "chat: stream, dropped", "closed_early|abandoned", exact=False)
def stream_dropped(stage: CohereStage) -> Any:
    events = stage.client(trouble="slow").chat_stream(**SAY)
    seen = plain(next(events))
    del events
    gc.collect()
    return seen


@scenario("cohere", "chat: stream, never read", "not metered")
def stream_never(stage: CohereStage) -> Any:
    # Nothing is sent before the first event is asked for.
    return kind(stage.client().chat_stream(**SAY))


@scenario("cohere", "chat: stream, break after the end")
def stream_end(stage: CohereStage) -> Any:
    events = stage.client().chat_stream(**SAY)
    last = next(event for event in events if event.event_type == "stream-end")
    del events
    gc.collect()
    return plain(last)


@scenario("cohere", "chat: stream, cut", "error", exact=False)
def stream_cut(stage: CohereStage) -> Any:
    return kind(attempt(lambda: list(stage.client(trouble="die").chat_stream(**SAY))))


@scenario("cohere", "chat: stream, compressed")
def stream_compressed(stage: CohereStage) -> Any:
    return [plain(event) for event in stage.client(trouble="gzip").chat_stream(**SAY)]


@scenario("cohere", "v2: stream, compressed")
def stream_v2_compressed(stage: CohereStage) -> Any:
    return [plain(event) for event in stage.v2(trouble="gzip").chat_stream(**CHAT)]


@scenario("cohere", "chat: stream, error event", "error", exact=False)
def stream_error(stage: CohereStage) -> Any:
    return len(list(stage.client(trouble="error_event").chat_stream(**SAY)))


@scenario("cohere", "chat: stream, no usage", exact=False)
def stream_no_usage(stage: CohereStage) -> Any:
    return len(list(stage.client(trouble="no_usage").chat_stream(**SAY)))


@scenario("cohere", "chat: async")
async def chat_async(stage: CohereStage) -> Any:
    return plain(await stage.async_client().chat(**SAY))


@scenario("cohere", "chat: async, 5 at a time", *["ok"] * 5)
async def chat_gather(stage: CohereStage) -> Any:
    client = stage.async_client()
    return [plain(answer) for answer in await asyncio.gather(*(client.chat(**SAY) for _ in range(5)))]


@scenario("cohere", "chat: async, cancelled", "cancelled")
async def chat_cancelled(stage: CohereStage) -> Any:
    task = asyncio.create_task(stage.async_client(trouble="slow:9").chat(**SAY))
    await arrived(stage)
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError as error:
        return kind(error)


@scenario("cohere", "chat: stream, async")
async def stream_async(stage: CohereStage) -> Any:
    events = stage.async_client().chat_stream(**SAY)
    return [kind(events), [plain(event) async for event in events]]


@scenario("cohere", "chat: stream, async, closed early", "closed_early", exact=False)
async def stream_async_closed(stage: CohereStage) -> Any:
    events = stage.async_client(trouble="slow").chat_stream(**SAY)
    seen = plain(await events.__anext__())
    try:
        await events.aclose()
    except RuntimeError as error:
        return [seen, kind(error)]
    return seen


@scenario("cohere", "chat: stream, async, cut", "error", exact=False)
async def stream_async_cut(stage: CohereStage) -> Any:
    try:
        return [plain(event) async for event in stage.async_client(trouble="die").chat_stream(**SAY)]
    except Exception as error:  # noqa: BLE001 - what the caller would see
        return kind(error)


@scenario("cohere", "generate")
def generate(stage: CohereStage) -> Any:
    return plain(stage.client().generate(prompt="Where to?", model="command"))


@scenario("cohere", "generate: stream")
def generate_stream(stage: CohereStage) -> Any:
    return [plain(event) for event in stage.client().generate_stream(prompt="Where to?", model="command")]


@scenario("cohere", "embed")
def embed(stage: CohereStage) -> Any:
    return plain(stage.client().embed(texts=["north"], model="embed-english-v3.0", input_type="search_query"))


@scenario("cohere", "embed: in threads", "ok", "ok", "ok")
def embed_threads(stage: CohereStage) -> Any:
    client = stage.client()
    if not hasattr(client, "_executor"):
        raise NotThere("batches")
    answer = client.embed(texts=TEXTS, model="embed-english-v3.0", input_type="search_document")
    # What the library joins has the ids of its parts in the order in which they came.
    return [len(answer.embeddings), answer.texts == TEXTS, view(answer.meta.billed_units.dict())]


@scenario("cohere", "embed: async, in parts", "ok", "ok", "ok")
async def embed_async(stage: CohereStage) -> Any:
    if not hasattr(stage.client(), "_executor"):
        raise NotThere("batches")
    client = stage.async_client()
    answer = await client.embed(texts=TEXTS, model="embed-english-v3.0", input_type="search_document")
    return [len(answer.embeddings), answer.texts == TEXTS, view(answer.meta.billed_units.dict())]


@scenario("cohere", "rerank")
def rerank(stage: CohereStage) -> Any:
    return plain(stage.client().rerank(query="Where?", documents=["North", "South"], model="rerank-v3.5"))


@scenario("cohere", "classify")
def classify(stage: CohereStage) -> Any:
    return plain(stage.client().classify(inputs=["north", "south"], examples=[], model="embed-english-v3.0"))


@scenario("cohere", "tokenize", "not metered")
def tokenize(stage: CohereStage) -> Any:
    method = stage.client().tokenize
    more = {"offline": False} if "offline" in inspect.signature(method).parameters else {}
    return plain(method(text="Where to?", model="command-r", **more))


# --- errors and retries -------------------------------------------------------------------------------
@scenario("cohere", "error: 400", "error")
def refused(stage: CohereStage) -> Any:
    return refusal(attempt(lambda: stage.client(trouble="400").chat(**SAY)))


@scenario("cohere", "error: 400, stream", "error")
def refused_stream(stage: CohereStage) -> Any:
    return refusal(attempt(lambda: list(stage.client(trouble="400").chat_stream(**SAY))))


@scenario("cohere", "error: 429, async", "error")
async def refused_async(stage: CohereStage) -> Any:
    try:
        return await stage.async_client(trouble="429").chat(**SAY, **asking(0))
    except Exception as error:  # noqa: BLE001 - what the caller would see
        return refusal(error)


@scenario("cohere", "error: no connection", "error")
def no_connection(stage: CohereStage) -> Any:
    return kind(attempt(lambda: stage.client(base_url="http://127.0.0.1:9").chat(**SAY, **asking(0))))


@scenario("cohere", "error: no connection, stream", "error")
def no_connection_stream(stage: CohereStage) -> Any:
    return kind(attempt(lambda: list(stage.client(base_url="http://127.0.0.1:9").chat_stream(**SAY))))


@scenario("cohere", "error: timeout", "error")
def timeout(stage: CohereStage) -> Any:
    options: Any = {"timeout_in_seconds": 0.2, "max_retries": 0}
    return kind(attempt(lambda: stage.client(trouble="slow:9").chat(**SAY, request_options=options)))


@scenario("cohere", "error: server dies in the answer", "error", exact=False)
def dies(stage: CohereStage) -> Any:
    return kind(attempt(lambda: stage.client(trouble="die").chat(**SAY, **asking(0))))


@scenario("cohere", "error: nothing sent", "not metered")
def nothing_sent(stage: CohereStage) -> Any:
    options: Any = {"additional_headers": {"x-mine": object()}}
    return kind(attempt(lambda: stage.client().chat(**SAY, request_options=options)))


# --- version 2 ----------------------------------------------------------------------------------------
@scenario("cohere", "v2: chat")
def chat_v2(stage: CohereStage) -> Any:
    return plain(stage.v2().chat(**CHAT))


@scenario("cohere", "v2: chat, retried after 2 × 500", attempts=3)
def chat_v2_retry(stage: CohereStage) -> Any:
    client = stage.v2(trouble="500x2")
    if "max_retries" not in inspect.signature(type(client).__init__).parameters:
        raise NotThere("max_retries")
    return plain(client.chat(**CHAT))


@scenario("cohere", "v2: chat, raw")
def chat_v2_raw(stage: CohereStage) -> Any:
    client = stage.v2()
    if not hasattr(client, "with_raw_response"):
        raise NotThere("with_raw_response")
    raw = client.with_raw_response.chat(**CHAT)
    return [kind(raw), plain(raw.data), raw.headers["content-type"]]


@scenario("cohere", "v2: stream, raw")
def stream_v2_raw(stage: CohereStage) -> Any:
    client = stage.v2()
    if not hasattr(client, "with_raw_response"):
        raise NotThere("with_raw_response")
    with client.with_raw_response.chat_stream(**CHAT) as raw:
        return [kind(raw), [plain(event) for event in raw.data]]


@scenario("cohere", "v2: stream")
def stream_v2(stage: CohereStage) -> Any:
    events = stage.v2().chat_stream(**CHAT)
    return [kind(events), [plain(event) for event in events]]


@scenario("cohere", "v2: stream, closed early", "closed_early", exact=False)
def stream_v2_closed(stage: CohereStage) -> Any:
    events = stage.v2(trouble="slow").chat_stream(**CHAT)
    seen = plain(next(events))
    return [seen, kind(attempt(events.close))]


@scenario("cohere", "v2: stream, cut", "error", exact=False)
def stream_v2_cut(stage: CohereStage) -> Any:
    client = stage.v2(trouble="die")
    return kind(attempt(lambda: list(client.chat_stream(**CHAT))))


@scenario("cohere", "v2: stream, error event", "error", exact=False)
def stream_v2_error(stage: CohereStage) -> Any:
    return len(list(stage.v2(trouble="error_event").chat_stream(**CHAT)))


@scenario("cohere", "v2: stream, async, 5 at a time", *["ok"] * 5)
async def stream_v2_gather(stage: CohereStage) -> Any:
    client = stage.made("AsyncClientV2")

    async def read() -> Any:
        return [plain(event) async for event in client.chat_stream(**CHAT)]

    return await asyncio.gather(*(read() for _ in range(5)))


@scenario("cohere", "v2: stream, async, cancelled", "cancelled", exact=False)
async def stream_v2_cancelled(stage: CohereStage) -> Any:
    client, seen = stage.made("AsyncClientV2", trouble="slow:0.4"), asyncio.Event()

    async def read() -> Any:
        async for _ in client.chat_stream(**CHAT):
            seen.set()

    task = asyncio.create_task(read())
    await seen.wait()
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError as error:
        return kind(error)


@scenario("cohere", "v2: embed, rerank", "ok", "ok")
def others_v2(stage: CohereStage) -> Any:
    client = stage.v2()
    method = accepts(client.embed, "embedding_types")
    asked: Any = {"model": "embed-v4.0", "input_type": "search_query", "embedding_types": ["float"]}
    ranked = client.rerank(query="Where?", documents=["North", "South"], model="rerank-v3.5")
    return [plain(method(texts=["north"], **asked)), plain(ranked)]
