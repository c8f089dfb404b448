"""`mistralai`: what the caller matrix does not show. The cases run where the library is installed."""

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

NATIVE = ["mistralai_sdk_tracer", "chat mistral-large-latest", True, True]
"""Scope and name of the library's own span, with our call id and a cost."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What every case returned."""
    try:
        CLIENTS.python()
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the environment {CLIENTS.name} cannot be made here: {error}")
    return results_of("tests.mistral_cases", CLIENTS, tmp_path_factory.mktemp("mistral") / "results.json")


def buckets(event: dict[str, Any]) -> dict[str, Any]:
    """Those of the event, or those that its inclusive counts tell."""
    prefix = "genai_meter.usage."
    told = {k.removeprefix(prefix): v for k, v in event.items() if k.startswith(prefix) and k != f"{prefix}source"}
    cached = event.get("gen_ai.usage.cache_read.input_tokens", 0)
    counts = {
        "input": event.get("gen_ai.usage.input_tokens", 0) - cached,
        "cache_read": cached,
        "output": event.get("gen_ai.usage.output_tokens", 0),
    }
    return told or {name: count for name, count in counts.items() if count}


def test_nothing_of_ours_failed(results: Results) -> None:
    assert {name: errors for name, errors in results.items() if name.endswith(": errors") and errors} == {}


def test_cached_tokens_cost_what_cached_tokens_cost(results: Results) -> None:
    first, second = results["cached"]
    assert [buckets(event) for event in (first, second)] == [
        {"input": 175, "output": 3},
        {"input": 47, "cache_read": 128, "output": 3},
    ]
    # 0.50, 0.05 (cached) and 1.50 USD for a million.
    assert first["genai_meter.cost.effective"] == 175 * 500_000 + 3 * 1_500_000
    assert second["genai_meter.cost.effective"] == 47 * 500_000 + 128 * 50_000 + 3 * 1_500_000


def test_what_connectors_find_is_input_and_their_use_is_billed(results: Results) -> None:
    begun, more = results["connectors"]
    assert buckets(begun) == {"input": 3, "tool_prompt": 1000, "output": 4, "web_search": 1}
    assert begun["gen_ai.usage.input_tokens"] == 1003
    # The book has no price of a search: what is known is charged, and what is missing is named.
    assert begun["genai_meter.cost.status"] == "partial"
    assert begun["genai_meter.cost.effective"] == 1003 * 400_000 + 4 * 2_000_000
    assert (more["gen_ai.conversation.id"], more["gen_ai.response.model"]) == ("conv_standin", "mistral-medium-2505")
    assert "gen_ai.request.model" not in more
    assert (buckets(more), more["genai_meter.cost.status"]) == ({"input": 1, "output": 2}, SURE)


def test_documents_are_billed_by_the_page_and_audio_by_the_second(results: Results) -> None:
    pages, audio = results["pages_and_seconds"]
    assert (buckets(pages), pages["genai_meter.cost.effective"]) == ({"pages": 2}, 4_000_000_000)
    assert buckets(audio) == {"audio_seconds_in": 3}
    assert (audio["genai_meter.processed.input_tokens"], audio["genai_meter.processed.output_tokens"]) == (380, 11)
    # 0.003 USD a minute.
    assert audio["genai_meter.cost.effective"] == 3 * 50_000_000


def test_a_change_of_the_guard_goes_out_with_the_right_length(results: Results) -> None:
    sent, lengths, models = results["degraded"]
    chat, small = "/mistral/v1/chat/completions", "mistral-small-latest"
    assert sent == [
        [chat, small, 2, None],
        [chat, small, 2, None],
        [chat, small, 2, None],
        # Which model an agent uses is no matter of the request.
        ["/mistral/v1/agents/completions", None, 2, None],
        ["/mistral/v1/conversations", small, None, {"top_p": 0.5, "max_tokens": 2}],
        # Vertex has the model in the path.
        [f"/v1/projects/p/locations/r/publishers/mistralai/models/{small}:rawPredict", small, 2, None],
    ]
    assert lengths == [True] * 4
    served = "mistral-small-2603"
    assert models == [served, served, served, "mistral-medium-2505", small, served]


def test_what_the_guard_refuses_is_never_sent(results: Results) -> None:
    assert results["blocked"] == [["no more"] * 3, 0, ["blocked"] * 3]


def test_our_span_is_current_while_the_request_is_on_its_way_and_not_while_the_stream_is_read(results: Results) -> None:
    sending, sending_async, reading, reading_async, after, tenants = results["current_span"]
    assert (sending, sending_async) == (["chat mistral-large-latest"] * 2, ["chat mistral-large-latest"] * 2)
    assert (reading, reading_async, after) == (["work"], ["work"], "work")
    assert tenants == ["acme"] * 4


def test_attempts_with_and_without_an_answer(results: Results) -> None:
    assert results["attempts"] == [[{"status": 500}, {"status": 500}, {"status": 200}], True]


