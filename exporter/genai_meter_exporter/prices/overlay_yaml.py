"""Overlay YAML → the compiled JSON that applications read. Every error names file, line and field."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path as FilePath
from typing import Any, Final

from genai_meter.pricing import names, overlay, units
from genai_meter.pricing.windows import WEEKDAYS, minutes_of_day, zone

from genai_meter_exporter.prices.marked import Marked, Path, Problem, read
from genai_meter_exporter.prices.overlap import clashes
from genai_meter_exporter.prices.shapes import mapping, sequence

SCHEMA: Final = "pricebook-overlay/1"

_COMMON: Final = {
    "id",
    "kind",
    "match",
    "effective_from",
    "effective_to",
    "priority",
    "stack",
    "source",
    "recorded_at",
    "recorded_by",
    "expires_review",
    "note",
}
_BY_KIND: Final[dict[str, tuple[set[str], set[str]]]] = {
    "price": ({"rates"}, {"tiers", "currency", "fx"}),
    "discount": ({"multiplier"}, {"applies_to"}),
    "multiplier": ({"multiplier"}, {"applies_to"}),
    "commitment": ({"unit", "quantity", "unit_usd", "allocate_by"}, {"applies_to", "currency"}),
    "alias": ({"model"}, {"set"}),
    "minimum": ({"minimum"}, set()),
    "free_allowance": ({"allowance", "period"}, set()),
}
"""Kind → fields it must have, fields it may have, besides the common ones."""

_DECIMAL: Final = re.compile(r"[0-9]+(\.[0-9]+)?")
_TEXT_FIELDS: Final = ("source", "recorded_by", "note", "unit", "model")


class OverlayInvalid(Exception):
    """An overlay with problems; `problems` has them all."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


def compile_files(paths: Iterable[FilePath]) -> dict[str, Any]:
    """Compile overlay files, the lowest layer first, into one document; OverlayInvalid with all problems."""
    texts: list[tuple[str, str]] = []
    for path in paths:
        try:
            texts.append((path.read_text(encoding="utf-8"), str(path)))
        except UnicodeDecodeError as error:
            raise OverlayInvalid([Problem(str(path), 1, "(document)", f"no UTF-8 text: {error}")]) from None
    return compile_texts(texts)


