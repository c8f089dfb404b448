"""Programs that use the clients in their own ways: nothing breaks, nothing is lost."""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from emission_kit import Telemetry, telemetry
from genai_meter import emit, safety
from genai_meter.instrumentor import OpenAIInstrumentor

from examples.provider import Provider

ASK: Any = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Where to?"}]}


class Overriding(openai.OpenAI):
    """A client class with a `request` of its own, made before the patch."""

    def request(self, cast_to: Any, options: Any, **kwargs: Any) -> Any:
        """Send it."""
        return super().request(cast_to, options, **kwargs)


@dataclass
class Equal(openai.OpenAI):
    """A client class that can be compared, and therefore has no hash."""

    name: str

    def __post_init__(self) -> None:
        super().__init__(base_url=self.name, api_key="sk-test")


@pytest.fixture
def metered() -> Iterator[Telemetry]:
    with telemetry() as pipeline:
        OpenAIInstrumentor().instrument()
        safety.internal_errors.clear()
        yield pipeline
        OpenAIInstrumentor().uninstrument()
        assert dict(safety.internal_errors) == {}


def statuses(pipeline: Telemetry) -> list[Any]:
    emit.flush()
    return [event.attributes["genai_meter.status"] for event in pipeline.events]


def test_an_override_of_the_callers_stays_what_it_is(metered: Telemetry, provider: Provider) -> None:
    assert list(inspect.signature(Overriding.request).parameters) == ["self", "cast_to", "options", "kwargs"]
    assert (Overriding.request.__qualname__, Overriding.request.__doc__) == ("Overriding.request", "Send it.")
    with Overriding(base_url=f"{provider.url}/v1", api_key="sk-test") as client:
        client.chat.completions.create(**ASK)
    assert statuses(metered) == ["ok"]


def test_a_client_without_a_hash_is_metered(metered: Telemetry, provider: Provider) -> None:
    with Equal(f"{provider.url}/v1") as client:
        client.chat.completions.create(**ASK)
    assert statuses(metered) == ["ok"]


async def test_a_coroutine_thrown_away_in_another_context_is_no_error(metered: Telemetry, provider: Provider) -> None:
    client: Any = openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="sk-test")
    async with client:
        running = client.chat.completions.create(**ASK)
        contextvars.copy_context().run(running.send, None)
        running.close()
    # Nothing was sent yet; that no error was swallowed is for the fixture to see.
    assert statuses(metered) == []
