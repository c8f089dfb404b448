"""Recorded Bedrock traffic through botocore, plugin off and on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.traffic.runner import run


def check(traffic: Path, forms: str, record_property: Callable[[str, object], None]) -> None:
    """Every exchange is driven, and equal."""
    report = run(traffic, forms=forms, providers="aws.bedrock")
    record_property("table", report.text())
    assert report.good, report.text()
    assert [verdict.exchange.id for verdict in report.verdicts if verdict.skipped or verdict.known] == []
    operations = Counter(verdict.exchange.operation for verdict in report.verdicts)
    each = len(forms.split(","))
    assert {name: count // each for name, count in operations.items()} == {
        "chat": 1,
        "converse": 204,
        "invoke_model": 83,
        "other": 22,
        "responses": 8,
    }
    assert sum(verdict.usage_known for verdict in report.verdicts) == 290 * each


@pytest.mark.timeout(900)
def test_all_recorded_calls(traffic: Path, record_property: Callable[[str, object], None]) -> None:
    check(traffic, "sync", record_property)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_recorded_calls_awaited(traffic: Path, record_property: Callable[[str, object], None]) -> None:
    check(traffic, "async", record_property)
