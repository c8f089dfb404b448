"""What `tests/test_langchain_mistralai.py` asks of the real library, where it is installed.

`python -m tests.langchain_mistralai_cases FILE`: each case returns what the test compares; all go to FILE as JSON.
"""

# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUntypedFunctionDecorator=false, reportUntypedBaseClass=false
# pyright: reportUnknownParameterType=false

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from unittest.mock import MagicMock

import httpx
import langchain_mistralai
import tenacity
from genai_meter import Blocked
from genai_meter.instrumentor import LangChainMistralInstrumentor, LangChainSpansInstrumentor
from langchain_core.callbacks import BaseCallbackHandler, manager
from langchain_core.language_models import FakeListChatModel, llms
from langchain_core.messages import HumanMessage
from langchain_mistralai import ChatMistralAI, MistralAIEmbeddings
from opentelemetry import trace
from tokenizers import Tokenizer, models

from tests.client_cases import Stage, case, main, refusing, requiring

LARGE = "mistral-large-2512"
ASK = "Where should it go?"
INSTRUMENTORS = (LangChainMistralInstrumentor, LangChainSpansInstrumentor)
MANAGERS = (manager.CallbackManager, manager.AsyncCallbackManager)
PATCHED = (
    (ChatMistralAI, "completion_with_retry"),
    (langchain_mistralai.chat_models, "acompletion_with_retry"),
    (MistralAIEmbeddings, "embed_documents"),
    (MistralAIEmbeddings, "aembed_documents"),
    *((owner, name) for owner in MANAGERS for name in ("on_chat_model_start", "on_llm_start")),
)
ORIGINALS = [vars(owner)[name] for owner, name in PATCHED]

llms.wait_exponential = lambda **_: tenacity.wait_none()  # pyright: ignore[reportUnknownLambdaType]


def chat(stage: Stage, trouble: str = "", **options: Any) -> Any:
    http: Any = {
        "base_url": f"{stage.provider.url}/mistral/v1",
        "headers": {"Authorization": "Bearer test-key", "x-scenario": trouble},
    }
    given = {"client": httpx.Client(**http), "async_client": httpx.AsyncClient(**http), "model": LARGE, "api_key": "k"}
    return ChatMistralAI(**{**given, **options})


def embeddings(stage: Stage) -> Any:
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    return MistralAIEmbeddings(api_key="k", endpoint=f"{stage.provider.url}/mistral/v1", tokenizer=tokenizer)


@case
def usage(stage: Stage) -> Any:
    long = "Where? " * 100
    chat(stage, max_tokens=3).invoke(long)
    list(chat(stage, max_tokens=3).stream(long))
    embeddings(stage).embed_documents(["north", "south of here"])
    return stage.events()


@case
def degraded(stage: Stage) -> Any:
    arguments: Any = {"messages": [{"role": "user", "content": ASK}], "model": LARGE}
    made = chat(stage)

    async def work() -> None:
        await made.ainvoke(ASK)
        async for _ in made.astream(ASK):
            pass

    with requiring("change", {"model": "mistral-small-latest", "max_tokens": 2}):
        made.completion_with_retry(**arguments)
        list(made.stream(ASK, max_tokens=900))
        asyncio.run(work())
    sent = [[served.request["model"], served.request["max_tokens"]] for served in stage.provider.served]
    return [sent, arguments["model"], [event["genai_meter.guard.action"] for event in stage.events()]]


@case
def blocked(stage: Stage) -> Any:
    made = chat(stage)

    async def read() -> Any:
        return [chunk async for chunk in made.astream(ASK)]

    calls = (
        lambda: made.invoke(ASK),
        lambda: list(made.stream(ASK)),
        lambda: asyncio.run(made.ainvoke(ASK)),
        lambda: asyncio.run(read()),
        lambda: embeddings(stage).embed_query(ASK),
    )
    found: list[str] = []
    with refusing("no more"):
        for call in calls:
            try:
                found.append(repr(call()))
            except Blocked as error:
                found.append(str(error))
    return [found, len(stage.provider.attempts), [event["genai_meter.status"] for event in stage.events()]]


