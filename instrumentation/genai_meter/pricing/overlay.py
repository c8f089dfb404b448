"""Entries over the base rates: the shipped facts and the user's overlay, one format.

The exporter's `genai-meter prices compile` checks the YAML and writes the JSON read here; this module
trusts nothing but the hash and raises `OverlayError` on whatever it cannot use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from genai_meter.pricing import names, units
from genai_meter.pricing.windows import SECOND, WEEKDAYS, Span, Window, minutes_of_day, zone

SCHEMA: Final = "genai-meter-overlay/1"

KINDS: Final = ("price", "discount", "multiplier", "commitment", "alias", "minimum", "free_allowance")

GLOB_KEYS: Final = (
    "deployment",
    "region",
    "geo",
    "sku",
    "service_tier",
    "processing",
    "speed",
    "account",
    "project",
    "api_key",
    "host",
    "search_type",
    "route",
)
"""What an entry may match besides provider and model; each a pattern or a list of patterns."""

SYNONYMS: Final = {"inference_geo": "geo", "azure_sku": "sku", "batch": "processing"}
"""Other spellings of a price dimension."""

FOREVER: Final = 2**63 - 1


class OverlayError(Exception):
    """A compiled overlay that cannot be used."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Price of one unit, by size of the input."""

    steps: tuple[tuple[int, Fraction], ...]
    """(above this many input tokens, USD per `per`); the first step is above -1."""
    per: int
    entry: str
    """Id of the book entry it comes from."""

    def at(self, input_tokens: int) -> Fraction:
        """The price when the whole input has this size: strictly more than a threshold crosses it."""
        price = self.steps[0][1]
        for threshold, step in self.steps[1:]:
            if input_tokens > threshold:
                price = step
        return price

    def step_id(self, input_tokens: int) -> str:
        """The entry id with the tier it was read from."""
        crossed = [threshold for threshold, _ in self.steps[1:] if input_tokens > threshold]
        return f"{self.entry}>{crossed[-1]}" if crossed else self.entry


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of an overlay or of the facts."""

    id: str
    kind: str
    layer: int
    """0: shipped facts; 1 and up: the overlay files in their order."""
    priority: int
    patterns: Mapping[str, tuple[str, ...]]
    """Dimension → patterns, one of which must match."""
    window: Window | None
    start_ns: int
    end_ns: int
    listed: bool
    """Changes the list price too (`stack: list`), not only the effective one."""
    rates: Mapping[str, Rate]
    multiplier: Fraction
    units: frozenset[str]
    """Units a multiplier, discount or commitment applies to."""
    floors: Mapping[str, Fraction] = field(default_factory=dict[str, Fraction])
    """Bucket → least billed quantity."""
    model: str | None = None
    set: Mapping[str, str] = field(default_factory=dict[str, str])
    raw: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def label(self) -> str:
        """The id as it is stamped on lines: with the date the entry took effect."""
        return f"{self.id}@{str(self.raw['effective_from'])[:10]}"

    def matches(self, facts: Mapping[str, tuple[str, ...]]) -> bool:
        """Whether every dimension the entry names has a matching value (the window apart)."""
        for key, patterns in self.patterns.items():
            values = facts.get(key, ())
            if not any(fnmatchcase(value, pattern) for value in values for pattern in patterns):
                return False
        return True

    def span(self, at_ns: int) -> Span:
        """Whether the entry is in force at an instant, and how long that holds."""
        if at_ns < self.start_ns:
            return Span(False, -FOREVER, self.start_ns)
        if at_ns >= self.end_ns:
            return Span(False, self.end_ns, FOREVER)
        if self.window is None:
            return Span(True, self.start_ns, self.end_ns)
        span = self.window.span(at_ns)
        return Span(span.active, max(span.start_ns, self.start_ns), min(span.end_ns, self.end_ns))

    @property
    def slot(self) -> tuple[object, ...]:
        """What a multiplier is for: a higher layer's entry for the same replaces a lower one's."""
        context = tuple(sorted((k, v) for k, v in self.patterns.items() if k not in ("provider", "model")))
        return context or (self.id,)

    @property
    def rank(self) -> tuple[int, int, int, int]:
        """Order among entries of one kind: layer, priority, how specific, how recent."""
        return (self.layer, self.priority, len(self.patterns), self.start_ns)


@dataclass(frozen=True, slots=True)
class Overlay:
    """The user's entries, with their hash."""

    entries: tuple[Entry, ...]
    sha256: str


def instant(text: str) -> int:
    """An ISO instant as Unix nanoseconds; without an offset it is UTC."""
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * SECOND + moment.microsecond * 1000


