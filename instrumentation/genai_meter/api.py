"""Costs that are no LLM call: vector search, storage, a guardrail service, an evaluation."""

from __future__ import annotations

import time
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Any, Final

from opentelemetry._logs import SeverityNumber

from genai_meter import attribution, emit, environment, identity, schema, semconv
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
    pico = _pico(amount)
    fields = attribution.cleaned(owner)
    if quantity is not None and (isinstance(quantity, bool) or not isinstance(quantity, int | Decimal)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"quantity must be an int or a Decimal, not {type(quantity).__name__}")
    now = time.time_ns()
    attributes: dict[str, Any] = {
        _ATTRIBUTE["schema_version"]: semconv.SCHEMA_VERSION,
        _ATTRIBUTE["call_id"]: identity.text(identity.new_call_id()),
        _ATTRIBUTE["start"]: now,
        _ATTRIBUTE["end"]: now,
        _ATTRIBUTE["status"]: "ok",
        semconv.COST_WHAT: environment.clean(what),
        _ATTRIBUTE["list_cost"]: pico,
        _ATTRIBUTE["cost"]: pico,
        _ATTRIBUTE["cost_status"]: "exact",
    }
    if quantity is not None:
        attributes[semconv.COST_QUANTITY] = quantity if isinstance(quantity, int) else float(quantity)
    if unit is not None:
        attributes[semconv.COST_UNIT] = environment.clean(unit)
    if provider is not None:
        attributes[semconv.PROVIDER_NAME] = environment.clean(provider)
    guarded(_emit, attributes, fields, pico)


def _emit(attributes: dict[str, Any], fields: dict[str, str], pico: int) -> None:
    owner = {name: value for name, value in {**attribution.current(), **fields}.items() if value}
    attributes.update((_ATTRIBUTE[name], value) for name, value in owner.items())
    labels = {f.attribute: attributes[f.attribute] for f in schema.FIELDS if f.label and f.attribute in attributes}
    emit.instruments().count_cost({**labels, semconv.COST_WHAT: attributes[semconv.COST_WHAT]}, pico)
    logger = emit.logger()
    if logger.enabled(severity_number=SeverityNumber.INFO, event_name=semconv.EVENT_COST):
        logger.emit(
            timestamp=attributes[_ATTRIBUTE["end"]],
            severity_number=SeverityNumber.INFO,
            severity_text="INFO",
            attributes=attributes,
            event_name=semconv.EVENT_COST,
        )


def _pico(amount: object) -> int:
    if isinstance(amount, bool) or not isinstance(amount, Decimal | str | int):
        raise TypeError(
            f"amount must be a Decimal, decimal text or an int, not {type(amount).__name__}: money is exact here"
        )
    try:
        exact = Decimal(amount)
        pico = int(_EXACT.quantize(_EXACT.scaleb(exact, 12), Decimal(1)))
    except (InvalidOperation, ValueError, OverflowError):
        raise ValueError("amount must be a finite decimal number of USD") from None
    if not 0 <= pico <= _LARGEST:
        raise ValueError("amount must be between 0 and 9.2 million USD")
    return pico
