"""What the stand-in provider served, and what that costs by the price lists: nothing of ours is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from examples.provider.wire import SNAPSHOTS

USD_PER_MILLION: Final[Mapping[str, tuple[str, str, str, str, str]]] = {
    # model: input, cache read, cache write (5 minutes), cache write (1 hour), output
    "gpt-4o-2024-08-06": ("2.50", "1.25", "0", "0", "10"),
    "o4-mini-2025-04-16": ("1.10", "0.275", "0", "0", "4.40"),
    "gpt-4.1-mini-2025-04-14": ("0.40", "0.10", "0", "0", "1.60"),
    "text-embedding-3-small": ("0.02", "0", "0", "0", "0"),
    "claude-sonnet-4-5-20250929": ("3", "0.30", "3.75", "6", "15"),
    "us.anthropic.claude-haiku-4-5-20251001-v1:0": ("1.10", "0.11", "1.375", "2.20", "5.50"),
}
"""As OpenAI, Anthropic and AWS publish them, in November 2026."""


_ALIASES: Final = {snapshot: alias for alias, snapshot in SNAPSHOTS.items()}


class Call(NamedTuple):
    """One call, as a bill would have it."""

    model: str
    """By its alias: of a stream, some producers know only what was asked for."""
    input: int
    """Cached tokens included."""
    cache_read: int
    cache_write: int
    output: int
    """Reasoning included."""
    pico_usd: int


def call(model: str, fresh: int, output: int, *, read: int = 0, write: int = 0, write_1h: int = 0) -> Call:
    """A call and its price, in integers."""
    pico = [round(float(usd) * 1_000_000) for usd in USD_PER_MILLION[model]]
    cost = sum(count * rate for count, rate in zip((fresh, read, write, write_1h, output), pico, strict=True))
    return Call(_alias(model), fresh + read + write + write_1h, read, write + write_1h, output, cost)


def of(served: Iterable[Mapping[str, Any]], hidden: frozenset[str] = frozenset()) -> list[Call]:
    """What was served; `hidden` is what a producer does not tell: `cached`, `ttl`, or `placeholder` for one token
    too many in Anthropic's streams."""
    return [_one(answer, hidden) for answer in served]


def _one(answer: Mapping[str, Any], hidden: frozenset[str]) -> Call:
    usage, model = answer["usage"], answer["model"]
    if answer["path"].startswith("/model/"):
        model = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
        read, write = usage.get("cacheReadInputTokens", 0), usage.get("cacheWriteInputTokens", 0)
        return call(model, usage["inputTokens"], usage["outputTokens"], read=read, write=write)
    if answer["api"] == "messages":
        ttl = usage["cache_creation"]
        five, hour = ttl["ephemeral_5m_input_tokens"], ttl["ephemeral_1h_input_tokens"]
        if "ttl" in hidden:
            five, hour = five + hour, 0
        output = usage["output_tokens"] + ("placeholder" in hidden and answer["stream"])
        read = usage["cache_read_input_tokens"]
        return call(model, usage["input_tokens"], output, read=read, write=five, write_1h=hour)
    gross = usage.get("prompt_tokens", usage.get("input_tokens"))
    output = usage.get("completion_tokens", usage.get("output_tokens", 0))
    details: dict[str, Any] = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    read = 0 if "cached" in hidden else details.get("cached_tokens", 0)
    return call(model, gross - read, output, read=read)


def _alias(model: str) -> str:
    named = model.removeprefix("us.anthropic.").removesuffix("-v1:0")
    return _ALIASES.get(named, named)


def charged(rows: Iterable[Mapping[str, Any]]) -> Counter[Call]:
    """The ledger's rows."""
    return Counter(
        Call(
            _alias(row["model"] or row["request_model"]),
            row["input_tokens"],
            row["cache_read_tokens"],
            row["cache_write_tokens"],
            row["output_tokens"],
            row["cost"],
        )
        for row in rows
    )
