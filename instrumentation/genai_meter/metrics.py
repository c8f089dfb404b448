"""Metrics of both generations: synchronous histograms, asynchronous counters over our own integers.

A counter read by callback costs one integer addition a call instead of an `add` through the SDK.
Attribute sets are built once per series and bounded; what is above the bound is folded into the
set `otel.metric.overflow`, so totals stay right.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider, Observation

from genai_meter import estimator, records, safety, semconv
from genai_meter.environment import Semconv
from genai_meter.pricing.cost import PICO
from genai_meter.usage import INPUT_BUCKETS, OUTPUT_BUCKETS

if TYPE_CHECKING:
    from genai_meter.call import Call
    from genai_meter.settle import Outcome

Attributes: TypeAlias = dict[str, Any]

MAX_SERIES: Final = 1000
"""Attribute sets per family, below the SDK's own bound of 2000."""
_MAX_ERROR_TYPES: Final = 32

_OTHER_ERROR: Final = "_OTHER"
"""The conventions' fallback for `error.type`."""

_INPUT: Final = semconv.METRIC_INFERENCE_INPUT_TOKENS
_OUTPUT: Final = semconv.METRIC_INFERENCE_OUTPUT_TOKENS
_CACHE_READ: Final = semconv.METRIC_INFERENCE_CACHE_READ
_CACHE_WRITE: Final = semconv.METRIC_INFERENCE_CACHE_WRITE
_REASONING: Final = semconv.METRIC_INFERENCE_REASONING

_TOKEN_COUNTERS: Final = {
    _INPUT: "Input tokens billed, cached ones included",
    _OUTPUT: "Output tokens billed, reasoning included",
    _CACHE_READ: "Input tokens read from the provider's cache",
    _CACHE_WRITE: "Input tokens written to the provider's cache",
    _REASONING: "Output tokens spent on reasoning",
}


def _modality(bucket: str) -> str:
    tail = bucket.rpartition("_")[2]
    return tail if tail in ("text", "audio", "image", "video") else "unknown"


def _counters(bucket: str, gross: str) -> tuple[tuple[str, str], ...]:
    """The (metric, modality) pairs a bucket counts into: the gross one and the subset it belongs to."""
    subsets = {"cache_read": _CACHE_READ, "cache_write": _CACHE_WRITE, "output_reasoning": _REASONING}
    modality = _modality(bucket)
    return (
        (gross, modality),
        *((metric, modality) for prefix, metric in subsets.items() if bucket.startswith(prefix)),
    )


BUCKET_COUNTERS: Final = {
    **{bucket: _counters(bucket, _INPUT) for bucket in INPUT_BUCKETS},
    **{bucket: _counters(bucket, _OUTPUT) for bucket in OUTPUT_BUCKETS},
}
"""Token bucket → the counters it adds to. Other buckets (seconds, images …) are no tokens."""


@dataclass(slots=True)
class Cell:
    """One time series of a counter."""

    attributes: Attributes
    total: int = 0


Points: TypeAlias = tuple[tuple[Histogram, Attributes], ...]
"""Histograms that take the same figure of a call, each with its attributes."""


class Histograms(NamedTuple):
    """What a call of a series is recorded by."""

    durations: Points
    first_chunks: Points
    inputs: Points
    """Input tokens."""
    outputs: Points


@dataclass(slots=True)
class Series:
    """What all calls with one (operation, provider, model …) share: attribute sets and token totals."""

    attributes: Attributes
    kind: str
    """`inference`, `embeddings` or `other`."""
    histograms: Histograms
    errors: dict[str, Histograms] = field(default_factory=dict[str, Histograms])
    """`histograms` with `error.type`, of which a series has a bounded number."""
    tokens: dict[tuple[str, str], Cell] = field(default_factory=dict[tuple[str, str], Cell])
    buckets: dict[str, tuple[Cell, ...]] = field(default_factory=dict[str, tuple[Cell, ...]])
    """Token bucket → the cells of `tokens` it counts into."""
    unpriced: Cell | None = None


class Account(NamedTuple):
    """Where calls of one kind and owner count."""

    instruments: Instruments
    series: Series
    cost: tuple[Cell, Cell] | None
    """At list price and after discounts; None for calls without a cost."""


