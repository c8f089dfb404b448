"""A digest as people read it, and as JSON. The marks are Slack's; Mattermost and plain text bear them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from genai_meter_exporter.budgets.engine import Standing
from genai_meter_exporter.digest.numbers import Change, Numbers
from genai_meter_exporter.digest.periods import Span
from genai_meter_exporter.display import amount, dollars, exact, printable


def text(numbers: Numbers) -> str:
    """The message."""
    return "\n".join(map(printable, _lines(numbers)))


def _lines(numbers: Numbers) -> Iterator[str]:
    entry, total = numbers.entry, numbers.total
    about = "".join(f", {name} {value}" for name, value in entry.where.items())
    before = "the week before" if entry.every == "week" else f"{_days(numbers.due.before)}"
    yield f"*LLM spend of {_days(numbers.due.span)}{about}*"
    yield (
        f"{dollars(total.cost)}, {_percent(total)} against {before} ({dollars(total.before)}); {_calls(numbers.calls)}"
    )
    if numbers.cost_per_success is not None:
        yield f"{dollars(numbers.cost_per_success)} per success, of {numbers.successes:,}"
    yield from _changes("Dearest tenants", numbers.tenants)
    yield from _changes("Dearest workflows", numbers.workflows)
    if numbers.movers:
        yield "*What moved*"
        for change in numbers.movers:
            yield f"• {change.dimension} {change.value}: {_signed(change.difference)}, to {dollars(change.cost)}"
    if numbers.budgets:
        yield "*Budgets*"
        yield from map(_budget, numbers.budgets)
    if numbers.unpriced:
        yield "*Without a price, in no sum above*"
        for model in numbers.unpriced:
            yield f"• {model.provider}/{model.model}: {_calls(model.calls)}"
    if numbers.anomalies:
        yield "*Unusual*"
        yield from (f"• {anomaly}" for anomaly in numbers.anomalies)


def _changes(title: str, changes: Sequence[Change]) -> Iterator[str]:
    if changes:
        yield f"*{title}*"
        yield from (f"• {change.value}: {dollars(change.cost)} ({_percent(change)})" for change in changes)


def _budget(standing: Standing) -> str:
    budget, unit = standing.budget, standing.budget.amount.unit
    spent, limit = (amount(unit, quantity) for quantity in (standing.spent, standing.limit))
    expected = f", expected {amount(unit, standing.forecast.median)}" if standing.forecast else ""
    state = standing.state.replace("_", " ")
    return f"• {budget.name}: {state}, {standing.used:.0%} of {limit} ({spent}{expected}); {budget.owner or 'no owner'}"


def _calls(count: int) -> str:
    return f"{count:,} call{'' if count == 1 else 's'}"


def _signed(pico: int) -> str:
    return f"{'+' if pico > 0 else '−'}{dollars(abs(pico))}"


def _percent(change: Change) -> str:
    """The change in words; from nothing there is no percentage."""
    if not change.before:
        return "unchanged" if not change.cost else "new"
    share = Decimal(change.difference) / Decimal(change.before)
    return f"{share:+.0%}"


def _days(span: Span) -> str:
    if span.first == span.last:
        return f"{span.first:%a} {span.first.isoformat()}"
    return f"{span.first.isoformat()} to {span.last.isoformat()}"


def document(numbers: Numbers) -> dict[str, Any]:
    """All numbers; money as exact decimal text."""
    entry, due = numbers.entry, numbers.due
    success = numbers.cost_per_success
    return {
        "digest": entry.name,
        "every": entry.every,
        "first_day": due.span.first.isoformat(),
        "last_day": due.span.last.isoformat(),
        "compared_with": [due.before.first.isoformat(), due.before.last.isoformat()],
        "where": entry.where,
        "cost_usd": exact("usd", numbers.total.cost),
        "cost_before_usd": exact("usd", numbers.total.before),
        "calls": numbers.calls,
        "calls_before": numbers.calls_before,
        "successes": numbers.successes,
        "cost_per_success_usd": None if success is None else exact("usd", success),
        "tenants": [_change(change) for change in numbers.tenants],
        "workflows": [_change(change) for change in numbers.workflows],
        "movers": [_change(change) for change in numbers.movers],
        "budgets": [_standing(standing) for standing in numbers.budgets],
        "unpriced": [{"provider": m.provider, "model": m.model, "calls": m.calls} for m in numbers.unpriced],
        "anomalies": list(numbers.anomalies),
    }


def _change(change: Change) -> dict[str, str]:
    return {
        "dimension": change.dimension,
        "value": change.value,
        "cost_usd": exact("usd", change.cost),
        "cost_before_usd": exact("usd", change.before),
    }


def _standing(standing: Standing) -> dict[str, Any]:
    unit = standing.budget.amount.unit
    return {
        "budget": standing.budget.name,
        "state": standing.state,
        "owner": standing.budget.owner,
        "unit": unit,
        "spent": exact(unit, standing.spent),
        "limit": exact(unit, standing.limit),
    }
