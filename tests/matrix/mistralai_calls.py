"""`mistralai`: its clients, those for Azure and Vertex, and every way to read what comes back."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportUnknownLambdaType=false
from __future__ import annotations

import asyncio
import copy
import gc
import importlib
import pickle
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

from .scenario import MESSAGES, NotThere, Stage, accepts, attempt, find, scenario
from .view import kind, view

CHAT: Any = {"model": "mistral-large-latest", "messages": MESSAGES}
TOOL: Any = {"type": "function", "function": {"name": "deliver", "parameters": {"type": "object"}}}


def first(*names: str) -> ModuleType:
    """The first of several modules that exists."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise NotThere(names[0])


class MistralStage(Stage):
    """Clients whose HTTP clients ask for trouble: not every version lets a call do it."""

    @property
    def httpx(self) -> ModuleType:
        return first("mistralai.client.basesdk", "mistralai.basesdk").httpx

    def client(self, *, trouble: str = "", retries: bool = False, **options: Any) -> Any:
        http: Any = {"headers": {"x-scenario": trouble}, "verify": False}
        given: dict[str, Any] = {
            "api_key": "k",
            "server_url": f"{self.provider.url}/mistral",
            "client": self.httpx.Client(**http),
            "async_client": self.httpx.AsyncClient(**http),
        }
        if retries:
            found = first("mistralai.client.utils.retries", "mistralai.utils.retries")
            given["retry_config"] = found.RetryConfig("backoff", found.BackoffStrategy(1, 5, 1.1, 1000), True)
        return first("mistralai.client.sdk", "mistralai.sdk").Mistral(**{**given, **options})

    def reported(self, usage: dict[str, Any] | None) -> list[int] | None:
        if usage is None:
            return None
        if "pages_processed" in usage or "prompt_audio_seconds" in usage:
            # Billed by something else than tokens.
            return [0, 0]
        if "input_tokens" in usage:
            return [usage["input_tokens"], usage["output_tokens"]]
        return [usage["prompt_tokens"] + (usage.get("connector_tokens") or 0), usage["completion_tokens"]]


async def arrived(stage: Stage) -> None:
    """Wait until the provider has the request."""
    while not stage.provider.attempts:
        await asyncio.sleep(0.01)


def refusal(error: Any) -> Any:
    """An error without the headers in its text."""
    body = getattr(error, "body", None)
    return [kind(error), getattr(error, "status_code", None), view(body), kind(error.__cause__)]


def retried(result: Any) -> Any:
    """An answer; the first versions repeat what found no connection, and no answers."""
    if isinstance(result, Exception):
        raise NotThere("retries of answers")
    return result


def close(stream: Any) -> None:
    """Close a stream in the way of its version."""
    leave = getattr(stream, "close", None)
    _ = leave() if leave is not None else stream.__exit__(None, None, None)


async def close_async(stream: Any) -> None:
    """As `close`."""
    leave = getattr(stream, "close", None) or getattr(stream, "aclose", None)
    await (leave() if leave is not None else stream.__aexit__(None, None, None))


# --- chat -------------------------------------------------------------------------------------------
@scenario("mistralai", "chat")
def chat(stage: MistralStage) -> Any:
    return stage.client().chat.complete(**CHAT)


@scenario("mistralai", "chat: pickle and deepcopy")
def chat_copies(stage: MistralStage) -> Any:
    answer = stage.client().chat.complete(**CHAT)
    return [pickle.loads(pickle.dumps(answer)) == answer, copy.deepcopy(answer) == answer]


@scenario("mistralai", "chat: tools, cached prompt", "ok", "ok")
def chat_tools(stage: MistralStage) -> Any:
    client = stage.client()
    long = [{"role": "user", "content": "Where to? " * 80}]
    return [client.chat.complete(**{**CHAT, "messages": long}, tools=[TOOL], max_tokens=50) for _ in range(2)]


@scenario("mistralai", "chat: caller's arguments are not touched")
def chat_arguments(stage: MistralStage) -> Any:
    messages = copy.deepcopy(MESSAGES)
    stage.client().chat.complete(model="mistral-large-latest", messages=messages)
    return messages


@scenario("mistralai", "chat: thoughts")
def chat_thoughts(stage: MistralStage) -> Any:
    return attempt(lambda: stage.client().chat.complete(model="magistral-medium-2507", messages=MESSAGES))


@scenario("mistralai", "parse")
def parse(stage: MistralStage) -> Any:
    from pydantic import BaseModel

    class Answer(BaseModel):
        shelf: int

    # The server does not know our schema: its text is no JSON.
    method = find(stage.client(), "chat.parse")
    return kind(attempt(lambda: method(**CHAT, response_format=Answer)))


