"""Thresholds of the alert rules. They are metrics, so that the rules stay as they are shipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from pydantic import Field, PositiveFloat

from genai_meter_exporter.section import Section

METRIC: Final = "genai_meter_alert_threshold"


class Alerts(Section):
    """From where on the shipped rules alert (docs/alerts.md says which alert reads which)."""

    spend_spike_ratio: PositiveFloat = 5.0
    """An hour of a service over its median hour of seven days."""

    spend_spike_floor_usd: PositiveFloat = 2.0
    """That median counts as so much at least."""

    spend_anomaly_sigmas: PositiveFloat = 3.0
    """Standard deviations of an hour above the mean of seven days."""

    spend_anomaly_floor_usd: PositiveFloat = 5.0
    """An hour below it is no anomaly."""

    retry_storm_ratio: PositiveFloat = 0.3
    """Retries a call."""

    cache_drop_ratio: float = Field(default=0.7, gt=0, lt=1)
    """Cache hit ratio of an hour over that of the day before."""

    burn_rate_1h: PositiveFloat = 14.4
    """Spend over plan for an hour: 2 % of a month's budget. Pages."""

    burn_rate_6h: PositiveFloat = 6.0
    """Spend over plan for six hours: 5 %. Pages."""

    burn_rate_1d: PositiveFloat = 1.2
    """Spend over plan for a day. A ticket."""

    consumed_early_ratio: float = Field(default=0.8, gt=0, le=1)
    """Share of a month's budget that is used early."""

    consumed_early_day: int = Field(default=20, ge=1, le=31)
    """Before this day of the month it is early."""

    tenant_margin_ratio: float = Field(default=0.0, lt=1)
    """Margin of a tenant over 30 days: (revenue - cost) / revenue."""

    endpoint_error_ratio: float = Field(default=0.05, gt=0, lt=1)
    """Failed calls of a service at one model."""

    endpoint_latency_seconds: PositiveFloat = 30.0
    """What one call in twenty of a service at one model may exceed."""

    provider_outage_ratio: float = Field(default=0.5, gt=0, lt=1)
    """Failed calls at one provider."""

    price_book_age_days: PositiveFloat = 30.0
    """Age of the price book's data."""

    rejected_ratio: float = Field(default=0.001, gt=0, lt=1)
    """Records that were rejected or quarantined."""

    clock_ahead_ratio: float = Field(default=0.01, gt=0, lt=1)
    """Calls of a service that ended later than they arrived."""

    evaluation_age_seconds: PositiveFloat = 300.0
    """Time since the budgets were evaluated."""


def collect(thresholds: Alerts) -> Iterator[Metric]:
    """One gauge, by the name of the threshold."""
    metric = GaugeMetricFamily(METRIC, "From where on the shipped rules alert.", labels=("threshold",))
    for name in Alerts.model_fields:
        metric.add_metric((name,), float(getattr(thresholds, name)))
    yield metric
