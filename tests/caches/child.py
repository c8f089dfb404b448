"""Asks twice through a library with a cache: `python -m tests.caches.child LIBRARY on|off URL OUTPUT`."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opentelemetry import _logs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor


def _module(name: str) -> Any:
    """A module that only the environment of this library has."""
    return importlib.import_module(name)


def langchain(url: str) -> dict[str, Callable[[], object]]:
    """A chat model and a text model, sync and async."""
    core, fake = _module("langchain_core.caches"), _module("langchain_core.language_models.fake")
    _module("langchain_core.globals").set_llm_cache(core.InMemoryCache())
    chat = _module("langchain_openai").ChatOpenAI(model="gpt-4o", api_key="k", base_url=f"{url}/v1")
    text = fake.FakeListLLM(responses=["first", "second"])
    return {
        "sync": lambda: [chat.invoke("hello").content for _ in range(2)],
        "async": lambda: asyncio.run(chat.ainvoke("hello")).content,
        "text": lambda: [text.invoke("hello") for _ in range(2)],
    }


def litellm(url: str) -> dict[str, Callable[[], object]]:
    """Completions and embeddings, sync and async."""
    library = _module("litellm")
    library.cache = _module("litellm.caching.caching").Cache()
    asked: dict[str, Any] = {
        "model": "openai/gpt-4o",
        "messages": [{"role": "user", "content": "hello"}],
        "api_base": f"{url}/v1",
        "api_key": "k",
    }
    embed: dict[str, Any] = {**asked, "model": "openai/text-embedding-3-small", "input": ["hello"]}
    del embed["messages"]

    async def embedded() -> int:
        for _ in range(2):
            await library.aembedding(**embed)
            await asyncio.sleep(0.2)  # the answer is put into the cache by a task of its own
        return 2

    async def asked_again() -> str:
        return (await library.acompletion(**asked)).choices[0].message.content

    return {
        "sync": lambda: [library.completion(**asked).choices[0].message.content for _ in range(2)],
        "async": lambda: asyncio.run(asked_again()),
        "embeddings": lambda: asyncio.run(embedded()),
    }


def main() -> None:
    library, mode, url, output = sys.argv[1:]
    warnings.simplefilter("ignore")
    os.environ.update(LITELLM_LOCAL_MODEL_COST_MAP="True", LANGSMITH_TRACING="false")
    kept, provider = InMemoryLogRecordExporter(), LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(kept))
    _logs.set_logger_provider(provider)
    if mode == "on":
        from genai_meter import instrumentor

        for made in (
            instrumentor.OpenAIInstrumentor,
            instrumentor.LangChainCacheInstrumentor,
            instrumentor.LiteLLMCacheInstrumentor,
        ):
            made().instrument(skip_dep_check=True)
    told: dict[str, Any] = {}
    for name, case in {"langchain": langchain, "litellm": litellm}[library](url).items():
        result = case()
        told[name] = [result, [dict(item.log_record.attributes or {}) for item in kept.get_finished_logs()]]
        kept.clear()
    errors: dict[str, int] = {}
    if mode == "on":
        from genai_meter.safety import internal_errors

        errors = dict(internal_errors)
    Path(output).write_text(json.dumps([told, errors]), encoding="utf-8")


if __name__ == "__main__":
    main()