@scenario("mistralai", "chat: in threads", *["ok"] * 6)
def chat_threads(stage: MistralStage) -> Any:
    client = stage.client()
    with ThreadPoolExecutor(3) as pool:
        return list(pool.map(lambda _: client.chat.complete(**CHAT), range(6)))


@scenario("mistralai", "chat: async")
async def chat_async(stage: MistralStage) -> Any:
    return await stage.client().chat.complete_async(**CHAT)


@scenario("mistralai", "chat: async, 5 at a time", *["ok"] * 5)
async def chat_gather(stage: MistralStage) -> Any:
    client = stage.client()
    return await asyncio.gather(*(client.chat.complete_async(**CHAT) for _ in range(5)))


@scenario("mistralai", "chat: async, cancelled", "cancelled")
async def chat_cancelled(stage: MistralStage) -> Any:
    task = asyncio.create_task(stage.client(trouble="slow:9").chat.complete_async(**CHAT))
    await arrived(stage)
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError as error:
        return kind(error)


@scenario("mistralai", "chat: no usage", exact=False)
def chat_no_usage(stage: MistralStage) -> Any:
    return kind(attempt(lambda: stage.client(trouble="no_usage").chat.complete(**CHAT)))


# --- errors and retries -----------------------------------------------------------------------------
@scenario("mistralai", "error: 400", "error")
def refused(stage: MistralStage) -> Any:
    return refusal(attempt(lambda: stage.client(trouble="400").chat.complete(**CHAT)))


@scenario("mistralai", "error: 422, stream", "error")
def refused_stream(stage: MistralStage) -> Any:
    return refusal(attempt(lambda: list(stage.client(trouble="422").chat.stream(**CHAT))))


@scenario("mistralai", "error: 429, async", "error")
async def refused_async(stage: MistralStage) -> Any:
    try:
        return await stage.client(trouble="429").chat.complete_async(**CHAT)
    except Exception as error:  # noqa: BLE001 - what the caller would see
        return refusal(error)


@scenario("mistralai", "error: no connection", "error")
def no_connection(stage: MistralStage) -> Any:
    return kind(attempt(lambda: stage.client(server_url="http://127.0.0.1:9").chat.complete(**CHAT)))


@scenario("mistralai", "error: timeout", "error")
def timeout(stage: MistralStage) -> Any:
    return kind(attempt(lambda: stage.client(trouble="slow:9", timeout_ms=200).chat.complete(**CHAT)))


@scenario("mistralai", "error: server dies before it answers", "error")
def dies_before(stage: MistralStage) -> Any:
    return kind(attempt(lambda: stage.client(trouble="die_before").chat.complete(**CHAT)))


@scenario("mistralai", "error: server dies in the answer", "error", exact=False)
def dies(stage: MistralStage) -> Any:
    return kind(attempt(lambda: stage.client(trouble="die").chat.complete(**CHAT)))


@scenario("mistralai", "error: nothing sent", "not metered")
def nothing_sent(stage: MistralStage) -> Any:
    return kind(
        attempt(lambda: stage.client().chat.complete(model="m", messages=[{"role": "user", "content": object()}]))
    )


@scenario("mistralai", "retry: 2 × 500", attempts=3)
def retry(stage: MistralStage) -> Any:
    return retried(attempt(lambda: stage.client(trouble="500x2", retries=True).chat.complete(**CHAT)))


@scenario("mistralai", "retry: 2 × 500, stream", attempts=3)
def retry_stream(stage: MistralStage) -> Any:
    return retried(attempt(lambda: list(stage.client(trouble="500x2", retries=True).chat.stream(**CHAT))))


@scenario("mistralai", "retry: 2 × 500, async", attempts=3)
async def retry_async(stage: MistralStage) -> Any:
    try:
        return await stage.client(trouble="500x2", retries=True).chat.complete_async(**CHAT)
    except Exception as error:  # noqa: BLE001 - as above
        return retried(error)


# --- streams ----------------------------------------------------------------------------------------
@scenario("mistralai", "stream")
def stream(stage: MistralStage) -> Any:
    events = stage.client().chat.stream(**CHAT)
    return [kind(events), list(events)]


@scenario("mistralai", "stream: compressed")
def stream_compressed(stage: MistralStage) -> Any:
    return list(stage.client(trouble="gzip").chat.stream(**CHAT))


@scenario("mistralai", "responses", "ok", "ok")
def responses(stage: MistralStage) -> Any:
    method = find(stage.client(), "responses.create")
    ask: Any = {"model": "mistral-medium-2508", "input": "Where to?"}
    return [kind(method(**ask)), len(list(method(**ask, stream=True)))]


@scenario("mistralai", "stream: tools")
def stream_tools(stage: MistralStage) -> Any:
    return list(stage.client().chat.stream(**CHAT, tools=[TOOL]))


