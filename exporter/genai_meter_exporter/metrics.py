"""`/metrics`: a collector over the counters. Text format and OpenMetrics, with exemplars in the latter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as SampleExemplar
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString  # pyright: ignore[reportUnknownVariableType]

from genai_meter_exporter import series
from genai_meter_exporter.bounds import Bounds
from genai_meter_exporter.budgets import exposition
from genai_meter_exporter.budgets.engine import Engine
from genai_meter_exporter.counters import Counters, Snapshot
from genai_meter_exporter.receive.raw import SIGNALS
from genai_meter_exporter.series import Family, Histogram

PREFIX: Final = "genai_meter_"
_PICO: Final = 10**12
_VERSION: Final = version("genai-meter")
_LABELS_KEPT: Final = 100_000
_ESCAPED: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_STATUSES: Final = ("accepted", "duplicate", "linked", "rejected", "quarantined")


class LiveFacts:
    """What `/metrics` shows beside the counters; kept up to date by the pipeline."""

    def __init__(self) -> None:
        self.syncs = 0
        self.store_errors = 0
        """Commits that failed since the start."""
        self.rejected = 0
        """Requests and records refused since the start: garbage, too large, or no room."""
        self.ignored: Counter[str] = Counter()
        """Signal → records received since the start that are no usage."""
        self.book_id = ""
        self.book_time: float | None = None
        """Date of the price book's data, Unix seconds."""


class MeterCollector(Collector):
    """Yields every family from one snapshot."""

    def __init__(
        self,
        counters: Counters,
        bounds: Bounds,
        facts: LiveFacts,
        budgets: Engine | None = None,
        others: Sequence[Callable[[], Iterable[Metric]]] = (),
    ) -> None:
        self._budgets = budgets
        self._others = others
        self._counters = counters
        self._bounds = bounds
        self._facts = facts

    def collect(self) -> Iterable[Metric]:
        """All families, at one instant."""
        snapshot = self._counters.snapshot()
        grouped: dict[str, list[tuple[tuple[str, ...], int]]] = {}
        for (family, labels), amount in snapshot.values.items():
            grouped.setdefault(family, []).append((labels, amount))
        for family in series.FAMILIES:
            if not family.internal:
                yield self._counter(family, grouped.get(family.name, []), snapshot)
        for histogram in series.HISTOGRAMS:
            yield self._histogram(histogram, grouped, snapshot)
        yield self._cost_per_1k(grouped)
        yield from self._gauges(snapshot)
        if self._budgets is not None:
            yield from exposition.collect(self._budgets)
        for other in self._others:
            yield from other()

    def _counter(self, family: Family, found: list[tuple[tuple[str, ...], int]], snapshot: Snapshot) -> Metric:
        metric = CounterMetricFamily(PREFIX + family.name, family.doc)
        name = PREFIX + family.name + "_total"
        if family is series.INGEST:
            found = self._with_all_statuses(found)
        elif not family.labels and not found:
            found = [((), 0)]
        for labels, amount in found:
            if family.held and self._bounds.hidden(family.labels, labels):
                continue
            shown = 0 if (family.name, labels) in snapshot.held else amount
            value = shown / _PICO if family.unit == "pico_usd" else float(shown)
            metric.samples.append(Sample(name, dict(zip(family.labels, labels, strict=True)), value))
        return metric

    def _with_all_statuses(self, found: list[tuple[tuple[str, ...], int]]) -> list[tuple[tuple[str, ...], int]]:
        amounts = dict(found)
        amounts[("rejected",)] = self._facts.rejected
        return [((status,), amounts.get((status,), 0)) for status in _STATUSES]

    def _histogram(
        self, histogram: Histogram, grouped: dict[str, list[tuple[tuple[str, ...], int]]], snapshot: Snapshot
    ) -> Metric:
        metric = HistogramMetricFamily(PREFIX + histogram.name, histogram.doc)
        count = len(histogram.boundaries) + 1
        names = [f"{histogram.name}:{index}" for index in range(count)]
        buckets = [dict(grouped.get(name, ())) for name in names]
        edges = [*(floatToGoString(edge) for edge in histogram.boundaries), "+Inf"]
        for labels, total in grouped.get(histogram.name + series.SUM, ()):
            if self._bounds.hidden(histogram.labels, labels):
                continue
            held = (histogram.name + series.SUM, labels) in snapshot.held
            named = dict(zip(histogram.labels, labels, strict=True))
            running = 0
            for name, bucket, edge in zip(names, buckets, edges, strict=True):
                running += 0 if held else bucket.get(labels, 0)
                exemplar = None if held else _exemplar(snapshot, name, labels)
                metric.samples.append(
                    Sample(f"{PREFIX}{histogram.name}_bucket", {**named, "le": edge}, float(running), None, exemplar)
                )
            metric.samples.append(Sample(f"{PREFIX}{histogram.name}_count", named, float(running)))
            metric.samples.append(
                Sample(f"{PREFIX}{histogram.name}_sum", named, 0.0 if held else total / histogram.scale)
            )
        return metric

    def _cost_per_1k(self, grouped: dict[str, list[tuple[tuple[str, ...], int]]]) -> Metric:
        metric = GaugeMetricFamily(
            PREFIX + "cost_usd_per_1k_tokens",
            "Effective cost of 1,000 tokens over all priced calls.",
            labels=("provider", "model"),
        )
        tokens = dict(grouped.get(series.PRICED_TOKENS.name, ()))
        for labels, cost in grouped.get(series.PRICED_COST.name, ()):
            if tokens.get(labels) and not self._bounds.hidden(series.PRICED_COST.labels, labels):
                metric.add_metric(labels, cost * 1000 / (tokens[labels] * _PICO))
        return metric

    def _gauges(self, snapshot: Snapshot) -> Iterator[Metric]:
        last = GaugeMetricFamily(
            PREFIX + series.LAST_EVENT,
            "End of the latest call, or its arrival when its clock is ahead.",
            labels=series.LAST_EVENT_LABELS,
        )
        for where, at in snapshot.last_events.items():
            if not self._bounds.hidden(series.LAST_EVENT_LABELS, where):
                last.add_metric(where, at / 1_000_000_000)
        yield last
        yield CounterMetricFamily(
            PREFIX + "store_syncs", "Commits synced to disk; one precedes every acknowledgement.", self._facts.syncs
        )
        yield CounterMetricFamily(
            PREFIX + "store_errors", "Commits that failed; producers were told to send again.", self._facts.store_errors
        )
        ignored = CounterMetricFamily(
            PREFIX + "ingest_ignored", "Records received since the start that are no usage.", labels=("signal",)
        )
        for signal in SIGNALS:
            ignored.add_metric((signal,), self._facts.ignored[signal])
        yield ignored
        folded = GaugeMetricFamily(
            PREFIX + "series_folded", "Label sets folded into `other` since the start.", labels=("family",)
        )
        for family, count in sorted(self._bounds.folded().items()):
            folded.add_metric((family,), count)
        yield folded
        named = GaugeMetricFamily(PREFIX + "label_values", "Values with series of their own.", labels=("label",))
        allowed = GaugeMetricFamily(
            PREFIX + "label_limit", "Values that may have series of their own.", labels=("label",)
        )
        for label, (count, limit) in sorted(self._bounds.places().items()):
            named.add_metric((label,), count)
            allowed.add_metric((label,), limit)
        yield named
        yield allowed
        yield InfoMetricFamily(PREFIX + "price_book", "The price book in use.", {"book_id": self._facts.book_id})
        if self._facts.book_time is not None:
            yield GaugeMetricFamily(
                PREFIX + "price_book_timestamp_seconds", "Date of the price book's data.", self._facts.book_time
            )
        yield InfoMetricFamily(PREFIX + "build", "Version of genai-meter.", {"version": _VERSION})


