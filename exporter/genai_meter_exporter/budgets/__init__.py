"""Budgets over the ledger: what was planned, what is spent, what will be, and who is told.

model       the section of the configuration
periods     hours, days, weeks, months in a budget's own time zone, rolling spans, dates
sums        what a budget's scope has spent, by quarter of an hour and by local day
forecast    the sum at the end of the period
states      within_budget, at_risk, soft_cap, over_budget, unknown, with hysteresis
engine      all budgets, fed by every commit
exposition  their metrics
history     states and forecasts of the past, and how good the forecasts were
"""
