"""`genai-meter budgets`: where every budget stands; check them; what would have alerted."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

from rich.table import Table
from rich.text import Text

from genai_meter_exporter import config as configuration
from genai_meter_exporter.budgets import backtest
from genai_meter_exporter.budgets.engine import Engine, Reports, Standing
from genai_meter_exporter.budgets.history import History
from genai_meter_exporter.budgets.model import PICO, Budget, Budgets
from genai_meter_exporter.config import ConfigError
from genai_meter_exporter.display import amount, console, exact
from genai_meter_exporter.store import StoreError, open_readonly

_BAR = 16
_STYLES = {"at_risk": "yellow", "soft_cap": "yellow", "over_budget": "bold red", "unknown": "dim"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "action", nargs="?", choices=("show", "check", "backtest"), default="show", help="what to do (default: show)"
    )
    parser.add_argument("--config", metavar="FILE", type=Path, required=True, help="YAML configuration with budgets")
    parser.add_argument("--data-dir", metavar="DIR", help="where the store lives (default: ~/.local/state/genai-meter)")
    parser.add_argument("--since", metavar="30d", default="30d", help="backtest: how far back (default: 30d)")
    parser.add_argument("--format", choices=("table", "json"), default="table")


def run(options: argparse.Namespace) -> int:
    """Do what was asked; 1 when `check` finds something, 2 when it cannot be done."""
    try:
        config = configuration.load(options.config)
        if options.action == "check":
            return _check(config.budgets, options.config)
        if not config.budgets.entries:
            print(f"genai-meter budgets: {options.config} has no budgets (docs/budgets.md)", file=sys.stderr)
            return 2
        reader = open_readonly(configuration.store_path(config, options.data_dir))
        try:
            if options.action == "backtest":
                return _backtest(config.budgets, reader, options)
            now = time.time()
            engine = Engine(config.budgets, History(configuration.data_directory(options.data_dir), read_only=True))
            engine.load(reader, now)
            _show(engine.evaluate(now), options.format)
        finally:
            reader.close()
    except (ConfigError, StoreError, ValueError) as error:
        print(f"genai-meter budgets: {error}", file=sys.stderr)
        return 2
    return 0


# --- show -------------------------------------------------------------------------------------------------
def _show(standings: list[Standing], form: str) -> None:
    if form == "json":
        print(json.dumps([_facts(standing) for standing in standings], indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for name in ("BUDGET", "STATE", "USED", "", "SPENT", "OF", "BURN", "FORECAST", "UNTIL", "OWNER"):
        table.add_column(name, no_wrap=True, justify="right" if name in ("SPENT", "OF", "BURN", "FORECAST") else "left")
    for standing in sorted(standings, key=lambda found: -found.used):
        unit, state = standing.budget.amount.unit, standing.state
        table.add_row(
            standing.budget.name,
            Text(state, _STYLES.get(state, "")),
            f"{standing.used:.0%}",
            _bar(standing.used),
            amount(unit, standing.spent),
            amount(unit, standing.limit),
            f"{burn(standing):.1f}×",
            amount(unit, standing.forecast.median) if standing.forecast else "-",
            f"{datetime.fromtimestamp(standing.period.end, UTC):%Y-%m-%d %H:%MZ}",
            standing.budget.owner or "nobody",
        )
    console().print(table)


def _bar(used: float) -> str:
    full = min(round(used * _BAR), _BAR)
    return "█" * full + "░" * (_BAR - full)


def burn(standing: Standing) -> float:
    """What is spent over what the clock would allow: 1 is on plan."""
    elapsed = standing.period.elapsed(time.time())
    return standing.used / elapsed if elapsed else 0.0


def _facts(standing: Standing) -> dict[str, object]:
    unit = standing.budget.amount.unit
    forecast = standing.forecast
    return {
        "budget": standing.budget.name,
        "state": standing.state,
        "unit": unit,
        "spent": exact(unit, standing.spent),
        "limit": exact(unit, standing.limit),
        "forecast": exact(unit, forecast.median) if forecast else None,
        "forecast_upper": exact(unit, forecast.upper) if forecast else None,
        "period_start": datetime.fromtimestamp(standing.period.start, UTC).isoformat(),
        "period_end": datetime.fromtimestamp(standing.period.end, UTC).isoformat(),
        "team": standing.budget.team,
        "owner": standing.budget.owner,
    }


# --- check ------------------------------------------------------------------------------------------------
def _check(budgets: Budgets, path: Path) -> int:
    """What is allowed and most likely not meant. Errors have been told when the file was read."""
    found = list(warnings(budgets))
    lines = configuration.lines_of(
        path, [("budgets", "entries", str(number)) for number in range(len(budgets.entries))]
    )
    for number, text in found:
        print(f"{path}, line {lines[number]}: {budgets.entries[number].name}: {text}")
    count = len(budgets.entries)
    print(f"{count} budget{'' if count == 1 else 's'}, {len(found)} to look at")
    return 1 if found else 0


def warnings(budgets: Budgets) -> Iterable[tuple[int, str]]:
    """(index of the budget, what to look at)."""
    for number, budget in enumerate(budgets.entries):
        if not budget.owner:
            yield number, "nobody owns it: add `owner`, or its alerts reach nobody"
        if not budget.runbook and not budget.next_step:
            yield number, "an alert would not say what to do: add `next_step` or `runbook`"
        if budget.amount.unit == "usd" and budget.amount.quantity < PICO // 100:
            yield number, "less than a cent: amounts are USD, not cents of something"
    for (_, first), (number, second) in combinations(enumerate(budgets.entries), 2):
        if _same(first, second):
            yield number, f"the same scope and period as {first.name}: only the smaller amount ever matters"


def _same(first: Budget, second: Budget) -> bool:
    alike = first.period == second.period and first.amount.unit == second.amount.unit
    scopes = [{name: sorted(values) for name, values in budget.values.items()} for budget in (first, second)]
    return alike and scopes[0] == scopes[1]


# --- backtest ---------------------------------------------------------------------------------------------
def _backtest(budgets: Budgets, reader: Reports, options: argparse.Namespace) -> int:
    days = backtest.days(options.since)
    found = backtest.replay(budgets, reader, time.time(), days)
    if options.format == "json":
        print(json.dumps([alert.facts() for alert in found], indent=2))
        return 0
    table = Table(box=None, pad_edge=False)
    for name in ("WHEN", "BUDGET", "WOULD HAVE ALERTED", "SPENT", "OF", "OWNER"):
        table.add_column(name, no_wrap=True)
    for alert in found:
        unit = alert.budget.amount.unit
        table.add_row(
            f"{datetime.fromtimestamp(alert.at, UTC):%Y-%m-%d %H:%MZ}",
            alert.budget.name,
            alert.what,
            amount(unit, alert.spent),
            amount(unit, alert.limit),
            alert.budget.owner or "nobody",
        )
    console().print(table)
    print(f"{len(found)} in {days} days, from the ledger as it is today")
    return 0
