"""What a provider billed for one model in one call, in exclusive buckets.

A bucket never contains another: the sum of the input buckets is the gross input (cached tokens
included), the sum of the output buckets is the gross output (reasoning included). The inclusive
numbers of the GenAI conventions are derived from the buckets; back again (`buckets_of`) only where they tell as much.
"""

# ruff: noqa: PIE807 - as a factory `dict[str, str]` is ten times slower than a lambda, and `dict` has no type.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

Quantity: TypeAlias = int | Decimal
"""Tokens, requests, searches, characters and pages are integers; seconds may carry a fraction."""

UsageSource: TypeAlias = Literal["provider", "estimated", "unknown"]

INPUT_BUCKETS: Final = (
    "input",
    "input_text",
    "input_audio",
    "input_image",
    "input_video",
    "tool_prompt",
    "cache_read",
    "cache_read_text",
    "cache_read_audio",
    "cache_read_image",
    "cache_read_video",
    "cache_write",
    "cache_write_5m",
    "cache_write_30m",
    "cache_write_1h",
    "cache_write_12h",
)
"""Input tokens. A bucket without a suffix is for tokens whose modality or TTL the provider did not tell."""

OUTPUT_BUCKETS: Final = (
    "output",
    "output_text",
    "output_reasoning",
    "output_audio",
    "output_image",
    "output_video",
    "output_citation",
)
"""Output tokens. `output` is what the provider did not break down further."""

OTHER_BUCKETS: Final = (
    "web_search",
    "social_search",
    "maps_search",
    "file_search",
    "code_exec",
    "rerank_search",
    "chars_in",
    "messages_in",
    "audio_seconds",
    "audio_seconds_in",
    "audio_seconds_out",
    "images",
    "pages",
    "classifications",
)
"""Billed things that are no tokens: tool calls, characters, messages, seconds, images, pages."""

BUCKETS: Final = INPUT_BUCKETS + OUTPUT_BUCKETS + OTHER_BUCKETS

_INPUT: Final = frozenset(INPUT_BUCKETS)
_OUTPUT: Final = frozenset(OUTPUT_BUCKETS)


@dataclass(slots=True)
class Usage:
    """Billed quantities of one model in one call."""

    buckets: dict[str, Quantity] = field(default_factory=lambda: {})
    """Bucket name → quantity > 0; a bucket that is absent is zero."""

    model: str | None = None
    """The model billed, when it is not the call's served model (fallbacks, advisors, compaction)."""

    inferred: tuple[str, ...] = ()
    """Names of the rules that had to repair contradictory counts; empty when taken as reported."""

    def total(self, prefix: str) -> int:
        """Sum of the buckets called `prefix` or `prefix_…` (tokens)."""
        longer = prefix + "_"
        return sum(int(n) for name, n in self.buckets.items() if name == prefix or name.startswith(longer))

    @property
    def input_tokens(self) -> int:
        """Gross input tokens, cache reads and writes included."""
        return sum(int(n) for name, n in self.buckets.items() if name in _INPUT)

    @property
    def output_tokens(self) -> int:
        """Gross output tokens, reasoning included."""
        return sum(int(n) for name, n in self.buckets.items() if name in _OUTPUT)

    @property
    def cache_read_tokens(self) -> int:
        """Input tokens served from the provider's prompt cache."""
        return self.total("cache_read")

    @property
    def cache_write_tokens(self) -> int:
        """Input tokens written to the provider's prompt cache, whatever their TTL."""
        return self.total("cache_write")

    @property
    def reasoning_tokens(self) -> int:
        """Output tokens spent on reasoning."""
        return int(self.buckets.get("output_reasoning", 0))


def buckets_of(totals: Mapping[str, Any]) -> dict[str, int]:
    """The exclusive buckets that follow from inclusive counts (`input_tokens` …): all that most events tell."""
    cached, reasoning = totals.get("cache_read_tokens") or 0, totals.get("reasoning_tokens") or 0
    return {
        "input": max((totals.get("input_tokens") or 0) - cached, 0),
        "cache_read": cached,
        "output": max((totals.get("output_tokens") or 0) - reasoning, 0),
        "output_reasoning": reasoning,
    }
