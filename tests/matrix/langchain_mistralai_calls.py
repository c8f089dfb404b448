"""`langchain-mistralai`: chats and embeddings, by every method of LangChain that ends in a request."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportUnknownLambdaType=false
# ruff: noqa: PERF401 - loops as callers write them

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import json
import logging
from types import ModuleType
from typing import Any, Final

from pydantic import BaseModel

from .scenario import NotThere, Stage, attempt, scenario
from .view import kind, view

QUESTION: Final = "Where should the next delivery go?"
MODEL: Final = "mistral-large-latest"
LIBRARY: Final = "langchain_mistralai"
NOBODY: Final = "http://127.0.0.1:9/v1"

# It logs every error that it raises, with its traceback.
logging.getLogger(LIBRARY).addHandler(logging.NullHandler())


class Shelf(BaseModel):
    """Which shelf."""

    number: int = 3


class LangChainMistralStage(Stage):
    """Models with clients of the library's own; with the caller's where there is trouble to ask for."""

    @property
    def httpx(self) -> ModuleType:
        return self.library.chat_models.httpx

    def chat(self, trouble: str = "", *, url: str = "", **options: Any) -> Any:
        return self.library.ChatMistralAI(**self._given(trouble, url), **{"model": MODEL, "max_retries": 1, **options})

    def embeddings(self, trouble: str = "", *, url: str = "", **options: Any) -> Any:
        # The library would download one.
        from tokenizers import Tokenizer, models, pre_tokenizers

        tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        return self.library.MistralAIEmbeddings(**self._given(trouble, url), tokenizer=tokenizer, **options)

    def _given(self, trouble: str, url: str) -> dict[str, Any]:
        base = url or f"{self.provider.url}/mistral/v1"
        if not trouble:
            return {"api_key": "k", "endpoint": base}
        http: Any = {"base_url": base, "headers": {"Authorization": "Bearer k", "x-scenario": trouble}}
        clients = {"client": self.httpx.Client(**http), "async_client": self.httpx.AsyncClient(**http)}
        return {"api_key": "k", **clients}

    def flaky(self) -> dict[str, Any]:
        """Clients whose first request finds no connection."""
        httpx, failed = self.httpx, []

        class Flaky(httpx.HTTPTransport):
            def handle_request(self, request: Any) -> Any:
                if failed:
                    return super().handle_request(request)
                failed.append(1)
                raise httpx.ConnectError("no connection", request=request)

        class AsyncFlaky(httpx.AsyncHTTPTransport):
            async def handle_async_request(self, request: Any) -> Any:
                if failed:
                    return await super().handle_async_request(request)
                failed.append(1)
                raise httpx.ConnectError("no connection", request=request)

        base = f"{self.provider.url}/mistral/v1"
        return {
            "client": httpx.Client(base_url=base, transport=Flaky()),
            "async_client": httpx.AsyncClient(base_url=base, transport=AsyncFlaky()),
        }


def hurry() -> None:
    """Let the library not wait between attempts: it waits four seconds at least."""
    import tenacity
    from langchain_core.language_models import llms

    llms.wait_exponential = lambda **_: tenacity.wait_none()


def retried(result: Any) -> Any:
    """What came of a call; the first versions repeat nothing."""
    if isinstance(result, Exception):
        raise NotThere("retries")
    return result


async def awaited(call: Any) -> Any:
    """What a coroutine returns or raises."""
    try:
        return await call
    except Exception as error:  # noqa: BLE001 - whatever it raises is the result
        return error


# --- chats ------------------------------------------------------------------------------------------
@scenario(LIBRARY, "chat")
def chat(stage: LangChainMistralStage) -> Any:
    return stage.chat().invoke(QUESTION)


@scenario(LIBRARY, "chat: its client is httpx's own")
def chat_client(stage: LangChainMistralStage) -> Any:
    model = stage.chat()
    answer = model.invoke(QUESTION)
    return [kind(model), kind(model.client), kind(model.async_client), answer]


@scenario(LIBRARY, "chat: method below, arguments are not touched")
def chat_below(stage: LangChainMistralStage) -> Any:
    arguments = {"messages": [{"role": "user", "content": QUESTION}], "model": MODEL, "max_tokens": 2}
    before = copy.deepcopy(arguments)
    answer = stage.chat().completion_with_retry(**arguments)
    return [answer, arguments == before]


@scenario(LIBRARY, "chat: a subclass", *["ok"] * 2)
def chat_subclass(stage: LangChainMistralStage) -> Any:
    base = stage.library.ChatMistralAI

    class Own(base):
        def completion_with_retry(self, *args: Any, **kwargs: Any) -> Any:
            return super().completion_with_retry(*args, **kwargs)

    model = Own(api_key="k", endpoint=f"{stage.provider.url}/mistral/v1", model=MODEL)
    return [model.invoke(QUESTION), list(model.stream(QUESTION))]


@scenario(LIBRARY, "chat: batch, in threads", *["ok"] * 5)
def chat_batch(stage: LangChainMistralStage) -> Any:
    return stage.chat().batch([f"{QUESTION} {number}" for number in range(5)])


@scenario(LIBRARY, "chat: streaming by setting")
def chat_streaming(stage: LangChainMistralStage) -> Any:
    return stage.chat(streaming=True).invoke(QUESTION)


@scenario(LIBRARY, "chat: thoughts")
def chat_thoughts(stage: LangChainMistralStage) -> Any:
    return attempt(lambda: stage.chat(model="magistral-medium-2507").invoke(QUESTION))


@scenario(LIBRARY, "chat: bind_tools", "ok", "ok")
def chat_tools(stage: LangChainMistralStage) -> Any:
    model = stage.chat().bind_tools([Shelf])
    return [model.invoke(QUESTION), list(model.stream(QUESTION))]


@scenario(LIBRARY, "chat: structured output", "ok", "ok")
def chat_structured(stage: LangChainMistralStage) -> Any:
    model = stage.chat().with_structured_output(Shelf)
    return [model.invoke(QUESTION), [kind(part) for part in model.stream(QUESTION)]]


@scenario(LIBRARY, "chat: events in a chain", "ok", "ok")
def chat_chain(stage: LangChainMistralStage) -> Any:
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate

    chain = ChatPromptTemplate.from_messages([("human", "{question}")]) | stage.chat() | StrOutputParser()
    return [chain.invoke({"question": QUESTION}), list(chain.stream({"question": QUESTION}))]


@scenario(LIBRARY, "error: 400", "error")
def refused(stage: LangChainMistralStage) -> Any:
    return attempt(lambda: stage.chat("400").invoke(QUESTION))


@scenario(LIBRARY, "error: 503", "error")
def unavailable(stage: LangChainMistralStage) -> Any:
    return attempt(lambda: stage.chat("503").invoke(QUESTION))


@scenario(LIBRARY, "error: no connection", "error")
def unreachable(stage: LangChainMistralStage) -> Any:
    return attempt(lambda: stage.chat(url=NOBODY).invoke(QUESTION))


@scenario(LIBRARY, "error: server dies in the answer", "error")
def dies(stage: LangChainMistralStage) -> Any:
    return attempt(lambda: stage.chat("die").invoke(QUESTION))


@scenario(LIBRARY, "error: a setting that is none", "not metered")
def invalid(stage: LangChainMistralStage) -> Any:
    return kind(attempt(lambda: stage.chat(temperature=7)))


@scenario(LIBRARY, "retries: no connection once", "error", "ok", exact=True)
def retries(stage: LangChainMistralStage) -> Any:
    hurry()
    model = stage.library.ChatMistralAI(api_key="k", model=MODEL, max_retries=2, **stage.flaky())
    return retried(attempt(lambda: model.invoke(QUESTION)))


@scenario(LIBRARY, "retries: server always hangs up", "error", "error", "error")
def retries_in_vain(stage: LangChainMistralStage) -> Any:
    hurry()
    error = attempt(lambda: stage.chat("die_before", max_retries=3).invoke(QUESTION))
    if len(stage.provider.attempts) == 1:
        raise NotThere("retries")
    return error


# --- streams ----------------------------------------------------------------------------------------
@scenario(LIBRARY, "stream")
def stream(stage: LangChainMistralStage) -> Any:
    chunks = stage.chat().stream(QUESTION)
    return [kind(chunks), list(chunks)]


@scenario(LIBRARY, "stream: compressed")
def stream_gzip(stage: LangChainMistralStage) -> Any:
    return list(stage.chat("gzip").stream(QUESTION))


@scenario(LIBRARY, "stream: method below")
def stream_below(stage: LangChainMistralStage) -> Any:
    messages = [{"role": "user", "content": QUESTION}]
    chunks = stage.chat().completion_with_retry(messages=messages, model=MODEL, stream=True)
    return [kind(chunks), chunks.__name__, len(stage.provider.attempts), list(chunks)]


@scenario(LIBRARY, "stream: never read", "not metered")
def stream_unread(stage: LangChainMistralStage) -> Any:
    messages = [{"role": "user", "content": QUESTION}]
    stage.chat().completion_with_retry(messages=messages, model=MODEL, stream=True)
    stage.chat().stream(QUESTION).close()
    return len(stage.provider.attempts)


@scenario(LIBRARY, "stream: closed", "closed_early")
def stream_closed(stage: LangChainMistralStage) -> Any:
    chunks = stage.chat("slow:0.01").stream(QUESTION)
    first = next(chunks)
    chunks.close()
    return [first, attempt(lambda: next(chunks, "over"))]


@scenario(LIBRARY, "stream: break, then dropped", "closed_early")
def stream_dropped(stage: LangChainMistralStage) -> Any:
    seen: list[Any] = []
    for chunk in stage.chat("slow:0.01").stream(QUESTION):
        seen.append(chunk)
        break
    gc.collect()
    return seen


@scenario(LIBRARY, "stream: left after its last event")
def stream_left_late(stage: LangChainMistralStage) -> Any:
    messages = [{"role": "user", "content": QUESTION}]
    chunks = stage.chat().completion_with_retry(messages=messages, model=MODEL, stream=True)
    seen: list[Any] = []
    for chunk in chunks:
        seen.append(chunk)
        if chunk["choices"][0]["finish_reason"]:
            break
    chunks.close()
    return seen


@scenario(LIBRARY, "stream: an error thrown in", "error")
def stream_thrown(stage: LangChainMistralStage) -> Any:
    messages = [{"role": "user", "content": QUESTION}]
    chunks = stage.chat("slow:0.01").completion_with_retry(messages=messages, model=MODEL, stream=True)
    return [next(chunks), attempt(lambda: chunks.throw(ValueError("enough")))]


@scenario(LIBRARY, "stream: server dies", "error")
def stream_dies(stage: LangChainMistralStage) -> Any:
    seen: list[Any] = []

    def work() -> None:
        seen.extend(stage.chat("die").stream(QUESTION))

    return [attempt(work), seen]


@scenario(LIBRARY, "stream: error event", "error")
def stream_error(stage: LangChainMistralStage) -> Any:
    return attempt(lambda: list(stage.chat("error_event").stream(QUESTION)))


@scenario(LIBRARY, "stream: 400", "error")
def stream_refused(stage: LangChainMistralStage) -> Any:
    return attempt(lambda: list(stage.chat("400").stream(QUESTION)))


@scenario(LIBRARY, "stream: no connection", "error")
def stream_unreachable(stage: LangChainMistralStage) -> Any:
    return attempt(lambda: list(stage.chat(url=NOBODY).stream(QUESTION)))


# --- asynchronous -----------------------------------------------------------------------------------
@scenario(LIBRARY, "async: chat")
async def async_chat(stage: LangChainMistralStage) -> Any:
    return await stage.chat().ainvoke(QUESTION)


@scenario(LIBRARY, "async: many at once", *["ok"] * 5)
async def async_batch(stage: LangChainMistralStage) -> Any:
    return await stage.chat().abatch([f"{QUESTION} {number}" for number in range(5)])


@scenario(LIBRARY, "async: tools and structured output", "ok", "ok")
async def async_tools(stage: LangChainMistralStage) -> Any:
    model = stage.chat()
    structured = model.with_structured_output(Shelf)
    return [await model.bind_tools([Shelf]).ainvoke(QUESTION), await structured.ainvoke(QUESTION)]


@scenario(LIBRARY, "async: method below is a coroutine function", "not metered")
async def async_below(stage: LangChainMistralStage) -> Any:
    below = stage.library.chat_models.acompletion_with_retry
    waiting = below(stage.chat(), messages=[{"role": "user", "content": QUESTION}])
    waiting.close()
    return [inspect.iscoroutinefunction(below), kind(waiting), below.__name__, below.__module__]


@scenario(LIBRARY, "async: 400", "error")
async def async_refused(stage: LangChainMistralStage) -> Any:
    return await awaited(stage.chat("400").ainvoke(QUESTION))


@scenario(LIBRARY, "async: no connection", "error")
async def async_unreachable(stage: LangChainMistralStage) -> Any:
    return await awaited(stage.chat(url=NOBODY).ainvoke(QUESTION))


@scenario(LIBRARY, "async: cancelled before the answer", "cancelled")
async def async_cancelled(stage: LangChainMistralStage) -> Any:
    task = asyncio.create_task(stage.chat("slow:1").ainvoke(QUESTION))
    while not stage.provider.attempts:
        await asyncio.sleep(0.01)
    task.cancel()
    return kind((await asyncio.gather(task, return_exceptions=True))[0])


@scenario(LIBRARY, "async: retries, no connection once", "error", "ok", exact=True)
async def async_retries(stage: LangChainMistralStage) -> Any:
    hurry()
    model = stage.library.ChatMistralAI(api_key="k", model=MODEL, max_retries=2, **stage.flaky())
    return await model.ainvoke(QUESTION)


@scenario(LIBRARY, "async stream")
async def async_stream(stage: LangChainMistralStage) -> Any:
    chunks = stage.chat().astream(QUESTION)
    return [kind(chunks), [chunk async for chunk in chunks]]


@scenario(LIBRARY, "async stream: closed", "closed_early")
async def async_stream_closed(stage: LangChainMistralStage) -> Any:
    chunks = stage.chat("slow:0.01").astream(QUESTION)
    first = await anext(chunks)
    await chunks.aclose()
    return first


@scenario(LIBRARY, "async stream: break, then dropped", "closed_early")
async def async_stream_dropped(stage: LangChainMistralStage) -> Any:
    seen: list[Any] = []
    async for chunk in stage.chat("slow:0.01").astream(QUESTION):
        seen.append(chunk)
        break
    gc.collect()
    await asyncio.sleep(0.05)
    return seen


@scenario(LIBRARY, "async stream: cancelled", "cancelled")
async def async_stream_cancelled(stage: LangChainMistralStage) -> Any:
    seen: list[Any] = []

    async def work() -> None:
        async for chunk in stage.chat("slow:0.4").astream(QUESTION):
            seen.append(chunk)

    task = asyncio.create_task(work())
    while not seen:
        await asyncio.sleep(0.01)
    task.cancel()
    done = await asyncio.gather(task, return_exceptions=True)
    return [kind(done[0]), seen[0]]


@scenario(LIBRARY, "async stream: server dies", "error")
async def async_stream_dies(stage: LangChainMistralStage) -> Any:
    seen: list[Any] = []

    async def work() -> None:
        async for chunk in stage.chat("die").astream(QUESTION):
            seen.append(chunk)

    return [await awaited(work()), seen]


@scenario(LIBRARY, "async stream: error event", "error")
async def async_stream_error(stage: LangChainMistralStage) -> Any:
    async def work() -> Any:
        return [chunk async for chunk in stage.chat("error_event").astream(QUESTION)]

    return await awaited(work())


@scenario(LIBRARY, "async stream: 400", "error")
async def async_stream_refused(stage: LangChainMistralStage) -> Any:
    async def work() -> Any:
        return [chunk async for chunk in stage.chat("400").astream(QUESTION)]

    return await awaited(work())


# --- embeddings -------------------------------------------------------------------------------------
LONG: Final = ["north " * 9000, "south " * 9000]
"""More than fits in one request."""


@scenario(LIBRARY, "embeddings: documents and query", "ok", "ok")
def embeddings(stage: LangChainMistralStage) -> Any:
    model = stage.embeddings()
    return [model.embed_documents(["north", "south"]), model.embed_query("where?"), kind(model.client)]


@scenario(LIBRARY, "embeddings: two batches", "ok", "ok")
def embeddings_batches(stage: LangChainMistralStage) -> Any:
    return stage.embeddings().embed_documents(LONG)


@scenario(LIBRARY, "embeddings: async", "ok", "ok")
async def embeddings_async(stage: LangChainMistralStage) -> Any:
    model = stage.embeddings()
    return [await model.aembed_documents(["north", "south"]), await model.aembed_query("where?")]


@scenario(LIBRARY, "embeddings: async, two batches at once", "ok", "ok")
async def embeddings_async_batches(stage: LangChainMistralStage) -> Any:
    return await stage.embeddings().aembed_documents(LONG)


@scenario(LIBRARY, "embeddings: 400", "error")
def embeddings_refused(stage: LangChainMistralStage) -> Any:
    return kind(attempt(lambda: stage.embeddings("400", max_retries=1).embed_documents(["north"])))


@scenario(LIBRARY, "embeddings: no connection", "error")
def embeddings_unreachable(stage: LangChainMistralStage) -> Any:
    return attempt(lambda: stage.embeddings(url=NOBODY).embed_documents(["north"]))


@scenario(LIBRARY, "embeddings: retries, 429 once", "error", "ok", exact=True)
def embeddings_retries(stage: LangChainMistralStage) -> Any:
    if "wait_time" not in stage.library.MistralAIEmbeddings.model_fields:
        raise NotThere("retries")
    return retried(attempt(lambda: stage.embeddings("429x1", wait_time=0).embed_documents(["north"])))


@scenario(LIBRARY, "embeddings: async, retries, 503 once", "error", "ok", exact=True)
async def embeddings_async_retries(stage: LangChainMistralStage) -> Any:
    if "wait_time" not in stage.library.MistralAIEmbeddings.model_fields:
        raise NotThere("retries")
    return retried(await awaited(stage.embeddings("503x1", wait_time=0).aembed_documents(["north"])))


@scenario(LIBRARY, "model: serialized", "not metered")
def serialized(stage: LangChainMistralStage) -> Any:
    from langchain_core.load import dumpd

    return view(json.loads(json.dumps(dumpd(stage.chat()))))
