"""Every class of alert, provoked on a real stack with 35 days of history.

world     services, budgets and contracts; what they did for 35 days; what they do now
history   the ledger's past as OpenMetrics, so that Prometheus begins with what the ledger holds
"""
