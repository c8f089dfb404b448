"""Metrics of both generations: synchronous histograms, asynchronous counters over our own integers.

A counter read by callback costs one integer addition a call instead of an `add` through the SDK.
Attribute sets are built once per series and bounded; what is above the bound is folded into the
set `otel.metric.overflow`, so totals stay right.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider, Observation

from genai_meter import estimator, safety, semconv
from genai_meter.environment import Semconv
from genai_meter.pricing.cost import PICO
from genai_meter.usage import INPUT_BUCKETS, OUTPUT_BUCKETS

if TYPE_CHECKING:
    from opentelemetry.context import Context

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


@dataclass(slots=True)
class Series:
    """What all calls with one (operation, provider, model …) share: attribute sets and token totals."""

    attributes: Attributes
    input: Attributes
    """`attributes` for the legacy token histogram, input side."""
    output: Attributes
    kind: str
    """`inference`, `embeddings` or `other`."""
    errors: dict[str, Attributes] = field(default_factory=dict[str, Attributes])
    tokens: dict[tuple[str, str], Cell] = field(default_factory=dict[tuple[str, str], Cell])
    unpriced: Cell | None = None

    def with_error(self, error_type: str) -> Attributes:
        """`attributes` and `error.type`, of which a series has a bounded number."""
        known = self.errors.get(error_type)
        if known is None:
            if len(self.errors) >= _MAX_ERROR_TYPES:
                error_type = _OTHER_ERROR
            known = self.errors.setdefault(error_type, {**self.attributes, semconv.ERROR_TYPE: error_type})
        return known


class Measured(NamedTuple):
    """What one call contributes."""

    seconds: float
    first_chunk_seconds: float | None
    input_tokens: int | None
    """None when the provider told no count."""
    output_tokens: int | None
    buckets: Iterable[Mapping[str, Any]]
    """Exact token buckets, one mapping a model."""
    error_type: str | None
    cost_key: tuple[Any, ...]
    """Values of `cost_labels`, in their order; empty for a call without a cost."""
    cost_labels: tuple[str, ...]
    list_pico: int
    effective_pico: int
    unpriced: bool


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
    def series(
        self, operation: str, model: str | None, served: str | None, provider: str, host: str, port: int | None
    ) -> Series:
        """The series of a call."""
        key = (operation, model, served, provider, host, port)
        found = self._series.get(key)
        if found is None:
            with self._lock:
                found = self._series.get(key) or self._new_series(key)
        return found

    def _new_series(self, key: tuple[Any, ...]) -> Series:
        kind = _kind(key[0])
        if len(self._series) >= MAX_SERIES:
            key = (kind,)
            overflow = self._series.get(key)
            if overflow is not None:
                return overflow
            attributes: Attributes = {semconv.METRIC_OVERFLOW: True}
        else:
            attributes = _base_attributes(key)
        created = self._series[key] = _series_of(attributes, kind)
        return created

    def record(self, series: Series, call: Measured, context: Context | None) -> None:
        """Count one finished call."""
        self._count(series, call)
        attributes = series.with_error(call.error_type) if call.error_type else series.attributes
        if self._legacy or series.kind == "other":
            self._operation_duration.record(call.seconds, attributes, context)
        if self._legacy and series.kind != "other":
            self._record_legacy(series, call, context)
        if self._latest:
            if series.kind == "inference":
                self._record_inference(series, call, attributes, context)
            elif series.kind == "embeddings":
                self._embeddings_duration.record(call.seconds, attributes, context)
                if call.input_tokens is not None:
                    self._embeddings_input.record(call.input_tokens, attributes, context)

    def record_late(self, series: Series, call: Measured, context: Context | None) -> None:
        """Count a call that ran elsewhere, of which no duration is known."""
        self._count(series, call)
        attributes = series.with_error(call.error_type) if call.error_type else series.attributes
        if self._legacy and series.kind != "other":
            self._record_legacy(series, call, context)
        if self._latest and series.kind == "inference":
            if call.input_tokens is not None:
                self._input.record(call.input_tokens, attributes, context)
            if call.output_tokens is not None:
                self._output.record(call.output_tokens, attributes, context)
        elif self._latest and series.kind == "embeddings" and call.input_tokens is not None:
            self._embeddings_input.record(call.input_tokens, attributes, context)

    def _record_inference(
        self, series: Series, call: Measured, attributes: Attributes, context: Context | None
    ) -> None:
        self._duration.record(call.seconds, attributes, context)
        if call.first_chunk_seconds is not None:
            self._first_chunk.record(call.first_chunk_seconds, series.attributes, context)
        if call.input_tokens is not None:
            self._input.record(call.input_tokens, attributes, context)
        if call.output_tokens is not None:
            self._output.record(call.output_tokens, attributes, context)

    def _record_legacy(self, series: Series, call: Measured, context: Context | None) -> None:
        if call.first_chunk_seconds is not None:
            self._old_first_chunk.record(call.first_chunk_seconds, series.attributes, context)
        if call.input_tokens is not None:
            self._token_usage.record(call.input_tokens, series.input, context)
        if call.output_tokens is not None and series.kind == "inference":
            self._token_usage.record(call.output_tokens, series.output, context)

    def _count(self, series: Series, call: Measured) -> None:
        with self._lock:
            if series.kind == "inference" and self._latest:
                self._count_tokens(series, call)
            if call.unpriced:
                if series.unpriced is None:
                    series.unpriced = Cell(series.attributes)
                    self._unpriced.append(series.unpriced)
                series.unpriced.total += 1
            if call.cost_key:
                self._count_cost(call.cost_key, call.cost_labels, call.list_pico, call.effective_pico)

    def _count_tokens(self, series: Series, call: Measured) -> None:
        counted = False
        for buckets in call.buckets:
            for bucket, quantity in buckets.items():
                for key in BUCKET_COUNTERS.get(bucket, ()):
                    cell = series.tokens.get(key) or self._new_tokens(series, key)
                    cell.total += quantity
                    counted = True
        if not counted:
            # The conventions want the counters to exist for calls whose usage nobody told.
            for metric in (_INPUT, _OUTPUT):
                if (metric, "unknown") not in series.tokens:
                    self._new_tokens(series, (metric, "unknown"))

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
            self._count_cost(tuple(attributes.values()), tuple(attributes), pico, pico)

    def _count_cost(self, key: tuple[Any, ...], labels: tuple[str, ...], listed: int, effective: int) -> None:
        cells = self._costs.get((key, labels))
        if cells is None:
            if len(self._costs) >= MAX_SERIES:
                key, labels = (True,), (semconv.METRIC_OVERFLOW,)
            cells = self._costs.get((key, labels))
            if cells is None:
                attributes = {name: value for name, value in zip(labels, key, strict=True) if value is not None}
                cells = self._costs[key, labels] = (Cell(attributes), Cell(attributes))
        cells[0].total += listed
        cells[1].total += effective


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


def _series_of(attributes: Attributes, kind: str) -> Series:
    if semconv.METRIC_OVERFLOW in attributes:
        return Series(attributes, attributes, attributes, kind)
    return Series(
        attributes,
        {**attributes, semconv.TOKEN_TYPE: "input"},
        {**attributes, semconv.TOKEN_TYPE: "output"},
        kind,
    )
