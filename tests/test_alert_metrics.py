"""What only the alerts need: thresholds, calls from clocks that are ahead, commits that fail."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from exporter_kit import Served, logs, usage_event

WHERE = {"team": "search", "environment": "prod", "service": "shop"}


def test_thresholds_are_the_configuration(tmp_path: Path) -> None:
    with Served(tmp_path, {"alerts": {"burn_rate_1h": 10, "price_book_age_days": 0.5}}) as served:
        assert served.value("alert_threshold", threshold="burn_rate_1h") == 10
        assert served.value("alert_threshold", threshold="price_book_age_days") == 0.5
        assert served.value("alert_threshold", threshold="burn_rate_6h") == 6


def test_calls_that_end_after_they_arrive_are_counted(tmp_path: Path) -> None:
    def ending(seconds_ahead: float) -> int:
        # A call takes two seconds.
        return time.time_ns() + int((seconds_ahead - 2) * 1e9)

    with Served(tmp_path) as served:
        served.send(usage_event(start_ns=ending(600), team="search"), usage_event(start_ns=ending(60), team="search"))
        served.settled("clock_ahead_requests_total", 2, **WHERE)
        # Two seconds are the usual difference between two clocks.
        served.send(usage_event(start_ns=ending(2), team="search"), usage_event(start_ns=ending(-60), team="search"))
        served.settled("ledger_events_total", 4)
        assert served.value("clock_ahead_requests_total", **WHERE) == 2
        last = served.value("last_event_timestamp_seconds", **WHERE)
        assert last is not None
        assert last <= time.time()
        served.kill()
        served.start()
        assert served.value("clock_ahead_requests_total", **WHERE) == 2


def test_commits_that_fail_are_counted(tmp_path: Path) -> None:
    with Served(tmp_path, {"store": {"busy_seconds": 0.1}}) as served:
        served.send(usage_event())
        assert served.value("store_errors_total") == 0
        other = sqlite3.connect(served.ledger, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        assert served.post("logs", logs([usage_event()]).SerializeToString()).status == 503
        failed = served.value("store_errors_total")
        assert failed is not None
        assert failed >= 1
        other.execute("ROLLBACK")
        other.close()
        served.send(usage_event())
        served.settled("ledger_events_total", 2)
