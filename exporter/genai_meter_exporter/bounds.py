"""Label values are bounded: the first K of a label are named, and at each review the K with the highest cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from genai_meter_exporter.config import Labels

OTHER: Final = "other"
"""What everything beyond the bound is folded into; a value of that name is told apart by `shown`."""

MAX_LENGTH: Final = 128
"""Characters of a label value."""

_OURS: Final = frozenset({"ingest_events"})
"""Families whose label values are all known: they need no bound, and take nobody's place."""

_FOLDED_KEPT: Final = 100_000
"""Folded label sets that are told apart in one family; beyond that the count stands still."""

_ANSWERS_KEPT: Final = 100_000


def shown(value: str) -> str:
    """A value as label: bounded, and never what is folded. `other` is `_other`, `_other` is `__other`, and so on."""
    value = value[:MAX_LENGTH]
    return f"_{value}" if value.endswith(OTHER) and not value.removesuffix(OTHER).strip("_") else value


def bounds_of(labels: Labels) -> Bounds:
    """As configured."""
    return Bounds(labels.limits, labels.limit, labels.series_per_family, labels.series_limits)


class Bounds:
    """Which label values have series of their own. Used by the writer thread; `hidden` is read by scrapes."""

    def __init__(
        self, limits: Mapping[str, int], default: int, per_family: int, families: Mapping[str, int] | None = None
    ) -> None:
        """Limits of labels, of all other labels, of the series of a family, and of families that have their own."""
        self._limits = limits
        self._default = default
        self._per_family = per_family
        self._families = families or {}
        self._named: dict[str, set[str]] = {}
        self._series: dict[str, set[tuple[str, ...]]] = {}
        self._folded: dict[str, set[int]] = {}
        self._answers: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}
        """What `fold` has answered since the last review."""

    def restore(self, family: str, names: Sequence[str], labels: tuple[str, ...]) -> None:
        """A series of the store: it keeps its place until the next review."""
        if family in _OURS:
            return
        self._series.setdefault(family, set()).add(labels)
        for name, value in zip(names, labels, strict=True):
            if value != OTHER:
                self._named.setdefault(name, set()).add(value)

    def full(self, name: str) -> bool:
        """All places of a label are taken: it is time to review who has them."""
        return len(self._named.get(name, ())) >= self.limit(name)

    def crowded(self, name: str) -> bool:
        """More are named than there are places: the store has series of values that had lost theirs."""
        return len(self._named.get(name, ())) > self.limit(name)

    def places(self) -> dict[str, tuple[int, int]]:
        """Label → values that have series of their own, and how many may."""
        return {name: (len(named), self.limit(name)) for name, named in list(self._named.items())}

    def review(self, name: str, best: Sequence[str]) -> None:
        """Name the best of a label; values that lose their place stop being shown, and restart where they were."""
        limit = self.limit(name)
        named = self._named.setdefault(name, set())
        chosen = set(map(shown, best[:limit]))
        for value in sorted(named):
            if len(chosen) >= limit:
                break
            chosen.add(value)
        self._named[name] = chosen
        self._answers.clear()

    def limit(self, name: str) -> int:
        """How many values of a label have series of their own."""
        return self._limits.get(name, self._default)

    def fold(self, family: str, names: Sequence[str], labels: tuple[str, ...]) -> tuple[str, ...]:
        """The label values under which this is counted; those given are of the ledger."""
        answer = self._answers.get((family, labels))
        if answer is None:
            if len(self._answers) >= _ANSWERS_KEPT:
                self._answers.clear()
            answer = self._answers[family, labels] = self._fold(family, names, labels)
        return answer

    def _fold(self, family: str, names: Sequence[str], labels: tuple[str, ...]) -> tuple[str, ...]:
        known = self._series.setdefault(family, set())
        labels = tuple(map(shown, labels))
        if labels in known and not self.hidden(names, labels):
            return labels
        folded = tuple(self._value(name, value) for name, value in zip(names, labels, strict=True))
        if folded not in known and len(known) >= self._families.get(family, self._per_family):
            folded = tuple(OTHER for _ in labels)
        known.add(folded)
        if folded != labels:
            seen = self._folded.setdefault(family, set())
            if len(seen) < _FOLDED_KEPT:
                seen.add(hash(labels))
        return folded

    def hidden(self, names: Sequence[str], labels: tuple[str, ...]) -> bool:
        """The series belongs to a value that has lost its place."""
        return any(
            value != OTHER and value not in self._named.get(name, ()) for name, value in zip(names, labels, strict=True)
        )

    def folded(self) -> dict[str, int]:
        """Family → distinct label sets folded since the start."""
        return {family: len(seen) for family, seen in list(self._folded.items())}

    def _value(self, name: str, value: str) -> str:
        named = self._named.setdefault(name, set())
        if value in named:
            return value
        if len(named) < self.limit(name):
            named.add(value)
            return value
        return OTHER
