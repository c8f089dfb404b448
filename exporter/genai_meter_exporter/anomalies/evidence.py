"""Words and figures: what most of a difference comes from. Ratios are floats here, amounts are integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from genai_meter_exporter.anomalies.model import Kind
from genai_meter_exporter.anomalies.sums import NOTHING, Key, Sums
from genai_meter_exporter.budgets.model import PICO

_LONGEST: Final = 200
"""Characters of evidence: it is a label."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something unusual, as of now."""

    kind: Kind
    labels: tuple[tuple[str, str], ...]
    """Whom it is about; with the kind its identity."""
    ratio: float
    """How far it is from the usual: times, or a share of the calls."""
    text: str
    """What changed, with figures."""
    due_to: str
    """What most of it comes from, with figures."""

    @property
    def key(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """The identity."""
        return self.kind, self.labels


def usd(pico: float) -> str:
    """An amount as people read it; parts of a cent where there is no more."""
    amount = pico / PICO
    return f"${amount:,.2f}" if amount >= 0.1 or not amount else f"${amount:.4f}"


def percent(part: float, whole: float) -> str:
    """A share."""
    share = 100 * part / whole if whole else 0.0
    return f"{share:.0f} %" if share >= 1 or not share else f"{share:.1f} %"


def named(key: Key) -> str:
    """(feature, model) in words."""
    feature, model = key
    return f"feature {feature or '(none)'} on {model or '(unknown)'}"


def short(text: str) -> str:
    """Not longer than a label may be."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def largest(
    after: Mapping[Key, Sums], before: Mapping[Key, Sums], grown: Callable[[Sums, Sums], float]
) -> tuple[Key, Sums, Sums] | None:
    """The group that contributes most, as `grown(after, before)` weighs it."""
    found = [(grown(sums, before.get(key, NOTHING)), key) for key, sums in after.items()]
    found = [(amount, key) for amount, key in found if amount > 0]
    if not found:
        return None
    _, key = max(found)
    return key, after[key], before.get(key, NOTHING)


def driver(after: Sums, before: Sums, days: float) -> str:
    """Which factor of the cost has grown most: calls, tokens a call or the price of a token; and retries."""
    if not before.calls:
        return "new"
    factors: list[tuple[float, str]] = []
    if after.calls:
        factors.append((after.calls * days / before.calls, f"calls {before.calls / days:,.0f} → {after.calls:,} a day"))
        tokens, usual = after.input_tokens + after.output_tokens, before.input_tokens + before.output_tokens
        if tokens and usual:
            a_call, was = tokens / after.calls, usual / before.calls
            factors.append((a_call / was, f"tokens a call {was:,.0f} → {a_call:,.0f}"))
            if before.cost:
                price, old = after.cost / tokens, before.cost / usual
                factors.append((price / old, f"1,000 tokens {usd(1000 * old)} → {usd(1000 * price)}"))
    words = max(factors)[1] if factors else "fewer calls"
    repeated = after.retries / after.calls if after.calls else 0.0
    if repeated >= 0.05 and repeated >= 2 * before.retries / before.calls:
        words += f", retries {percent(before.retries, before.calls)} → {percent(after.retries, after.calls)}"
    return words