def _exemplar(snapshot: Snapshot, bucket: str, labels: tuple[str, ...]) -> SampleExemplar | None:
    found = snapshot.exemplars.get((bucket, labels))
    if found is None:
        return None
    ids = {"trace_id": found.trace_id, "span_id": found.span_id}
    return SampleExemplar({name: value for name, value in ids.items() if value}, found.value, found.time)


class Exposition:
    """Renders `/metrics` in the format a scraper asks for.

    The library writes the head of each family, and would spend 20 µs on each sample; ours are written here.
    """

    def __init__(self, collector: MeterCollector) -> None:
        self._collector = collector
        self._heads: dict[tuple[str, str], str] = {}
        """(Content type, family) → its lines of help and type."""
        self._labels: dict[tuple[tuple[str, ...], tuple[str, ...]], str] = {}
        """Label names and values → as they are written."""

    def render(self, accept: str) -> tuple[bytes, str]:
        """Body and content type."""
        encoder, content_type = choose_encoder(accept)
        openmetrics = content_type.startswith("application/openmetrics-text")
        parts: list[str] = []
        for metric in self._collector.collect():
            key = content_type, metric.name
            head = self._heads.get(key)
            if head is None:
                head = self._heads[key] = _head(metric, encoder)
            parts.append(head)
            for sample in metric.samples:
                labels = self._text(sample.labels) if sample.labels else ""
                exemplar = _exemplar_text(sample.exemplar) if openmetrics and sample.exemplar else ""
                parts.append(f"{sample.name}{labels} {floatToGoString(sample.value)}{exemplar}\n")
        if openmetrics:
            parts.append("# EOF\n")
        return "".join(parts).encode(), content_type

    def _text(self, labels: dict[str, str]) -> str:
        key = tuple(labels), tuple(labels.values())
        text = self._labels.get(key)
        if text is None:
            if len(self._labels) >= _LABELS_KEPT:
                self._labels.clear()
            text = self._labels[key] = _label_text(labels)
        return text


def _head(metric: Metric, encoder: Callable[[Any], bytes]) -> str:
    """What the library writes of a family without samples."""
    family = Metric(metric.name, metric.documentation, metric.type, metric.unit)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Only(family))
    return encoder(registry).decode().removesuffix("# EOF\n")


class _Only(Collector):
    """One family."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        """That one."""
        return [self._metric]


def _exemplar_text(exemplar: SampleExemplar) -> str:
    labels = _label_text(exemplar.labels) or "{}"
    return f" # {labels} {floatToGoString(exemplar.value)} {exemplar.timestamp}"


def _label_text(labels: Mapping[str, str]) -> str:
    pairs = [f'{name}="{value.translate(_ESCAPED)}"' for name, value in sorted(labels.items())]
    return f"{{{','.join(pairs)}}}" if pairs else ""
