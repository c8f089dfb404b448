"""`groq`, `together` and others of their make: what `openai` does about chats, with the clients of these libraries."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

from . import openai_async, openai_calls, openai_streams
from .scenario import SCENARIOS, NotThere, Stage

LIBRARIES: Final = {
    "groq": "Groq",
    "together": "Together",
    "cerebras": "Cerebras",
    "perplexity": "Perplexity",
    "fireworks": "Fireworks",
}
"""Family → how its client classes are called."""
OTHERS: Final = re.compile(
    r"parse|responses|embeddings|moderation|image|speech|transcription|legacy|list of|client\.post|Azure|module|"
    r"a client inside|helper|beta|pickle|whole URL|background|pickles|several|each chunk"
)
"""What these libraries do not have, or have at another place, or cannot do with the plugin off either."""
NAMES_USAGE: Final = re.compile(r"usage asked for$|usage declined|streaming response, stream: (?!usage)")
"""Scenarios that pass `stream_options`."""
KNOW_USAGE: Final = frozenset({"cerebras"})
"""Libraries whose methods have `stream_options`."""
WARM: Final[dict[str, Any]] = {"cerebras": {"warm_tcp_connection": False}}
"""Arguments of a client that calls nobody when it is made."""
LACKS: Final = {("perplexity", "stream: tool call")}
"""What the methods of a library have no parameter for."""
UNVERSIONED: Final = {"perplexity": "/v1"}
"""Libraries whose API has no version in its URLs: where the stand-in has it."""
PARTS: Final = {openai_calls.__name__, openai_streams.__name__, openai_async.__name__}


class CompatibleStage(Stage):
    """Clients of a library that another generator run of the same kind has made."""

    @property
    def base_url(self) -> str:
        name = self.library.__name__.partition(".")[0]
        # Where the version is: in the library's own base URL, or in its paths.
        path = getattr(self.library, LIBRARIES[name])(api_key="sk-test", **WARM.get(name, {})).base_url.path
        return self.provider.url + (UNVERSIONED.get(name) or path.rstrip("/"))

    def client(self, **options: Any) -> Any:
        return self._made("", options)

    def async_client(self, **options: Any) -> Any:
        return self._made("Async", options)

    def _made(self, prefix: str, options: dict[str, Any]) -> Any:
        name = self.library.__name__.partition(".")[0]
        if "http_client" not in options:
            kind = getattr(self.library, f"Default{prefix}HttpxClient", None)
            if kind is None:
                raise NotThere("DefaultHttpxClient")
            options["http_client"] = kind(verify=False, timeout=options.get("timeout", 60))
        given = {"base_url": self.base_url, "api_key": "sk-test", **WARM.get(name, {}), **options}
        return getattr(self.library, prefix + LIBRARIES[name])(**given)


for _found in [s for s in SCENARIOS if s.library == "openai" and s.run.__module__ in PARTS]:
    if not OTHERS.search(_found.name):
        names = KNOW_USAGE if NAMES_USAGE.search(_found.name) else LIBRARIES
        SCENARIOS.extend(replace(_found, library=name) for name in names if (name, _found.name) not in LACKS)
