"""`cohere`: what the caller matrix does not show. The cases run where the library is installed."""

from __future__ import annotations

import subprocess
from typing import Any, TypeAlias

import pytest
from dialect_kit import answered, streamed
from genai_meter.dialects import by_name
from prices_kit import SURE

from tests.client_cases import results_of
from tests.environments import CLIENTS

Results: TypeAlias = dict[str, Any]

CHAT = {
    "genai_meter.status": "ok",
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "cohere",
    "server.address": "127.0.0.1",
    "gen_ai.request.model": "command-a-03-2025",
    "genai_meter.usage.source": "provider",
    "genai_meter.cost.status": SURE,
    "genai_meter.sdk": "cohere.Client",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What every case returned."""
    try:
        CLIENTS.python()
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the environment {CLIENTS.name} cannot be made here: {error}")
    return results_of("tests.cohere_cases", CLIENTS, tmp_path_factory.mktemp("cohere") / "results.json")


def test_nothing_of_ours_failed(results: Results) -> None:
    assert {name: errors for name, errors in results.items() if name.endswith(": errors") and errors} == {}


def test_billed_are_the_billed_units_and_the_processed_tokens_are_told_beside(results: Results) -> None:
    usage, [event] = results["billed_and_processed"]
    assert usage == {
        "billed_units": {"input_tokens": 5, "output_tokens": 21},
        "tokens": {"input_tokens": 505, "output_tokens": 23},
        "cached_tokens": 112,
    }
    assert event == CHAT | {
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 21,
        "genai_meter.processed.input_tokens": 505,
        "genai_meter.processed.output_tokens": 23,
        "genai_meter.processed.cache_read_tokens": 112,
        # 5 × 2.50 and 21 × 10.00 USD for a million.
        "genai_meter.cost.effective": 222_500_000,
    }


def test_searches_and_classifications_are_units_of_their_own(results: Results) -> None:
    rerank, classify = results["units"]
    assert (rerank["gen_ai.operation.name"], rerank["genai_meter.usage.rerank_search"]) == ("rerank", 2)
    assert (classify["gen_ai.operation.name"], classify["genai_meter.usage.classifications"]) == ("classification", 3)
    # There is no price for them, and that is no zero.
    assert [event["genai_meter.cost.status"] for event in (rerank, classify)] == ["unpriced", "unpriced"]
    assert not any("genai_meter.cost.effective" in event for event in (rerank, classify))


def test_a_change_of_the_guard_goes_out_and_is_what_is_priced(results: Results) -> None:
    sent, events, options = results["degraded"]
    assert sent == [
        {"model": "command-r7b-12-2024", "max_tokens": 2, "custom": 1},
        {"model": "command-r7b-12-2024", "max_tokens": 2, "custom": None},
        {"model": "command-r7b-12-2024", "max_tokens": 2, "custom": None},
    ]
    assert options == {"additional_body_parameters": {"max_tokens": 900, "custom": 1}}
    assert [event["gen_ai.request.model"] for event in events] == [
        "command-a-03-2025",
        "command-r",
        "command-a-03-2025",
    ]
    assert {event["gen_ai.response.model"] for event in events} == {"command-r7b-12-2024"}
    assert {event["genai_meter.guard.action"] for event in events} == {"degrade"}
    # 5 × 0.0375 and 2 × 0.15 USD for a million, whatever was asked for.
    assert [event["genai_meter.cost.effective"] for event in events] == [487_500] * 3


def test_what_the_guard_refuses_is_never_sent(results: Results) -> None:
    said, attempts, events = results["blocked"]
    assert said == ["no more"] * 3
    assert attempts == 0
    assert [(e["genai_meter.status"], e["genai_meter.attempts.count"]) for e in events] == [("blocked", 0)] * 3


def test_our_span_is_current_while_the_request_is_on_its_way_and_not_while_the_stream_is_read(results: Results) -> None:
    sending, reading, after = results["current_span"]
    assert sending == ["chat command-a-03-2025"] * 2
    assert (reading, after) == (["work"], "work")


def test_threads_that_embed_know_who_pays(results: Results) -> None:
    events, below = results["threads"]
    assert [(event["genai_meter.tenant"], event["genai_meter.feature"]) for event in events] == [("acme", "index")] * 3
    # 96, 96 and 8 texts of two tokens.
    assert sorted(event["gen_ai.usage.input_tokens"] for event in events) == [16, 192, 192]
    assert below is True


def test_attempts_without_an_answer(results: Results) -> None:
    assert results["attempts"] == ["ConnectError", [[{"error_type": "ConnectError"}, {"error_type": "ConnectError"}]]]


def test_the_client_for_bedrock_is_one_charge_of_aws(results: Results) -> None:
    text, count, hosts, events = results["bedrock"]
    assert text.startswith("A short answer")
    assert count == 22
    host = "bedrock-runtime.eu-west-1.amazonaws.com"
    assert hosts == [
        f"{host}/model/cohere.command-r-v1:0/invoke",
        f"{host}/model/cohere.command-r-v1:0/invoke-with-response-stream",
        f"{host}/model/cohere.embed-english-v3/invoke",
    ]
    told = ("gen_ai.operation.name", "gen_ai.request.model", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
    assert [tuple(event.get(name) for name in told) for event in events] == [
        ("chat", "cohere.command-r-v1:0", 5, 21),
        ("chat", "cohere.command-r-v1:0", 5, 21),
        ("embeddings", "cohere.embed-english-v3", 2, None),
    ]
    for event in events:
        assert event["gen_ai.provider.name"] == "aws.bedrock"
        assert (event["server.address"], event["cloud.region"]) == (host, "eu-west-1")
        assert (event["genai_meter.usage.source"], event["genai_meter.sdk"]) == ("provider", "cohere.AwsClient")


def test_uninstrumented_and_instrumented_again(results: Results) -> None:
    assert results["removed"] == [0, 1]


# --- the wire format ------------------------------------------------------------------------------------
def test_reasoning_is_a_part_of_what_is_billed() -> None:
    usage = {
        "billed_units": {"input_tokens": 44, "output_tokens": 1781},
        "tokens": {"input_tokens": 1430, "output_tokens": 1786, "reasoning_tokens": 1516},
        "cached_tokens": 1392,
    }
    reading, [billed] = answered("cohere", {"id": "r1", "finish_reason": "COMPLETE", "usage": usage})
    assert billed.buckets == {"input": 44, "output_reasoning": 1516, "output": 265}
    assert reading.processed == {"input_tokens": 1430, "output_tokens": 1786, "cache_read_tokens": 1392}


def test_a_stream_that_ends_in_an_error() -> None:
    said = {"type": "content-delta", "delta": {"message": {"content": {"text": "North"}}}}
    reading, usages = streamed("cohere", said, {"type": "message-end", "delta": {"finish_reason": "ERROR"}})
    assert (reading.error_type, reading.terminal, reading.output_chars, usages) == ("ERROR", True, 5, [])


def test_what_a_bound_on_the_output_is_not() -> None:
    body = {"model": "embed-v4.0", "texts": ["a"], "max_tokens": 512}
    assert by_name("cohere_embed").apply(body, model="embed-english-v3.0", max_tokens=5) == {
        "model": "embed-english-v3.0",
        "texts": ["a"],
        "max_tokens": 512,
    }


def test_sizes_of_a_conversation() -> None:
    body = {
        "message": "four",
        "preamble": "short",
        "chat_history": [{"role": "USER", "message": "seven77"}, {"role": "CHATBOT", "message": "ok"}],
    }
    view = by_name("cohere").request(body)
    assert (view.message_count, view.chars_by_role) == (3, {"user": 13, "system": 5})
