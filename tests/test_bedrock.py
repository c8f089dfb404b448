"""The seam of botocore on its real clients: what the matrix of callers does not show."""

from __future__ import annotations

import copy
import gc
import importlib
import io
import json
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import wrapt
from bedrock_kit import ARN, ASK, CLAUDE, HAIKU, INVOKE, TURNS, client, decide_by, metered, only_event
from emission_kit import Telemetry
from emission_kit import telemetry as pipeline
from genai_meter import emit, guard, safety
from genai_meter.call import Prepared
from genai_meter.dialects.bedrock_invoke import BedrockInvoke
from genai_meter.instrumentor import BotocoreInstrumentor
from opentelemetry import trace

from examples.provider import Provider
from tests import aws_kit


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    with metered() as kept:
        yield kept


# --- one call
def test_a_call_whole(telemetry: Telemetry, provider: Provider) -> None:
    client(provider).converse(**ASK)
    event = only_event(telemetry)
    told = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "aws.bedrock",
        "gen_ai.request.model": HAIKU,
        "gen_ai.request.max_tokens": 9,
        "server.address": "127.0.0.1",
        "cloud.region": "us-east-1",
        "genai_meter.id_family": "bedrock.converse",
        "genai_meter.sdk": "botocore.BedrockRuntime",
        "genai_meter.status": "ok",
        "genai_meter.request.messages": 1,
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 9,
        "gen_ai.response.finish_reasons": '["max_tokens"]',
        "http.response.status_code": 200,
        # 3 × 1.10 + 9 × 5.50 USD a million: the regional price
        "genai_meter.cost.effective": 52_800_000,
        "genai_meter.cost.status": "exact",
    }
    assert {name: event.get(name) for name in told} == told
    assert event["genai_meter.api_key.fingerprint"].startswith("k:")
    (span,) = telemetry.spans
    assert (span.name, span.kind) == (f"chat {HAIKU}", trace.SpanKind.CLIENT)
    assert (span.attributes or {})["gen_ai.usage.cost.amount"] == 0.0000528


def test_a_client_made_before_and_the_way_back(provider: Provider) -> None:
    made = client(provider)
    base = importlib.import_module("botocore.client").BaseClient
    original = base._make_api_call
    with pipeline() as kept:
        BotocoreInstrumentor().instrument()
        assert base._make_api_call is not original
        made.converse(**ASK)
        BotocoreInstrumentor().uninstrument()
        made.converse(**ASK)
        assert len(kept.events) == 1
        BotocoreInstrumentor().instrument()
        made.converse(**ASK)
        BotocoreInstrumentor().uninstrument()
        assert len(kept.events) == 2
    assert base._make_api_call is original


