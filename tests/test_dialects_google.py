"""Google's wire formats: what the recorded traffic does not show."""

from __future__ import annotations

from typing import Any

import pytest
from dialect_kit import answered, buckets, check_apply, streamed
from genai_meter.dialects import by_name, for_path, not_metered

LITE = "gemini-2.5-flash-lite"
VERTEX = "/v1beta1/projects/p/locations/l/publishers/google/models"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1beta/models/gemini-3:generateContent", "gemini"),
        ("/v1beta1/projects/p/locations/l/endpoints/7:streamGenerateContent", "gemini"),
        ("/v1beta/tunedModels/mine:generateContent", "gemini"),
        (f"{VERTEX}/text-embedding-005:predict", "gemini_embeddings"),
        (f"{VERTEX}/textembedding-gecko@003:predict", "gemini_embeddings"),
        ("/v1/projects/p/locations/l/endpoints/7:predict", "gemini_embeddings"),
        (f"{VERTEX}/imagen-4.0-generate-001:predict", "google_images"),
        (f"{VERTEX}/virtual-try-on-preview:predict", "google_images"),
        (f"{VERTEX}/veo-3.0-generate-001:predictLongRunning", "google_videos"),
        ("/v1beta/interactions", "google_interactions"),
        ("/v1beta1/projects/p/locations/l/interactions", "google_interactions"),
        ("/v1beta/decisions", "google_decisions"),
    ],
)
def test_paths(path: str, name: str) -> None:
    assert for_path("POST", path) is by_name(name)
    assert not_metered("POST", path) is None


@pytest.mark.parametrize(
    ("path", "word"),
    [
        (f"{VERTEX}/gemini-3:countTokens", "counts"),
        (f"{VERTEX}/gemini-3:computeTokens", "counts"),
        ("/v1beta/models/gemini-3:batchGenerateContent", "batches"),
        ("/v1beta/models/gemini-embedding-001:asyncBatchEmbedContent", "batches"),
        ("/v1beta1/projects/p/locations/l/batchPredictionJobs", "batches"),
        ("/v1beta/cachedContents", "storage"),
        ("/upload/v1beta/files", "files"),
        ("/v1beta/files:register", "files"),
        ("/v1beta/fileSearchStores/s:importFile", "files"),
        ("/v1beta/tunedModels", "models"),
        ("/v1beta1/projects/p/locations/l/tuningJobs", "training"),
        (f"{VERTEX}/veo-3:fetchPredictOperation", "how far"),
        ("/v1beta/interactions/v1_7/cancel", "stored"),
        ("/v1alpha/auth_tokens", "session"),
    ],
)
def test_what_is_never_metered(path: str, word: str) -> None:
    assert for_path("POST", path) is None
    assert word in str(not_metered("POST", path))


CHANGES: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    (
        "gemini",
        {"model": "a", "contents": [], "generationConfig": {"maxOutputTokens": 50, "topK": 1}},
        {"model": LITE, "max_tokens": 9},
        {"model": LITE, "contents": [], "generationConfig": {"maxOutputTokens": 9, "topK": 1}},
    ),
    (
        "gemini",
        {"generationConfig": {"maxOutputTokens": 5}},
        {"max_tokens": 9},
        {"generationConfig": {"maxOutputTokens": 5}},
    ),
    ("gemini", {}, {"max_tokens": 9}, {"generationConfig": {"maxOutputTokens": 9}}),
    (
        "gemini_embeddings",
        {"requests": [{"model": "models/a", "content": {}}]},
        {"model": "b"},
        {"model": "b", "requests": [{"model": "models/b", "content": {}}]},
    ),
    (
        "google_interactions",
        {"agent": "deep", "agent_config": {}, "input": "x"},
        {"model": "b"},
        {"model": "b", "input": "x"},
    ),
    ("google_interactions", {}, {"max_tokens": 9}, {"generation_config": {"max_output_tokens": 9}}),
    ("google_decisions", {"model": "a"}, {"model": "b", "max_tokens": 9}, {"model": "b"}),
    ("google_images", {"instances": []}, {"model": "b", "max_tokens": 9}, {"model": "b", "instances": []}),
    ("gemini_live", {"model": "a"}, {"model": "b", "max_tokens": 9}, {"model": "b"}),
]


