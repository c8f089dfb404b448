"""The daily digest and the weekly review as a message with numbers, by webhook, once for each period.

settings  the section of the configuration
periods   which day or week is due, in the digest's own time zone, and what it is compared with
numbers   what happened in it: spend, movers, budgets, what has no price
unusual   the anomalies that are open
message   the same as people read it, and as JSON
sender    sends what is due, remembers what was sent
memory    what was sent, across restarts and between exporters of one ledger
"""
