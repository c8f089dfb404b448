"""`litellm`: through the `openai` package, and by itself."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# ruff: noqa: PERF401 - loops as callers write them

from __future__ import annotations

import asyncio
from typing import Any, Final

from .scenario import CLAUDE, MESSAGES, MODEL, Stage, attempt, scenario
from .view import kind

WAYS: Final = {
    "openai": (f"openai/{MODEL}", "/v1"),
    "anthropic": (f"anthropic/{CLAUDE}", ""),
    "deepseek": ("deepseek/deepseek-chat", "/v1"),
    "ollama": ("ollama_chat/llama3.2", ""),
}
"""Provider → model and path: by the `openai` package, and three that litellm calls itself."""
OWN: Final = frozenset({"id", "created", "_response_ms"})
"""What litellm makes up anew for each answer."""


class LiteLLMStage(Stage):
    """What to call it with."""

    def arguments(self, way: str, trouble: str = "") -> dict[str, Any]:
        """For one provider; `trouble` is what its server is asked for."""
        model, path = WAYS[way]
        headers = {"extra_headers": {"x-scenario": trouble}} if trouble else {}
        base = {"api_base": self.provider.url + path, "api_key": "sk-test", "max_retries": 0, "timeout": 30}
        return {"model": model, "messages": MESSAGES, **base, **headers}

    def reported(self, usage: dict[str, Any] | None) -> list[int] | None:
        if usage is not None and "prompt_eval_count" in usage:
            return [usage["prompt_eval_count"], usage.get("eval_count", 0)]
        return super().reported(usage)


def plain(answer: Any) -> Any:
    """An answer or a chunk, without what is random about it."""
    return [kind(answer), {name: value for name, value in answer.model_dump().items() if name not in OWN}]


def failure(error: Any) -> Any:
    """An exception in short: its text has numbers of litellm's own."""
    return [kind(error), getattr(error, "status_code", None)]


def chat(stage: LiteLLMStage, way: str) -> Any:
    return plain(stage.library.completion(**stage.arguments(way)))


def refused(stage: LiteLLMStage, way: str) -> Any:
    return failure(attempt(lambda: stage.library.completion(**stage.arguments(way, "400"))))


def stream(stage: LiteLLMStage, way: str) -> Any:
    # litellm reads no further than the last chunk: the end is seen only when it comes with that.
    answer = stage.library.completion(**stage.arguments(way, "done_with_last"), stream=True)
    return [kind(answer), [plain(chunk) for chunk in answer]]


async def async_chat(stage: LiteLLMStage, way: str) -> Any:
    return plain(await stage.library.acompletion(**stage.arguments(way)))


async def async_stream(stage: LiteLLMStage, way: str) -> Any:
    answer = await stage.library.acompletion(**stage.arguments(way), stream=True)
    return [kind(answer), [plain(chunk) async for chunk in answer]]


async def async_cancelled(stage: LiteLLMStage, way: str) -> Any:
    seen: list[Any] = []

    async def work() -> None:
        async for chunk in await stage.library.acompletion(**stage.arguments(way, "slow:0.4"), stream=True):
            seen.append(plain(chunk))

    task = asyncio.create_task(work())
    while not seen:
        await asyncio.sleep(0.01)
    task.cancel()
    done = await asyncio.gather(task, return_exceptions=True)
    return [kind(done[0]), seen[0]]


def _declare(way: str) -> None:
    """The same scenarios for every provider."""
    for what, run, *ends in (
        ("chat", chat),
        ("400", refused, "error"),
        ("stream", stream),
    ):

        def sync(stage: Any, run: Any = run) -> Any:
            return run(stage, way)

        # litellm asks an Ollama server about the model, by the way.
        scenario("litellm", f"{way}: {what}", *ends, resent=way == "ollama")(sync)
    for what, start, *ends in (
        ("async", async_chat),
        ("async stream", async_stream),
        ("async stream cancelled", async_cancelled, "cancelled|closed_early|abandoned"),
    ):

        async def asynchronous(stage: Any, start: Any = start) -> Any:
            return await start(stage, way)

        scenario("litellm", f"{way}: {what}", *ends, resent=way == "ollama")(asynchronous)


for _way in WAYS:
    _declare(_way)


@scenario("litellm", "embedding")
def embedding(stage: Any) -> Any:
    arguments = stage.arguments("openai") | {"model": "openai/text-embedding-3-small", "input": ["north", "south"]}
    arguments.pop("messages")
    return stage.library.embedding(**arguments).model_dump()


@scenario("litellm", "responses")
def responses(stage: Any) -> Any:
    arguments = stage.arguments("openai")
    arguments["input"] = arguments.pop("messages")
    arguments.pop("max_retries")
    return stage.library.responses(**arguments).model_dump(include={"model", "usage", "status"})


@scenario("litellm", "several choices")
def mock(stage: Any) -> Any:
    return plain(stage.library.completion(**stage.arguments("openai"), n=2))


@scenario("litellm", "an answer that litellm makes up", "not metered")
def mocked(stage: Any) -> Any:
    return plain(stage.library.completion(**stage.arguments("anthropic"), mock_response="north"))
