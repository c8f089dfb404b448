"""Answers from caches: an event of no cost, the cost avoided, no provider call; own caches and those of libraries."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from emission_kit import telemetry
from exporter_kit import Event, Served, usage_event
from genai_meter import attribute, cache_hit
from genai_meter_exporter.cli import main

from examples.provider import Provider
from tests.environments import FRAMEWORKS, LITELLM_OLDEST, Environment

ROOT = Path(__file__).resolve().parent.parent
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 400}},
}
"""600 × 2.50 + 400 × 1.25 + 100 × 10 USD a million: 3 millicents."""
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "model": "claude-sonnet-4-5-20250929",
    "content": [{"type": "text", "text": "hi"}],
    "usage": {"input_tokens": 1000, "output_tokens": 100},
}


def only(answer: object = None, **arguments: Any) -> dict[str, Any]:
    """The attributes of the one event of a hit, without its ids and times."""
    with telemetry() as pipeline:
        cache_hit(answer, **arguments)
        assert "genai_meter.cost" not in pipeline.points()
    (event,) = pipeline.events
    assert (event.name, pipeline.spans) == ("genai_meter.usage", [])
    attributes = dict(event.attributes)
    assert len(attributes.pop("genai_meter.call.id")) == 36
    assert attributes.pop("genai_meter.start") == attributes.pop("genai_meter.end") == event.timestamp
    return attributes


FREE = {
    "genai_meter.schema_version": "1",
    "genai_meter.status": "ok",
    "genai_meter.cache_hit": True,
    "genai_meter.cost.effective": 0,
    "genai_meter.cost.list": 0,
    "genai_meter.cost.status": "free",
    "genai_meter.sdk": "application",
}


def test_an_answer_is_priced_by_its_own_usage() -> None:
    with attribute(tenant="acme"):
        found = only(CHAT, feature="search")
    assert found == {
        **FREE,
        "gen_ai.provider.name": "openai",
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o-2024-08-06",
        "genai_meter.usage.source": "provider",
        "genai_meter.cost.avoided": 3_000_000_000,
        "genai_meter.tenant": "acme",
        "genai_meter.feature": "search",
    }


@pytest.mark.parametrize(
    ("answer", "arguments", "told"),
    [
        (MESSAGE, {}, ("anthropic", "chat", "claude-sonnet-4-5-20250929", 4_500_000_000)),
        (SimpleNamespace(**MESSAGE), {}, ("anthropic", "chat", "claude-sonnet-4-5-20250929", 4_500_000_000)),
        (
            MESSAGE,
            {"provider": "gcp.vertex_ai"},
            ("gcp.vertex_ai", "chat", "claude-sonnet-4-5-20250929", 4_500_000_000),
        ),
        (
            {"usage": {"inputTokens": 1000, "outputTokens": 100, "totalTokens": 1100}, "output": {}},
            {"model": "anthropic.claude-3-haiku-20240307-v1:0"},
            ("aws.bedrock", "chat", "anthropic.claude-3-haiku-20240307-v1:0", 375_000_000),
        ),
        (
            {
                "usageMetadata": {"promptTokenCount": 1000, "candidatesTokenCount": 100},
                "modelVersion": "gemini-2.5-flash",
            },
            {},
            ("gcp.gemini", "generate_content", "gemini-2.5-flash", 550_000_000),
        ),
        (
            {"object": "list", "model": "text-embedding-3-small", "data": [], "usage": {"prompt_tokens": 1000}},
            {},
            ("openai", "embeddings", "text-embedding-3-small", 20_000_000),
        ),
        (
            None,
            {"provider": "openai", "model": "gpt-4o", "input_tokens": 1000, "output_tokens": 100},
            ("openai", "chat", "gpt-4o", 3_500_000_000),
        ),
        (
            None,
            {"provider": "openai", "model": "gpt-4o", "cost_avoided_usd": Decimal("0.5")},
            ("openai", "chat", "gpt-4o", 500_000_000_000),
        ),
    ],
)
def test_ways_to_tell_what_was_avoided(answer: object, arguments: dict[str, Any], told: tuple[Any, ...]) -> None:
    found = only(answer, **arguments)
    names = ("gen_ai.provider.name", "gen_ai.operation.name", "gen_ai.request.model", "genai_meter.cost.avoided")
    assert tuple(found[name] for name in names) == told


def test_from_characters_it_is_an_estimate() -> None:
    found = only(provider="openai", model="gpt-4o", input_chars=420, output_chars=88)
    # 420 / 4.2 + 8 tokens in, 88 / 4.4 + 2 out.
    assert found["genai_meter.cost.avoided"] == 108 * 2_500_000 + 22 * 10_000_000
    assert (found["genai_meter.usage.source"], found["genai_meter.cost.reasons"]) == (
        "estimated",
        '["usage_estimated"]',
    )


@pytest.mark.parametrize("answer", [None, "text", 7, {"object": "unheard of"}, {"object": []}, object()])
def test_what_is_not_known_is_not_guessed(answer: object) -> None:
    found = only(answer)
    assert "genai_meter.cost.avoided" not in found
    assert found["genai_meter.usage.source"] == "unknown"


def test_mistakes_are_named() -> None:
    with pytest.raises(TypeError, match="cost_avoided_usd must be a Decimal"):
        cache_hit(cost_avoided_usd=0.1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="input_tokens must not be negative"):
        cache_hit(input_tokens=-1)
    with pytest.raises(TypeError, match="did you mean 'tenant'"):
        cache_hit(tenent="acme")


# --- in the ledger --------------------------------------------------------------------------------------
@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as running:
        yield running


def test_a_hit_is_neither_spend_nor_call(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    with telemetry() as pipeline, attribute(team="core", feature="search", tenant="acme"):
        cache_hit(CHAT)
        cache_hit(CHAT)
    hits = [Event(event.attributes, name=event.name, time_ns=event.timestamp) for event in pipeline.events]
    served.send(*hits, usage_event(team="core", feature="search"))
    served.send(*hits)
    who = {"team": "core", "environment": "prod", "service": "shop", "feature": "search"}
    what = {"provider": "openai", "model": "gpt-4o-2024-08-06"}
    served.settled("cache_hits_total", 2, **who, **what)
    served.settled("cost_avoided_usd_total", 0.006, **who, **what)
    assert served.value("ledger_events_total") == 1
    assert served.value("ledger_cost_usd_total") == 0.0035
    assert served.value("ingest_events_total", status="accepted") == 1
    options = ["--since", "all", "--data-dir", str(served.data), "--format", "json"]
    assert main(["caches", "--by", "feature,model", *options]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == [
        {
            "feature": "search",
            "model": "gpt-4o-2024-08-06",
            "cache_hits": 2,
            "calls": 1,
            "hit_rate": 2 / 3,
            "cost_avoided_usd": "0.006000000000",
        }
    ]
    assert main(["usage", "--by", "feature", *options]) == 0
    assert [row["calls"] for row in json.loads(capsys.readouterr().out)["rows"]] == [1]
    assert main(["caches", "--since", "all", "--data-dir", str(served.data)]) == 0
    assert "66.7%" in capsys.readouterr().out
    for tenant, hits in (("acme", [2]), ("zeta", [])):
        assert main(["caches", "--by", "feature", "--where", f"tenant={tenant}", *options]) == 0
        assert [row["cache_hits"] for row in json.loads(capsys.readouterr().out)["rows"]] == hits


# --- caches of libraries --------------------------------------------------------------------------------
def through(environment: Environment, library: str, mode: str, url: str, place: Path) -> tuple[dict[str, Any], Any]:
    """What a child that asks twice got, and the events of each case."""
    output = place / f"{library}-{mode}.json"
    done = subprocess.run(
        [environment.python(), "-m", "tests.caches.child", library, mode, url, output],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'instrumentation'}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told, errors = json.loads(output.read_text(encoding="utf-8"))
    return told, errors


def summary(events: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Hit, operation, model, source and what was paid or avoided, of each event."""
    return [
        (
            event.get("genai_meter.cache_hit", False),
            event["gen_ai.operation.name"],
            event.get("gen_ai.response.model") or event.get("gen_ai.request.model"),
            event["genai_meter.usage.source"],
            (event.get("genai_meter.cost.effective"), event.get("genai_meter.cost.avoided")),
        )
        for event in events
    ]