@pytest.mark.parametrize(("name", "body", "change", "expected"), CHANGES)
def test_apply_changes_a_copy_and_never_raises_a_bound(
    name: str, body: dict[str, Any], change: dict[str, Any], expected: dict[str, Any]
) -> None:
    check_apply(name, body, change, expected)


# --- generateContent
def test_a_stream_that_was_left_has_told_a_part() -> None:
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 2, "totalTokenCount": 11}
    reading, _ = streamed("gemini", {"candidates": [{"content": {"parts": [{"text": "No"}]}}], "usageMetadata": usage})
    assert (reading.fidelity, reading.terminal) == ("partial", False)
    reading, _ = streamed("gemini", {"candidates": [{"finishReason": "STOP"}], "usageMetadata": usage})
    assert (reading.fidelity, reading.terminal) == ("final", True)


def test_a_refused_prompt_is_an_end() -> None:
    blocked = {
        "promptFeedback": {"blockReason": "SAFETY"},
        "usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9},
    }
    reading, [usage] = streamed("gemini", blocked)
    assert (reading.fidelity, reading.terminal, usage.buckets) == ("final", True, {"input": 9})


def test_usage_survives_what_older_clients_do_to_their_answers() -> None:
    told: dict[str, Any] = {"promptTokenCount": 9, "candidatesTokenCount": 2, "thoughtsTokenCount": 4}
    dialect, reading = by_name("gemini"), answered("gemini", {"usageMetadata": told})[0]
    told.pop("thoughtsTokenCount")
    assert [usage.buckets for usage in dialect.billed(reading)] == [{"input": 9, "output": 2, "output_reasoning": 4}]


@pytest.mark.parametrize(
    ("asked", "served", "expected"),
    [
        ("SERVICE_TIER_FLEX", {"serviceTier": "flex"}, ("flex", "flex")),
        ("priority", {"trafficType": "ON_DEMAND_PRIORITY"}, ("priority", "priority")),
        (None, {"trafficType": "PROVISIONED_THROUGHPUT"}, (None, "provisioned")),
        (None, {"trafficType": "ON_DEMAND"}, (None, None)),
    ],
)
def test_tiers(asked: str | None, served: dict[str, Any], expected: tuple[str | None, str | None]) -> None:
    view = by_name("gemini").request({"serviceTier": asked} if asked else {})
    reading, _ = answered("gemini", {"usageMetadata": {"promptTokenCount": 1, **served}})
    assert (view.service_tier, reading.service_tier) == expected
    assert (view.context.get("service_tier"), reading.context.get("service_tier")) == expected


# --- interactions
DONE = {
    "id": "v1_1",
    "model": "gemini-2.5-flash",
    "status": "completed",
    "service_tier": "flex",
    "usage": {
        "total_input_tokens": 30,
        "total_cached_tokens": 10,
        "input_tokens_by_modality": [{"modality": "text", "tokens": 20}, {"modality": "audio", "tokens": 10}],
        "cached_tokens_by_modality": [{"modality": "text", "tokens": 10}],
        "total_tool_use_tokens": 4,
        "total_output_tokens": 7,
        "total_thought_tokens": 5,
        "grounding_tool_count": [{"type": "google_search", "count": 2}, {"type": "google_maps", "count": 1}],
    },
}


def test_interaction() -> None:
    answer = DONE | {"steps": [{"type": "function_call"}, {"type": "model_output", "content": [{"text": "North."}]}]}
    reading, [usage] = answered("google_interactions", answer)
    assert usage.buckets == {
        "cache_read_text": 10,
        "input_text": 10,
        "input_audio": 10,
        "tool_prompt": 4,
        "output_reasoning": 5,
        "output": 7,
        "web_search": 2,
        "maps_search": 1,
    }
    assert (reading.response_id, reading.model, reading.service_tier) == ("v1_1", "gemini-2.5-flash", "flex")
    assert (reading.finish_reasons, reading.tool_call_count, reading.output_chars) == (["completed"], 1, 6)
    assert (reading.fidelity, reading.terminal, reading.error_type) == ("final", True, None)


