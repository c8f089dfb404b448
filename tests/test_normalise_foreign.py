"""What other producers tell in ways of their own: hand-written spans of each, as their packages make them."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from exporter_kit import RESOURCE, SpanOf, traces
from genai_meter.usage import Quantity
from genai_meter_exporter.normalise import UsageRecord, normalise
from genai_meter_exporter.receive import protobuf

GENAI = "opentelemetry.instrumentation.genai.openai"
OPENLLMETRY = "opentelemetry.instrumentation."
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 5}


def records(scope: str, attributes: dict[str, Any], name: str = "chat") -> list[UsageRecord]:
    """Of one span, as it comes over the wire; nothing may be in quarantine."""
    span = SpanOf(attributes, trace_id=b"\x01" * 16, span_id=b"\x02" * 8, scope=scope, name=name)
    batch = normalise(protobuf.parse("traces", traces([span], RESOURCE).SerializeToString()))
    assert batch.quarantined == []
    return batch.records


def read(scope: str, **attributes: Any) -> UsageRecord:
    """The record of a span with these attributes beside those of a chat; a double underscore stands for a dot."""
    told = {name.replace("__", "."): value for name, value in attributes.items()}
    (record,) = records(scope, {**CHAT, **told})
    return record


# --- who is paid --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("told", "provider"),
    [
        ({"server.address": "api.deepseek.com"}, "deepseek"),
        ({"server.address": "shop.openai.azure.com", "server.port": 443}, "azure.ai.openai"),
        ({"server.address": "bedrock-runtime.us-east-1.amazonaws.com"}, "aws.bedrock"),
        ({"server.address": "localhost", "server.port": 11434}, "ollama"),
        ({"server.address": "localhost", "server.port": 8000}, "openai"),
        ({"net.peer.name": "api.groq.com"}, "groq"),
        ({"gen_ai.openai.api_base": "https://openrouter.ai/api/v1"}, "openrouter"),
        ({"gen_ai.openai.api_base": "https://router.huggingface.co/together/v1"}, "huggingface_together"),
        ({"gen_ai.openai.api_base": "https://[broken"}, "openai"),
        ({"gen_ai.openai.api_base": "nowhere"}, "openai"),
        ({"server.address": "gateway.example.com"}, "openai"),
        ({"server.address": "api.deepseek.com", "gen_ai.provider.name": "azure.ai.openai"}, "azure.ai.openai"),
        ({"gen_ai.provider.name": "Cohere"}, "cohere"),
        ({"gen_ai.provider.name": "together_ai"}, "together"),
    ],
)
def test_a_known_host_tells_who_is_behind_a_library(told: dict[str, Any], provider: str) -> None:
    (record,) = records(GENAI, {**CHAT, "gen_ai.provider.name": "openai", **told})
    assert record.values["provider"] == provider


# --- models -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("scope", "provider", "asked", "served", "model"),
    [
        ("openai.v1", "openai", "meta-llama/Llama-3.3-70B", "Llama-3.3-70B", "meta-llama/Llama-3.3-70B"),
        ("openai.v1", "openrouter", "claude-haiku-4.5", "claude-4.5-haiku-20251001", None),
        ("openai.v1", "openrouter", "x", "nobody-knows", "nobody-knows"),
        ("bedrock", "aws.bedrock", "llama3-1-70b-instruct-v1:0", None, None),
    ],
)
def test_openllmetry_cuts_models(scope: str, provider: str, asked: str, served: str | None, model: str | None) -> None:
    told = {"gen_ai__response__model": served} if served else {}
    record = read(OPENLLMETRY + scope, gen_ai__provider__name=provider, gen_ai__request__model=asked, **told)
    if scope == "bedrock":
        assert (record.values["request_model"], record.values.get("model")) == ("meta.llama3-1-70b-instruct-v1:0", None)
    else:
        assert record.values["model"] == (model or f"anthropic/{served}")


def test_litellm_says_in_the_model_who_is_called() -> None:
    record = read("litellm", gen_ai__system="perplexity", gen_ai__response__model="perplexity/sonar")
    assert (record.values["provider"], record.values["model"]) == ("perplexity", "sonar")


# --- usage --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("scope", "told", "buckets"),
    [
        # Thoughts in the sum alone.
        (
            f"{OPENLLMETRY}google_generativeai",
            {"gen_ai.usage.total_tokens": 45},
            {"input": 10, "output": 5, "output_reasoning": 30},
        ),
        # The sum of its own making leaves out the cached tokens, which are beside the input.
        (
            f"{OPENLLMETRY}bedrock",
            {"gen_ai.usage.total_tokens": 15, "gen_ai.usage.cache_read.input_tokens": 7},
            {"input": 10, "cache_read": 7, "output": 5},
        ),
        # A server that says more cached tokens than input.
        (GENAI, {"gen_ai.usage.cache_read.input_tokens": 17}, {"cache_read": 10, "output": 5}),
        (
            f"{OPENLLMETRY}google_genai",
            {
                "gen_ai.usage.image.input_tokens": 6,
                "gen_ai.usage.image.cache_read.input_tokens": 2,
                "gen_ai.usage.cache_read.input_tokens": 3,
                "gen_ai.usage.image.output_tokens": 4,
            },
            {"input": 3, "input_image": 4, "cache_read": 1, "cache_read_image": 2, "output": 1, "output_image": 4},
        ),
        # More images than tokens: nobody knows what they are.
        (f"{OPENLLMETRY}google_genai", {"gen_ai.usage.image.input_tokens": 60}, {"input": 10, "output": 5}),
        (
            "logfire.anthropic",
            {
                "gen_ai.usage.raw": json.dumps(
                    {
                        "input_tokens": 10,
                        "output_tokens": 5,
                        "output_tokens_details": {"thinking_tokens": 2},
                        "server_tool_use": {"web_search_requests": 3},
                    }
                )
            },
            {"input": 10, "output": 3, "output_reasoning": 2, "web_search": 3},
        ),
    ],
)
def test_usage_in_ways_of_their_own(scope: str, told: dict[str, Any], buckets: dict[str, Quantity]) -> None:
    (record,) = records(scope, {**CHAT, **told})
    (usage,) = record.usages
    assert usage.buckets == buckets


# --- Vercel AI SDK ------------------------------------------------------------------------------------
GOOGLE = {
    "promptTokenCount": 32,
    "candidatesTokenCount": 9,
    "thoughtsTokenCount": 34,
    "cachedContentTokenCount": 8,
    "totalTokenCount": 175,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 20}, {"modality": "AUDIO", "tokenCount": 12}],
}


@pytest.mark.parametrize(
    ("provider", "name", "metadata", "buckets"),
    [
        # Of version 5, as the provider says it: tools of Google's have read what is in the sum alone.
        (
            "google.vertex.chat",
            "gcp.vertex_ai",
            {"google": {"usageMetadata": GOOGLE}},
            {"input": 112, "cache_read": 8, "input_audio": 12, "output": 9, "output_reasoning": 34},
        ),
        (
            "amazon-bedrock",
            "aws.bedrock",
            {"bedrock": {"usage": {"cacheWriteInputTokens": 7}}},
            {"input": 10, "cache_write": 7, "output": 5},
        ),
        (
            "deepseek.chat",
            "deepseek",
            {"deepseek": {"promptCacheHitTokens": 4}},
            {"input": 6, "cache_read": 4, "output": 5},
        ),
        (
            "openai.chat",
            "openai",
            {"openai": {"usage": {"cacheWriteTokens": 3}}},
            {"input": 7, "cache_write": 3, "output": 5},
        ),
        ("togetherai.chat", "together", {"google": {"usageMetadata": 5}}, {"input": 10, "output": 5}),
    ],
)
def test_vercels_metadata(provider: str, name: str, metadata: dict[str, Any], buckets: dict[str, Quantity]) -> None:
    record = read(
        "ai",
        ai__operationId="ai.generateText.doGenerate",
        ai__model__provider=provider,
        ai__response__providerMetadata=json.dumps(metadata),
    )
    (usage,) = record.usages
    assert (record.values["provider"], usage.buckets) == (name, buckets)


def test_vercel_by_the_conventions_with_all_that_it_can_tell() -> None:
    anthropic = {"serviceTier": "standard", "usage": {"cache_creation": {"ephemeral_1h_input_tokens": 4}}}
    record = read(
        "gen_ai",
        gen_ai__provider__name="anthropic",
        gen_ai__usage__cache_creation__input_tokens=4,
        ai__usage__outputTokenDetails__reasoningTokens=2,
        ai__response__providerMetadata=json.dumps({"anthropic": anthropic}),
    )
    (usage,) = record.usages
    assert usage.buckets == {"input": 6, "cache_write_1h": 4, "output": 3, "output_reasoning": 2}
    assert record.values["tier"] == "standard"


def test_what_is_no_number_was_not_told() -> None:
    (record,) = records(
        "ai",
        {
            "ai.operationId": "ai.streamText.doStream",
            "ai.usage.promptTokens": float("nan"),
            "ai.usage.completionTokens": float("nan"),
        },
    )
    assert (record.usages, record.values["usage_source"]) == ([], "unknown")


# --- what Anthropic bills beside the counts -----------------------------------------------------------
WHOLE: dict[str, Any] = {
    "input_tokens": 10,
    "output_tokens": 5,
    "iterations": [
        {"type": "compaction", "input_tokens": 3, "output_tokens": 4, "cache_creation_input_tokens": 7},
        {"type": "message", "input_tokens": 10, "output_tokens": 5},
        {"type": "advisor_message", "model": "claude-fable-5", "input_tokens": 20, "output_tokens": 6},
        "no iteration",
    ],
}
SUMS = {**WHOLE, "input_tokens": 40, "output_tokens": 15, "cache_creation_input_tokens": 7}


@pytest.mark.parametrize(
    ("scope", "told"),
    [
        ("logfire.anthropic", {"gen_ai.usage.raw": json.dumps(WHOLE)}),
        # It adds up all of them, cached tokens included.
        ("litellm", {"metadata.usage_object": str({**SUMS, "prompt_tokens_details": {"cached_tokens": 0}})}),
        ("gen_ai", {"ai.response.providerMetadata": json.dumps({"anthropic": {"usage": WHOLE}})}),
        (
            "ai",
            {
                "ai.operationId": "ai.generateText.doGenerate",
                "ai.model.provider": "anthropic.messages",
                "ai.usage.inputTokens": 13,
                "ai.response.providerMetadata": json.dumps({"anthropic": {"usage": WHOLE}}),
            },
        ),
    ],
)
def test_advisors_and_compactions_are_billed_too(scope: str, told: dict[str, Any]) -> None:
    (record,) = records(scope, {**CHAT, **told})
    assert [(usage.model, usage.buckets) for usage in record.usages] == [
        (None, {"input": 10, "output": 5}),
        (None, {"input": 3, "cache_write": 7, "output": 4}),
        ("claude-fable-5", {"input": 20, "output": 6}),
    ]
    assert (record.values["input_tokens"], record.values["output_tokens"]) == (40, 15)


def test_logfires_record_of_a_stream_is_told_from_others_by_its_counts() -> None:
    told = {"logfire.span_type": "log", "gen_ai.usage.raw": json.dumps(WHOLE)}
    (record,) = records("logfire.anthropic", {**CHAT, **told})
    assert [usage.buckets for usage in record.usages] == [{"input": 10, "output": 5}]


# --- all ----------------------------------------------------------------------------------------------
def test_a_total_alone_is_the_input_of_embeddings() -> None:
    told = {"gen_ai.operation.name": "embeddings", "gen_ai.usage.total_tokens": 3}
    (record,) = records(f"{OPENLLMETRY}openai.v1", told)
    assert (record.values["input_tokens"], record.values["output_tokens"]) == (3, 0)


# --- LiteLLM ------------------------------------------------------------------------------------------
def test_litellms_responses() -> None:
    packed = b64encode(b"litellm:custom_llm_provider:openai;model_id:None;response_id:resp_12").decode().rstrip("=")
    record = read("litellm", gen_ai__operation__name="responses", gen_ai__response__id=f"resp_{packed}")
    assert (record.values["operation"], record.values["response_id"]) == ("chat", "resp_12")


@pytest.mark.parametrize("response_id", ["resp_bGl0ZWxsbTp/!", "resp_bGl0ZWxsbTpub3RoaW5n", "resp_34"])
def test_other_ids_stay(response_id: str) -> None:
    record = read("litellm", gen_ai__response__id=response_id)
    assert record.values["response_id"] == response_id


def test_litellms_raw_request_repeats_the_one_above() -> None:
    assert records("litellm", {"llm.None.total_tokens": 15}, name="raw_gen_ai_request") == []


@pytest.mark.parametrize(
    ("told", "written"),
    [
        ({"cache_creation_input_tokens": 6}, {"cache_write": 6}),
        ({"cache_creation_input_tokens": 6, "cache_creation": {"ephemeral_1h_input_tokens": 6}}, {"cache_write_1h": 6}),
        ({}, {}),
    ],
)
def test_litellm_repeats_what_was_written_and_has_it_in_the_prompt(
    told: dict[str, Any], written: dict[str, Quantity]
) -> None:
    """https://docs.litellm.ai/docs/completion/prompt_caching: both of Anthropic's names beside OpenAI's details."""
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 3},
        "cache_read_input_tokens": 3,
        **told,
    }
    (record,) = records("litellm", {**CHAT, "metadata.usage_object": str(usage)})
    (found,) = record.usages
    fresh = 7 - sum(map(int, written.values()))
    assert found.buckets == {"input": fresh, "cache_read": 3, "output": 5, **written}
