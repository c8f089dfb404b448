"""What a finished call used and cost, and how that is known."""

# ruff: noqa: PIE807 - as a factory `dict[str, str]` is ten times slower than a lambda, and `dict` has no type.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, DecimalException
from typing import TYPE_CHECKING, Any, Final

from genai_meter import environment, estimator, pricing, semconv
from genai_meter.pricing import Cost
from genai_meter.safety import guarded, swallow
from genai_meter.usage import INPUT_BUCKETS, OUTPUT_BUCKETS, Quantity, Usage, UsageSource

if TYPE_CHECKING:
    from genai_meter.call import Call

_OUTPUT: Final = frozenset(OUTPUT_BUCKETS)


def _kind_of(bucket: str) -> str:
    if bucket in _OUTPUT:
        return "reasoning" if bucket == "output_reasoning" else "output"
    return next((prefix for prefix in ("cache_read", "cache_write") if bucket.startswith(prefix)), "input")


_KIND: Final = {bucket: _kind_of(bucket) for bucket in INPUT_BUCKETS + OUTPUT_BUCKETS}
"""Token bucket → the inclusive counts it belongs to."""

USAGE_UNKNOWN: Final = "usage_unknown"
OUTPUT_ESTIMATED: Final = "output_estimated"
PRICING_FAILED: Final = "pricing_failed"
USAGE_ESTIMATED: Final = "usage_estimated"
ESTIMATE_REASONS: Final = frozenset({OUTPUT_ESTIMATED, USAGE_ESTIMATED})


@dataclass(slots=True)
class Outcome:
    """The metered result of one call."""

    model: str | None
    """Served, or asked for when no answer named one."""
    generates: bool = True
    """The operation has output tokens: it is an inference."""
    usages: Sequence[Usage] = ()
    own: Mapping[str, Quantity] = field(default_factory=lambda: {})
    """Buckets of `model`."""
    others: Sequence[Usage] = ()
    """Usage billed under other models."""
    source: UsageSource = "unknown"
    exact_input: bool = False
    """The input tokens are the provider's count."""
    exact_output: bool = False
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    estimated_input: int = 0
    estimated_output: int = 0
    measure: estimator.Measure | None = None
    """What the estimates were made of, when something is to be learned from this call."""
    context: Mapping[str, str] = field(default_factory=lambda: {})
    """Price dimensions: as served, else as asked for."""
    cost: Cost | None = None
    """None when a failed call told no usage: nothing is known to be billed."""
    reasons: tuple[str, ...] = ()
    reported_pico: int | None = None

    @staticmethod
    def of(model: str | None, generates: bool) -> Outcome:
        """`Outcome(…)`, whose factories take as long as the rest of it."""
        outcome = object.__new__(Outcome)
        outcome.model, outcome.generates = model, generates
        outcome.usages = outcome.others = outcome.reasons = ()
        outcome.source = "unknown"
        outcome.exact_input = outcome.exact_output = False
        outcome.input_tokens = outcome.output_tokens = outcome.cache_read_tokens = outcome.cache_write_tokens = 0
        outcome.reasoning_tokens = outcome.estimated_input = outcome.estimated_output = 0
        outcome.measure = outcome.cost = outcome.reported_pico = None
        outcome.own, outcome.context = {}, {}
        return outcome

    def usage_told(self) -> tuple[UsageSource, int, int]:
        """What a span is told of the usage, in short."""
        return self.source, self.input_tokens, self.output_tokens

    def exact_buckets(self) -> Sequence[Mapping[str, Any]]:
        """Buckets as the provider counted them, one mapping a model; estimates left out."""
        if self.exact_output:
            return [usage.buckets for usage in self.usages]
        if not self.exact_input:
            return []
        return [{name: n for name, n in usage.buckets.items() if name not in _OUTPUT} for usage in self.usages]


def settle(call: Call) -> Outcome:
    """Usage, price and estimates of a finished call. Tokens and cost fail independently."""
    request, reading = call.prepared.request, call.reading
    operation = call.prepared.dialect.operation
    if environment.settings().deployments:
        guarded(_name_deployed, call)
    outcome = Outcome.of(reading.model or request.model, operation in semconv.INFERENCE_OPERATIONS)
    for step in _STEPS:
        try:
            step(call, outcome)
        except Exception as error:  # noqa: BLE001 - each by itself: what one cannot tell, the others may
            swallow(step.__qualname__, error)
    if outcome.cost is None and (outcome.usages or _answered(call)):
        outcome.cost = Cost("unpriced", reasons=(PRICING_FAILED,))
    if reading.reported_cost_usd is not None:
        outcome.reported_pico = _pico(reading.reported_cost_usd)
    return outcome


_EXACT: Final = Context(prec=40, rounding=ROUND_HALF_EVEN)
"""The caller's own decimal context must not round money."""


def _pico(text: str) -> int | None:
    try:
        return int(_EXACT.to_integral_value(_EXACT.scaleb(_EXACT.create_decimal(text), 12)))
    except (DecimalException, ValueError, OverflowError):
        return None


