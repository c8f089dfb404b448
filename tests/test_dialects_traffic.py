"""Every recorded exchange, buffered and streamed, through its dialect: usage equal to the truth file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from genai_meter.dialects import for_path, not_metered
from genai_meter.dialects.base import Reading
from genai_meter.usage import Usage

from tests.traffic.known import BOTH, CACHED, CACHED_MODALITY
from tests.traffic.reading import read_exchange
from tests.traffic.recordings import Exchange, load

BUCKETS = {
    "uncached_input": ("input", "input_text", "input_audio", "input_image", "input_video"),
    "cache_write_5m": ("cache_write_5m",),
    "cache_write_1h": ("cache_write_1h",),
    "audio_in": ("input_audio", "cache_read_audio"),
    "audio_out": ("output_audio",),
    "image_in": ("input_image", "cache_read_image"),
    "image_out": ("output_image",),
    "video_in": ("input_video", "cache_read_video"),
    "tool_use_input": ("tool_prompt",),
    "audio_seconds": ("audio_seconds_in",),
    "web_search_requests": ("web_search",),
    "search_units": ("rerank_search",),
    "pages": ("pages",),
}
"""Field of the truth → the buckets that sum to it."""

GROK_CACHED = tuple(
    f"other-chat-{digest}"
    for digest in (
        "535b9afcc298",
        "601d3c2f29cd",
        "61955c5270e5",
        "62c23c989bf8",
        "6ab85d67d691",
        "731c30cc775a",
        "880d5ea86a4b",
        "9426a87b4082",
        "b5e5c7a44d4e",
        "c2b691dba808",
        "c86da7cb8671",
        "d027294a49bc",
        "dc7010f66998",
        "eecb91a74430",
        "fcec2cd3ea60",
    )
)
GROK_IMAGE = ("other-chat-5a9310bf656b", "other-chat-caf7e46167ec")
VOXTRAL = (
    "mistralai-audio-5609438e9f03",
    "mistralai-audio-c5c5f56409e5",
    "mistralai-chat-4d87b367ca1c",
    "mistralai-chat-f40938ca533a",
)
IMAGES_COUNTED = "no usage is told; the images of the answer are counted, they are what older models bill"
GATEWAY = "an estimate of the gateway, not a cost that the provider reports"

KNOWN: Mapping[str, tuple[set[str], str]] = {
    "openai-chat-c3be12a1bb2d": ({"audio_out"}, "4 output tokens, 3 of them reasoning and 4 audio: hand-made"),
    "openai-images-2556d9416ce5": ({"presence"}, IMAGES_COUNTED),
    "openai-images-27a995d1e305": ({"presence"}, IMAGES_COUNTED),
    "openai-images-2a34a3e9123c": ({"presence"}, IMAGES_COUNTED),
    "openai-images-3a8a0dae29ae": ({"presence"}, IMAGES_COUNTED),
    "openai-images-4b3c46dc6f4d": ({"presence"}, IMAGES_COUNTED),
    "openai-images-efecd89dd4d8": ({"presence"}, IMAGES_COUNTED),
    "openrouter-chat-3206127a5927": ({"cache_write"}, "the same tokens told as read and as written; read wins"),
    "openrouter-chat-678566e127d0": ({"reasoning"}, "11 reasoning tokens of 10 output tokens"),
    "other-chat-dfd35ca15421": ({"cost_reported"}, GATEWAY),
    "other-responses-0202648d5362": ({"cost_reported"}, GATEWAY),
    **{id_: ({"audio_seconds"}, BOTH) for id_ in VOXTRAL},
    **{id_: ({"cache_read"}, CACHED) for id_ in GROK_CACHED},
    **{id_: ({"image_in"}, CACHED_MODALITY) for id_ in GROK_IMAGE},
}
"""Every exchange that differs: the fields that do, and why. A new one fails the test."""

NO_DIALECT = {
    ("other", "text"): 2,  # watsonx.ai
    ("other", None): 1,  # Aleph Alpha
}
"""Exchanges with usage whose format has no dialect yet."""


@pytest.fixture(scope="module")
def exchanges(traffic: Path) -> list[Exchange]:
    return load([traffic / "dev.jsonl.gz"])


def test_usage_is_the_truth(exchanges: list[Exchange]) -> None:
    different: dict[str, set[str]] = {}
    for exchange in exchanges:
        dialect = for_path(exchange.method, exchange.path)
        if dialect is not None:
            _, reading, usages = read_exchange(dialect, exchange)
            fields = _differences(exchange, dialect.name, reading, usages)
            if fields:
                different[exchange.id] = fields
    assert different == {id_: fields for id_, (fields, _) in KNOWN.items()}


def test_only_contradictory_counts_are_repaired(exchanges: list[Exchange]) -> None:
    repaired: dict[str, tuple[str, ...]] = {}
    for exchange in exchanges:
        dialect = for_path(exchange.method, exchange.path)
        for usage in read_exchange(dialect, exchange)[2] if dialect else ():
            if usage.inferred:
                repaired[exchange.id] = usage.inferred
    rules = Counter(repaired.values())
    assert rules == {
        ("cached_over_input",): 15,
        ("cached_modality_assumed",): 2,
        ("cache_write_over_input",): 1,
        ("reasoning_over_output",): 1,
        ("output_modalities_over_total",): 1,
    }
    assert repaired.keys() <= KNOWN.keys()


def test_what_has_no_dialect_tells_no_usage(exchanges: list[Exchange]) -> None:
    without = [e for e in exchanges if for_path(e.method, e.path) is None]
    told = Counter((e.provider, e.operation_detail) for e in without if e.truth)
    assert told == NO_DIALECT


def test_what_is_not_metered_has_a_reason(exchanges: list[Exchange]) -> None:
    nobody_knows = {
        (e.provider, e.bare_path)
        for e in exchanges
        if e.provider in ("openai", "anthropic", "azure.ai.openai")
        and for_path(e.method, e.path) is None
        and not_metered(e.method, e.path) is None
    }
    assert nobody_knows == set()


def test_answers_are_told_apart_from_their_parts(exchanges: list[Exchange]) -> None:
    """A healthy answer names its model and its end; a request its model and the size of what it says."""
    endless: list[str] = []
    for exchange in exchanges:
        if exchange.operation not in ("chat", "messages", "responses") or exchange.provider not in (
            "openai",
            "anthropic",
        ):
            continue
        dialect = for_path(exchange.method, exchange.path)
        assert dialect is not None, exchange.id
        request, reading, usages = read_exchange(dialect, exchange)
        assert request.model == exchange.request.get("model"), exchange.id
        assert request.stream is bool(exchange.request.get("stream")), exchange.id
        assert all(size >= 0 for size in request.chars_by_role.values()), exchange.id
        if exchange.status == 200 and usages and not reading.error_type:
            assert reading.response_id, exchange.id
            assert reading.model, exchange.id
            assert reading.terminal, exchange.id
            assert reading.fidelity == "final", exchange.id
            if not reading.finish_reasons:
                endless.append(exchange.id)
    assert endless == ["openai-chat-492070be123c"]  # gpt-4-vision-preview did not say why it ended


def _differences(exchange: Exchange, dialect: str, reading: Reading, usages: list[Usage]) -> set[str]:
    truth: dict[str, Any] = dict(exchange.truth or {})
    if bool(truth) != bool(usages):
        return {"presence"}
    if not usages:
        return set()
    usage = usages[0]
    if usage.model is not None:
        # Billed by the models behind a system: the truth is of the whole.
        usage = Usage({b: sum(u.buckets.get(b, 0) for u in usages) for u in usages for b in u.buckets})
    if dialect.startswith("cohere") and "billed_input" in truth:
        # What is billed counts; the truth's tokens are what was processed.
        truth |= {"input_tokens": truth["billed_input"], "output_tokens": truth.get("billed_output")}
        truth |= {"cache_read": None}
    told: dict[str, Any] = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read": usage.cache_read_tokens,
        "cache_write": usage.cache_write_tokens,
        "reasoning": usage.reasoning_tokens,
        "service_tier": reading.service_tier,
        "inference_geo": reading.context.get("inference_geo", "not_available"),
        "cost_reported": float(reading.reported_cost_usd or 0),
    }
    told |= {name: sum(usage.buckets.get(bucket, 0) for bucket in buckets) for name, buckets in BUCKETS.items()}
    return {name for name, value in told.items() if name in truth and (truth[name] or 0) != (value or 0)}
