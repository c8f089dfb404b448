"""Who pays, by rules of the exporter's configuration: applied to each record before it is priced and stored.

Applications say who pays; what they leave open is filled in here, from what is known of the call, so that nobody
has to deploy anything. What was stored before a rule came stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from genai_meter_exporter.config import AttributionRule
from genai_meter_exporter.normalise.record import UsageRecord

_KEPT: Final = 10_000
"""Combinations of values whose outcome is remembered."""

_Values = tuple[Any, ...]


class AttributionMap:
    """The rules, in their order. Of several that set one field, the first that applies does."""

    def __init__(self, rules: Sequence[AttributionRule] = ()) -> None:
        self._rules = tuple(rules)
        looked_at = {name for rule in rules for name in rule.match} | {"model", "request_model"}
        self._names = tuple(sorted(looked_at))
        self._known: dict[_Values, tuple[Mapping[str, str], Mapping[str, str]]] = {}

    def apply(self, records: Iterable[UsageRecord]) -> None:
        """Complete the attribution of each record, in place."""
        if self._rules:
            for record in records:
                self._complete(record.values)

    def _complete(self, values: dict[str, Any]) -> None:
        key: _Values = tuple(map(values.get, self._names))
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            found = self._known[key] = self._decide(dict(zip(self._names, key, strict=True)))
        filled, forced = found
        for name, value in filled.items():
            if not values.get(name):
                values[name] = value
        values.update(forced)

    def _decide(self, seen: Mapping[str, Any]) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """What is filled in where the application said nothing, and what holds whatever it said."""
        filled: dict[str, str] = {}
        forced: dict[str, str] = {}
        for rule in self._rules:
            if all(_matches(name, patterns, seen) for name, patterns in rule.patterns):
                for name, value in rule.set.items():
                    (forced if rule.override else filled).setdefault(name, value)
        return filled, forced


def _matches(name: str, patterns: Sequence[str], seen: Mapping[str, Any]) -> bool:
    value = seen.get(name)
    if name == "model" and not value:
        value = seen.get("request_model")
    return value is not None and any(fnmatchcase(str(value), pattern) for pattern in patterns)