@case
def current_span(stage: Stage) -> Any:
    seen: list[str] = []

    def name() -> str:
        return getattr(trace.get_current_span(), "name", "")

    class Seen(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            seen.append(name())
            return super().handle_request(request)

    client = httpx.Client(base_url=f"{stage.provider.url}/mistral/v1", transport=Seen())
    made = chat(stage, client=client)

    async def work() -> list[str]:
        return sorted({name() async for _ in made.astream(ASK)})

    with trace.get_tracer("app").start_as_current_span("work"):
        made.invoke(ASK)
        reading = sorted({name() for _ in made.stream(ASK)})
        reading_async = asyncio.run(work())
        after = name()
    return [seen, reading, reading_async, after]


@case
def retries(stage: Stage) -> Any:
    raised = None
    try:
        chat(stage, "die_before", max_retries=3).invoke(ASK)
    except httpx.HTTPError as error:
        raised = type(error).__name__
    told = [[event["genai_meter.status"], event["error.type"]] for event in stage.events()]
    return [raised, told, [event.get("genai_meter.attempts.count", 1) for event in stage.events()]]


@case
def refused(stage: Stage) -> Any:
    try:
        list(chat(stage, "429").stream(ASK))
    except httpx.HTTPStatusError:
        (event,) = stage.attributes()
        return [event["error.type"], {name: value for name, value in event.items() if "status_code" in name}]
    return None


class Keeps(BaseCallbackHandler):
    """Keeps a span for every run, as OpenInference does."""

    run_inline = True

    def __init__(self) -> None:
        self.spans: dict[Any, Any] = {}

    def on_chat_model_start(self, *_args: Any, run_id: Any, **_told: Any) -> None:
        self.spans[run_id] = trace.get_tracer("other").start_span("run")

    def get_span(self, run_id: Any) -> Any:
        return self.spans.get(run_id)

    def claimed(self) -> list[bool]:
        """Which of them a call has claimed, oldest first."""
        return ["genai_meter.call.id" in span.attributes for span in self.spans.values()]


# Only whom we know is believed to keep spans.
Keeps.__module__ = "openinference.instrumentation.langchain._tracer"


class Named(FakeListChatModel):
    """Tells LangChain its model, as most do."""

    def _get_ls_params(self, *_args: Any, **_told: Any) -> Any:
        return {"ls_provider": "another", "ls_model_name": "another-model"}


@case
def mocked(_stage: Stage) -> Any:
    """A test of the caller's, with a client that is none: each of its attributes has all attributes."""
    answer = httpx.Response(200, json={"choices": []}, request=httpx.Request("POST", "http://mistral"))
    client = MagicMock(spec=httpx.Client)
    client.post.return_value = answer
    made = ChatMistralAI(api_key="k", client=client, model=LARGE)
    return made.completion_with_retry(messages=[{"role": "user", "content": ASK}], model=LARGE)


@case
def claimed_by_its_run(stage: Stage) -> Any:
    keeps = Keeps()
    config: Any = {"callbacks": [keeps]}
    chat(stage).invoke(ASK, config=config)
    list(chat(stage).stream(ASK, config=config))
    # The library cannot add up usages with details, with us or without.
    with suppress(TypeError):
        chat(stage).generate([[HumanMessage("a")], [HumanMessage("b")]], callbacks=[keeps])
    return [keeps.claimed(), len(stage.telemetry.spans)]


@case
def claimed_by_no_other_request(stage: Stage) -> Any:
    keeps = Keeps()
    # Models that nobody meters, one of which tells its name; while they answer, others are asked.
    for model in (FakeListChatModel(responses=["abc"]), Named(responses=["abc"])):
        open_stream = model.stream(ASK, config={"callbacks": [keeps]})
        next(open_stream)
        embeddings(stage).embed_query(ASK)
        chat(stage).completion_with_retry(messages=[{"role": "user", "content": ASK}], model=LARGE)
        list(open_stream)
    # Of several that begin at once, nobody tells who asks.
    chat(stage, streaming=True).generate([[HumanMessage("a")], [HumanMessage("b")]], callbacks=[keeps])
    return [keeps.claimed(), len(stage.events())]


@case
def claimed_once_by_retries(stage: Stage) -> Any:
    keeps = Keeps()
    try:
        chat(stage, "die_before", max_retries=2).invoke(ASK, config={"callbacks": [keeps]})
    except httpx.HTTPError:
        found = [keeps.claimed(), len(stage.events())]
        return [*found, [span.name for span in stage.telemetry.spans]]
    return None


@case
def dropped_in_threads(stage: Stage) -> Any:
    """Streams that are left in a cycle, which the collector finds in whatever thread."""

    def leave(number: int) -> None:
        chunks = chat(stage, "slow:0.01").stream(f"{ASK} {number}")
        next(chunks)
        kept: list[Any] = [chunks]
        kept.append(kept)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(leave, range(8)))
    gc.collect()
    return sorted(event["genai_meter.status"] for event in stage.events())


@case
def uninstrumented(stage: Stage) -> Any:
    """Last: a call made while it is off, and one made after it is on again."""
    method = chat(stage).completion_with_retry
    for instrumentor in INSTRUMENTORS:
        instrumentor().uninstrument()
    restored = [vars(owner)[name] is original for (owner, name), original in zip(PATCHED, ORIGINALS, strict=True)]
    chat(stage).invoke(ASK)
    # Bound before, and still ours.
    method(messages=[{"role": "user", "content": ASK}], model=LARGE)
    before = len(stage.events())
    for instrumentor in INSTRUMENTORS:
        instrumentor().instrument(skip_dep_check=True)
    chat(stage).invoke(ASK)
    return [restored, before, len(stage.events())]


if __name__ == "__main__":
    main(*INSTRUMENTORS)