def test_between_two_wrappers_of_others(provider: Provider) -> None:
    base = importlib.import_module("botocore.client").BaseClient
    seen: list[str] = []

    def note(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        seen.append(f"{type(instance).__name__}.{args[0]}")
        return wrapped(*args, **kwargs)

    original = base._make_api_call
    with pipeline() as kept:
        wrapt.wrap_function_wrapper(base, "_make_api_call", note)
        BotocoreInstrumentor().instrument()
        wrapt.wrap_function_wrapper(base, "_make_api_call", note)
        client(provider).converse(**ASK)
        assert seen == ["BedrockRuntime.Converse"] * 2
        assert len(kept.events) == 1
        BotocoreInstrumentor().uninstrument()
        client(provider).converse(**ASK)
        assert len(kept.events) == 1
        base._make_api_call = original


def test_the_span_is_current_while_the_request_is_made(telemetry: Telemetry, provider: Provider) -> None:
    made = client(provider)
    current: list[int] = []

    def note(**_: Any) -> None:
        current.append(trace.get_current_span().get_span_context().span_id)

    made.meta.events.register("before-send.*", note)
    stream = made.converse_stream(**ASK)["stream"]
    assert trace.get_current_span() is trace.INVALID_SPAN
    list(stream)
    (span,) = telemetry.spans
    assert span.context is not None
    assert current == [span.context.span_id]


def test_each_attempt_is_told(telemetry: Telemetry, provider: Provider) -> None:
    retries = {"mode": "standard", "total_max_attempts": 3}
    client(provider, trouble="429x1", retries=retries).converse(**ASK)
    event = only_event(telemetry)
    attempts: list[dict[str, Any]] = json.loads(event["genai_meter.attempts"])
    assert [attempt["status"] for attempt in attempts] == [429, 200]
    assert attempts[0]["error_type"] == "ThrottlingException"
    assert attempts[0]["request_id"] != attempts[1]["request_id"]
    assert event["genai_meter.status"] == "ok"


def test_errands_of_the_client_are_no_attempts(telemetry: Telemetry, provider: Provider) -> None:
    made, other = client(provider), client(provider, "sts")

    def fetch_credentials(**_: Any) -> None:
        with pytest.raises(Exception, match="Unable to parse response"):
            other.get_caller_identity()

    made.meta.events.register("before-sign.*", fetch_credentials)
    made.converse(**ASK)
    assert len(provider.attempts) == 2
    event = only_event(telemetry)
    assert (event["genai_meter.status"], event.get("genai_meter.attempts")) == ("ok", None)


def test_an_answer_that_nobody_sent_for_is_no_call(telemetry: Telemetry, provider: Provider) -> None:
    made = client(provider)
    answer: Any = {
        "output": {"message": {"role": "assistant", "content": [{"text": "North"}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 3, "outputTokens": 1, "totalTokens": 4},
        "metrics": {"latencyMs": 1},
    }
    with importlib.import_module("botocore.stub").Stubber(made) as stubber:
        stubber.add_response("converse", answer)
        assert made.converse(**ASK)["stopReason"] == "end_turn"
    assert (telemetry.events, telemetry.spans) == ([], [])


# --- who served, at what price
@pytest.mark.parametrize(
    ("model", "served", "pico", "status"),
    [
        (HAIKU, None, 52_800_000, "exact"),
        ("global.anthropic.claude-haiku-4-5-20251001-v1:0", None, 48_000_000, "exact"),
        ("anthropic.claude-haiku-4-5-20251001-v1:0", None, 52_800_000, "exact"),
        (f"{ARN}inference-profile/{HAIKU}", HAIKU, 52_800_000, "exact"),
        (
            f"{ARN}inference-profile/global.anthropic.claude-haiku-4-5-20251001-v1:0",
            "global.anthropic.claude-haiku-4-5-20251001-v1:0",
            48_000_000,
            "exact",
        ),
        (
            "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0",
            "amazon.nova-lite-v1:0",
            2_340_000,
            "exact",
        ),
        (f"{ARN}application-inference-profile/a1b2", None, None, "unpriced"),
        (f"{ARN}provisioned-model/a1b2", None, None, "unpriced"),
        (f"{ARN}imported-model/a1b2", None, None, "unpriced"),
        # It says which model it took: Nova Pro, 3 × 0.80 + 9 × 3.20 USD a million.
        (f"{ARN}default-prompt-router/anthropic.claude:1", "amazon.nova-pro-v1:0", 31_200_000, "exact"),
    ],
)
def test_converse_by_every_name_of_a_model(
    telemetry: Telemetry, provider: Provider, model: str, served: str | None, pico: int | None, status: str
) -> None:
    client(provider).converse(**{**ASK, "modelId": model})
    event = only_event(telemetry)
    assert event.get("gen_ai.response.model") == served
    assert (event.get("genai_meter.cost.effective"), event["genai_meter.cost.status"]) == (pico, status)
    opaque = "arn:" in model and "/" in model and served in (None, "amazon.nova-pro-v1:0")
    assert event.get("genai_meter.deployment") == (model if opaque else None)
    assert event.get("genai_meter.provider.account") == ("123456789012" if opaque else None)


@pytest.mark.parametrize(
    ("resource", "pico", "status"),
    [
        ("application-inference-profile/a1b2", 52_800_000, "estimated"),
        ("prompt-router/a1b2", 52_800_000, "estimated"),
        ("provisioned-model/a1b2", None, "unpriced"),
    ],
)
def test_a_served_model_behind_an_arn_is_never_priced_as_certain(
    telemetry: Telemetry, provider: Provider, resource: str, pico: int | None, status: str
) -> None:
    client(provider).invoke_model(modelId=ARN + resource, body=json.dumps(CLAUDE))["body"].read()
    event = only_event(telemetry)
    assert event["gen_ai.response.model"] == "claude-haiku-4-5-20251001"
    assert (event.get("genai_meter.cost.effective"), event["genai_meter.cost.status"]) == (pico, status)
    assert event["genai_meter.cost.reasons"] == ('["geo_unknown"]' if pico else '["unknown_model"]')


def test_the_configuration_says_what_is_behind_an_arn(provider: Provider) -> None:
    arn, profile = f"{ARN}application-inference-profile/a1b2", "global.anthropic.claude-haiku-4-5-20251001-v1:0"
    with pipeline(DEPLOYMENTS=f"{arn}={profile}") as kept:
        BotocoreInstrumentor().instrument()
        made = client(provider)
        made.converse(**{**ASK, "modelId": arn})
        made.invoke_model(modelId=arn, body=json.dumps(CLAUDE))["body"].read()
        BotocoreInstrumentor().uninstrument()
    for event in (event.attributes for event in kept.events):
        assert (event["gen_ai.request.model"], event["gen_ai.response.model"]) == (arn, profile)
        assert (event["genai_meter.cost.effective"], event["genai_meter.cost.status"]) == (48_000_000, "exact")
    assert len(kept.events) == 2


@pytest.mark.parametrize(
    ("model", "region", "status"),
    [
        ("eu.amazon.nova-lite-v1:0", "eu-west-1", "estimated"),
        ("us.amazon.nova-lite-v1:0", "us-west-2", "exact"),
        ("amazon.nova-lite-v1:0", "us-gov-west-1", "estimated"),
        ("eu.anthropic.claude-haiku-4-5-20251001-v1:0", "eu-west-1", "exact"),
    ],
)
def test_the_book_has_the_prices_of_the_united_states(
    telemetry: Telemetry, provider: Provider, model: str, region: str, status: str
) -> None:
    aws_kit.client("bedrock-runtime", provider.url, region).converse(**{**ASK, "modelId": model})
    event = only_event(telemetry)
    assert (event["cloud.region"], event["genai_meter.cost.status"]) == (region, status)
    assert event.get("genai_meter.cost.reasons") == ('["geo_unknown"]' if status == "estimated" else None)


@pytest.mark.parametrize(
    ("more", "tier", "speed", "reason"),
    [
        ({"serviceTier": {"type": "flex"}}, "flex", None, "context_unmatched:service_tier=flex"),
        ({"serviceTier": {"type": "default"}}, "default", None, None),
        ({"performanceConfig": {"latency": "optimized"}}, None, "optimized", "context_unmatched:speed=optimized"),
    ],
)
def test_tiers_and_latency(
    telemetry: Telemetry, provider: Provider, more: dict[str, Any], tier: str, speed: str, reason: str | None
) -> None:
    client(provider).converse(**ASK, **more)
    event = only_event(telemetry)
    assert (event.get("genai_meter.tier"), event.get("genai_meter.speed")) == (tier, speed)
    assert event.get("genai_meter.cost.reasons") == (json.dumps([reason]) if reason else None)
    assert event["genai_meter.cost.status"] == ("estimated" if reason else "exact")


# --- the guard
def test_the_guard_changes_a_copy_of_converse(
    telemetry: Telemetry, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = {"model": "us.amazon.nova-lite-v1:0", "max_tokens": 4}
    decide_by(monkeypatch, lambda _: guard.Decision("degrade", rule="cheap", change=change))
    ask = copy.deepcopy(ASK)
    client(provider).converse(**ask)
    assert ask == ASK
    (served,) = provider.served
    assert (served.model, served.request["inferenceConfig"]) == ("us.amazon.nova-lite-v1:0", {"maxTokens": 4})
    event = only_event(telemetry)
    assert (event["gen_ai.request.model"], event["gen_ai.response.model"]) == (HAIKU, "us.amazon.nova-lite-v1:0")
    # 3 × 0.06 + 4 × 0.24 USD a million
    assert event["genai_meter.cost.effective"] == 1_140_000


@pytest.mark.parametrize(
    ("model", "body", "place", "bound"),
    [
        (HAIKU, CLAUDE, "max_tokens", 4),
        ("amazon.titan-text-lite-v1", {"inputText": "Where to?"}, "textGenerationConfig", {"maxTokenCount": 4}),
        ("us.amazon.nova-lite-v1:0", {"messages": TURNS}, "inferenceConfig", {"maxTokens": 4}),
        ("meta.llama3-8b-instruct-v1:0", {"prompt": "Where to?", "max_gen_len": 50}, "max_gen_len", 4),
        ("meta.llama3-8b-instruct-v1:0", {"prompt": "Where to?"}, "max_gen_len", 4),
        ("mistral.mistral-7b-instruct-v0:2", {"prompt": "Where to?", "max_tokens": 2}, "max_tokens", 2),
        ("us.deepseek.r1-v1:0", {"prompt": "Where to?"}, "max_tokens", 4),
    ],
)
def test_the_guard_lowers_the_bound_inside_every_vendors_body(
    telemetry: Telemetry,
    provider: Provider,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    body: dict[str, Any],
    place: str,
    bound: Any,
) -> None:
    decide_by(monkeypatch, lambda _: guard.Decision("degrade", change={"max_tokens": 4}))
    given = json.dumps(body).encode()
    client(provider).invoke_model(modelId=model, body=given)["body"].read()
    (served,) = provider.served
    assert {name: value for name, value in served.request.items() if name != "stream"} == {**body, place: bound}
    assert given == json.dumps(body).encode()
    assert only_event(telemetry)["genai_meter.guard.action"] == "degrade"


@pytest.mark.parametrize(
    ("model", "sent"),
    [("global.anthropic.claude-haiku-4-5-20251001-v1:0",) * 2, ("us.amazon.nova-lite-v1:0", HAIKU)],
)
def test_the_guard_changes_the_model_of_a_body_within_its_vendor(
    telemetry: Telemetry, provider: Provider, monkeypatch: pytest.MonkeyPatch, model: str, sent: str
) -> None:
    decide_by(monkeypatch, lambda _: guard.Decision("reroute", change={"model": model}))
    client(provider).invoke_model(**INVOKE)["body"].read()
    assert provider.attempts[0].path == f"/model/{sent.replace(':', '%3A')}/invoke"
    assert provider.served[0].request.keys() - {"stream"} == CLAUDE.keys()
    assert only_event(telemetry)["genai_meter.cost.effective"] == (48_000_000 if sent == model else 52_800_000)


def test_a_blocked_call_sends_nothing(
    telemetry: Telemetry, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def block(_: Prepared) -> guard.Decision:
        raise guard.Blocked("over budget")

    decide_by(monkeypatch, block)
    with pytest.raises(guard.Blocked, match="over budget"):
        client(provider).converse(**ASK)
    assert provider.attempts == []
    assert only_event(telemetry)["genai_meter.status"] == "blocked"


# --- bodies and streams
def test_a_dropped_body_is_gone_at_once(telemetry: Telemetry, provider: Provider) -> None:
    body = client(provider).invoke_model(**INVOKE)["body"]
    gone = weakref.ref(body)
    gc.disable()
    try:
        del body
        assert gone() is None
    finally:
        gc.enable()
    assert only_event(telemetry)["genai_meter.status"] == "abandoned"


def test_a_file_is_not_read_by_us(telemetry: Telemetry, provider: Provider) -> None:
    class File(io.BytesIO):
        reads = 0

        def read(self, *args: Any) -> bytes:
            File.reads += 1
            return super().read(*args)

    body = File(json.dumps(CLAUDE).encode())
    made = client(provider)
    made.invoke_model(modelId=HAIKU, body=body)["body"].read()
    metered, File.reads = File.reads, 0
    BotocoreInstrumentor().uninstrument()
    body.seek(0)
    made.invoke_model(modelId=HAIKU, body=body)["body"].read()
    BotocoreInstrumentor().instrument()
    assert metered == File.reads
    assert only_event(telemetry)["gen_ai.usage.output_tokens"] == 9


def test_an_error_of_ours_in_the_middle_of_a_stream(
    telemetry: Telemetry, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(BedrockInvoke, "chunk", fail)
    events = list(client(provider).invoke_model_with_response_stream(**INVOKE)["body"])
    assert [json.loads(event["chunk"]["bytes"])["type"] for event in events][-1] == "message_stop"
    assert safety.internal_errors.pop("Events.see") == len(events)
    assert only_event(telemetry)["genai_meter.usage.source"] != "provider"


def test_streams_in_threads(telemetry: Telemetry, provider: Provider) -> None:
    made = client(provider, max_pool_connections=8)

    def read() -> None:
        for _ in range(5):
            list(made.converse_stream(**ASK)["stream"])

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    emit.flush()
    events = [event.attributes for event in telemetry.events]
    assert len(events) == len(provider.served) == 40
    assert sum(event["gen_ai.usage.output_tokens"] for event in events) == 40 * 9
    assert len({event["genai_meter.call.id"] for event in events}) == 40
