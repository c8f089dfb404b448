"""Calls of Bedrock through botocore, metered into memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

import emission_kit
import pytest
from emission_kit import Telemetry
from genai_meter import emit, guard
from genai_meter.call import Prepared
from genai_meter.instrumentor import BotocoreInstrumentor

from examples.provider import Provider
from tests import aws_kit

HAIKU: Final = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
ARN: Final = "arn:aws:bedrock:us-east-1:123456789012:"
TURNS: Any = [{"role": "user", "content": [{"text": "Where to?"}]}]
ASK: Any = {"modelId": HAIKU, "messages": TURNS, "inferenceConfig": {"maxTokens": 9}}
CLAUDE: Any = {
    "anthropic_version": "bedrock-2023-05-31",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "Where to?"}],
}
INVOKE: Any = {"modelId": HAIKU, "body": json.dumps(CLAUDE)}


def decide_by(monkeypatch: pytest.MonkeyPatch, decide: Callable[[Prepared], guard.Decision]) -> None:
    """What the guard says of each call."""
    monkeypatch.setattr(guard, "decide", decide)


def metered() -> AbstractContextManager[Telemetry]:
    """botocore metered, into memory; nothing of ours may have raised."""
    return emission_kit.metered(BotocoreInstrumentor, HASH_KEY="k:0123456789abcdef")


def client(provider: Provider, service: str = "bedrock-runtime", trouble: str = "", **settings: Any) -> Any:
    """A client of the stand-in provider; `trouble`: the scenario it plays."""
    made = aws_kit.client(service, provider.url, **settings)
    if trouble:
        aws_kit.add_header(made, "x-scenario", trouble)
    return made


def only_event(telemetry: Telemetry) -> Mapping[str, Any]:
    """The attributes of the one usage event there is."""
    emit.flush()
    (event,) = telemetry.events
    return event.attributes
