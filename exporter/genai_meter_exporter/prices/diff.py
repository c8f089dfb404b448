"""What differs between two books, model by model and rate by rate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from genai_meter.pricing.book import Book, Row


def differences(old: Book, new: Book) -> Iterator[str]:
    """`+` a new model, `-` one that is gone, `~` a changed rate, row or limit."""
    before, after = _models(old), _models(new)
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            yield f"- {name}"
        elif name not in before:
            rates = {key: value for key, value in after[name].items() if "?" not in key and "#" not in key}
            yield f"+ {name}  {', '.join(f'{key} {value}' for key, value in rates.items())}"
        else:
            yield from (f"~ {name}  {change}" for change in _changes(before[name], after[name]))
    old_facts, new_facts = _facts(old), _facts(new)
    for name in sorted(old_facts.keys() | new_facts.keys()):
        if old_facts.get(name) != new_facts.get(name):
            sign = "-" if name not in new_facts else "+" if name not in old_facts else "~"
            yield f"{sign} fact {name}"


def _facts(book: Book) -> dict[str, str]:
    return {str(entry["id"]): json.dumps(entry, sort_keys=True) for entry in book.facts}


def _models(book: Book) -> dict[str, dict[str, str]]:
    return {
        f"{row.provider}/{row.model}": _flat(book, row) for provider in book.providers for row in book.rows(provider)
    }


def _flat(book: Book, row: Row) -> dict[str, str]:
    """Every rate and limit of a model under one key each."""
    flat = {"context_window": str(row.context_window)} if row.context_window else {}
    if row.deprecated:
        flat["deprecated"] = "yes"
    for constraint, index in row.prices:
        flat |= {f"{unit}{_when(constraint)}": _price(price) for unit, price in book.rates[index].items()}
    for context, constraint, index in row.variants:
        query = "&".join(f"{key}={value}" for key, value in context.items())
        flat |= {f"{unit}?{query}{_when(constraint)}": _price(price) for unit, price in book.rates[index].items()}
    return flat


def _when(constraint: Any) -> str:
    return "" if constraint is None else f"#{constraint if isinstance(constraint, str) else '-'.join(constraint)}"


def _price(price: Any) -> str:
    return (
        price if isinstance(price, str) else " ".join([price[0], *(f">{above}: {step}" for above, step in price[1:])])
    )


def _changes(old: dict[str, str], new: dict[str, str]) -> Iterator[str]:
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            yield f"{key} {old.get(key, '(none)')} -> {new.get(key, '(none)')}"
