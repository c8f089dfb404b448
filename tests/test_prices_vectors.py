"""Raw answers of every flavour through `genai-meter prices calc`, exact to the last digit.

The recorded vectors are beside the repository; the fixtures below are our own, so that a clone alone
proves the same ways. Their expectations are worked out by hand from the rates named in each.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from prices_kit import ACME, calc

NOON = "2026-11-20T12:00:00Z"


def test_every_vector_is_exact_to_the_last_digit(vectors: Path, tmp_path: Path) -> None:
    records: list[dict[str, Any]] = json.loads(vectors.read_text())["vectors"]
    plain = [record for record in records if "overlay" not in record["context"]]
    negotiated = [record for record in records if "overlay" in record["context"]]
    (tmp_path / "acme.yaml").write_text(ACME)
    results = calc(plain) + calc(negotiated, "--overlay", tmp_path / "acme.yaml")
    expected = {record["id"]: record.get("expected_usd_12dp", record["expected_usd"]) for record in records}
    assert {result["id"]: result["cost_usd"] for result in results} == expected
    assert {result["id"]: result["status"] for result in results} == dict.fromkeys(expected, "exact")
    assert len(results) == 28


OWN: list[tuple[str, dict[str, Any], str]] = [
    (
        # gpt-4.1: 2 in, 0.5 cached, 8 out a million. (1000-200)*2 + 200*0.5 + 50*8 = 2100
        "0.0021",
        {
            "provider": "openai",
            "model": "gpt-4.1-2025-04-14",
            "api_flavor": "chat",
            "raw": {
                "object": "chat.completion",
                "model": "gpt-4.1-2025-04-14",
                "service_tier": "default",
                "choices": [],
                "usage": {
                    "prompt_tokens": 1000,
                    "completion_tokens": 50,
                    "total_tokens": 1050,
                    "prompt_tokens_details": {"cached_tokens": 200},
                },
            },
        },
        "exact",
    ),
    (
        # claude-sonnet-4-5: 3 in, 0.3 read, 3.75 5m, 6 1h, 15 out; cache beside the input.
        # 10*3 + 1000*0.3 + 100*3.75 + 200*6 + 20*15 = 2205, two searches at 10 a thousand = 0.02
        "0.022205",
        {
            "provider": "anthropic",
            "model": "claude-sonnet-4-5",
            "api_flavor": "default",
            "raw": {
                "type": "message",
                "model": "claude-sonnet-4-5-20250929",
                "usage": {
                    "input_tokens": 10,
                    "cache_read_input_tokens": 1000,
                    "cache_creation_input_tokens": 300,
                    "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
                    "output_tokens": 20,
                    "server_tool_use": {"web_search_requests": 2},
                    "service_tier": "standard",
                },
            },
        },
        "exact",
    ),
    (
        # gemini-2.5-flash: 0.3 in, 2.5 out, thoughts beside the candidates. 100*0.3 + (10+40)*2.5 = 155
        "0.000155",
        {
            "provider": "gcp.gemini",
            "model": "gemini-2.5-flash",
            "api_flavor": "default",
            "raw": {
                "modelVersion": "gemini-2.5-flash",
                "candidates": [],
                "usageMetadata": {
                    "promptTokenCount": 100,
                    "candidatesTokenCount": 10,
                    "thoughtsTokenCount": 40,
                    "totalTokenCount": 150,
                },
            },
        },
        "exact",
    ),
    (
        # Bedrock, us profile of claude-sonnet-4-5: 3.3 in, 16.5 out. 100*3.3 + 10*16.5 = 495
        "0.000495",
        {
            "provider": "aws.bedrock",
            "model": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "api_flavor": "default",
            "raw": {"stopReason": "end_turn", "usage": {"inputTokens": 100, "outputTokens": 10, "totalTokens": 110}},
        },
        "exact",
    ),
    (
        # text-embedding-3-small: 0.02. 500*0.02 = 10
        "0.00001",
        {
            "provider": "openai",
            "model": "text-embedding-3-small",
            "api_flavor": "embeddings",
            "raw": {"object": "list", "usage": {"prompt_tokens": 500, "total_tokens": 500}},
        },
        "exact",
    ),
    (
        # whisper-large-v3-turbo at Groq: 0.04 an hour, at least ten seconds: 10*0.04/3600 = 1/9000
        "0.000111111111",
        {
            "provider": "groq",
            "model": "whisper-large-v3-turbo",
            "api_flavor": None,
            "raw": {"model": "whisper-large-v3-turbo", "duration": 2.5},
        },
        "exact",
    ),
    (
        # 90 seconds are above the minimum: 90*0.04/3600
        "0.001",
        {
            "provider": "groq",
            "model": "whisper-large-v3-turbo",
            "api_flavor": None,
            "raw": {"model": "whisper-large-v3-turbo", "duration": 90},
        },
        "exact",
    ),
    (
        # tts-1: 15 a million characters
        "0.0015",
        {
            "provider": "openai",
            "model": "tts-1",
            "api_flavor": None,
            "raw": {"model": "tts-1", "input_characters": 100},
        },
        "exact",
    ),
]


def test_own_fixtures_of_every_flavour_are_exact() -> None:
    records: list[dict[str, Any]] = [
        {"id": str(i), "at": NOON, "context": {}, **record} for i, (_, record, _) in enumerate(OWN)
    ]
    results = calc(records)
    assert [(r["cost_usd"], r["status"]) for r in results] == [(usd, status) for usd, _, status in OWN]
    assert [r["id"] for r in results] == [record["id"] for record in records]