def read_entries(raw: Iterable[Mapping[str, Any]], first_layer: int) -> tuple[Entry, ...]:
    """Entries of a compiled overlay; OverlayError names the one that cannot be used."""
    entries: list[Entry] = []
    for item in raw:
        try:
            entries.append(_entry(item, first_layer))
        except (KeyError, ValueError, TypeError, AttributeError, ZeroDivisionError) as error:
            raise OverlayError(f"entry {item.get('id')!r}: {type(error).__name__} {error}") from error
    return tuple(entries)


def read_overlay(path: Path) -> Overlay:
    """Read a compiled overlay; OverlayError when it cannot be used."""
    import json

    try:
        document = json.loads(path.read_bytes())
        entries, stated = document["entries"], document["sha256"]
        schema = document["schema"]
        if not all(type(entry) is dict for entry in entries):
            raise ValueError("entries are mappings")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OverlayError(f"cannot read {path}: {type(error).__name__} {error}") from error
    if schema != SCHEMA:
        raise OverlayError(f"{path}: schema {schema!r}; this version reads {SCHEMA!r}")
    if digest(entries) != stated:
        raise OverlayError(f"{path}: its content is not what its hash says; compile it again")
    return Overlay(read_entries(entries, 1), stated)


def digest(entries: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 of the entries' canonical JSON."""
    import hashlib
    import json

    return hashlib.sha256(json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _entry(item: Mapping[str, Any], first_layer: int) -> Entry:
    identifier, kind = str(item["id"]), str(item["kind"])
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}")
    match: dict[str, Any] = dict(item["match"])
    floors: dict[str, str] = dict(item.get("minimum") or {})
    chosen: dict[str, str] = dict(item.get("set") or {})
    patterns = {key: _patterns(key, match[key]) for key in ("provider", "model", *GLOB_KEYS) if key in match}
    listed = str(item.get("stack") or default_stack(kind)) == "list"
    effective_to = item.get("effective_to")
    return Entry(
        id=identifier,
        kind=kind,
        layer=first_layer + int(item.get("layer", 0)),
        priority=int(item.get("priority", 0)),
        patterns=patterns,
        window=_window(match),
        start_ns=instant(item["effective_from"]),
        end_ns=FOREVER if effective_to is None else instant(effective_to),
        listed=listed,
        rates=_rates(item, f"{identifier}@{str(item['effective_from'])[:10]}"),
        multiplier=Fraction(item["multiplier"]) if item.get("multiplier") is not None else Fraction(1),
        units=applied_units(item.get("applies_to") or ["tokens"]),
        floors={bucket: Fraction(text) for bucket, text in floors.items()},
        model=item.get("model"),
        set={SYNONYMS.get(key, key): value for key, value in chosen.items()},
        raw=item,
    )


def default_stack(kind: str) -> str:
    """Where an entry applies unless it says so: surcharges and minima are list prices, the rest is ours."""
    return "list" if kind in ("multiplier", "minimum", "alias") else "after_list"


def applied_units(applies_to: Iterable[str]) -> frozenset[str]:
    """The units behind `tokens`, `tool_calls`, `all` or single bucket names."""
    groups: dict[str, frozenset[str]] = {
        "tokens": units.TOKENS,
        "tool_calls": units.TOOL_CALLS,
        "all": frozenset(units.DIMENSIONS),
    }
    return frozenset[str]().union(*(groups[name] if name in groups else frozenset({name}) for name in applies_to))


def _patterns(key: str, value: str | Sequence[str]) -> tuple[str, ...]:
    values = (value,) if isinstance(value, str) else tuple(value)
    if key == "provider":
        return tuple(names.provider_id(v) for v in values)
    return tuple(v.lower() for v in values) if key == "model" else values


def _window(match: Mapping[str, Any]) -> Window | None:
    days, hours = match.get("weekday"), match.get("window")
    if days is None and hours is None:
        return None
    start, end = str(hours or "00:00-24:00").split("-")
    weekdays = frozenset(WEEKDAYS.index(day) for day in days or ())
    return Window(weekdays, minutes_of_day(start), minutes_of_day(end), zone(str(match.get("tz", "UTC"))))


def _rates(item: Mapping[str, Any], label: str) -> dict[str, Rate]:
    base: Mapping[str, Any] = item.get("rates") or {}
    tiers: Sequence[Mapping[str, Any]] = item.get("tiers") or ()
    rates: dict[str, Rate] = {}
    for unit, rate in base.items():
        per = int(rate["per"])
        steps = [(-1, Fraction(rate["usd"]))]
        for tier in sorted(tiers, key=lambda t: int(t["above_input_tokens"])):
            stepped = tier["rates"].get(unit)
            if stepped is not None:
                price = Fraction(stepped["usd"]) * per / int(stepped["per"])
                steps.append((int(tier["above_input_tokens"]), price))
        if unit not in units.DIMENSIONS:
            raise ValueError(f"unknown bucket {unit!r}")
        rates[unit] = Rate(tuple(steps), per, f"{label}#{unit}")
    return rates
