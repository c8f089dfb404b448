"""Calls a column at a time: what is done to each of thousands costs a fraction of what it costs call by call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, TypeVar

from genai_meter_exporter.cells import DIMENSIONS, GRAIN_NS, GRAIN_SECONDS, Cell, Measures

_T = TypeVar("_T")

_MODEL: Final = DIMENSIONS.index("model")


class Columns:
    """Calls that tell of the same columns."""

    __slots__ = ("count", "dimensions", "told")

    def __init__(self, told: Mapping[str, Sequence[Any]], count: int) -> None:
        self.told = told
        """Column → its values, one a call."""
        self.count = count
        self.dimensions: Sequence[tuple[str, ...]] = self._dimensions()
        """As in `cells.cell`."""

    def get(self, name: str) -> Sequence[Any]:
        """A column; of one that they do not tell of, nothing for every call."""
        return self.told.get(name) or (None,) * self.count

    def known(self, name: str, unknown: Any) -> Sequence[Any]:
        """A column with this in place of what is unknown."""
        found = self.told.get(name)
        if found is None:
            return (unknown,) * self.count
        return found if all(found) else [value or unknown for value in found]

    def cells(self) -> Iterator[Cell]:
        """Where each of them belongs."""
        quarters = [start // GRAIN_NS * GRAIN_SECONDS for start in self.told["start"]]
        return zip(quarters, self.dimensions, strict=True)

    def measures(self) -> Iterator[Measures]:
        """What each of them adds to its cell; as in `cells.measures`."""
        unpriced: Sequence[int] = (0,) * self.count
        unknown = unpriced
        statuses = self.get("cost_status")
        if "unpriced" in statuses:
            told = zip(statuses, self.get("input_tokens"), self.get("output_tokens"), strict=True)
            kinds = [(status == "unpriced", gross is None and output is None) for status, gross, output in told]
            unpriced = [int(of and not without) for of, without in kinds]
            unknown = [int(of and without) for of, without in kinds]
        return zip(
            (1,) * self.count,
            [attempts - 1 for attempts in self.known("attempt_count", 1)],
            self.known("input_tokens", 0),
            self.known("output_tokens", 0),
            self.known("cache_read_tokens", 0),
            self.known("cache_write_tokens", 0),
            self.known("reasoning_tokens", 0),
            unpriced,
            unknown,
            self.known("list_cost", 0),
            self.known("cost", 0),
            strict=True,
        )

    def _dimensions(self) -> list[tuple[str, ...]]:
        known = [self.known(name, "") for name in DIMENSIONS]
        if not all(known[_MODEL]):
            asked = self.known("request_model", "")
            known[_MODEL] = [model or also for model, also in zip(known[_MODEL], asked, strict=True)]
        return list(zip(*known, strict=True))


def transposed(calls: Sequence[dict[str, Any]]) -> dict[str, Sequence[Any]]:
    """Columns of calls that tell of the same in the same order."""
    return dict(zip(calls[0], zip(*map(dict[str, Any].values, calls), strict=True), strict=True))


def alike(calls: Sequence[dict[str, Any]]) -> Iterator[Columns]:
    """Any calls, those with the same columns together."""
    return (Columns(transposed(group), len(group)) for group in by_shape(calls, calls))


def by_shape(calls: Sequence[dict[str, Any]], of: Sequence[_T]) -> Iterable[list[_T]]:
    """What is `of` calls, that of those with the same columns together."""
    shapes: dict[tuple[str, ...], list[_T]] = {}
    # They come in runs: of each, one look-up.
    for shape, run in groupby(zip(map(tuple, calls), of, strict=True), itemgetter(0)):
        shapes.setdefault(shape, []).extend(one for _, one in run)
    return shapes.values()