@pytest.mark.parametrize(
    ("name", "calls"), [("chat", 1), ("stream", 1), ("retried", 1), ("async", 5), ("closed", 1), ("dropped", 1)]
)
def test_beside_the_librarys_own_tracing_there_is_one_span_for_a_call(results: Results, name: str, calls: int) -> None:
    assert results["native"][name] == [[NATIVE] * calls, ["mistralai_sdk_tracer"] * calls]


def test_a_refused_call_is_one_span_without_a_cost(results: Results) -> None:
    assert results["native"]["refused"] == [[[*NATIVE[:3], False]], ["mistralai_sdk_tracer"]]


def test_the_run_of_an_agent_is_a_wrapper_and_the_call_is_below_it(results: Results) -> None:
    spans, scopes = results["native"]["conversation"]
    assert ["genai_meter", "chat mistral-medium-2505", True, True] in spans
    assert ["mistralai_sdk_tracer", "invoke_agent", False, False] in spans
    assert scopes == [None]


def test_azure_and_vertex(results: Results) -> None:
    told = ("gen_ai.provider.name", "genai_meter.sdk", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
    azure = ("azure.ai.inference", "mistralai.MistralAzure", 5, 21)
    vertex = ("gcp.vertex_ai", "mistralai.MistralGCP", 5, 21)
    assert [tuple(event[name] for name in told) for event in results["azure"]] == [azure, azure, vertex]


def test_uninstrumented_and_instrumented_again(results: Results) -> None:
    assert results["removed"] == [0, 1]


# --- the wire format ------------------------------------------------------------------------------------
def test_thoughts_are_said_too() -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Let me see."}]}
    content = [thought, {"type": "text", "text": "North."}]
    reading, _ = answered("mistral_chat", {"choices": [{"message": {"content": content}, "finish_reason": "stop"}]})
    assert (reading.output_chars, reading.finish_reasons) == (17, ["stop"])
    chunks = ({"choices": [{"index": 0, "delta": {"content": [part]}}]} for part in content)
    assert streamed("mistral_chat", *chunks)[0].output_chars == 17


def test_an_error_inside_an_answer() -> None:
    error = {"object": "error", "message": "overloaded", "type": "service_unavailable", "code": "3505"}
    reading, usages = streamed("mistral_chat", {"choices": [{"index": 0, "delta": {"content": "No"}}]}, error)
    assert (reading.error_type, reading.terminal, reading.output_chars, usages) == ("service_unavailable", True, 2, [])


def test_a_conversation_that_hands_over_to_another_agent() -> None:
    reading, [usage] = streamed(
        "mistral_conversations",
        {"type": "conversation.response.started", "conversation_id": "c"},
        {"type": "message.output.delta", "id": "msg_1", "model": "mistral-small-2603", "content": "One moment."},
        {"type": "agent.handoff.started", "id": "h"},
        {"type": "message.output.delta", "id": "msg_2", "model": "mistral-large-2512", "content": {"text": "Done."}},
        {"type": "function.call.delta", "id": "fc_1", "arguments": "{}"},
        {"type": "function.call.delta", "id": "fc_1", "arguments": "{}"},
        {
            "type": "conversation.response.done",
            "usage": {
                "prompt_tokens": 95,
                "completion_tokens": 209,
                "total_tokens": 399,
                "connector_tokens": 95,
                "connectors": {"code_interpreter": 1, "document_library": 2, "someones_own": 3},
            },
        },
    )
    assert (reading.model, reading.response_id, reading.terminal) == ("mistral-large-2512", "msg_2", True)
    assert (reading.output_chars, reading.tool_call_count) == (20, 1)
    assert usage.buckets == {"input": 95, "tool_prompt": 95, "output": 209, "code_exec": 1, "file_search": 2}


def test_the_end_of_a_conversation_that_went_wrong() -> None:
    reading, usages = streamed(
        "mistral_conversations", {"type": "conversation.response.error", "message": "no", "code": 3505}
    )
    assert (reading.error_type, usages) == ("3505", [])


def test_parameters_of_the_requests() -> None:
    fim = by_name("mistral_fim").request({"model": "codestral-latest", "prompt": "def", "suffix": "re", "stop": ["x"]})
    assert (fim.model, fim.chars_by_role, fim.stop_sequences) == ("codestral-latest", {"user": 5}, ("x",))
    chat = by_name("mistral_chat").request({"model": "m", "messages": [], "random_seed": 3, "max_tokens": 7})
    assert (chat.seed, chat.max_tokens) == (3, 7)
    asked = {
        "inputs": "four",
        "instructions": "short",
        "completion_args": {"max_tokens": 9, "stop": "x"},
        "stream": True,
    }
    told = by_name("mistral_conversations").request(asked)
    assert (told.max_tokens, told.stop_sequences, told.stream) == (9, ("x",), True)
    assert told.chars_by_role == {"user": 4, "system": 5}