OLDEST, NEWEST = FRAMEWORKS["langchain"]


@pytest.mark.timeout(600)
def test_langchains_cache(provider: Provider, tmp_path: Path) -> None:
    off, _ = through(NEWEST, "langchain", "off", provider.url, tmp_path)
    on, errors = through(NEWEST, "langchain", "on", provider.url, tmp_path)
    assert {case: told[0] for case, told in on.items()} == {case: told[0] for case, told in off.items()}
    assert errors == {}
    asked, hit = summary(on["sync"][1])
    cost = asked[-1][0]
    assert cost > 0
    assert (asked[0], asked[1], asked[3]) == (False, "chat", "provider")
    assert hit == (True, "chat", asked[2], "provider", (0, cost))
    assert summary(on["async"][1]) == [hit]
    assert summary(on["text"][1]) == [(True, "text_completion", None, "estimated", (0, None))]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_langchain_whose_chat_models_tell_no_hit_is_left_alone(provider: Provider, tmp_path: Path) -> None:
    on, errors = through(OLDEST, "langchain", "on", provider.url, tmp_path)
    assert errors == {}
    assert [event[0] for event in summary(on["sync"][1])] == [False]
    assert summary(on["async"][1]) == []
    assert [event[0] for event in summary(on["text"][1])] == [True]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_litellm_answers_the_same_with_and_without_us(provider: Provider, tmp_path: Path) -> None:
    off, _ = through(LITELLM_OLDEST, "litellm", "off", provider.url, tmp_path)
    on, _ = through(LITELLM_OLDEST, "litellm", "on", provider.url, tmp_path)
    assert {case: told[0] for case, told in on.items()} == {case: told[0] for case, told in off.items()}


@pytest.mark.timeout(600)
def test_litellms_cache(provider: Provider, tmp_path: Path) -> None:
    on, errors = through(LITELLM_OLDEST, "litellm", "on", provider.url, tmp_path)
    assert errors == {}
    asked, hit = summary(on["sync"][1])
    assert asked[-1][0] > 0
    assert hit == (True, "chat", asked[2], "provider", (0, asked[-1][0]))
    assert summary(on["async"][1]) == [hit]
    embedded, again = summary(on["embeddings"][1])
    assert (embedded[0], embedded[1], again[0], again[1]) == (False, "embeddings", True, "embeddings")
    assert again[-1][0] == 0
    assert again[-1][1] > 0
