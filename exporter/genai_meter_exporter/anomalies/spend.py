"""Tenants and workflows that cost several times their median day."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterator
from typing import Final

from genai_meter_exporter.anomalies.evidence import Finding, driver, largest, named, short, usd
from genai_meter_exporter.anomalies.model import Anomalies, Kind
from genai_meter_exporter.anomalies.sums import NOTHING, Key, Reports, Window, read, read_days
from genai_meter_exporter.anomalies.threshold import Threshold

SUBJECTS: Final[dict[Kind, tuple[str, ...]]] = {
    "tenant_spend": ("tenant",),
    "workflow_spend": ("team", "workflow"),
}
"""Kind → dimensions; the last one must have a value."""

_FEWEST_DAYS: Final = 4
"""Of the week, with spend: with fewer there is no usual day."""
_RECURRING: Final = 1.5
"""Below so many times the same 24 hours of last week it recurs."""


def find(reader: Reports, window: Window, settings: Anomalies, threshold: Threshold) -> Iterator[Finding]:
    """Against the median of the seven whole days before."""
    for kind, by in SUBJECTS.items():
        week_ago = read(reader, by, window.week_ago)
        days = read_days(reader, by, window.days)
        for key, sums in read(reader, by, window.today).items():
            usual = days.get(key, [])
            if not key[-1] or sum(cost > 0 for cost in usual) < _FEWEST_DAYS:
                continue
            median = statistics.median_low(usual)
            labels = tuple(zip(by, key, strict=True))
            limit = max(median * threshold(kind, labels, settings.spend_ratio), settings.spend_floor)
            if sums.cost > limit and sums.cost > _RECURRING * week_ago.get(key, NOTHING).cost:
                yield _finding(reader, window, kind, labels, sums.cost, median)


def _finding(
    reader: Reports, window: Window, kind: Kind, labels: tuple[tuple[str, str], ...], cost: int, median: int
) -> Finding:
    ratio = cost / median
    return Finding(
        kind,
        labels,
        ratio,
        f"{usd(cost)} in 24 hours, {ratio:.1f} times the median day of {usd(median)}",
        short(_due_to(reader, window, labels)),
    )


def _due_to(reader: Reports, window: Window, labels: tuple[tuple[str, str], ...]) -> str:
    by: Key = ("feature", "model")
    after, before = read(reader, by, window.today, labels), read(reader, by, window.days, labels)
    days = window.days.days
    found = largest(after, before, lambda now, was: now.cost - was.cost / days)
    if found is None:
        return ""
    key, now, was = found
    return f"{named(key)}: {usd(was.cost / days)} → {usd(now.cost)} a day ({driver(now, was, days)})"


def dearest(reader: Reports, window: Window, tenants: Collection[str]) -> dict[str, tuple[str, str, int]]:
    """Tenant → the feature and model that cost most in the last 24 hours, and how much."""
    found: dict[str, tuple[str, str, int]] = {}
    if tenants:
        for (tenant, feature, model), sums in read(reader, ("tenant", "feature", "model"), window.today).items():
            if tenant in tenants and sums.cost > (found[tenant][2] if tenant in found else 0):
                found[tenant] = feature, model, sums.cost
    return found