@pytest.mark.parametrize("last", ["interaction.completed", "interaction.complete"])
def test_interaction_as_a_stream(last: str) -> None:
    begun = {"id": "v1_1", "model": "gemini-2.5-flash", "status": "in_progress"}
    part = {"event_type": "step.delta", "delta": {"type": "text", "text": "North."}}
    counted = {"metadata": {"usage": {"total_input_tokens": 30, "total_output_tokens": 1}}}
    reading, _ = streamed(
        "google_interactions", {"event_type": "interaction.created", "interaction": begun}, part | counted
    )
    assert (reading.response_id, reading.fidelity, reading.terminal) == ("v1_1", "partial", False)
    reading, [usage] = streamed("google_interactions", part, {"event_type": last, "interaction": DONE})
    assert (reading.output_chars, reading.fidelity, reading.terminal) == (6, "final", True)
    assert (usage.input_tokens, usage.output_tokens) == (34, 12)


def test_interactions_that_fail() -> None:
    reading, usages = answered("google_interactions", {"id": "v1_1", "status": "failed"})
    assert (reading.error_type, reading.terminal, usages) == ("failed", True, [])
    reading, _ = streamed("google_interactions", {"event_type": "error", "error": {"code": "internal_error"}})
    assert reading.error_type == "internal_error"
    reading, _ = answered("google_interactions", {"id": "v1_1", "status": "in_progress"})
    assert reading.terminal is False


def test_request_of_an_interaction() -> None:
    view = by_name("google_interactions").request(
        {
            "agent": "deep-research",
            "input": [{"role": "user", "content": "four"}, {"type": "model_output", "content": [{"text": "five."}]}],
            "system_instruction": "Be brief.",
            "previous_interaction_id": "v1_0",
            "background": True,
            "service_tier": "priority",
            "generation_config": {"max_output_tokens": 9, "thinking_level": "low"},
        }
    )
    assert (view.model, view.max_tokens, view.reasoning_level) == ("deep-research", 9, "low")
    assert (view.previous_response_id, view.background, view.context) == ("v1_0", True, {"service_tier": "priority"})
    assert view.chars_by_role == {"system": 9, "user": 4, "assistant": 5}


def test_decision() -> None:
    assert buckets(
        "google_decisions", {"answers": {}, "usage": {"total_input_tokens": 12, "total_output_tokens": 1}}
    ) == {
        "input": 12,
        "output": 1,
    }


# --- pictures, videos, Live
def test_pictures_that_were_filtered_are_not_billed() -> None:
    made = {"predictions": [{"bytesBase64Encoded": "cG5n"}, {"gcsUri": "gs://b/1.png"}, {"raiFilteredReason": "no"}]}
    assert buckets("google_images", made) == {"images": 2}
    assert answered("google_images", {"predictions": [{"raiFilteredReason": "no"}]})[1] == []


def test_order_of_a_video() -> None:
    body = {
        "instances": [{"prompt": "waves"}],
        "parameters": {"durationSeconds": 4, "resolution": "720p", "sampleCount": 2},
    }
    view = by_name("google_videos").request(body)
    assert (view.choice_count, view.output_type) == (2, "video")
    assert view.context == {"video_seconds": "4", "video_resolution": "720p"}
    reading, usages = answered("google_videos", {"name": "models/veo/operations/1"})
    assert (reading.response_id, reading.terminal, usages) == ("models/veo/operations/1", True, [])


def test_turn_of_a_live_session() -> None:
    said = {"server_content": {"model_turn": {"parts": [{"text": "Nor"}]}, "output_transcription": {"text": "th"}}}
    details = [{"modality": "AUDIO", "token_count": 6}, {"modality": "TEXT", "token_count": 1}]
    count = {
        "prompt_token_count": 20,
        "response_token_count": 7,
        "thoughts_token_count": 2,
        "response_tokens_details": details,
    }
    asked = {"tool_call": {"function_calls": [{"name": "f"}]}, "usage_metadata": {"prompt_token_count": 5}}
    end = {"server_content": {"turn_complete": True}, "usage_metadata": count | {"traffic_type": "ON_DEMAND_PRIORITY"}}
    reading, [usage] = streamed("gemini_live", said, asked, end)
    assert usage.buckets == {"input": 25, "output_reasoning": 2, "output_audio": 6, "output_text": 1}
    assert (reading.output_chars, reading.tool_call_count, reading.finish_reasons) == (5, 1, ["turn_complete"])
    assert (reading.terminal, reading.service_tier) == (True, "priority")
