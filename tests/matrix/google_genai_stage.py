"""Clients of `google-genai`, and what its scenarios have in common."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Iterable
from typing import Any, Final

from .scenario import NotThere, Stage
from .view import kind

GEMINI: Final = "gemini-2.5-flash"
THINKER: Final = "gemini-2.5-pro"
ASK: Final = "Where should the next delivery go?"


class GoogleStage(Stage):
    """The first versions can do neither retries nor arguments for the HTTP client."""

    @property
    def types(self) -> Any:
        """`google.genai.types`."""
        return importlib.import_module("google.genai.types")

    def options(self, *, attempts: int = 0, trouble: str | None = None) -> Any:
        """HTTP options of a client or a call: how often to try, what trouble to ask for."""
        told: dict[str, Any] = {"base_url": self.provider.url}
        known = self.types.HttpOptions.model_fields
        if "client_args" in known:
            # Certificates take longest to load.
            told |= {"client_args": {"verify": False}, "async_client_args": {"verify": False}}
        if trouble is not None:
            told["headers"] = {"x-scenario": trouble}
        if attempts:
            if "retry_options" not in known:
                raise NotThere("retry_options")
            told["retry_options"] = self.types.HttpRetryOptions(attempts=attempts, initial_delay=0.01, max_delay=0.02)
        return self.types.HttpOptions(**told)

    def keep(self, client: Any) -> Any:
        """The newer ones close their connections when they are dropped."""
        self.__dict__.setdefault("kept", []).append(client)
        return client

    def client(self, **options: Any) -> Any:
        """Of the Gemini API."""
        return self.keep(self.library.Client(api_key="test", http_options=self.options(**options)))

    def vertex(self, **options: Any) -> Any:
        """Of Vertex AI."""
        client = self.library.Client(
            vertexai=True,
            project="standin",
            location="europe-west4",
            credentials=importlib.import_module("google.oauth2.credentials").Credentials("test"),
            http_options=self.options(**options),
        )
        return self.keep(client)

    def interactions(self, **options: Any) -> Any:
        """The second client of the library, synchronous and asynchronous; the first versions have none."""
        client = self.client(**options)
        if not hasattr(client, "interactions"):
            raise NotThere("interactions")
        return client.interactions, client.aio.interactions

    def reported(self, usage: dict[str, Any] | None) -> list[int] | None:
        if usage is None or "images" in usage:
            return None
        if "total_input_tokens" in usage:
            return [usage["total_input_tokens"], usage["total_output_tokens"] + usage["total_thought_tokens"]]
        made = usage.get("candidatesTokenCount", 0) + usage.get("thoughtsTokenCount", 0)
        return [usage["promptTokenCount"], made]


def seen(answer: Any) -> Any:
    """An answer without the hour of its HTTP response."""
    http = getattr(answer, "sdk_http_response", None)
    if http is not None and http.headers is not None:
        http.headers = dict.fromkeys(http.headers, "")
    return answer


def read(chunks: Iterable[Any]) -> Any:
    """What a stream is, and what comes out of it."""
    return [kind(chunks), [seen(chunk) for chunk in chunks]]


async def arrived(stage: GoogleStage) -> None:
    """Wait for a request to arrive, and a moment more."""
    while not stage.provider.attempts:
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"It is sunny in {city}."


def news(city: str) -> str:
    """Tell what is new in a city."""
    return f"Nothing is new in {city}."


for _function in (weather, news):
    # The first versions do not read annotations that are text.
    _function.__annotations__ = {"city": str, "return": str}