def compile_texts(texts: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Compile (text, file name) pairs, the lowest layer first."""
    problems: list[Problem] = []
    entries: list[dict[str, Any]] = []
    books: list[str] = []
    for layer, (text, file) in enumerate(texts):
        marked = read(text, file)
        found = check(marked)
        problems += marked.problems
        entries += [{**entry, "layer": layer} for entry in found]
        books.append(str((mapping(marked.data) or {}).get("book") or file))
    if problems:
        raise OverlayInvalid(problems)
    return {"schema": overlay.SCHEMA, "book": "+".join(books), "sha256": overlay.digest(entries), "entries": entries}


def to_json(document: Mapping[str, Any]) -> str:
    """The compiled document as it is written to disk."""
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def check(marked: Marked, also_allowed: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
    """Check a parsed overlay and return its entries in canonical form; problems are noted on `marked`."""
    document = mapping(marked.data)
    if document is None:
        if not marked.problems:
            marked.problem((), "an overlay is a mapping with `schema`, `book` and `entries`")
        return []
    for key in document:
        if key not in {"schema", "book", "entries"} | also_allowed:
            marked.problem((key,), "unknown field")
    if document.get("schema") != SCHEMA:
        marked.problem(("schema",), f"must be {SCHEMA!r}")
    if not isinstance(document.get("book"), str):
        marked.problem(("book",), "missing: the name of this overlay, as text")
    items = sequence(document.get("entries"))
    if items is None:
        marked.problem(("entries",), "must be a list of entries")
        return []
    checked = [_Entry(marked, ("entries", index), item).check() for index, item in enumerate(items)]
    _unique_ids(marked, checked)
    for (first, a), (second, b), why in clashes([(i, entry) for i, entry in enumerate(checked) if entry]):
        line = marked.line(("entries", first))
        marked.problem(("entries", second, "match"), f"{b['id']!r} overlaps {a['id']!r} (line {line}): {why}")
    return [entry for entry in checked if entry]


def _unique_ids(marked: Marked, entries: Sequence[dict[str, Any]]) -> None:
    seen: dict[str, int] = {}
    for index, entry in enumerate(entries):
        identifier = entry.get("id")
        if identifier in seen:
            line = marked.line(("entries", seen[identifier]))
            marked.problem(("entries", index, "id"), f"{identifier!r} is already used on line {line}")
        elif identifier is not None:
            seen[identifier] = index


class _Entry:
    """The check of one entry."""

    def __init__(self, marked: Marked, path: Path, item: Any) -> None:
        self.marked = marked
        self.path = path
        self.item = mapping(item) or {}
        self.out: dict[str, Any] = {}
        self.before = len(marked.problems)

    def check(self) -> dict[str, Any]:
        """The canonical entry; empty when something is wrong with it."""
        if not self.item:
            self._wrong((), "an entry is a mapping")
            return {}
        kind = self.item.get("kind")
        if not isinstance(kind, str) or kind not in _BY_KIND:
            self._wrong(("kind",), f"{kind!r} is none of {', '.join(_BY_KIND)}")
            return {}
        self._fields(kind)
        self.out = {"id": self._text("id", required=True), "kind": kind}
        self._match()
        self._times()
        self._scalars()
        self._amounts()
        self._tables()
        return self.out if len(self.marked.problems) == self.before else {}

    def _wrong(self, path: Path, message: str) -> None:
        self.marked.problem((*self.path, *path), message)

    def _fields(self, kind: str) -> None:
        required, optional = _BY_KIND[kind]
        for name in sorted({"id", "match", "effective_from", *required}):
            if self.item.get(name) is None:
                self._wrong((name,), f"missing: an entry of kind {kind} needs it")
        for name in self.item:
            if name not in _COMMON | required | optional:
                self._wrong((name,), f"unknown field for an entry of kind {kind}")

    def _text(self, name: str, *, required: bool = False) -> str | None:
        value = self.item.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or (required and not value.strip()):
            self._wrong((name,), f"must be text, not {value!r}")
            return None
        return value

    def _match(self) -> None:
        if self.item.get("match") is None:
            return
        given = mapping(self.item["match"])
        if not given:
            self._wrong(("match",), "must name at least a provider, a model or another dimension")
            return
        match: dict[str, Any] = {}
        for key, value in given.items():
            name = self._dimension("match", key, match)
            if name in ("provider", "model", *overlay.GLOB_KEYS):
                match[name] = self._patterns(("match", key), value)
            elif name == "weekday":
                match[name] = self._weekdays(value)
            elif name == "window":
                match[name] = self._parsed(("match", "window"), value, _hours)
            elif name == "tz":
                match[name] = self._parsed(("match", "tz"), value, zone)
            else:
                self._wrong(("match", key), "unknown dimension")
        if "tz" in match and not {"weekday", "window"} & match.keys():
            self._wrong(("match", "tz"), "needs `weekday` or `window` beside it")
        self.out["match"] = match

    def _dimension(self, field: str, key: str, known: Mapping[str, Any]) -> str:
        """The name of a dimension that may have another spelling."""
        name = overlay.SYNONYMS.get(key, key)
        if name in known:
            self._wrong((field, key), f"is {name!r}, which is already there")
        return name

    def _patterns(self, path: Path, value: Any) -> list[str]:
        values = sequence(value) or [value]
        if not all(isinstance(v, str) and v for v in values):
            self._wrong(path, f"must be a pattern as text, or a list of them, not {value!r}")
            return []
        if path[-1] == "provider":
            values = [names.provider_id(v) for v in values]
        return values

    def _weekdays(self, value: Any) -> list[str]:
        days = sequence(value) or [value]
        for day in days:
            if not isinstance(day, str) or day not in WEEKDAYS:
                self._wrong(("match", "weekday"), f"{day!r} is none of {', '.join(WEEKDAYS)}")
        return days

    def _parsed(self, path: Path, value: Any, parse: Callable[[str], Any]) -> Any:
        """The value as it is; None when it cannot be parsed."""
        try:
            if not isinstance(value, str):
                raise ValueError(f"must be text, not {value!r}")
            parse(value)
        except ValueError as error:
            self._wrong(path, str(error))
            return None
        return value

    def _times(self) -> None:
        for name in ("effective_from", "effective_to", "recorded_at", "expires_review"):
            value = self.item.get(name)
            if value is not None:
                self.out[name] = self._parsed((name,), value, _instant)
        start, end = self.out.get("effective_from"), self.out.get("effective_to")
        if start and end and overlay.instant(end) <= overlay.instant(start):
            self._wrong(("effective_to",), "is not after effective_from")

    def _scalars(self) -> None:
        for name in _TEXT_FIELDS:
            value = self._text(name)
            if value is not None:
                self.out[name] = value
        for name, choices in (
            ("stack", ("list", "after_list")),
            ("allocate_by", ("none", "tokens", "list_cost")),
            ("period", ("day", "month")),
        ):
            value = self.item.get(name)
            if value is not None:
                if value not in choices:
                    self._wrong((name,), f"{value!r} is none of {', '.join(choices)}")
                self.out[name] = value
        priority = self.item.get("priority", 0)
        if type(priority) is not int:
            self._wrong(("priority",), f"must be a whole number, not {priority!r}")
        self.out["priority"] = priority
        self._applies_to()

    def _applies_to(self) -> None:
        value: Any = self.item.get("applies_to")
        if value is None:
            return
        items = sequence(value) or [value]
        for name in items:
            if not isinstance(name, str) or name not in ("tokens", "tool_calls", "all", *units.DIMENSIONS):
                self._wrong(("applies_to",), f"{name!r} is none of tokens, tool_calls, all, and no bucket")
        self.out["applies_to"] = items

    def _amounts(self) -> None:
        for name in ("multiplier", "unit_usd"):
            if self.item.get(name) is not None:
                self.out[name] = self._decimal((name,), self.item[name])
        if self.item["kind"] == "discount" and Decimal(self.out.get("multiplier") or 0) > 1:
            self._wrong(("multiplier",), "a discount above 1 would be a surcharge: use kind multiplier")
        if self.item["kind"] == "commitment" and self.item.get("currency") not in (None, "USD"):
            self._wrong(("currency",), "a commitment is in USD: `unit_usd`")
        quantity = self.item.get("quantity")
        if quantity is not None:
            self.out["quantity"] = self._decimal(("quantity",), str(quantity) if type(quantity) is int else quantity)

    def _decimal(self, path: Path, value: Any) -> str:
        if isinstance(value, str) and _DECIMAL.fullmatch(value):
            return value
        if value is not None:
            self._wrong(path, f'must be a decimal number as text, like "1.25", not {value!r}')
        return "0"

    def _tables(self) -> None:
        kind = self.item["kind"]
        if kind == "price":
            self._currency()
            self.out["rates"] = self._rates(("rates",), self.item.get("rates"))
            self.out["tiers"] = self._tiers(self.item.get("tiers") or [])
        for name in ("minimum", "allowance"):
            if self.item.get(name) is not None:
                self.out[name] = self._quantities(name)
        chosen: Any = self.item.get("set")
        if chosen is not None:
            self.out["set"] = self._set(chosen)

    def _quantities(self, name: str) -> dict[str, str]:
        given = mapping(self.item[name])
        if not given:
            self._wrong((name,), "must be a mapping of bucket to quantity")
            return {}
        quantities: dict[str, str] = {}
        for bucket, value in given.items():
            path = (name, bucket)
            self._bucket(path, bucket)
            quantities[bucket] = self._decimal(path, str(value) if type(value) is int else value)
        return quantities

    def _set(self, given: Any) -> dict[str, str]:
        chosen = mapping(given)
        if chosen is None:
            self._wrong(("set",), "must be a mapping of dimension to value")
            return {}
        values: dict[str, str] = {}
        for key, value in chosen.items():
            name = self._dimension("set", key, values)
            if name not in overlay.GLOB_KEYS:
                self._wrong(("set", key), "unknown dimension")
            if not isinstance(value, str):
                self._wrong(("set", key), f"must be text, not {value!r}")
            values[name] = str(value)
        return values

    def _currency(self) -> None:
        currency, rate = self.item.get("currency") or "USD", mapping(self.item.get("fx"))
        if currency == "USD":
            if self.item.get("fx") is not None:
                self._wrong(("fx",), "is for a currency other than USD")
            return
        if not isinstance(currency, str) or not re.fullmatch("[A-Z]{3}", currency):
            self._wrong(("currency",), f"must be an ISO 4217 code like EUR, not {currency!r}")
        if rate is None or not {"rate", "as_of", "source"} <= rate.keys():
            self._wrong(("fx",), f"missing: prices in {currency} need fx with rate, as_of and source")
            return
        exchange = self._decimal(("fx", "rate"), rate["rate"])
        if not Decimal(exchange):
            self._wrong(("fx", "rate"), "must be above 0: everything would be free")
        self._parsed(("fx", "as_of"), rate["as_of"], _instant)
        for key in rate:
            if key not in ("rate", "as_of", "source"):
                self._wrong(("fx", key), "unknown field")
        self.out["currency"], self.out["fx"] = currency, {**{k: str(v) for k, v in rate.items()}, "rate": exchange}

    def _rates(self, path: Path, value: Any) -> dict[str, dict[str, Any]]:
        given = mapping(value)
        if not given:
            self._wrong(path, "must be a mapping of bucket to {usd, per}")
            return {}
        rates: dict[str, dict[str, Any]] = {}
        for bucket, rate in given.items():
            self._bucket((*path, bucket), bucket)
            rates[bucket] = self._rate((*path, bucket), rate)
        return rates

    def _bucket(self, path: Path, bucket: str) -> None:
        if bucket not in units.DIMENSIONS:
            self._wrong(path, f"unknown bucket {bucket!r} (known: {', '.join(units.DIMENSIONS)})")

    def _rate(self, path: Path, value: Any) -> dict[str, Any]:
        rate = mapping(value)
        if rate is None:
            self._wrong(path, 'must be {usd: "1.25", per: 1000000}')
            return {"usd": "0", "per": 1}
        fx: dict[str, str] | None = self.out.get("fx")
        amount_key = "amount" if fx else "usd"
        for key in rate:
            if key not in (amount_key, "per"):
                self._wrong((*path, key), "unknown field")
        for key in (amount_key, "per"):
            if rate.get(key) is None:
                self._wrong((*path, key), "missing")
        amount = self._decimal((*path, amount_key), rate.get(amount_key))
        per = rate.get("per", 1)
        if type(per) is not int or per < 1:
            self._wrong((*path, "per"), f"must be a whole number above 0, not {per!r}")
            per = 1
        return {"usd": _product(amount, fx["rate"]) if fx else amount, "per": per}

    def _tiers(self, given: Any) -> list[dict[str, Any]]:
        steps = sequence(given)
        if steps is None:
            self._wrong(("tiers",), "must be a list")
            return []
        tiers: list[dict[str, Any]] = []
        for index, tier in enumerate(steps):
            path: Path = ("tiers", index)
            step = mapping(tier)
            if step is None:
                self._wrong(path, "must be {above_input_tokens, rates}")
                continue
            for key in step:
                if key not in ("above_input_tokens", "rates"):
                    self._wrong((*path, key), "unknown field")
            above = step.get("above_input_tokens")
            if type(above) is not int or above < 0:
                self._wrong((*path, "above_input_tokens"), f"must be a whole number, not {above!r}")
            elif any(above == other["above_input_tokens"] for other in tiers):
                self._wrong((*path, "above_input_tokens"), f"there already is a tier above {above}: which one holds?")
            rates = self._rates((*path, "rates"), step.get("rates"))
            for bucket in rates:
                if bucket not in self.out["rates"]:
                    self._wrong((*path, "rates", bucket), "has no base rate under `rates`")
            tiers.append({"above_input_tokens": above, "rates": rates})
        return tiers


def _product(amount: str, rate: str) -> str:
    return units.decimal_text(Fraction(amount) * Fraction(rate))


def _instant(text: str) -> None:
    try:
        overlay.instant(text)
    except ValueError:
        raise ValueError(f"must be an ISO date or instant like 2026-10-01T00:00:00Z, not {text!r}") from None


def _hours(text: str) -> None:
    start, dash, end = text.partition("-")
    if not dash:
        raise ValueError(f"must be like 01:00-04:00, not {text!r}")
    minutes_of_day(start)
    minutes_of_day(end)
