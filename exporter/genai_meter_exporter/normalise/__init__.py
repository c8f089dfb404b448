"""OTLP → usage records. One file per flavour of producer; the first that knows a record reads it."""

from __future__ import annotations

from genai_meter import semconv
from genai_meter.safety import swallow

from genai_meter_exporter.normalise import flavours, own, unknown
from genai_meter_exporter.normalise.again import printable
from genai_meter_exporter.normalise.names import EVENT_DETAILS
from genai_meter_exporter.normalise.record import (
    MAX_INT,
    Batch,
    Beside,
    Quarantined,
    Unreadable,
    UsageRecord,
    Wrapper,
)
from genai_meter_exporter.receive.raw import Parsed, Raw

__all__ = ["Batch", "Beside", "Quarantined", "Unreadable", "UsageRecord", "normalise"]


def normalise(parsed: Parsed) -> Batch:
    """Every record of one request: read, kept out as none of ours, or quarantined with the reason."""
    batch = Batch(parents=parsed.parents)
    ignored = parsed.ignored
    for raw in parsed.records:
        try:
            result = _one(raw)
            if result is not None and not (0 <= raw.start_ns <= MAX_INT and 0 <= raw.end_ns <= MAX_INT):
                raise Unreadable("the time of the record is out of range")
        except Unreadable as error:
            batch.quarantined.append(Quarantined(raw.signal, str(error), _producer(raw), printable(raw)))
            continue
        except Exception as error:  # noqa: BLE001 - counted, logged, and the record is kept in the quarantine
            swallow("normalise", error)
            reason = f"internal error: {type(error).__name__}"
            batch.quarantined.append(Quarantined(raw.signal, reason, _producer(raw), printable(raw)))
            continue
        if result is None:
            ignored += 1
        elif isinstance(result, Beside):
            batch.beside.append(result)
        else:
            batch.records.append(result)
    if ignored:
        batch.ignored[parsed.signal] = ignored
    return batch


def _one(raw: Raw) -> UsageRecord | Beside | None:
    """The record as its flavour reads it; None when it is none of ours."""
    if raw.signal == "logs":
        if raw.name == semconv.EVENT_USAGE:
            return own.usage_event(raw)
        if raw.name == semconv.EVENT_COST:
            return own.cost_event(raw)
        if raw.name == semconv.EVENT_OUTCOME:
            return own.outcome(raw)
        return _foreign(raw, flavours.event(raw) if raw.name == EVENT_DETAILS else None)
    if own.CALL_ID in raw.attributes:
        return own.span(raw)
    return _foreign(raw, flavours.span(raw))


def _foreign(raw: Raw, result: UsageRecord | Wrapper | None) -> UsageRecord | None:
    """What no flavour claims, and yet tells tokens, is not dropped."""
    if result is None:
        unknown.refuse(raw.attributes)
    return None if isinstance(result, Wrapper) else result


def _producer(raw: Raw) -> str:
    return raw.scope or raw.name
