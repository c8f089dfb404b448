"""The floor: what anybody would write by hand to report the same call.

A wrapper around the client's `request` that passes everything on, one span, the same instruments
as ours by their plain synchronous calls, and one log record of 20 attributes. It reads no request, knows
no price (a constant stands for it), no attribution, and no way out of a stream but its end.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from types import ModuleType
from typing import Any

from genai_meter import semconv
from opentelemetry import _logs, metrics, trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram
from opentelemetry.trace import Span, SpanKind, StatusCode

LIST_USD = 0.000123
EFFECTIVE_USD = 0.000117


class Instruments:
    """The instruments that `GENAI_METER_SEMCONV` names."""

    def __init__(self, generation: str) -> None:
        meter = metrics.get_meter("floor")

        def seconds(name: str) -> Histogram:
            return meter.create_histogram(name, "s", explicit_bucket_boundaries_advisory=semconv.DURATION_BOUNDARIES)

        def tokens(name: str) -> Histogram:
            return meter.create_histogram(name, "{token}", explicit_bucket_boundaries_advisory=semconv.TOKEN_BOUNDARIES)

        self.cost = meter.create_counter(semconv.METRIC_COST, "USD")
        self.list_cost = meter.create_counter(semconv.METRIC_LIST_COST, "USD")
        self.durations: list[Histogram] = []
        self.first_chunks: list[Histogram] = []
        self.sizes: tuple[Histogram, Histogram] | None = None
        self.usage: Histogram | None = None
        self.counters: list[Counter] = []
        if generation != "legacy":
            self.durations.append(seconds(semconv.METRIC_INFERENCE_DURATION))
            self.first_chunks.append(seconds(semconv.METRIC_INFERENCE_TIME_TO_FIRST_CHUNK))
            self.sizes = (
                tokens(semconv.METRIC_INFERENCE_OPERATION_INPUT_TOKENS),
                tokens(semconv.METRIC_INFERENCE_OPERATION_OUTPUT_TOKENS),
            )
            self.counters = [
                meter.create_counter(name, "{token}")
                for name in (semconv.METRIC_INFERENCE_INPUT_TOKENS, semconv.METRIC_INFERENCE_OUTPUT_TOKENS)
            ]
        if generation != "latest":
            self.durations.append(seconds(semconv.METRIC_OPERATION_DURATION))
            self.first_chunks.append(seconds(semconv.METRIC_OPERATION_TIME_TO_FIRST_CHUNK))
            self.usage = tokens(semconv.METRIC_TOKEN_USAGE)


class Report:
    """One call."""

    __slots__ = ("_floor", "attributes", "context", "first_chunk", "span", "start")

    def __init__(self, floor: Floor, options: Any, stream: bool) -> None:
        self._floor = floor
        self.start = time.time_ns()
        self.first_chunk: int | None = None
        model = options.json_data["model"]
        self.attributes: dict[str, Any] = {
            semconv.OPERATION_NAME: "chat",
            semconv.PROVIDER_NAME: "openai",
            semconv.SERVER_ADDRESS: "api.openai.com",
            semconv.REQUEST_MODEL: model,
        }
        self.span: Span = floor.tracer.start_span(
            f"chat {model}",
            kind=SpanKind.CLIENT,
            attributes={**self.attributes, semconv.REQUEST_STREAM: stream},
            start_time=self.start,
        )
        self.context: Context = trace.set_span_in_context(self.span)

    def failed(self, error: BaseException) -> None:
        self.span.set_attribute(semconv.ERROR_TYPE, type(error).__qualname__)
        self.span.set_status(StatusCode.ERROR)
        self.span.end()

    def done(self, answer: Any) -> None:
        end = time.time_ns()
        usage = answer.usage
        if hasattr(usage, "prompt_tokens"):
            count_in, count_out, finish = usage.prompt_tokens, usage.completion_tokens, "stop"
        else:
            count_in, count_out, finish = usage.input_tokens, usage.output_tokens, answer.stop_reason
        told = {
            semconv.RESPONSE_MODEL: answer.model,
            semconv.RESPONSE_ID: answer.id,
            semconv.RESPONSE_FINISH_REASONS: [finish],
            semconv.USAGE_INPUT_TOKENS: count_in,
            semconv.USAGE_OUTPUT_TOKENS: count_out,
            semconv.USAGE_COST_AMOUNT: EFFECTIVE_USD,
            semconv.USAGE_COST_CURRENCY: "USD",
        }
        self.span.set_attributes(told)
        self.span.end(end)
        self._measure(answer.model, count_in, count_out, (end - self.start) / 1e9)
        self._log(told, finish, end)

    def _measure(self, served: str, count_in: int, count_out: int, seconds: float) -> None:
        instruments, context = self._floor.instruments, self.context
        attributes = {**self.attributes, semconv.RESPONSE_MODEL: served}
        for histogram in instruments.durations:
            histogram.record(seconds, attributes, context)
        if self.first_chunk is not None:
            for histogram in instruments.first_chunks:
                histogram.record((self.first_chunk - self.start) / 1e9, attributes, context)
        if instruments.sizes is not None:
            instruments.sizes[0].record(count_in, attributes, context)
            instruments.sizes[1].record(count_out, attributes, context)
        if instruments.usage is not None:
            instruments.usage.record(count_in, {**attributes, semconv.TOKEN_TYPE: "input"}, context)
            instruments.usage.record(count_out, {**attributes, semconv.TOKEN_TYPE: "output"}, context)
        for counter, count in zip(instruments.counters, (count_in, count_out), strict=False):
            counter.add(count, {**attributes, semconv.TOKEN_MODALITY: "text"}, context)
        # The attributes of our cost counters, for a call that nobody is charged for by name.
        labels = {
            semconv.PROVIDER_NAME: "openai",
            semconv.OPERATION_NAME: "chat",
            semconv.RESPONSE_MODEL: served,
            "tier": "default",
            "cost.status": "exact",
            "call.status": "ok",
            "usage.source": "provider",
        }
        instruments.cost.add(EFFECTIVE_USD, labels, context)
        instruments.list_cost.add(LIST_USD, labels, context)

    def _log(self, told: dict[str, Any], finish: str, end: int) -> None:
        attributes = {
            **self.attributes,
            **told,
            semconv.RESPONSE_FINISH_REASONS: finish,
            "call.id": "0199f3a1b2c37d4e8f9012345678abcd",
            "call.start": self.start,
            "call.end": end,
            "call.status": "ok",
            "call.attempts": 1,
            "call.http_status": 200,
            "cost.list": 123_000_000,
            "cost.effective": 117_000_000,
            "cost.book": "book-2026-11-10",
        }
        self._floor.logger.emit(
            timestamp=end,
            context=self.context,
            severity_number=SeverityNumber.INFO,
            attributes=attributes,
            event_name="floor.usage",
        )


class Floor:
    """The wrapper, on one client package."""

    def __init__(self, generation: str) -> None:
        self.tracer = trace.get_tracer("floor")
        self.logger = _logs.get_logger("floor")
        self.instruments = Instruments(generation)
        self._originals: list[tuple[type, Callable[..., Any]]] = []

    def install(self, module: ModuleType) -> None:
        for owner, wrap in ((module.SyncAPIClient, self._sync), (module.AsyncAPIClient, self._async)):
            original = owner.request
            self._originals.append((owner, original))
            owner.request = wrap(original)

    def remove(self) -> None:
        for owner, original in self._originals:
            owner.request = original  # type: ignore[attr-defined]
        self._originals.clear()

    def _sync(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def request(client: Any, cast_to: Any, options: Any, **kwargs: Any) -> Any:
            report = Report(self, options, bool(kwargs.get("stream")))
            try:
                with trace.use_span(report.span):
                    result = original(client, cast_to, options, **kwargs)
            except BaseException as error:
                report.failed(error)
                raise
            if kwargs.get("stream"):
                result._iterator = _chunks(result._iterator, report)
            else:
                report.done(result)
            return result

        return request

    def _async(self, original: Callable[..., Any]) -> Callable[..., Any]:
        async def request(client: Any, cast_to: Any, options: Any, **kwargs: Any) -> Any:
            report = Report(self, options, bool(kwargs.get("stream")))
            try:
                with trace.use_span(report.span):
                    result = await original(client, cast_to, options, **kwargs)
            except BaseException as error:
                report.failed(error)
                raise
            if kwargs.get("stream"):
                result._iterator = _chunks_async(result._iterator, report)
            else:
                report.done(result)
            return result

        return request


def _chunks(source: Iterator[Any], report: Report) -> Iterator[Any]:
    chunk: Any = None
    for chunk in source:
        if report.first_chunk is None:
            report.first_chunk = time.time_ns()
        yield chunk
    report.done(chunk)


async def _chunks_async(source: AsyncIterator[Any], report: Report) -> AsyncIterator[Any]:
    chunk: Any = None
    async for chunk in source:
        if report.first_chunk is None:
            report.first_chunk = time.time_ns()
        yield chunk
    report.done(chunk)
