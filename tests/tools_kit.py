"""The tools that tests run: Prometheus, Alertmanager and what belongs to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.tools import ToolMissing, need


def needed(tool: str) -> Path:
    """The real tool; skips the test where it cannot be had, and says why."""
    try:
        return need(tool)
    except ToolMissing as missing:
        pytest.skip(str(missing))


def stack_needed() -> None:
    """Skips the test where one of them cannot be had."""
    for tool in ("prometheus", "prometheus-alertmanager"):
        needed(tool)
