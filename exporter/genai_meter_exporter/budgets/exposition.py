"""The metrics of budgets. Thresholds are metrics too, so that rules need none of their own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from genai_meter_exporter.bounds import shown
from genai_meter_exporter.budgets.engine import Engine, Standing, cap_pico
from genai_meter_exporter.budgets.model import PICO, Unit, money
from genai_meter_exporter.budgets.periods import local_day
from genai_meter_exporter.budgets.states import STATES

PREFIX: Final = "genai_meter_"
LABELS: Final = ("budget", "team", "owner", "window")
_SCALE: Final[dict[Unit, int]] = {"usd": PICO, "tokens": 1, "calls": 1}
_NOUN: Final[dict[Unit, str]] = {"usd": "USD", "tokens": "tokens", "calls": "calls"}


def window(standing: Standing) -> str:
    """The period as a label: its name, `rolling` or `dates`."""
    period = standing.budget.period
    return "dates" if "/" in period else period.partition(" ")[0]


def collect(engine: Engine, at: float | None = None) -> Iterator[Metric]:
    """Every family, at one instant (Unix seconds): now, unless told otherwise."""
    now = time.time() if at is None else at
    standings = engine.standings(now)
    for unit in _SCALE:
        found = [standing for standing in standings if standing.budget.amount.unit == unit]
        if found or unit == "usd":
            yield from _amounts(unit, found)
    yield from _shares(standings, now)
    yield _states(standings)
    yield _information(standings)
    yield _accuracy(engine)
    if engine.evaluated is not None:
        yield GaugeMetricFamily(
            PREFIX + "budget_evaluated_timestamp_seconds", "When the budgets were last evaluated.", engine.evaluated
        )
    yield from _contracts(engine, now)
    yield from _runs(engine, now)


def _labels(standing: Standing) -> tuple[str, ...]:
    budget = standing.budget
    return budget.name, budget.team, budget.owner, window(standing)


def _amounts(unit: Unit, standings: list[Standing]) -> Iterator[Metric]:
    scale, noun = _SCALE[unit], _NOUN[unit]
    spend = CounterMetricFamily(
        f"{PREFIX}budget_spend_{unit}", f"{noun} ever charged to a budget; no period resets it.", labels=LABELS
    )
    limit = GaugeMetricFamily(f"{PREFIX}budget_limit_{unit}", f"Amount of a budget, in {noun}.", labels=LABELS)
    spent = GaugeMetricFamily(f"{PREFIX}budget_spent_{unit}", f"{noun} spent in the current period.", labels=LABELS)
    planned = GaugeMetricFamily(
        f"{PREFIX}budget_planned_{unit}_per_second", f"{noun} a second that the plan expects now.", labels=LABELS
    )
    forecast = GaugeMetricFamily(
        f"{PREFIX}budget_forecast_{unit}",
        f"{noun} at the end of the period: as likely above as below (0.5), nine of ten times below (0.9).",
        labels=(*LABELS, "quantile"),
    )
    for standing in standings:
        labels = _labels(standing)
        spend.add_metric(labels, standing.charged / scale)
        limit.add_metric(labels, standing.limit / scale)
        spent.add_metric(labels, standing.spent / scale)
        planned.add_metric(labels, standing.planned_per_second / scale)
        if standing.forecast is not None:
            forecast.add_metric((*labels, "0.5"), standing.forecast.median / scale)
            forecast.add_metric((*labels, "0.9"), standing.forecast.upper / scale)
    yield from (spend, limit, spent, planned, forecast)


def _shares(standings: list[Standing], now: float) -> Iterator[Metric]:
    day = GaugeMetricFamily(PREFIX + "budget_period_day", "Day of the period, from 1, in its zone.", labels=LABELS)
    elapsed = GaugeMetricFamily(PREFIX + "budget_period_elapsed_ratio", "Share of the period gone by.", labels=LABELS)
    threshold = GaugeMetricFamily(
        PREFIX + "budget_threshold_ratio", "Share of the amount at which a state begins.", labels=(*LABELS, "threshold")
    )
    for standing in standings:
        labels, period = _labels(standing), standing.period
        if period.first is not None:
            day.add_metric(labels, (local_day(standing.zone, int(now)) - period.first).days + 1)
        elapsed.add_metric(labels, period.elapsed(now))
        for name, share in (("at_risk", standing.thresholds.at_risk), ("soft", standing.thresholds.soft), ("hard", 1)):
            threshold.add_metric((*labels, name), share)
    yield from (day, elapsed, threshold)


def _states(standings: list[Standing]) -> Metric:
    state = GaugeMetricFamily(
        PREFIX + "budget_state", "1 for the state a budget is in, 0 for the others.", labels=(*LABELS, "state")
    )
    for standing in standings:
        for name in STATES:
            state.add_metric((*_labels(standing), name), float(name == standing.state))
    return state


def _information(standings: list[Standing]) -> Metric:
    info = InfoMetricFamily(
        PREFIX + "budget",
        "Whom a budget's alerts go to, and what to do.",
        labels=("budget", "team", "owner"),
    )
    for standing in standings:
        budget = standing.budget
        told = {
            "channel": budget.channel,
            "escalation": budget.escalation,
            "runbook": budget.runbook,
            "next_step": budget.next_step,
        }
        info.add_metric((budget.name, budget.team, budget.owner), told)
    return info


def _accuracy(engine: Engine) -> Metric:
    error = GaugeMetricFamily(
        PREFIX + "budget_forecast_error_ratio",
        "Mean of |forecast - actual| / actual of past periods, so many days into them.",
        labels=("budget", "horizon_days"),
    )
    for found in engine.accuracy:
        error.add_metric((found.budget, str(found.horizon)), found.mape)
    return error


def _contracts(engine: Engine, now: float) -> Iterator[Metric]:
    hourly = GaugeMetricFamily(
        PREFIX + "tenant_contract_usd_per_hour", "Contracted cost of an hour.", labels=("tenant", "team")
    )
    cost = GaugeMetricFamily(PREFIX + "tenant_cost_30d_usd", "Cost of the last 30 days.", labels=("tenant",))
    revenue = GaugeMetricFamily(
        PREFIX + "tenant_revenue_30d_usd", "What a tenant pays in 30 days.", labels=("tenant", "team")
    )
    for contract, spent in engine.contract_costs(now):
        # As in the metrics that count: a contract is compared with what its tenant costs, never with what is folded.
        tenant = shown(contract.tenant)
        cost.add_metric((tenant,), spent / PICO)
        if contract.usd_per_hour is not None:
            hourly.add_metric((tenant, contract.team), float(money(contract.usd_per_hour)))
        if contract.revenue_usd_30d is not None:
            revenue.add_metric((tenant, contract.team), float(money(contract.revenue_usd_30d)))
    yield from (hourly, cost, revenue)


def _runs(engine: Engine, now: float) -> Iterator[Metric]:
    dearest = GaugeMetricFamily(
        PREFIX + "workflow_run_cost_max_usd",
        "Cost of the dearest run with a call in the last 15 minutes.",
        labels=("team", "workflow"),
    )
    cap = GaugeMetricFamily(PREFIX + "workflow_run_cap_usd", "What one run may cost.", labels=("team", "workflow"))
    runs = engine.dearest_runs(now)
    for (team, workflow), cost in runs.items():
        dearest.add_metric((team, workflow), cost / PICO)
    for limit in engine.run_caps:
        teams = [limit.team] if limit.team else sorted({team for team, name in runs if name == limit.workflow})
        for team in teams:
            cap.add_metric((team, limit.workflow), cap_pico(limit) / PICO)
    yield from (dearest, cap)
