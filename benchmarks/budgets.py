"""A thousand budgets beside ten thousand series: what evaluating, applying a commit and a scrape cost."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Final

from genai_meter_exporter.budgets.engine import Engine
from genai_meter_exporter.budgets.history import History
from genai_meter_exporter.budgets.model import Budget, Budgets
from genai_meter_exporter.cells import DIMENSIONS, GRAIN_SECONDS, MEASURES, Cell, Measures

from benchmarks.ingest import exposition_of

BUDGETS: Final = 1_000
SERIES: Final = 10_000
DAYS: Final = 62
COMMIT_CELLS: Final = 500
PERIODS: Final = ("hour", "day", "week", "month", "rolling 24h")


def engine(count: int, now: int) -> Engine:
    """Budgets of teams, features and tenants, with two months of history, a cell each for every six hours."""
    chance = random.Random(1)
    entries: list[Budget] = []
    for number in range(count):
        scope = {"team": f"team-{number % 50}", "feature": f"feature-{number}", "environment": "prod"}
        told = {"name": f"budget-{number}", "scope": scope, "amount": {"usd": 1000}, "period": PERIODS[number % 5]}
        entries.append(Budget.model_validate({**told, "owner": "owner@example.com", "team": scope["team"]}))
    made = Engine(Budgets(entries=entries), History(None))
    for back in range(DAYS * 4, 0, -1):
        made.apply(dict(cell(number, now - back * 21_600, chance) for number in range(count)))
    return made


def cell(number: int, at: int, chance: random.Random) -> tuple[Cell, Measures]:
    """What one feature has spent in the quarter of an hour around an instant."""
    told = {"team": f"team-{number % 50}", "feature": f"feature-{number}", "environment": "prod"}
    where = (at // GRAIN_SECONDS * GRAIN_SECONDS, tuple(told.get(name, "") for name in DIMENSIONS))
    cost = chance.randrange(10**12)
    return where, tuple({"calls": 3, "cost": cost}.get(name, 0) for name in MEASURES)


def best(job: Callable[[], object], takes: int = 7) -> float:
    """Seconds of CPU; the least of several."""
    spent: list[float] = []
    for _ in range(takes):
        begun = time.process_time()
        job()
        spent.append(time.process_time() - begun)
    return min(spent)


def run(count: int, series: int) -> dict[str, float]:
    """Seconds of CPU of each part."""
    now = int(time.time())
    made, chance = engine(count, now), random.Random(2)
    commit = dict(cell(number % count, now, chance) for number in range(COMMIT_CELLS))
    alone, page = exposition_of(series), exposition_of(series, made)
    return {
        "apply": best(lambda: made.apply(commit)),
        "evaluate": best(lambda: made.evaluate(now)),
        "page": best(lambda: page.render("")),
        "page_without": best(lambda: alone.render("")),
    }


if __name__ == "__main__":
    print(json.dumps({"budgets": BUDGETS, "series": SERIES, "cells": COMMIT_CELLS, **run(BUDGETS, SERIES)}))
