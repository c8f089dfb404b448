"""`langchain-mistralai`: what the caller matrix does not show. The cases run where the library is installed."""

from __future__ import annotations

import subprocess
from typing import Any, TypeAlias

import pytest

from tests.client_cases import results_of
from tests.environments import LANGCHAIN_MISTRALAI

Results: TypeAlias = dict[str, Any]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What every case returned."""
    newest = LANGCHAIN_MISTRALAI[-1]
    try:
        newest.python()
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the environment {newest.name} cannot be made here: {error}")
    return results_of("tests.langchain_mistralai_cases", newest, tmp_path_factory.mktemp("cases") / "results.json")


def test_nothing_of_ours_failed(results: Results) -> None:
    assert {name: errors for name, errors in results.items() if name.endswith(": errors") and errors} == {}


def test_usage_is_what_mistral_counts(results: Results) -> None:
    first, streamed, embedded = results["usage"]
    # A token for every four characters; what came before is cached in blocks of 64.
    assert (first["gen_ai.usage.input_tokens"], first["gen_ai.usage.output_tokens"]) == (175, 3)
    assert (streamed["gen_ai.usage.input_tokens"], streamed["gen_ai.usage.output_tokens"]) == (175, 3)
    assert streamed["gen_ai.usage.cache_read.input_tokens"] == 128
    # 0.50, 0.05 (cached) and 1.50 USD for a million.
    assert first["genai_meter.cost.effective"] == 175 * 500_000 + 3 * 1_500_000
    assert streamed["genai_meter.cost.effective"] == 47 * 500_000 + 128 * 50_000 + 3 * 1_500_000
    # Five characters and thirteen.
    assert (embedded["gen_ai.operation.name"], embedded["gen_ai.usage.input_tokens"]) == ("embeddings", 2 + 4)
    assert {event["gen_ai.provider.name"] for event in results["usage"]} == {"mistral_ai"}
    assert {event["genai_meter.sdk"] for event in results["usage"]} == {"langchain_mistralai"}


def test_guard_changes_what_is_sent_and_not_what_the_caller_holds(results: Results) -> None:
    sent, held, actions = results["degraded"]
    assert sent == [["mistral-small-latest", 2]] * 4
    assert held == "mistral-large-2512"
    assert actions == ["degrade"] * 4


def test_blocked_is_raised_and_nothing_is_sent(results: Results) -> None:
    assert results["blocked"] == [["no more"] * 5, 0, ["blocked"] * 5]


def test_our_span_is_current_for_the_request_only(results: Results) -> None:
    sending = "chat mistral-large-2512"
    assert results["current_span"] == [[sending, sending], ["work"], ["work"], "work"]


def test_attempt_more_is_a_call_more(results: Results) -> None:
    raised, told, attempts = results["retries"]
    assert raised == "RemoteProtocolError"
    assert told == [["error", "RemoteProtocolError"]] * 3
    assert attempts == [1, 1, 1]


def test_refused_stream_tells_its_status(results: Results) -> None:
    assert results["refused"] == ["429", {"http.response.status_code": 429}]


def test_client_that_is_a_mock_answers_as_it_is_told(results: Results) -> None:
    assert results["mocked"] == {"choices": []}


def test_span_kept_for_a_run_is_claimed_by_its_request(results: Results) -> None:
    # invoke and stream; of two at once nobody tells which asks.
    assert results["claimed_by_its_run"] == [[True, True, False, False], 2]


def test_span_of_another_run_is_not_claimed(results: Results) -> None:
    assert results["claimed_by_no_other_request"] == [[False] * 4, 6]


def test_span_of_a_run_is_claimed_once(results: Results) -> None:
    # The second attempt, another call, has a span of its own.
    assert results["claimed_once_by_retries"] == [[True], 2, ["chat mistral-large-2512"]]


def test_stream_that_was_dropped_ends_once(results: Results) -> None:
    # The collector may find the response first, or the generator that holds it.
    ends = results["dropped_in_threads"]
    assert (len(ends), set(ends) <= {"abandoned", "closed_early"}) == (8, True)


def test_uninstrument_restores_everything(results: Results) -> None:
    restored, while_off, after = results["uninstrumented"]
    assert restored == [True] * 8
    assert (while_off, after) == (0, 1)