class Instruments:
    """The instruments of one meter, and the totals behind its counters."""

    def __init__(self, provider: MeterProvider | None, generation: Semconv, version: str, scope: Attributes | None):
        self._lock = threading.RLock()  # re-entrant: a finalizer may end a call of its own
        self._live = True
        self._latest = generation != "legacy"
        self._legacy = generation != "latest"
        self._series: dict[tuple[Any, ...], Series] = {}
        self._costs: dict[tuple[Any, ...], tuple[Cell, Cell]] = {}
        self._tokens: dict[str, list[Cell]] = {name: [] for name in _TOKEN_COUNTERS}
        self._unpriced: list[Cell] = []
        meter = metrics.get_meter(semconv.SCOPE, version, provider, None, scope)
        self._create_histograms(meter)
        self._create_counters(meter)

    def _create_histograms(self, meter: Meter) -> None:
        def seconds(name: str, text: str) -> Histogram:
            return meter.create_histogram(
                name, "s", text, explicit_bucket_boundaries_advisory=semconv.DURATION_BOUNDARIES
            )

        def tokens(name: str, text: str) -> Histogram:
            return meter.create_histogram(
                name, "{token}", text, explicit_bucket_boundaries_advisory=semconv.TOKEN_BOUNDARIES
            )

        self._operation_duration = seconds(semconv.METRIC_OPERATION_DURATION, "Duration of a GenAI operation")
        if self._latest:
            self._duration = seconds(semconv.METRIC_INFERENCE_DURATION, "Duration of an inference call")
            self._first_chunk = seconds(
                semconv.METRIC_INFERENCE_TIME_TO_FIRST_CHUNK, "Time to the first chunk of a streamed inference"
            )
            self._input = tokens(semconv.METRIC_INFERENCE_OPERATION_INPUT_TOKENS, "Input tokens of an inference call")
            self._output = tokens(
                semconv.METRIC_INFERENCE_OPERATION_OUTPUT_TOKENS, "Output tokens of an inference call"
            )
            self._embeddings_duration = seconds(semconv.METRIC_EMBEDDINGS_DURATION, "Duration of an embeddings call")
            self._embeddings_input = tokens(
                semconv.METRIC_EMBEDDINGS_INPUT_TOKENS, "Input tokens of an embeddings call"
            )
        if self._legacy:
            self._token_usage = tokens(semconv.METRIC_TOKEN_USAGE, "Input and output tokens of a call")
            self._old_first_chunk = seconds(
                semconv.METRIC_OPERATION_TIME_TO_FIRST_CHUNK, "Time to the first chunk of a streamed operation"
            )

    def _create_counters(self, meter: Meter) -> None:
        if self._latest:
            for name, text in _TOKEN_COUNTERS.items():
                meter.create_observable_counter(name, [partial(self._observe, self._tokens[name])], "{token}", text)
        meter.create_observable_counter(
            semconv.METRIC_COST, [partial(self._observe_usd, 1)], "USD", "Cost of calls after discounts"
        )
        meter.create_observable_counter(
            semconv.METRIC_LIST_COST, [partial(self._observe_usd, 0)], "USD", "Cost of calls at list price"
        )
        meter.create_observable_counter(
            semconv.METRIC_UNPRICED, [partial(self._observe, self._unpriced)], "{call}", "Calls without a price"
        )
        meter.create_observable_counter(
            semconv.METRIC_INTERNAL_ERRORS, [self._observe_errors], "{error}", "Errors inside the meter, by place"
        )

        meter.create_observable_gauge(
            semconv.METRIC_ESTIMATE_DRIFT, [partial(self._observe_drift, 0)], "1", "Lean of the estimated tokens"
        )
        meter.create_observable_gauge(
            semconv.METRIC_ESTIMATE_ERROR, [partial(self._observe_drift, 1)], "1", "Error of the estimated tokens"
        )

    # --- read by the SDK ------------------------------------------------------------------------
    def _observe(self, cells: list[Cell], _options: CallbackOptions) -> Iterator[Observation]:
        with self._lock:
            seen = [(cell.total, cell.attributes) for cell in cells] if self._live else []
        return (Observation(total, attributes) for total, attributes in seen)

    def _observe_usd(self, which: int, _options: CallbackOptions) -> Iterator[Observation]:
        with self._lock:
            seen = [(pair[which].total, pair[which].attributes) for pair in self._costs.values()] if self._live else []
        return (Observation(total / PICO, attributes) for total, attributes in seen)

    def _observe_errors(self, _options: CallbackOptions) -> Iterator[Observation]:
        seen = list(safety.internal_errors.items()) if self._live else []
        return (Observation(count, {semconv.CODE_FUNCTION_NAME: place}) for place, count in seen)

    def _observe_drift(self, which: int, _options: CallbackOptions) -> Iterator[Observation]:
        seen = estimator.observe() if self._live else ()
        return (Observation((drift.ratio, drift.error)[which], attributes) for attributes, drift in seen)

    def retire(self) -> None:
        """Observe nothing any more: the process was forked, and its parent goes on counting."""
        self._lock = threading.RLock()  # the one of the parent may be held by a thread that is not here
        self._live = False

    # --- written by calls -------------------------------------------------------------------------
    def record(self, call: Call, outcome: Outcome, kind: records.Kind, *, late: bool = False) -> None:
        """Count one finished call; `late`: it ran elsewhere, and no duration is known."""
        cost, context, owners = outcome.cost, call.context, records.NOBODY
        if call.prepared.attribution:
            owners = records.owners(call)
        with self._lock:
            account = kind.accounts.get(owners)
            if account is None or account.instruments is not self:
                account = self._account(call, outcome)
                if len(kind.accounts) >= MAX_SERIES:
                    kind.accounts.clear()
                kind.accounts[owners] = account
            _, series, cells = account
            if cost is not None:
                if cells is not None:
                    listed, effective = cells
                    listed.total += cost.list_pico or 0
                    effective.total += cost.effective_pico or 0
                elif cost.status == "unpriced":
                    self._count_unpriced(series)
            if self._latest and series.kind == "inference":
                self._count_tokens(series, outcome)
        histograms = series.histograms if call.error_type is None else self._failed(series, call.error_type)
        durations, first_chunks, inputs, outputs = histograms
        if not late:
            seconds = _seconds(call.start_ns, call.end_ns)
            for histogram, attributes in durations:
                histogram.record(seconds, attributes, context)
        if call.first_chunk_ns is not None:
            seconds = _seconds(call.start_ns, call.first_chunk_ns)
            for histogram, attributes in first_chunks:
                histogram.record(seconds, attributes, context)
        if outcome.exact_input:
            for histogram, attributes in inputs:
                histogram.record(outcome.input_tokens, attributes, context)
        if outcome.exact_output:
            for histogram, attributes in outputs:
                histogram.record(outcome.output_tokens, attributes, context)

    def _account(self, call: Call, outcome: Outcome) -> Account:
        """The caller holds the lock."""
        prepared, cost = call.prepared, outcome.cost
        target, asked = prepared.target, call.attributes.get(semconv.REQUEST_MODEL)
        series = self._series_of(
            (prepared.dialect.operation, asked, call.reading.model, target.provider, target.host, target.port)
        )
        if cost is None or cost.effective_pico is None:
            return Account(self, series, None)
        return Account(self, series, self._cost_cells(records.cost_key(call, outcome), records.COST_LABELS))

    def _series_of(self, key: tuple[Any, ...]) -> Series:
        found = self._series.get(key)
        if found is not None:
            return found
        kind = _kind(key[0])
        if len(self._series) >= MAX_SERIES:
            key = (kind,)
            overflow = self._series.get(key)
            if overflow is not None:
                return overflow
            attributes: Attributes = {semconv.METRIC_OVERFLOW: True}
        else:
            attributes = _base_attributes(key)
        created = self._series[key] = Series(attributes, kind, self._histograms(attributes, attributes, kind))
        return created

    def _histograms(self, attributes: Attributes, failed: Attributes, kind: str) -> Histograms:
        """`failed`: attributes with `error.type`, where the conventions want it."""
        durations: list[tuple[Histogram, Attributes]] = []
        first_chunks, inputs, outputs = durations.copy(), durations.copy(), durations.copy()
        inference = kind == "inference"
        if self._legacy or kind == "other":
            durations.append((self._operation_duration, failed))
        if self._legacy and kind != "other":
            first_chunks.append((self._old_first_chunk, attributes))
            inputs.append((self._token_usage, _directed(attributes, "input")))
            if inference:
                outputs.append((self._token_usage, _directed(attributes, "output")))
        if self._latest and inference:
            durations.append((self._duration, failed))
            first_chunks.append((self._first_chunk, attributes))
            inputs.append((self._input, failed))
            outputs.append((self._output, failed))
        elif self._latest and kind == "embeddings":
            durations.append((self._embeddings_duration, failed))
            inputs.append((self._embeddings_input, failed))
        return Histograms(tuple(durations), tuple(first_chunks), tuple(inputs), tuple(outputs))

    def _failed(self, series: Series, error_type: str) -> Histograms:
        known = series.errors.get(error_type)
        if known is None:
            if len(series.errors) >= _MAX_ERROR_TYPES:
                error_type = _OTHER_ERROR
            failed = {**series.attributes, semconv.ERROR_TYPE: error_type}
            known = series.errors.setdefault(error_type, self._histograms(series.attributes, failed, series.kind))
        return known

    def _count_unpriced(self, series: Series) -> None:
        if series.unpriced is None:
            series.unpriced = Cell(series.attributes)
            self._unpriced.append(series.unpriced)
        series.unpriced.total += 1

    def _count_tokens(self, series: Series, outcome: Outcome) -> None:
        counted = False
        for buckets in outcome.exact_buckets():
            for bucket, quantity in buckets.items():
                cells = series.buckets.get(bucket)
                if cells is None:
                    cells = self._bucket_cells(series, bucket)
                for cell in cells:
                    cell.total += quantity
                    counted = True
        if not counted:
            # The conventions want the counters to exist for calls whose usage nobody told.
            for metric in (_INPUT, _OUTPUT):
                if (metric, "unknown") not in series.tokens:
                    self._new_tokens(series, (metric, "unknown"))

    def _bucket_cells(self, series: Series, bucket: str) -> tuple[Cell, ...]:
        keys = BUCKET_COUNTERS.get(bucket, ())
        cells = tuple(series.tokens.get(key) or self._new_tokens(series, key) for key in keys)
        series.buckets[bucket] = cells
        return cells

    def _new_tokens(self, series: Series, key: tuple[str, str]) -> Cell:
        metric, modality = key
        attributes = series.attributes
        if semconv.METRIC_OVERFLOW not in attributes:
            attributes = {**attributes, semconv.TOKEN_MODALITY: modality}
        cell = series.tokens[key] = Cell(attributes)
        self._tokens[metric].append(cell)
        return cell

    def count_cost(self, attributes: Attributes, pico: int) -> None:
        """Count a cost that belongs to no call."""
        with self._lock:
            for cell in self._cost_cells(tuple(attributes.values()), tuple(attributes)):
                cell.total += pico

    def _cost_cells(self, key: tuple[Any, ...], labels: tuple[str, ...]) -> tuple[Cell, Cell]:
        cells = self._costs.get((key, labels))
        if cells is None:
            if len(self._costs) >= MAX_SERIES:
                key, labels = (True,), (semconv.METRIC_OVERFLOW,)
            cells = self._costs.get((key, labels))
            if cells is None:
                attributes = {name: value for name, value in zip(labels, key, strict=True) if value is not None}
                cells = self._costs[key, labels] = (Cell(attributes), Cell(attributes))
        return cells


def _seconds(since: int, until: int | None) -> float:
    return (until - since) / 1e9 if until is not None and until > since else 0.0


def _kind(operation: str) -> str:
    if operation in semconv.INFERENCE_OPERATIONS:
        return "inference"
    return "embeddings" if operation == "embeddings" else "other"


_BASE: Final = (
    semconv.OPERATION_NAME,
    semconv.REQUEST_MODEL,
    semconv.RESPONSE_MODEL,
    semconv.PROVIDER_NAME,
    semconv.SERVER_ADDRESS,
    semconv.SERVER_PORT,
)


def _base_attributes(key: tuple[Any, ...]) -> Attributes:
    return {name: value for name, value in zip(_BASE, key, strict=True) if value}


def _directed(attributes: Attributes, direction: str) -> Attributes:
    """`attributes` for the legacy token histogram, one side of it."""
    if semconv.METRIC_OVERFLOW in attributes:
        return attributes
    return {**attributes, semconv.TOKEN_TYPE: direction}