@scenario("mistralai", "stream: thoughts")
def stream_thoughts(stage: MistralStage) -> Any:
    ask: Any = {"model": "magistral-medium-2507", "messages": MESSAGES}
    events = attempt(lambda: list(stage.client().chat.stream(**ask)))
    if isinstance(events, Exception):
        raise NotThere("thoughts")
    return events


@scenario("mistralai", "stream: closed early", "closed_early|abandoned", exact=False)
def stream_closed(stage: MistralStage) -> Any:
    events = stage.client(trouble="slow").chat.stream(**CHAT)
    seen = [next(events), next(events)]
    close(events)
    del events
    gc.collect()
    return seen


@scenario("mistralai", "stream: with, break", "closed_early", exact=False)
def stream_with(stage: MistralStage) -> Any:
    events = stage.client(trouble="slow").chat.stream(**CHAT)
    if not hasattr(events, "__enter__"):
        events.close()
        raise NotThere("context manager")
    with events:
        event = next(iter(events))
    return [event, attempt(lambda: kind(next(events)))]


@scenario("mistralai", "stream: dropped", "abandoned", exact=False)
def stream_dropped(stage: MistralStage) -> Any:
    events = stage.client(trouble="slow").chat.stream(**CHAT)
    seen = next(events)
    del events
    gc.collect()
    return seen


@scenario("mistralai", "stream: never read", "abandoned", exact=False)
def stream_never(stage: MistralStage) -> Any:
    events = stage.client(trouble="slow").chat.stream(**CHAT)
    told = kind(events)
    del events
    gc.collect()
    return told


@scenario("mistralai", "stream: cut", "error", exact=False)
def stream_cut(stage: MistralStage) -> Any:
    seen: list[Any] = []
    error = attempt(lambda: seen.extend(stage.client(trouble="die").chat.stream(**CHAT)))
    return [len(seen) > 0, kind(error)]


@scenario("mistralai", "stream: error event", "error", exact=False)
def stream_error(stage: MistralStage) -> Any:
    return kind(attempt(lambda: list(stage.client(trouble="error_event").chat.stream(**CHAT))))


@scenario("mistralai", "stream: async")
async def stream_async(stage: MistralStage) -> Any:
    events = await stage.client().chat.stream_async(**CHAT)
    return [kind(events), [event async for event in events]]


@scenario("mistralai", "stream: async, closed early", "closed_early|abandoned", exact=False)
async def stream_async_closed(stage: MistralStage) -> Any:
    events = await stage.client(trouble="slow").chat.stream_async(**CHAT)
    seen = await events.__anext__()
    await close_async(events)
    del events
    gc.collect()
    return seen


@scenario("mistralai", "stream: async, cancelled", "cancelled", exact=False)
async def stream_async_cancelled(stage: MistralStage) -> Any:
    client, seen = stage.client(trouble="slow:0.4"), asyncio.Event()

    async def read() -> Any:
        async for _ in await client.chat.stream_async(**CHAT):
            seen.set()

    task = asyncio.create_task(read())
    await seen.wait()
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError as error:
        return kind(error)


@scenario("mistralai", "stream: async, cut", "error", exact=False)
async def stream_async_cut(stage: MistralStage) -> Any:
    try:
        return [event async for event in await stage.client(trouble="die").chat.stream_async(**CHAT)]
    except Exception as error:  # noqa: BLE001 - what the caller would see
        return kind(error)


@scenario("mistralai", "stream: async, 5 at a time", *["ok"] * 5)
async def stream_gather(stage: MistralStage) -> Any:
    client = stage.client()

    async def read() -> Any:
        return [event async for event in await client.chat.stream_async(**CHAT)]

    return await asyncio.gather(*(read() for _ in range(5)))


# --- other APIs ---------------------------------------------------------------------------------------
@scenario("mistralai", "fim")
def fim(stage: MistralStage) -> Any:
    return stage.client().fim.complete(model="codestral-latest", prompt="def f(", suffix="return 1")


@scenario("mistralai", "fim: stream")
def fim_stream(stage: MistralStage) -> Any:
    return list(stage.client().fim.stream(model="codestral-latest", prompt="def f(", suffix="return 1"))


@scenario("mistralai", "agents")
def agents(stage: MistralStage) -> Any:
    return stage.client().agents.complete(agent_id="ag_1", messages=MESSAGES)


@scenario("mistralai", "agents: stream, async")
async def agents_stream(stage: MistralStage) -> Any:
    method = accepts(stage.client().agents.stream_async, "messages")
    return [event async for event in await method(agent_id="ag_1", messages=MESSAGES)]


@scenario("mistralai", "embeddings")
def embeddings(stage: MistralStage) -> Any:
    return stage.client().embeddings.create(model="mistral-embed", inputs=["north", "south"])


