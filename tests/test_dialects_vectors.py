"""The buckets of every pricing vector's raw answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from genai_meter.dialects import by_flavor
from genai_meter.dialects.base import Reading, RequestView

EXPECTED: dict[str, list[dict[str, int]]] = {
    "01-openai-chat-cached-reasoning": [{"input": 86, "cache_read": 1920, "output": 108, "output_reasoning": 192}],
    "02-openai-responses-flex": [{"input": 5904, "cache_read": 4096, "output": 288, "output_reasoning": 512}],
    "04-openai-priority-requested-default-served": [{"input": 4000, "cache_read": 8000, "output": 1000}],
    "05-openai-priority-served": [{"input": 4000, "cache_read": 8000, "output": 1000}],
    "06-openai-batch": [{"input": 12000, "output": 1000}],
    "08-openai-tier-boundary-at": [{"input": 272000, "output": 1000}],
    "09-openai-tier-boundary-over": [{"input": 272001, "output": 1000}],
    "10-openai-cache-write-12h": [{"input": 2000, "cache_write_12h": 8000, "output": 100}],
    "11-openai-before-price-cut": [{"input": 100000, "output": 10000}],
    "12-openai-after-price-cut": [{"input": 100000, "output": 10000}],
    "14-openai-realtime-cached-audio": [
        {
            "input_text": 172,
            "cache_read_text": 128,
            "input_audio": 444,
            "cache_read_audio": 256,
            "output_text": 100,
            "output_audio": 400,
        }
    ],
    "15-openai-image-no-output-details": [{"input_text": 23, "output_image": 1056}],
    "16-openai-embedding": [{"input": 123456}],
    "18-openai-tts-chars": [{"chars_in": 4096}],
    "19-anthropic-5m-1h-websearch": [
        {
            "input": 100,
            "cache_read": 20000,
            "cache_write_5m": 1000,
            "cache_write_1h": 2000,
            "output": 500,
            "web_search": 3,
        }
    ],
    "21-anthropic-us-residency": [{"input": 1000, "cache_read": 10000, "cache_write_5m": 2000, "output": 500}],
    "22-anthropic-fast-mode": [{"input": 1000, "cache_read": 10000, "cache_write_5m": 2000, "output": 500}],
    "23-anthropic-compaction": [{"input": 23000, "output": 1000}, {"input": 180000, "output": 3500}],
    "26-anthropic-haiku55-100k-tier": [{"input": 40000, "cache_read": 80000, "output": 1000}],
    "28-gemini-audio-with-cached-text": [
        {
            "input_text": 952,
            "cache_read_text": 2048,
            "input_audio": 2000,
            "output_text": 300,
            "output_reasoning": 900,
        }
    ],
    "30-gemini-image-output": [{"input_text": 20, "output_image": 1120}],
    "31-bedrock-converse-us-profile": [{"input": 100, "cache_read": 2000, "cache_write_1h": 1000, "output": 50}],
    "32-bedrock-converse-global-profile": [{"input": 100, "cache_read": 2000, "cache_write_1h": 1000, "output": 50}],
    "35-deepseek-weekend-offpeak": [{"input": 40000, "cache_read": 60000, "output": 5000}],
    "36-xai-reasoning-excluded": [{"input_text": 36, "cache_read": 64, "output": 50, "output_reasoning": 300}],
    "37-cohere-billed-units": [{"input": 5, "output": 418}],
    "38-groq-whisper-10s-minimum": [{"audio_seconds_in": 3}],
    "39-overlay-negotiated-discount": [{"input": 86, "cache_read": 1920, "output": 108, "output_reasoning": 192}],
}
"""Id → buckets of each usage; from the vectors' lines, reasoning split from the output. The ten second
minimum of vector 38 is a rule of its price, not of its usage."""

EVIDENCE = {
    "02-openai-responses-flex": {"service_tier": "flex"},
    "04-openai-priority-requested-default-served": {"service_tier": "default"},
    "21-anthropic-us-residency": {"service_tier": "standard", "inference_geo": "us"},
    "22-anthropic-fast-mode": {"service_tier": "standard", "speed": "fast"},
}
"""Id → price dimensions that the answer itself tells."""


def test_vectors(vectors: Path) -> None:
    given: list[dict[str, Any]] = json.loads(vectors.read_text())["vectors"]
    found: dict[str, list[dict[str, int]]] = {}
    for vector in given:
        reading = Reading()
        dialect = by_flavor(vector["provider"], vector["api_flavor"], vector["raw"])
        dialect.response(reading, vector["raw"])
        usages = dialect.usages(reading, RequestView(model=vector["model"]))
        assert [usage.inferred for usage in usages] == [()] * len(usages), vector["id"]
        found[vector["id"]] = [{k: int(v) for k, v in usage.buckets.items()} for usage in usages]
        if vector["id"] in EVIDENCE:
            assert reading.context == EVIDENCE[vector["id"]], vector["id"]
    assert found == EXPECTED


@pytest.mark.parametrize(
    ("provider", "flavour", "name"),
    [
        ("openai", "chat", "openai_chat"),
        ("azure.ai.openai", "responses", "openai_responses"),
        ("azure", "anthropic", "anthropic_messages"),
        ("anthropic", "default", "anthropic_messages"),
        ("gcp.vertex_ai", "default", "gemini"),
        ("gcp.vertex_ai", "anthropic", "anthropic_messages"),
        ("aws.bedrock", "default", "bedrock_converse"),
        ("x_ai", "default", "openai_chat"),
        ("cohere", "embeddings", "cohere_embed"),
        ("mistral", "ocr", "mistral_ocr"),
        ("openai", "openai_responses", "openai_responses"),
        ("openai", None, "openai_chat"),
    ],
)
def test_flavours(provider: str, flavour: str | None, name: str) -> None:
    assert by_flavor(provider, flavour).name == name


def test_an_unknown_flavour_is_an_error() -> None:
    with pytest.raises(KeyError):
        by_flavor("openai", "telepathy")
