"""The metrics of anomalies. One series each while it is open, at most `anomalies.limit` at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from genai_meter_exporter.anomalies.model import KINDS, Anomalies
from genai_meter_exporter.anomalies.services import SERVICE
from genai_meter_exporter.anomalies.watch import Anomaly, Watch
from genai_meter_exporter.bounds import shown
from genai_meter_exporter.budgets.model import PICO

PREFIX: Final = "genai_meter_"
SUBJECT: Final = (*SERVICE, "tenant", "workflow", "feature", "model")
LABELS: Final = ("kind", *SUBJECT)
"""Of an anomaly only those that tell whom it is about have a value; Prometheus drops the others."""
_NO_THRESHOLD: Final = frozenset({"interval_seconds", "limit"})


def collect(watch: Watch) -> Iterator[Metric]:
    """Every family, at one instant."""
    found = watch.anomalies()
    yield from _anomalies(found)
    active = GaugeMetricFamily(PREFIX + "anomalies_active", "Anomalies that are open.", labels=("kind",))
    opened = CounterMetricFamily(PREFIX + "anomalies", "Anomalies that were ever opened.", labels=("kind",))
    ever = watch.opened()
    for kind in KINDS:
        active.add_metric((kind,), sum(anomaly.finding.kind == kind for anomaly in found))
        opened.add_metric((kind,), ever.get(kind, 0))
    yield from (active, opened)
    yield _thresholds(watch.settings)
    yield GaugeMetricFamily(
        PREFIX + "anomaly_interval_seconds",
        "How often the ledger is searched for anomalies.",
        watch.settings.interval_seconds,
    )
    if watch.evaluated is not None:
        yield GaugeMetricFamily(
            PREFIX + "anomaly_evaluated_timestamp_seconds",
            "When the ledger was last searched for anomalies.",
            watch.evaluated,
        )
    yield _releases(watch)
    dearest = GaugeMetricFamily(
        PREFIX + "tenant_dearest_usd",
        "Cost in 24 hours of the feature and model that a tenant with a contract spends most on.",
        labels=("tenant", "feature", "model"),
    )
    for tenant, (feature, model, cost) in sorted(watch.dearest.items()):
        dearest.add_metric((shown(tenant), shown(feature), shown(model)), cost / PICO)
    yield dearest


def _anomalies(found: list[Anomaly]) -> Iterator[Metric]:
    ratio = GaugeMetricFamily(
        PREFIX + "anomaly_ratio", "How far an anomaly is from the usual: times, or a share of the calls.", labels=LABELS
    )
    info = GaugeMetricFamily(
        PREFIX + "anomaly_info", "1; what most of an anomaly came from when it began.", labels=(*LABELS, "due_to")
    )
    for anomaly in found:
        told = dict(anomaly.finding.labels)
        labels = anomaly.finding.kind, *(shown(told.get(name, "")) for name in SUBJECT)
        ratio.add_metric(labels, anomaly.finding.ratio)
        info.add_metric((*labels, anomaly.due_to), 1)
    yield from (ratio, info)


def _thresholds(settings: Anomalies) -> Metric:
    metric = GaugeMetricFamily(
        PREFIX + "anomaly_threshold", "From where on something is an anomaly.", labels=("threshold",)
    )
    for name in Anomalies.model_fields:
        if name not in _NO_THRESHOLD:
            metric.add_metric((name,), float(getattr(settings, name)))
    return metric


def _releases(watch: Watch) -> Metric:
    metric = GaugeMetricFamily(
        PREFIX + "release_timestamp_seconds",
        "When the release that a service reported last came first, to the quarter of an hour.",
        labels=(*SERVICE, "release"),
    )
    for key, release in watch.current_releases():
        metric.add_metric((*map(shown, key), shown(release.name)), release.since)
    return metric
