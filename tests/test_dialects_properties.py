"""Whatever a provider sends: buckets stay exclusive and sum to the totals, and nothing but an `Exception` comes out."""

from __future__ import annotations

from typing import Any

from genai_meter.dialects import Reading, RequestView, by_name
from genai_meter.dialects.buckets import Tally
from genai_meter.dialects.paths import MODULES
from genai_meter.usage import BUCKETS, Usage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

counts = st.integers(0, 10**7)
modalities = st.dictionaries(st.sampled_from(["text", "audio", "image", "video"]), counts, max_size=4)
writes = st.dictionaries(
    st.sampled_from(["cache_write", "cache_write_5m", "cache_write_1h", "cache_write_12h"]), counts
)


@given(counts, counts, writes, modalities, modalities)
def test_input_buckets_sum_to_the_input(
    total: int, cached: int, written: dict[str, int], by_modality: dict[str, int], cached_modality: dict[str, int]
) -> None:
    tally = Tally()
    tally.input(total, cached=cached, writes=written, modalities=by_modality, cached_modalities=cached_modality)
    usage = tally.usage()
    assert usage.input_tokens == total
    assert usage.cache_read_tokens == min(cached, total)
    assert all(amount > 0 for amount in usage.buckets.values())
    consistent = (
        cached + sum(written.values()) <= total
        and sum(by_modality.values()) <= total
        and sum(cached_modality.values()) <= cached
        and all(amount <= by_modality.get(name, 0) for name, amount in cached_modality.items())
    )
    if consistent and sum(by_modality.values()) + cached + sum(written.values()) <= total:
        assert usage.inferred == ()
        assert usage.cache_write_tokens == sum(written.values())


@given(counts, counts, modalities)
def test_output_buckets_sum_to_the_output(total: int, reasoning: int, by_modality: dict[str, int]) -> None:
    tally = Tally()
    tally.output(total, reasoning=reasoning, modalities=by_modality)
    usage = tally.usage()
    assert usage.output_tokens == total
    assert usage.reasoning_tokens == min(reasoning, total)
    assert all(amount > 0 for amount in usage.buckets.values())
    spoken = sum(amount for name, amount in by_modality.items() if name != "text")
    assert bool(usage.inferred) == (reasoning + spoken > total)


odd_counts = st.one_of(st.integers(-5, 10**9), st.sampled_from([None, 1.5, float("nan"), "7", True, [], -0.0, 2**70]))
details = st.dictionaries(
    st.sampled_from(
        [
            "cached_tokens",
            "audio_tokens",
            "text_tokens",
            "image_tokens",
            "reasoning_tokens",
            "cache_write_tokens",
            "thinking_tokens",
            "ephemeral_5m_input_tokens",
            "ephemeral_1h_input_tokens",
        ]
    ),
    odd_counts,
    max_size=4,
)
flat = st.dictionaries(
    st.sampled_from(
        [
            "prompt_tokens",
            "completion_tokens",
            "input_tokens",
            "output_tokens",
            "total_tokens",
            "cached_tokens",
            "cost",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
            "inputTokens",
            "outputTokens",
            "cacheWriteInputTokens",
            "promptTokenCount",
            "thoughtsTokenCount",
        ]
    ),
    odd_counts,
    max_size=6,
)
nested = st.dictionaries(
    st.sampled_from(
        [
            "prompt_tokens_details",
            "completion_tokens_details",
            "input_tokens_details",
            "output_tokens_details",
            "cache_creation",
            "billed_units",
        ]
    ),
    details,
    max_size=2,
)
unhurried = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(st.sampled_from(sorted(MODULES)), flat, nested)
@unhurried
def test_odd_counts_never_make_a_wrong_bucket(name: str, counted: dict[str, Any], split: dict[str, Any]) -> None:
    dialect, reading = by_name(name), Reading()
    usage = counted | split
    told: dict[str, Any] = {"usage": usage, "model": "m", "choices": [], "usageMetadata": usage, "type": "message"}
    dialect.response(reading, told)
    for found in dialect.usages(reading, RequestView()):
        _is_sound(found)


garbage = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "usage",
                    "choices",
                    "delta",
                    "message",
                    "content",
                    "output",
                    "model",
                    "id",
                    "usageMetadata",
                    "messages",
                    "input",
                    "response",
                    "meta",
                    "iterations",
                    "x",
                ]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@given(st.sampled_from(sorted(MODULES)), garbage, st.sampled_from(["request", "response", "chunk"]))
@unhurried
def test_garbage_raises_nothing_that_a_guard_would_not_catch(name: str, value: Any, side: str) -> None:
    dialect, reading = by_name(name), Reading()
    try:
        getattr(dialect, side)(*([value] if side == "request" else [reading, value]))
        found = dialect.usages(reading, RequestView())
    except Exception:  # noqa: BLE001 - what `guarded` swallows and counts
        return
    for usage in found:
        _is_sound(usage)


@given(
    st.dictionaries(
        st.sampled_from(["max_tokens", "max_completion_tokens", "max_output_tokens"]), st.integers(1, 10**6)
    )
)
def test_apply_never_raises_a_bound(body: dict[str, int]) -> None:
    for name in ("openai_chat", "openai_responses", "openai_completions", "anthropic_messages"):
        changed = by_name(name).apply(body, max_tokens=1000)
        assert all(changed[key] <= bound for key, bound in body.items())


def _is_sound(usage: Usage) -> None:
    assert usage.buckets.keys() <= set(BUCKETS)
    assert all(amount > 0 for amount in usage.buckets.values())
    assert isinstance(usage.input_tokens, int)
    assert isinstance(usage.output_tokens, int)