def _name_deployed(call: Call) -> None:
    """The answer names no model, or the deployment: the configuration knows what is behind it."""
    prepared, reading = call.prepared, call.reading
    asked = prepared.request.model
    names = (reading.model,) if reading.model else (asked, prepared.target.deployment)
    if asked is not None and asked.startswith("arn:"):
        # Bedrock names the model, and not the profile, which decides the price.
        names = (asked,)
    models = (environment.model_behind(prepared.target.host, name) for name in names)
    reading.model = next(filter(None, models), reading.model)


# --- usage ------------------------------------------------------------------------------------------
def _read_usage(call: Call, outcome: Outcome) -> None:
    reading = call.reading
    usages = call.usages()
    if usages:
        outcome.source = "provider"
        outcome.exact_input = outcome.exact_output = True
        if reading.fidelity == "partial":
            _estimate_output(usages[0], outcome)
    elif _is_estimated(call, outcome):
        # The answer began and its count never came: it is billed all the same.
        usages = [Usage({"input": outcome.estimated_input, "output": outcome.estimated_output})]
        outcome.source = "estimated"
        outcome.reasons = (USAGE_ESTIMATED,)
    _total(usages, outcome)


def _is_estimated(call: Call, outcome: Outcome) -> bool:
    """The provider worked and told no usage; a stream that was left before its first text has cost its input."""
    request, reading = call.prepared.request, call.reading
    if reading.output_chars or reading.tool_call_count:
        return outcome.generates
    if request.background or reading.error_type is not None or not outcome.estimated_input or not _answered(call):
        return False
    if call.prepared.dialect.operation == "embeddings":
        return call.status == "ok"
    return outcome.generates and request.stream and call.status != "ok"


def _estimate_output(usage: Usage, outcome: Outcome) -> None:
    """The provider counted the input and told a placeholder for the output."""
    placeholder = usage.output_tokens
    for bucket in [name for name in usage.buckets if name in _OUTPUT]:
        del usage.buckets[bucket]
    usage.buckets["output"] = max(placeholder, outcome.estimated_output)
    outcome.source = "estimated"
    outcome.exact_output = False
    outcome.reasons = (OUTPUT_ESTIMATED,)


def _total(usages: list[Usage], outcome: Outcome) -> None:
    outcome.usages = usages
    fresh = read = written = said = reasoned = 0
    for usage in usages:
        for bucket, quantity in usage.buckets.items():
            kind = _KIND.get(bucket)
            if kind == "input":
                fresh += int(quantity)
            elif kind == "output":
                said += int(quantity)
            elif kind == "cache_read":
                read += int(quantity)
            elif kind == "reasoning":
                reasoned += int(quantity)
            elif kind == "cache_write":
                written += int(quantity)
        if usage.model is not None and usage.model != outcome.model:
            outcome.others = [*outcome.others, usage]
        else:
            outcome.own = _sum(outcome.own, usage.buckets) if outcome.own else usage.buckets
    outcome.input_tokens, outcome.output_tokens = fresh + read + written, said + reasoned
    outcome.cache_read_tokens, outcome.cache_write_tokens, outcome.reasoning_tokens = read, written, reasoned


def _sum(one: Mapping[str, Quantity], other: Mapping[str, Quantity]) -> dict[str, Quantity]:
    return {bucket: one.get(bucket, 0) + other.get(bucket, 0) for bucket in {**one, **other}}


# --- price ------------------------------------------------------------------------------------------
def _price_context(call: Call) -> Mapping[str, str]:
    """The price dimensions of a call as served; a tier that was only asked for keeps a name of its own."""
    target, asked, served = call.prepared.target, call.prepared.request.context, call.reading.context
    if not asked and not target.dimensions:
        return served
    context = {**target.dimensions, **asked, **served}
    if "service_tier" in asked and "service_tier" not in served:
        context["requested_service_tier"] = context.pop("service_tier")
    return context


def _answered(call: Call) -> bool:
    """The provider had begun to answer: the call is billed, whatever became of the answer."""
    status = call.attempts[-1].status if call.attempts else None
    return call.status == "ok" or (status is not None and 200 <= status < 300)


def _read_price(call: Call, outcome: Outcome) -> None:
    prepared = call.prepared
    outcome.context = context = _price_context(call)
    if not outcome.usages:
        if not _answered(call):
            return
        if outcome.generates:
            outcome.cost = Cost("unpriced", reasons=(USAGE_UNKNOWN,))
            return
    provider = prepared.target.provider
    model = pricing.billed_model(provider, prepared.request.model, outcome.model)
    cost = pricing.price(provider, model, outcome.usages, call.start_ns, context)
    if outcome.reasons:
        status = "estimated" if cost.status == "exact" else cost.status
        cost = Cost(
            status, cost.lines, cost.list_pico, cost.effective_pico, cost.book_id, (*cost.reasons, *outcome.reasons)
        )
    outcome.cost = cost


_STEPS: Final = (estimator.estimate, _read_usage, _read_price)