@scenario("mistralai", "embeddings: async")
async def embeddings_async(stage: MistralStage) -> Any:
    return await stage.client().embeddings.create_async(model="mistral-embed", inputs=["north"])


@scenario("mistralai", "conversations: start, append, restart", "ok", "ok", "ok")
def conversations(stage: MistralStage) -> Any:
    beta = find(stage.client(), "beta.conversations")
    tools: Any = [{"type": "web_search"}]
    begun = beta.start(model="mistral-medium-2505", inputs="Where to?", tools=tools, instructions="Be short.")
    more = beta.append(conversation_id=begun.conversation_id, inputs="And then?")
    again = beta.restart(conversation_id=begun.conversation_id, inputs="Else?", from_entry_id="e1")
    return [begun, more, again]


@scenario("mistralai", "conversations: stream")
def conversations_stream(stage: MistralStage) -> Any:
    beta = find(stage.client(), "beta.conversations")
    return list(beta.start_stream(model="mistral-medium-2505", inputs=MESSAGES, completion_args={"max_tokens": 5}))


@scenario("mistralai", "conversations: stream, async, cut", "error", exact=False)
async def conversations_cut(stage: MistralStage) -> Any:
    beta = find(stage.client(trouble="die"), "beta.conversations")
    try:
        return [event async for event in await beta.start_stream_async(model="mistral-medium-2505", inputs="Where?")]
    except Exception as error:  # noqa: BLE001 - what the caller would see
        return kind(error)


@scenario("mistralai", "conversations: error event", "error", exact=False)
def conversations_error(stage: MistralStage) -> Any:
    beta = find(stage.client(trouble="error_event"), "beta.conversations")
    return list(beta.start_stream(model="mistral-medium-2505", inputs="Where to?"))


@scenario("mistralai", "ocr")
def ocr(stage: MistralStage) -> Any:
    document: Any = {"type": "document_url", "document_url": "https://example.org/a.pdf"}
    return find(stage.client(), "ocr.process")(model="mistral-ocr-latest", document=document)


@scenario("mistralai", "transcription")
def transcription(stage: MistralStage) -> Any:
    complete = find(stage.client(), "audio.transcriptions.complete")
    return complete(model="voxtral-mini-latest", file={"file_name": "a.wav", "content": b"RIFF"})


@scenario("mistralai", "transcription: stream")
def transcription_stream(stage: MistralStage) -> Any:
    events = find(stage.client(), "audio.transcriptions.stream")
    return list(events(model="voxtral-mini-latest", file={"file_name": "a.wav", "content": b"RIFF"}))


@scenario("mistralai", "speech", exact=False)
def speech(stage: MistralStage) -> Any:
    return find(stage.client(), "audio.speech.complete")(model="voxtral-mini-tts-2603", input="North first.")


@scenario("mistralai", "moderation: texts and chat", "ok", "ok")
def moderation(stage: MistralStage) -> Any:
    classifiers = find(stage.client(), "classifiers")
    model = "mistral-moderation-latest"
    return [
        classifiers.moderate(model=model, inputs=["north"]),
        classifiers.moderate_chat(model=model, inputs=[{"role": "user", "content": "north"}]),
    ]


@scenario("mistralai", "models: list", "not metered")
def models(stage: MistralStage) -> Any:
    return kind(attempt(lambda: stage.client().models.list()))


# --- its copies for clouds ------------------------------------------------------------------------------
def azure(stage: MistralStage) -> Any:
    """A client of the copy for Azure."""
    module = first("mistralai.azure.client.sdk", "mistralai_azure.sdk")
    http = first(module.__name__.replace(".sdk", ".basesdk")).httpx
    given = {"client": http.Client(verify=False)}
    url = f"{stage.provider.url}/mistral"
    if module.__name__.startswith("mistralai_azure"):
        return module.MistralAzure(azure_api_key="k", azure_endpoint=url, **given)
    return module.MistralAzure(api_key="k", server_url=url, **given)


@scenario("mistralai", "Azure: chat and stream", "ok", "ok")
def azure_chat(stage: MistralStage) -> Any:
    client = azure(stage)
    return [client.chat.complete(**CHAT), list(client.chat.stream(**CHAT))]


@scenario("mistralai", "Vertex: chat and stream", "ok", "ok")
def vertex_chat(stage: MistralStage) -> Any:
    try:
        module = first("mistralai.gcp.client.sdk")
    except ImportError:
        raise NotThere("google-auth") from None
    gcp = module.MistralGCP(project_id="p", region="r", access_token="t", server_url=stage.provider.url)
    return [gcp.chat.complete(**CHAT), list(gcp.chat.stream(**CHAT))]
