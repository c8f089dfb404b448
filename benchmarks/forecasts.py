"""What the forecast of a month is worth: the engine's own account of its errors, over families of synthetic spend.

    python -m benchmarks.forecasts [--series 60] [--write]

The series are made up, so the figures show how it behaves, not what it will be worth to anybody: that is
`genai_meter_budget_forecast_error_ratio`, made of each budget's own past.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from genai_meter_exporter.budgets.engine import Engine
from genai_meter_exporter.budgets.history import HORIZONS, History
from genai_meter_exporter.budgets.model import Budget, Budgets
from genai_meter_exporter.cells import DIMENSIONS, MEASURES

from benchmarks.markdown import table

RESULTS: Final = Path(__file__).with_name("FORECASTS.md")
FIRST: Final = date(2026, 3, 2)
"""A Monday."""
MONTHS: Final = (date(2026, 6, 1), date(2026, 7, 1), date(2026, 8, 1))
"""The months that are judged; what lies before is history."""
LAST: Final = date(2026, 9, 1)
DAY_PICO: Final = 100 * 10**12

Spend = Callable[[random.Random, int], list[float]]
"""(chance, days) → spend of each day, about 1 a day."""


def office(chance: random.Random, days: int) -> list[float]:
    """Full weekdays, a quarter on weekends."""
    return [(0.25 if number % 7 > 4 else 1.0) * chance.lognormvariate(0, 0.12) for number in range(days)]


def nightly(chance: random.Random, days: int) -> list[float]:
    """Batches of one size every night, three times as large on the first of a month."""
    return [(3.0 if (FIRST + timedelta(n)).day == 1 else 1.0) * chance.gauss(1, 0.04) for n in range(days)]


def bursty(chance: random.Random, days: int) -> list[float]:
    """No two days alike, one in twenty several times as large."""
    return [
        chance.lognormvariate(0, 0.5) * (chance.uniform(3, 6) if chance.random() < 0.05 else 1) for _ in range(days)
    ]


def growing(chance: random.Random, days: int) -> list[float]:
    """An office that grows by 3 % a week."""
    return [amount * 1.03 ** (number / 7) for number, amount in enumerate(office(chance, days))]


def launching(chance: random.Random, days: int) -> list[float]:
    """An office whose level doubles, more or less, on one day of the months that are judged."""
    begin = (MONTHS[0] - FIRST).days
    launch, factor = chance.randrange(begin, days), chance.uniform(1.5, 2.5)
    return [amount * (factor if number >= launch else 1) for number, amount in enumerate(office(chance, days))]


def runaway(chance: random.Random, days: int) -> list[float]:
    """An office where one day in fifty costs two to six times as much."""
    return [amount * (chance.uniform(2, 6) if chance.random() < 0.02 else 1) for amount in office(chance, days)]


FAMILIES: Final[Mapping[str, Spend]] = {
    found.__name__: found for found in (office, nightly, bursty, growing, launching, runaway)
}


@dataclass(frozen=True, slots=True)
class Errors:
    """Of the forecasts so many days into a month."""

    shares: list[float]
    """(forecast - actual) / actual."""
    below: list[bool]
    """The actual sum stayed below the upper line."""
    run_rate: list[float]
    """The same error of the simplest forecast: the month so far, stretched."""


def judge(spend: Spend, series: int, seed: int = 0) -> dict[int, Errors]:
    """Horizon → errors, over every series and month."""
    found = {horizon: Errors([], [], []) for horizon in HORIZONS}
    for number in range(series):
        days = [round(DAY_PICO * max(amount, 0)) for amount in spend(random.Random(seed + number), (LAST - FIRST).days)]
        for entry in told(days):
            month = datetime.fromtimestamp(entry["period"], UTC).date()
            if month not in MONTHS or entry["day"] not in found:
                continue
            begin = (month - FIRST).days
            length = ((month.replace(day=28) + timedelta(4)).replace(day=1) - month).days
            actual, so_far = sum(days[begin : begin + length]), sum(days[begin : begin + entry["day"]])
            errors = found[entry["day"]]
            errors.shares.append((entry["median"] - actual) / actual)
            errors.below.append(actual <= entry["upper"])
            errors.run_rate.append((so_far * length / entry["day"] - actual) / actual)
    return found


def told(days: Sequence[int]) -> list[dict[str, Any]]:
    """The forecasts that the engine made while the days went by, at each midnight."""
    budget = Budget.model_validate({"name": "month", "amount": {"usd": 1}, "period": "month"})
    place = tuple("" for _ in DIMENSIONS)
    with tempfile.TemporaryDirectory() as directory:
        history = History(Path(directory))
        engine = Engine(Budgets(entries=[budget]), history)
        midnight = 0
        for number, amount in enumerate(days):
            midnight = int(datetime.combine(FIRST + timedelta(number), datetime.min.time(), UTC).timestamp())
            engine.apply({(midnight + 43200, place): tuple(amount if name == "cost" else 0 for name in MEASURES)})
            engine.evaluate(midnight + 86400)
        return [entry for entry in history.read(midnight + 86400) if entry["kind"] == "forecast"]


def render(series: int) -> str:
    """The page."""
    rows: list[list[str]] = []
    for name, spend in FAMILIES.items():
        for horizon, errors in judge(spend, series).items():
            rows.append([f"{name}, day {horizon}", *_figures(errors)])
    head = ["spend", "mean error", "9 of 10 below", "bias", "below the upper line", "month so far, stretched"]
    kinds = "\n".join(f"- **{name}**: {(spend.__doc__ or '').strip()}" for name, spend in FAMILIES.items())
    return f"""# What forecasts are worth

`make forecasts`: {series} synthetic series of each kind, three months each, forecast by the budget engine on days
5, 10, 15 and 20.

{table(head, rows)}

{kinds}

*mean error*: of |forecast - actual| / actual; *bias*: above 0 is too high; *below the upper line*: how many months
ended below the quantile 0.9, 90 % is right; *month so far, stretched*: the mean error of the simplest forecast.
Made-up series say how a method behaves, not what it is worth to you: `genai_meter_budget_forecast_error_ratio` is
made of your own past, and the alert on a forecast quotes it.
"""


def _figures(errors: Errors) -> list[str]:
    absolute = sorted(abs(share) for share in errors.shares)
    simple = statistics.mean(abs(share) for share in errors.run_rate)
    return [
        f"{statistics.mean(absolute):.1%}",
        f"{absolute[len(absolute) * 9 // 10]:.0%}",
        f"{statistics.mean(errors.shares):+.1%}",
        f"{statistics.mean(errors.below):.0%}",
        f"{simple:.1%}",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forecasts", description="What forecasts are worth.")
    parser.add_argument("--series", type=int, default=60, help="of each kind (default 60)")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    text = render(options.series)
    print(text)
    if options.write:
        RESULTS.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
