"""What a scenario is, and what it runs with."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from examples.provider import Provider

MESSAGES: Final = [{"role": "user", "content": "Where should the next delivery go?"}]
MODEL: Final = "gpt-4o-mini"
CLAUDE: Final = "claude-haiku-4-5"


class NotThere(Exception):
    """This version of the library does not have what the scenario is about."""


@dataclass(frozen=True)
class Scenario:
    """One way to call, and what the meter must say of it."""

    library: str
    """Name of its family (`families`)."""
    name: str
    run: Callable[[Stage], Any] | Callable[[Stage], Awaitable[Any]]
    statuses: tuple[str, ...]
    """Status of each call; empty for what is not metered. `a|b` where the garbage collector decides."""
    exact: bool
    """The usage must be what the provider reported."""
    attempts: int
    """HTTP exchanges of each call."""
    resent: bool
    """The server may see one request more than without the plugin."""


SCENARIOS: Final[list[Scenario]] = []


def scenario(
    library: str,
    name: str,
    *statuses: str,
    exact: bool | None = None,
    attempts: int = 1,
    resent: bool = False,
) -> Callable[[Any], Any]:
    """Declare a scenario: one call that ends `ok` unless told otherwise."""
    ends = statuses or ("ok",)

    def register(run: Any) -> Any:
        metered = () if ends == ("not metered",) else ends
        known = all(status == "ok" for status in ends) if exact is None else exact
        SCENARIOS.append(Scenario(library, name, run, metered, known, attempts, resent))
        return run

    return register


class Stage:
    """The provider, and clients of the library for it; this one knows `openai` and `anthropic`.

    A family whose clients are made in another way has a subclass and names it in its row of `families`.
    """

    def __init__(self, provider: Provider, library: ModuleType) -> None:
        self.provider = provider
        self.library = library

    @property
    def base_url(self) -> str:
        """Where the library's own API lives."""
        return self.provider.url + ("/v1" if self.library.__name__ == "openai" else "")

    def client(self, **options: Any) -> Any:
        """A synchronous client; without TLS, whose certificates take longest to load."""
        kind = self.library.OpenAI if self.library.__name__ == "openai" else self.library.Anthropic
        if "http_client" not in options:
            options["http_client"] = self.library.DefaultHttpxClient(verify=False, timeout=options.get("timeout", 60))
        return kind(**{"base_url": self.base_url, "api_key": "sk-test", **options})

    def async_client(self, **options: Any) -> Any:
        """An asynchronous client."""
        kind = self.library.AsyncOpenAI if self.library.__name__ == "openai" else self.library.AsyncAnthropic
        if "http_client" not in options:
            options["http_client"] = self.library.DefaultAsyncHttpxClient(verify=False)
        return kind(**{"base_url": self.base_url, "api_key": "sk-test", **options})

    def reported(self, usage: dict[str, Any] | None) -> list[int] | None:
        """Gross input and output tokens of the provider's own usage object; None where it counts no tokens."""
        if usage is None or usage.get("type") == "duration":
            return None
        if "prompt_tokens" in usage:
            return [usage["prompt_tokens"], usage.get("completion_tokens", 0)]
        cached = usage.get("cache_read_input_tokens", 0) + usage.get("cache_creation_input_tokens", 0)
        return [usage["input_tokens"] + cached, usage["output_tokens"]]

    @property
    def httpx(self) -> ModuleType:
        """The HTTP library this version is built on."""
        base = sys.modules[f"{self.library.__name__}._base_client"]
        return getattr(base, "httpx2", None) or base.httpx


def find(root: Any, *paths: str) -> Any:
    """The first of several attribute paths that exists."""
    for path in paths:
        found = root
        try:
            for name in path.split("."):
                found = getattr(found, name)
        except AttributeError:
            continue
        return found
    raise NotThere(paths[0])


def accepts(method: Any, parameter: str) -> Any:
    """The method, when it has the parameter."""
    if parameter not in inspect.signature(method).parameters:
        raise NotThere(parameter)
    return method


def trouble(name: str) -> dict[str, Any]:
    """Call arguments that ask the provider for trouble."""
    return {"extra_headers": {"x-scenario": name}}


def attempt(function: Callable[[], Any]) -> Any:
    """What a call returns or raises."""
    try:
        return function()
    except Exception as error:  # noqa: BLE001 - whatever it raises is the result
        return error
