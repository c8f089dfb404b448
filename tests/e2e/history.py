"""The past of a ledger as OpenMetrics: counters as the exporter would have shown them, series as rules would have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from genai_meter_exporter.budgets.engine import instant
from genai_meter_exporter.cells import GRAIN_SECONDS
from genai_meter_exporter.store import Query, Reader

Labels = tuple[tuple[str, str], ...]
Series = dict[int, int]
"""Start of a quarter of an hour (Unix seconds) → amount in it. Integers: a float sum that is one ulp above the
exporter's would look like a reset of the counter."""
Amount = Callable[[Any], int]

PICO: Final = 10**12
DAYS: Final = 35
FINE_DAYS: Final = 9
"""So far back every quarter of an hour is written, before it every hour."""

_WHO: Final = ("team", "environment", "service", "feature", "provider", "model")
_SERVICE: Final = ("team", "environment", "service")


def openmetrics(
    reader: Reader, scraped: Mapping[str, str], budgets: Mapping[str, Mapping[str, str]], now: float
) -> str:
    """Everything that the rules read of the past. `scraped`: labels that a scrape adds. `budgets`: team → labels."""
    end = int(now) // GRAIN_SECONDS * GRAIN_SECONDS
    past = _Past(reader, scraped, end, now)
    parts = [
        *past.counter("genai_meter_cost_usd", _WHO, _cost, PICO),
        *past.counter("genai_meter_tenant_cost_usd", ("tenant",), _cost, PICO),
        *past.counter("genai_meter_requests", (*_WHO, "operation", "status"), lambda row: row["calls"]),
        *past.counter("genai_meter_retries", _WHO, lambda row: row["retries"]),
        *past.tokens(),
        *past.accepted(),
        *past.budgets(budgets),
        *past.recorded("service:genai_meter_cost_usd:increase1h", _cost, PICO),
        *past.recorded("service:genai_meter_requests:rate5m", lambda row: row["calls"], 3600),
        *past.cache_ratio(),
    ]
    return "\n".join([*parts, "# EOF"]) + "\n"


def _cost(row: Any) -> int:
    return row["cost"]


class _Past:
    def __init__(self, reader: Reader, scraped: Mapping[str, str], end: int, now: float) -> None:
        self._reader = reader
        self._scraped = tuple(scraped.items())
        self._end = end
        fine = range(end - FINE_DAYS * 86_400, end + 1, GRAIN_SECONDS)
        self._instants = [*range(end - DAYS * 86_400, fine[0], 3600), *fine, int(now) - 1]

    def _found(self, labels: Sequence[str], amount: Amount) -> dict[Labels, Series]:
        found: dict[Labels, Series] = defaultdict(dict)
        for row in self._reader.report(Query(("quarter", *labels))):
            key = tuple((name, row[name]) for name in labels)
            found[key][instant(row["quarter"])] = amount(row)
        return found

    def _written(self, name: str, labels: Labels, values: Iterator[tuple[int, float]]) -> Iterator[str]:
        text = ",".join(f'{key}="{value}"' for key, value in labels)
        yield from (f"{name}{{{text}}} {value!r} {at}" for at, value in values)

    def _sums(self, series: Series, unit: int = 1) -> Iterator[tuple[int, float]]:
        """What was counted up to each instant."""
        starts = sorted(series)
        totals = list(accumulate(series[start] for start in starts))
        known = 0
        for at in self._instants:
            while known < len(starts) and starts[known] + GRAIN_SECONDS <= at:
                known += 1
            yield at, totals[known - 1] / unit if known else 0.0

    def counter(self, name: str, labels: Sequence[str], amount: Amount, unit: int = 1) -> Iterator[str]:
        """A counter as it was scraped."""
        yield f"# TYPE {name} counter"
        for key, series in self._found(labels, amount).items():
            if any(series.values()):
                yield from self._written(f"{name}_total", (*key, *self._scraped), self._sums(series, unit))

    def tokens(self) -> Iterator[str]:
        """The exclusive classes."""
        classes: dict[str, Amount] = {
            "input": lambda row: row["input_tokens"] - row["cache_read_tokens"] - row["cache_write_tokens"],
            "cache_read": lambda row: row["cache_read_tokens"],
            "output": lambda row: row["output_tokens"] - row["reasoning_tokens"],
        }
        yield "# TYPE genai_meter_tokens counter"
        for token_type, amount in classes.items():
            for key, series in self._found(_WHO, amount).items():
                if any(series.values()):
                    labels = (*key, ("token_type", token_type), *self._scraped)
                    yield from self._written("genai_meter_tokens_total", labels, self._sums(series))

    def accepted(self) -> Iterator[str]:
        """Records that came in."""
        yield "# TYPE genai_meter_ingest_events counter"
        for series in self._found((), lambda row: row["calls"]).values():
            labels = (("status", "accepted"), *self._scraped)
            yield from self._written("genai_meter_ingest_events_total", labels, self._sums(series))

    def budgets(self, budgets: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
        """What was charged to the budget of a team."""
        yield "# TYPE genai_meter_budget_spend_usd counter"
        for ((_, team),), series in self._found(("team",), _cost).items():
            if team in budgets:
                labels = (*budgets[team].items(), *self._scraped)
                yield from self._written("genai_meter_budget_spend_usd_total", labels, self._sums(series, PICO))

    def _of_hours(self, series: Series) -> Iterator[tuple[int, int]]:
        """What the hour before each instant had."""
        for at in self._instants:
            quarters = range(at // GRAIN_SECONDS * GRAIN_SECONDS - 3600, at, GRAIN_SECONDS)
            yield at, sum(series.get(start, 0) for start in quarters)

    def recorded(self, name: str, amount: Amount, unit: int) -> Iterator[str]:
        """A series of a rule that looks at the hour before."""
        yield f"# TYPE {name} gauge"
        for key, series in self._found(_SERVICE, amount).items():
            hours = ((at, value / unit) for at, value in self._of_hours(series))
            yield from self._written(name, key, hours)

    def cache_ratio(self) -> Iterator[str]:
        """Cached input tokens over all input tokens of the hour before, where there is input enough."""
        name = "service:genai_meter_cache_hits:ratio1h"
        yield f"# TYPE {name} gauge"
        read = self._found(_SERVICE, lambda row: row["cache_read_tokens"])
        for key, series in self._found(_SERVICE, lambda row: row["input_tokens"]).items():
            pairs = zip(self._of_hours(read[key]), self._of_hours(series), strict=True)
            ratios = ((at, hit / all_) for (at, hit), (_, all_) in pairs if all_ > 1_000_000)
            yield from self._written(name, (*key, ("cache", "prompt")), ratios)
