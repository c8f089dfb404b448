"""`huggingface_hub` by its inference clients."""

from __future__ import annotations

import importlib
from typing import Any, Final

from tests.environments import CLIENTS
from tests.traffic.calls import Call, NotReplayable, base_url, known
from tests.traffic.ollama import unfold, unfold_async
from tests.traffic.recordings import Exchange, fields
from tests.traffic.server import PIN

ENVIRONMENT: Final = CLIENTS
PROVIDERS: Final = ("huggingface",)
CHAT: Final = "/chat/completions"

__all__ = ["ENVIRONMENT", "PROVIDERS", "client", "plan", "unfold", "unfold_async"]


def plan(exchange: Exchange) -> Call | None:
    """A chat; the client is told which recording it is about."""
    if not exchange.bare_path.endswith(CHAT):
        raise NotReplayable("the library no longer sends to /pipeline")
    library = importlib.import_module("huggingface_hub")
    arguments = known(library.InferenceClient.chat_completion, fields(exchange.request))
    root = exchange.origin + exchange.bare_path.removesuffix(CHAT)
    return Call("hub", root, "chat_completion", arguments, deployment=exchange.id)


def client(call: Call, url: str, asynchronous: bool) -> Any:
    """A client for one recording."""
    library = importlib.import_module("huggingface_hub")
    kind = library.AsyncInferenceClient if asynchronous else library.InferenceClient
    return kind(base_url=base_url(call, url), api_key="hf_none", headers={PIN: call.deployment or ""}, timeout=30)
