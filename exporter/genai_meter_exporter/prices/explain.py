"""One event recomputed by the book it was priced by."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from genai_meter import schema, semconv
from genai_meter.pricing import Cost, billed_model
from genai_meter.pricing.book import BookError, read_book
from genai_meter.pricing.engine import Resolver
from genai_meter.pricing.overlay import instant
from genai_meter.usage import BUCKETS, Usage, buckets_of

from genai_meter_exporter.prices.calc import usd_text
from genai_meter_exporter.prices.describe import cost_text, instant_text
from genai_meter_exporter.prices.shapes import mapping, quantities, sequence

_TOTALS: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens")


class NoEvent(Exception):
    """There is nothing to explain."""


@dataclass(slots=True)
class Event:
    """What of an event decides its cost."""

    call_id: str
    provider: str
    model: str
    at_ns: int
    usages: list[Usage]
    context: dict[str, str]
    book_id: str
    stored_pico: int | None
    told_status: str
    told_reasons: list[str]


def from_json(text: str) -> Event:
    """An event as JSON, its keys the names of the ledger or the attributes of the wire."""
    raw = mapping(json.loads(text))
    if raw is None:
        raise NoEvent("an event is a JSON object")
    return from_row({**raw, **(mapping(raw.get("attributes")) or {})})


def from_row(row: Mapping[str, Any]) -> Event:
    """An event from a ledger row or from attributes."""
    facts = {schema.BY_ATTRIBUTE[key].name if key in schema.BY_ATTRIBUTE else key: value for key, value in row.items()}
    call_id: Any = facts.get("call_id") or facts.get("id") or ""
    start: Any = facts.get("start", facts.get("at"))
    if start is None:
        raise NoEvent("the event has no start")
    provider = str(facts.get("provider") or "")
    return Event(
        call_id=call_id.hex() if isinstance(call_id, bytes) else str(call_id),
        provider=provider,
        model=billed_model(provider, facts.get("request_model"), facts.get("model")),
        at_ns=int(start) if str(start).lstrip("-").isdecimal() else instant(str(start)),
        usages=_usages(facts),
        context=_context(facts),
        book_id=str(facts.get("book_id") or ""),
        stored_pico=int(facts["cost"]) if facts.get("cost") is not None else None,
        told_status=str(facts.get("cost_status") or ""),
        told_reasons=_reasons(facts.get("cost_reasons")),
    )


def _reasons(told: object) -> list[str]:
    return [str(reason) for reason in sequence(json.loads(told) if isinstance(told, str | bytes) else told) or []]


def _usages(facts: Mapping[str, Any]) -> list[Usage]:
    told: Any = facts.get("usage", facts.get("buckets"))
    if isinstance(told, str | bytes):
        told = json.loads(told)
    models = sequence(told)
    if models is not None:
        entries = [mapping(item) or {} for item in models]
        return [Usage(quantities(entry.get("buckets")), model=entry.get("model")) for entry in entries]
    if told is not None:
        return [Usage(quantities(told))]
    own = quantities({bucket: facts.get(f"{semconv.USAGE_PREFIX}{bucket}") for bucket in BUCKETS})
    if not own and facts.get("usage_source") == "provider":
        own = quantities(buckets_of({name: int(facts[name]) for name in _TOTALS if facts.get(name) is not None}))
    return [Usage(own)] if own else []


def _context(facts: Mapping[str, Any]) -> dict[str, str]:
    told: Any = facts.get("price_context", facts.get("context"))
    if isinstance(told, str | bytes):
        told = json.loads(told)
    given = mapping(told)
    if given is not None:
        return {key: str(value) for key, value in given.items()}
    named = {"tier": "service_tier", "processing": "processing", "speed": "speed", "region": "region"}
    return {key: str(facts[name]) for name, key in named.items() if facts.get(name)}


def stored_resolver(current: Resolver, book_id: str, archives: Iterable[Path]) -> Resolver | None:
    """The resolver an event was priced by; None when its book or its overlay is not here."""
    base, _, overlay_hash = book_id.partition("+ov:")
    overlay = current.overlay if overlay_hash else None
    if overlay_hash and (overlay is None or not overlay.sha256.startswith(overlay_hash)):
        return None
    if current.book.book_id == base:
        return Resolver(current.book, overlay)
    for path in archives:
        try:
            book = read_book(path)
        except BookError:
            continue
        if book.book_id == base:
            return Resolver(book, overlay)
    return None


def explain(current: Resolver, event: Event, archives: Iterable[Path]) -> Iterator[str]:
    """The cost of an event, recomputed line by line."""
    context = ", ".join(f"{key}={value}" for key, value in event.context.items())
    yield f"call {event.call_id or '(no id)'}  {instant_text(event.at_ns)}"
    yield f"  {event.provider}  {event.model}{f'  ({context})' if context else ''}"
    if not event.usages and not event.book_id and event.stored_pico is not None:
        yield f"  ${usd_text(event.stored_pico)} as told by its producer: no price was used"
        return
    stored = stored_resolver(current, event.book_id, archives) if event.book_id else None
    if event.book_id and stored is None:
        yield f"  priced by {event.book_id}, which is not here (book or overlay); recomputed by {current.book_id}"
    resolver = stored or current
    if stored is not None or not event.book_id:
        yield f"  book {resolver.book_id}, data of {resolver.book.data_date}"
    cost = resolver.price(event.provider, event.model, event.usages, event.at_ns, event.context)
    yield from cost_text(resolver, cost)
    yield from _comparison(event, cost)


def _comparison(event: Event, cost: Cost) -> Iterator[str]:
    if event.stored_pico is None:
        return
    equal = "equal" if cost.effective_pico == event.stored_pico else "NOT equal"
    # How certain the usage itself is, only the event knows.
    status = f", status {event.told_status}" if event.told_status not in ("", cost.status) else ""
    why = ", ".join(reason for reason in event.told_reasons if reason not in cost.reasons)
    yield f"  the event says ${usd_text(event.stored_pico)}{status}{f' ({why})' if why else ''}: {equal}"
