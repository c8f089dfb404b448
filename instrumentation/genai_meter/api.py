"""Events that are no provider call: other costs (vector search, storage, a guardrail service) and outcomes."""

from __future__ import annotations

import time
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Any, Final

from opentelemetry._logs import SeverityNumber
from opentelemetry.context import get_current

from genai_meter import attribution, emit, environment, identity, runs, schema, semconv
from genai_meter.safety import guarded

_EXACT: Final = Context(prec=40, rounding=ROUND_HALF_EVEN)
_LARGEST: Final = 2**63 - 1
"""Pico-USD that an OTLP integer holds: 9.2 million USD."""
_ATTRIBUTE: Final = {f.name: f.attribute for f in schema.FIELDS}


def record_cost(
    amount: Decimal | str | int,
    *,
    what: str,
    quantity: int | Decimal | None = None,
    unit: str | None = None,
    provider: str | None = None,
    **owner: object,
) -> None:
    """Record a cost in USD that belongs to no LLM call: one event `genai_meter.cost`.

    `amount` is a Decimal, an integer or decimal text; a float is a TypeError, because 0.1 + 0.2 is
    not 0.3. `what` names the kind of cost (`vector_search`). Further keywords are fields of
    attribution, as in `attribute(...)`, and win over the current ones.
    """
    amount_pico = pico("amount", amount)
    fields = attribution.cleaned(owner)
    if quantity is not None and (isinstance(quantity, bool) or not isinstance(quantity, int | Decimal)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"quantity must be an int or a Decimal, not {type(quantity).__name__}")
    attributes = {
        **identified(),
        _ATTRIBUTE["status"]: "ok",
        semconv.COST_WHAT: environment.clean(what),
        _ATTRIBUTE["list_cost"]: amount_pico,
        _ATTRIBUTE["cost"]: amount_pico,
        _ATTRIBUTE["cost_status"]: "exact",
    }
    if quantity is not None:
        attributes[semconv.COST_QUANTITY] = quantity if isinstance(quantity, int) else float(quantity)
    if unit is not None:
        attributes[semconv.COST_UNIT] = environment.clean(unit)
    if provider is not None:
        attributes[semconv.PROVIDER_NAME] = environment.clean(provider)
    guarded(_emit_cost, attributes, fields, amount_pico)


def outcome(
    name: str,
    *,
    success: bool = True,
    value_usd: Decimal | str | int | None = None,
    outcome_id: str | None = None,
    **owner: object,
) -> None:
    """Record what came of the work: one event `genai_meter.outcome`, the raw material of cost per success.

    It belongs to the current run, trace, owner and experiment; further keywords are fields of
    attribution, as in `attribute(...)`, and win over the current ones. `value_usd` is what it is
    worth, exact like every amount here. With `outcome_id` (a ticket number) the ledger counts it
    once, however often it is told; the first account of it stays.
    """
    fields = attribution.cleaned(owner)
    if not isinstance(name, str) or not environment.clean(name).strip():  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError("name must be text that names the kind of outcome")
    attributes: dict[str, Any] = {
        _ATTRIBUTE["schema_version"]: semconv.SCHEMA_VERSION,
        semconv.OUTCOME_ID: environment.clean(outcome_id)
        if outcome_id is not None
        else identity.text(identity.new_call_id()),
        semconv.OUTCOME_NAME: environment.clean(name),
        semconv.OUTCOME_SUCCESS: bool(success),
    }
    if value_usd is not None:
        attributes[semconv.OUTCOME_VALUE] = pico("value_usd", value_usd)
    guarded(_emit_outcome, attributes, fields)


def identified() -> dict[str, Any]:
    """What every event that has an id of its own starts with; it happens now."""
    now = time.time_ns()
    return {
        _ATTRIBUTE["schema_version"]: semconv.SCHEMA_VERSION,
        _ATTRIBUTE["call_id"]: identity.text(identity.new_call_id()),
        _ATTRIBUTE["start"]: now,
        _ATTRIBUTE["end"]: now,
    }


def put_owner(attributes: dict[str, Any], fields: dict[str, str]) -> dict[str, str]:
    """Add who pays; `fields` win over the context. Returns the merged fields."""
    owner = {name: value for name, value in {**attribution.current(), **fields}.items() if value}
    attributes.update((_ATTRIBUTE[name], value) for name, value in owner.items())
    return owner


def send(event: str, attributes: dict[str, Any], at_ns: int) -> None:
    """Emit an event; it belongs to the current span."""
    logger = emit.logger()
    if logger.enabled(severity_number=SeverityNumber.INFO, event_name=event):
        logger.emit(
            timestamp=at_ns,
            context=get_current(),
            severity_number=SeverityNumber.INFO,
            severity_text="INFO",
            attributes=attributes,
            event_name=event,
        )


def _emit_cost(attributes: dict[str, Any], fields: dict[str, str], amount_pico: int) -> None:
    owner = put_owner(attributes, fields)
    labels = {f.attribute: attributes[f.attribute] for f in schema.FIELDS if f.label and f.attribute in attributes}
    emit.instruments().count_cost({**labels, semconv.COST_WHAT: attributes[semconv.COST_WHAT]}, amount_pico)
    send(semconv.EVENT_COST, attributes, attributes[_ATTRIBUTE["end"]])
    runs.add_cost(owner, amount_pico)


def _emit_outcome(attributes: dict[str, Any], fields: dict[str, str]) -> None:
    put_owner(attributes, fields)
    send(semconv.EVENT_OUTCOME, attributes, time.time_ns())


def pico(name: str, amount: object) -> int:
    """An amount of USD that a caller gave, as pico-USD."""
    if isinstance(amount, bool) or not isinstance(amount, Decimal | str | int):
        raise TypeError(
            f"{name} must be a Decimal, decimal text or an int, not {type(amount).__name__}: money is exact here"
        )
    try:
        exact = Decimal(amount)
        found = int(_EXACT.quantize(_EXACT.scaleb(exact, 12), Decimal(1)))
    except (InvalidOperation, ValueError, OverflowError):
        raise ValueError(f"{name} must be a finite decimal number of USD") from None
    if not 0 <= found <= _LARGEST:
        raise ValueError(f"{name} must be between 0 and 9.2 million USD")
    return found
